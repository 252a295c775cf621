//! Why an evaluation failed.

use std::fmt;

use tenzor_memory::AllocError;

use crate::shape::ShapeError;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvalError {
    /// Its shapes do not go together. Nothing was allocated.
    Shape(ShapeError),
    /// The allocator has no memory for a result. All that was materialised so far went back to it.
    Alloc(AllocError),
    /// It has the [current](crate::nodes::Current) values of a tensor, outside of that tensor's update.
    NotCurrent,
    /// An index that its axis has not, among those that [`gather`](crate::Expr::gather) or [`one_hot`](crate::Expr::one_hot) was given. Nothing was
    /// computed of it.
    Index {
        /// The first such.
        index: usize,
        /// How many elements there are along the axis.
        size: usize,
    },
    /// A pass left elements unwritten: a defect of this crate.
    Unfinished,
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape(error) => error.fmt(f),
            Self::Alloc(error) => error.fmt(f),
            Self::NotCurrent => f.write_str("the current values of a tensor were read outside of its update"),
            Self::Index { index, size } => write!(f, "there is no index {index} along an axis of {size} elements"),
            Self::Unfinished => f.write_str("a pass left elements unwritten, which is a defect of tenzor-expr"),
        }
    }
}

impl std::error::Error for EvalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Shape(error) => Some(error),
            Self::Alloc(error) => Some(error),
            Self::NotCurrent | Self::Index { .. } | Self::Unfinished => None,
        }
    }
}

impl From<ShapeError> for EvalError {
    fn from(error: ShapeError) -> Self {
        Self::Shape(error)
    }
}

impl From<AllocError> for EvalError {
    fn from(error: AllocError) -> Self {
        Self::Alloc(error)
    }
}
