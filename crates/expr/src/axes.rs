//! Numbers of axes and indices along them, as users give them: from the start, or, where negative, from the end.

use std::fmt;
use std::ops::{Bound, Range, RangeBounds, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use crate::shape::{MAX_RANK, Shape, ShapeError};

/// The number that `given` says of `count`, where negative ones count from the end.
fn resolve(given: isize, count: usize) -> Option<usize> {
    let number = if given < 0 { count.checked_sub(given.unsigned_abs())? } else { given.unsigned_abs() };
    (number < count).then_some(number)
}

/// An axis: `0` is the first, `-1` the last. Of any `usize`, `isize` or `i32`.
///
/// ```
/// use tenzor_expr::{Expr, View};
///
/// let x = View::new(&[1.0_f32; 6], [2, 3])?;
/// assert_eq!(x.softmax(-1).shape()?[..], [2, 3]);
/// assert_eq!(x.softmax(-3).shape().unwrap_err().to_string(), "softmax: the shape [2, 3] has no axis -3, or it is named twice");
/// # Ok::<(), tenzor_expr::ShapeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis(isize);

impl Axis {
    pub(crate) fn of(self, shape: &Shape, operation: &'static str) -> Result<usize, ShapeError> {
        self.among(shape.rank(), shape, operation)
    }

    /// A place for another axis, of which there is one more than there are axes.
    pub(crate) fn between(self, shape: &Shape, operation: &'static str) -> Result<usize, ShapeError> {
        self.among(shape.rank() + 1, shape, operation)
    }

    fn among(self, count: usize, shape: &Shape, operation: &'static str) -> Result<usize, ShapeError> {
        resolve(self.0, count).ok_or(ShapeError::Axis { operation, shape: *shape, axis: self.0 })
    }
}

/// An index along an axis: `0` is the first, `-1` the last. Of any `usize`, `isize` or `i32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index(isize);

impl Index {
    /// The axis and the index.
    pub(crate) fn of(self, Axis(given): Axis, shape: &Shape) -> Result<(usize, usize), ShapeError> {
        let axis = Axis(given).of(shape, "index_axis")?;
        let index = resolve(self.0, shape[axis]);
        Ok((axis, index.ok_or(ShapeError::Index { shape: *shape, axis: given, index: self.0 })?))
    }
}

/// Some axes of a shape: what [`Expr::sum`](crate::Expr::sum) and the other reductions take, and
/// [`permute`](crate::Expr::permute). Negative ones count from the end, so that `-1` is the last.
///
/// ```
/// use tenzor_expr::Axes;
///
/// let (one, some, all): (Axes, Axes, Axes) = (1.into(), [0, -1].into(), (..).into());
/// assert!(one != some && some != all);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axes(Given);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    All,
    /// The first so many. One more than any shape has is enough to tell that there are too many.
    Some([isize; MAX_RANK + 1], u8),
}

impl Axes {
    fn some(axes: impl IntoIterator<Item = isize>) -> Self {
        let (mut given, mut count) = ([0; MAX_RANK + 1], 0);
        for (slot, axis) in given.iter_mut().zip(axes) {
            *slot = axis;
            count += 1;
        }
        Self(Given::Some(given, count))
    }

    /// A bit for each axis.
    pub(crate) fn of(&self, shape: &Shape, operation: &'static str) -> Result<u8, ShapeError> {
        let mut set = 0;
        self.each(shape, operation, |_, axis| set |= 1 << axis)?;
        Ok(set)
    }

    /// All axes of a shape, in the order in which they are named.
    pub(crate) fn order(&self, shape: &Shape, operation: &'static str) -> Result<[usize; MAX_RANK], ShapeError> {
        let (mut order, mut count) = ([0, 1, 2, 3, 4, 5], 0);
        self.each(shape, operation, |i, axis| {
            order[i] = axis;
            count += 1;
        })?;
        let is_whole = count == shape.rank();
        if is_whole { Ok(order) } else { Err(ShapeError::Order { operation, shape: *shape, given: count }) }
    }

    /// Each axis with its place, none twice.
    fn each(
        &self,
        shape: &Shape,
        operation: &'static str,
        mut take: impl FnMut(usize, usize),
    ) -> Result<(), ShapeError> {
        let Given::Some(given, count) = &self.0 else {
            (0..shape.rank()).for_each(|axis| take(axis, axis));
            return Ok(());
        };
        let mut seen = 0_u8;
        for (i, &given) in given.iter().take(usize::from(*count)).enumerate() {
            let axis = Axis(given).of(shape, operation)?;
            if seen & (1 << axis) != 0 {
                return Err(ShapeError::Axis { operation, shape: *shape, axis: given });
            }
            seen |= 1 << axis;
            take(i, axis);
        }
        Ok(())
    }
}

impl From<RangeFull> for Axes {
    fn from(_: RangeFull) -> Self {
        Self(Given::All)
    }
}

/// Some indices of an axis, for [`Expr::slice`](crate::Expr::slice): any range of `usize`, `isize` or `i32`. Negative bounds count from the
/// end, so that `-2..` are the last two.
///
/// ```
/// use tenzor_expr::Indices;
///
/// let ranges: [Indices; 4] = [(1..3).into(), (-2..).into(), (..=4).into(), (..).into()];
/// assert_eq!(ranges.map(|range| range.to_string()), ["1..3", "-2..", "..=4", ".."]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indices {
    start: Option<isize>,
    end: Bound<isize>,
}

impl Indices {
    /// The axis, the first index and the one behind the last.
    pub(crate) fn of(
        self,
        Axis(given): Axis,
        shape: &Shape,
        operation: &'static str,
    ) -> Result<(usize, Range<usize>), ShapeError> {
        let axis = Axis(given).of(shape, operation)?;
        let size = shape[axis];
        // Between the elements there is one place more than there are elements.
        let edge = |given: isize| match given < 0 {
            true => size.checked_sub(given.unsigned_abs()),
            false => Some(given.unsigned_abs()),
        };
        let start = self.start.map_or(Some(0), edge);
        let end = match self.end {
            Bound::Unbounded => Some(size),
            Bound::Excluded(end) => edge(end),
            Bound::Included(end) => edge(end).and_then(|end| end.checked_add(1)),
        };
        match (start, end) {
            (Some(start), Some(end)) if start <= end && end <= size => Ok((axis, start..end)),
            _ => Err(ShapeError::Range { operation, shape: *shape, axis: given, range: self }),
        }
    }
}

impl fmt::Display for Indices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(start) = self.start {
            write!(f, "{start}")?;
        }
        match self.end {
            Bound::Unbounded => f.write_str(".."),
            Bound::Excluded(end) => write!(f, "..{end}"),
            Bound::Included(end) => write!(f, "..={end}"),
        }
    }
}

impl From<RangeFull> for Indices {
    fn from(_: RangeFull) -> Self {
        Self { start: None, end: Bound::Unbounded }
    }
}

/// Whole numbers of some types. What does not fit is more than any shape has anyway.
macro_rules! from_numbers {
    ($($number:ident |$x:ident| $value:expr;)*) => {$(
        impl From<$number> for Axis {
            fn from($x: $number) -> Self {
                Self($value)
            }
        }

        impl From<$number> for Index {
            fn from($x: $number) -> Self {
                Self($value)
            }
        }

        impl From<$number> for Axes {
            fn from($x: $number) -> Self {
                Self::some([$value])
            }
        }

        impl From<&[$number]> for Axes {
            fn from(axes: &[$number]) -> Self {
                Self::some(axes.iter().map(|&$x| $value))
            }
        }

        impl<const N: usize> From<[$number; N]> for Axes {
            fn from(axes: [$number; N]) -> Self {
                Self::from(&axes[..])
            }
        }

        impl<const N: usize> From<&[$number; N]> for Axes {
            fn from(axes: &[$number; N]) -> Self {
                Self::from(&axes[..])
            }
        }

        impl From<&Vec<$number>> for Axes {
            fn from(axes: &Vec<$number>) -> Self {
                Self::from(&axes[..])
            }
        }

        from_numbers!(@ranges $number |$x| $value, Range RangeFrom RangeTo RangeInclusive RangeToInclusive);
    )*};
    (@ranges $number:ident |$x:ident| $value:expr, $($range:ident)*) => {$(
        impl From<$range<$number>> for Indices {
            fn from(range: $range<$number>) -> Self {
                let start = match range.start_bound() {
                    Bound::Included(&$x) | Bound::Excluded(&$x) => Some($value),
                    Bound::Unbounded => None,
                };
                Self { start, end: range.end_bound().map(|&$x| $value) }
            }
        }
    )*};
}

from_numbers! {
    usize |x| isize::try_from(x).unwrap_or(isize::MAX);
    isize |x| x;
    i32 |x| isize::try_from(x).unwrap_or(if x < 0 { isize::MIN } else { isize::MAX });
}
