//! Lazy tensor expressions that allocate through Tenzor.
//!
//! An expression is made of tensors by operators and methods; its type says what is to be done. [`eval`] computes it, with memory from the
//! allocator it is given: element-wise operations in one pass, whatever has to be materialised freed or reused as soon as it can be.
//! In a loop, each round finds the memory of the round before in the pool:
//!
//! ```
//! use tenzor_expr::{Tensor, eval};
//! use tenzor_memory::TensorAllocator;
//!
//! let alloc = TensorAllocator::new();
//! let a = Tensor::from_slice_in(&[1.0_f32; 1024], [1024], &alloc)?;
//! let b = Tensor::from_slice_in(&[2.0_f32; 1024], [1024], &alloc)?;
//! for _ in 0..1000 {
//!     let result = eval(&(&a * &b + 1.0), alloc.allocator())?;
//!     alloc.free(result);
//! }
//! let stats = alloc.stats();
//! assert_eq!((stats.pool_misses, stats.pool_hits), (3, 999));
//! # Ok::<(), tenzor_expr::EvalError>(())
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "ndarray")]
mod arrays;
mod axes;
mod block;
mod context;
mod digits;
mod display;
mod elements;
mod error;
mod eval;
mod explain;
mod expr;
mod fill;
mod item;
mod ledger;
mod math;
mod node;
pub mod nodes;
#[cfg(feature = "npy")]
mod npy;
pub mod ops;
mod settled;
mod shape;
mod simd;
mod slots;
mod source;
mod tensor;
mod terms;
mod transpose;
mod update;
mod walk;

pub use axes::{Axes, Axis, Index, Indices, MAX_RANK};
pub use error::EvalError;
pub use eval::{Eval, eval, eval_into};
pub use explain::{Explanation, explain, explain_into};
pub use expr::{Choice, Expr, Operand};
pub use item::{Cast, Item};
pub use ledger::Pass;
pub use math::Element;
pub use nodes::{concat, stack};
#[cfg(feature = "npy")]
pub use npy::NpyError;
pub use shape::{IntoShape, Shape, ShapeError, ShapeErrorKind};
pub use simd::Simd;
pub use tensor::{Owned, Tensor, View};
pub use terms::Repeat;

/// Its examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests;
