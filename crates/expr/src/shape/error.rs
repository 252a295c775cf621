//! Why there is no shape, and where that was asked for.

use std::fmt;
use std::panic::Location;

use super::{MAX_RANK, Shape, resolve};
use crate::axes::Indices;

/// The name of an operation, by a reference to it, as an error that tells two shapes and a place would be too large to be returned otherwise.
pub(crate) type Operation = &'static &'static str;

/// Where in the program an operation is called.
pub(crate) type Place = &'static Location<'static>;

/// Why an expression has no shape: what is wrong, and which operator, method or function of the program it is wrong with.
///
/// ```
/// use tenzor_expr::{Expr, ShapeErrorKind, View};
///
/// let (a, b) = (View::new(&[1.0_f32; 6], [2, 3])?, View::new(&[1.0_f32; 4], [4])?);
/// let line = line!() + 1;
/// let error = (a * a * b).shape().unwrap_err();
/// assert!(matches!(error.kind, ShapeErrorKind::Mismatch { operation: &"*", left, .. } if left == a.shape()));
/// assert_eq!(error.place.map(|place| (place.file(), place.line())), Some((file!(), line)));
/// assert!(error.to_string().starts_with("*: the shapes [2, 3] and [4] do not go together, at "));
/// # Ok::<(), tenzor_expr::ShapeError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq)]
#[non_exhaustive]
pub struct ShapeError {
    /// What is wrong.
    pub kind: ShapeErrorKind,
    /// Where in the program that operation is called; `None` where the error comes of a call that returns it at once, as [`Shape::new`].
    pub place: Option<&'static Location<'static>>,
}

impl ShapeError {
    /// With the caller's place.
    #[track_caller]
    pub(crate) fn here(kind: ShapeErrorKind) -> Self {
        Self { kind, place: Some(Location::caller()) }
    }

    /// With a place, unless it has one.
    pub(crate) fn at(self, place: Place) -> Self {
        Self { place: self.place.or(Some(place)), ..self }
    }
}

/// With the caller's place, unless the error has one.
#[inline]
#[track_caller]
pub(crate) fn placed<T>(result: Result<T, ShapeError>) -> Result<T, ShapeError> {
    let place = Location::caller();
    result.map_err(|error| error.at(place))
}

/// Whether the same is wrong, wherever it is.
impl PartialEq for ShapeError {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl From<ShapeErrorKind> for ShapeError {
    fn from(kind: ShapeErrorKind) -> Self {
        Self { kind, place: None }
    }
}

/// What is wrong, and ` at src/model.rs:12:9`.
impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        self.place.map_or(Ok(()), |place| write!(f, ", at {place}"))
    }
}

impl std::error::Error for ShapeError {}

/// What is wrong with shapes. It names the operation and the shapes it was given, but for what is no shape itself: [`Rank`](Self::Rank) and
/// [`TooLarge`](Self::TooLarge).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShapeErrorKind {
    /// Two shapes that do not go together.
    Mismatch {
        /// What was to be done.
        operation: Operation,
        /// The shape of the first operand, or the one given.
        left: Shape,
        /// That of the second, or the one asked for.
        right: Shape,
    },
    /// An axis that the shape has not, or that was named twice.
    Axis {
        /// What was to be done.
        operation: Operation,
        /// The operand's shape.
        shape: Shape,
        /// The axis as it was given, which may be negative.
        axis: isize,
    },
    /// Fewer axes than the shape has, where all have to be named.
    Order {
        /// What was to be done.
        operation: Operation,
        /// The operand's shape.
        shape: Shape,
        /// How many axes were named.
        given: usize,
    },
    /// An index that its axis has not.
    Index {
        /// The operand's shape.
        shape: Shape,
        /// The axis as it was given.
        axis: isize,
        /// The index as it was given.
        index: isize,
    },
    /// A range that leaves its axis, or ends before it starts.
    Range {
        /// What was to be done.
        operation: Operation,
        /// The operand's shape.
        shape: Shape,
        /// The axis as it was given.
        axis: isize,
        /// The range as it was given.
        range: Indices,
    },
    /// Every 0th element.
    Step {
        /// What was to be done.
        operation: Operation,
        /// The operand's shape.
        shape: Shape,
    },
    /// The largest or the smallest of no elements.
    Empty {
        /// What was to be done.
        operation: Operation,
        /// The operand's shape.
        shape: Shape,
    },
    /// None of what is to be put together.
    NoParts {
        /// What was to be done.
        operation: Operation,
    },
    /// Strides that lead out of the elements that there are, or another number of them than there are axes.
    Strides {
        /// The shape.
        shape: Shape,
        /// How many elements were given.
        given: usize,
    },
    /// Another number of elements than the shape has.
    Elements {
        /// The shape.
        shape: Shape,
        /// How many were given.
        given: usize,
    },
    /// More than [`MAX_RANK`] axes.
    Rank {
        /// How many.
        rank: usize,
    },
    /// More elements than memory can hold.
    TooLarge,
}

impl fmt::Display for ShapeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mismatch { operation, left, right } => {
                write!(f, "{operation}: the shapes {left} and {right} do not go together")
            }
            // Only one that is there can be named twice.
            Self::Axis { operation, shape, axis } => match resolve(*axis, shape.rank()) {
                Some(_) => write!(f, "{operation}: axis {axis} of the shape {shape} is named twice"),
                None => write!(f, "{operation}: the shape {shape} has no axis {axis}"),
            },
            Self::Order { operation, shape, given } => {
                write!(f, "{operation}: {given} axes are not all of the shape {shape}")
            }
            Self::Index { shape, axis, index } => {
                write!(f, "index_axis: there is no index {index} along axis {axis} of the shape {shape}")
            }
            Self::Range { operation, shape, axis, range } => {
                write!(f, "{operation}: {range} is not within axis {axis} of the shape {shape}")
            }
            Self::Step { operation, shape } => {
                write!(f, "{operation}: a step of 0 leads nowhere in the shape {shape}")
            }
            Self::Empty { operation, shape } => {
                write!(f, "{operation}: there are no elements along these axes of the shape {shape}")
            }
            Self::NoParts { operation } => write!(f, "{operation}: of no expressions, nothing tells the shape"),
            Self::Elements { shape, given } => {
                write!(f, "the shape {shape} has {} elements, not {given}", shape.elements())
            }
            Self::Strides { shape, given } => {
                write!(f, "strides: not one for each axis of the shape {shape} that stays within {given} elements")
            }
            Self::Rank { rank } => write!(f, "{rank} axes are more than {MAX_RANK}"),
            Self::TooLarge => f.write_str("more elements than memory can hold"),
        }
    }
}
