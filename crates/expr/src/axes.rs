//! Numbers of axes and indices along them, as users give them: from the start, or, where negative, from the end.

use std::fmt;
use std::ops::{Bound, Range, RangeBounds, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

/// The most axes of a tensor.
pub const MAX_RANK: usize = 6;

/// An axis: `0` is the first, `-1` the last. Of any `usize`, `isize` or `i32`.
///
/// ```
/// use tenzor_expr::{Expr, View};
///
/// let x = View::new(&[1.0_f32; 6], [2, 3])?;
/// assert_eq!(x.softmax(-1).shape()?[..], [2, 3]);
/// assert_eq!(x.softmax(-3).shape().unwrap_err().kind.to_string(), "softmax: the shape [2, 3] has no axis -3");
/// # Ok::<(), tenzor_expr::ShapeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis(pub(crate) isize);

/// An index along an axis: `0` is the first, `-1` the last. Of any `usize`, `isize` or `i32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index(pub(crate) isize);

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
pub struct Axes(pub(crate) Given);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
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
    pub(crate) start: Option<isize>,
    pub(crate) end: Bound<isize>,
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
