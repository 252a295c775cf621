//! The types of expressions, for who has to name them.

mod arg;
mod binary;
mod boxed;
mod cast;
mod concat;
mod cumulate;
mod current;
mod function;
mod function2;
mod gather;
mod matmul;
mod reduce;
mod rows;
mod scalar;
mod select;
mod spread;
mod tally;
mod unary;
mod view;

pub use arg::{Arg, Extreme};
pub use binary::Binary;
pub use boxed::Boxed;
pub use cast::Cast;
pub use concat::{Concat, Parts, concat, stack};
pub use cumulate::CumSum;
pub use current::Current;
pub use function::Function;
pub use function2::Function2;
pub use gather::{Gather, OneHot};
pub use matmul::MatMul;
pub use reduce::Reduce;
pub use rows::{LayerNorm, Softmax};
pub use scalar::Scalar;
pub use select::Select;
pub use spread::Spread;
pub use tally::{All, Any, Count, Tally};
pub use unary::Unary;
pub use view::{BroadcastTo, IndexAxis, Materialise, Permute, Relaid, Reshape, Slice, Unsqueeze};

pub use crate::node::Node;
use crate::ops;

/// `left + right`.
pub type Add<L, R> = Binary<ops::Add, L, R>;
/// `left - right`.
pub type Sub<L, R> = Binary<ops::Sub, L, R>;
/// `left * right`.
pub type Mul<L, R> = Binary<ops::Mul, L, R>;
/// `left / right`.
pub type Div<L, R> = Binary<ops::Div, L, R>;
