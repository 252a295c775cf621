//! The types of expressions, for who has to name them.

mod binary;
mod boxed;
mod cast;
mod current;
mod function;
mod function2;
mod matmul;
mod reduce;
mod rows;
mod scalar;
mod select;
mod unary;
mod view;

pub use binary::Binary;
pub use boxed::Boxed;
pub use cast::Cast;
pub use current::Current;
pub use function::Function;
pub use function2::Function2;
pub use matmul::MatMul;
pub use reduce::Reduce;
pub use rows::{LayerNorm, Softmax};
pub use scalar::Scalar;
pub use select::Select;
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
