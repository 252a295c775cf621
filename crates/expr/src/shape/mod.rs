//! Shapes: how many elements along each axis, and which shapes go together.

mod error;

use std::fmt;
use std::ops::{Bound, Deref, Range};

pub(crate) use crate::axes::Axes;
pub(crate) use crate::axes::MAX_RANK;
use crate::axes::{Axis, Given, Index, Indices};

pub(crate) use self::error::{Operation, Place, placed};
pub use self::error::{ShapeError, ShapeErrorKind};

/// The number of elements along each of at most [`MAX_RANK`] axes, the outermost first. A slice of them by `Deref`.
///
/// ```
/// use tenzor_expr::Shape;
///
/// let shape = Shape::new(&[2, 3])?;
/// assert_eq!((shape.rank(), shape.elements(), shape[1]), (2, 6, 3));
/// # Ok::<(), tenzor_expr::ShapeError>(())
/// ```
#[derive(Clone, Copy, Eq, Hash)]
#[expect(clippy::derived_hash_with_manual_eq, reason = "both compare all sizes")]
pub struct Shape {
    /// [`NO_AXIS`] beyond the last. Without a field for the rank, an error that tells two shapes is not too large to be returned.
    sizes: [usize; MAX_RANK],
}

const NO_AXIS: usize = usize::MAX;

impl Shape {
    /// That of a single number.
    pub const SCALAR: Self = Self { sizes: [NO_AXIS; MAX_RANK] };

    /// # Errors
    /// [`ShapeError`] for more than [`MAX_RANK`] axes, and for more elements than memory can hold.
    pub fn new(sizes: &[usize]) -> Result<Self, ShapeError> {
        let mut shape = Self::SCALAR;
        let own = shape.sizes.get_mut(..sizes.len()).ok_or(ShapeErrorKind::Rank { rank: sizes.len() })?;
        own.copy_from_slice(sizes);
        // Without the axes of no elements, so that no stride overflows either.
        let elements = sizes.iter().filter(|&&size| size > 0).try_fold(1_usize, |all, &size| all.checked_mul(size));
        let bytes = elements.and_then(|elements| elements.checked_mul(size_of::<f64>()));
        if bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok()) {
            Ok(shape)
        } else {
            Err(ShapeErrorKind::TooLarge.into())
        }
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.sizes.iter().position(|&size| size == NO_AXIS).unwrap_or(MAX_RANK)
    }

    /// The number of elements: the product of all sizes, 1 without axes.
    pub fn elements(&self) -> usize {
        self.iter().product()
    }

    /// Both shapes, stretched to one as NumPy does: axes are aligned at the last, and a size of 1 or a missing axis repeats.
    pub(crate) fn broadcast(&self, other: &Self, operation: Operation) -> Result<Self, ShapeError> {
        // Most often.
        if self == other || other.sizes[0] == NO_AXIS {
            return Ok(*self);
        }
        if self.sizes[0] == NO_AXIS {
            return Ok(*other);
        }
        let rank = self.rank().max(other.rank());
        let mut sizes = [1; MAX_RANK];
        for back in 1..=rank {
            sizes[rank - back] = match (self.last_but(back), other.last_but(back)) {
                (left, right) if left == right => left,
                (1, right) => right,
                (left, 1) => left,
                _ => return Err(ShapeErrorKind::Mismatch { operation, left: *self, right: *other }.into()),
            };
        }
        // Stretched, it may have more elements than memory can hold.
        Self::new(&sizes[..rank])
    }

    /// The size of an axis, counted from the last, which is 1; 1 where there is none.
    fn last_but(&self, back: usize) -> usize {
        self.rank().checked_sub(back).map_or(1, |axis| self.sizes[axis])
    }

    /// The shape with some axes exchanged: axis `i` of the result is axis `order[i]` of this one.
    pub(crate) fn permuted(&self, order: &[usize]) -> Self {
        let mut shape = *self;
        for (size, &axis) in shape.sizes.iter_mut().zip(order) {
            *size = self.sizes[axis];
        }
        shape
    }

    /// The shape with another axis, of size 1.
    pub(crate) fn inserted(&self, axis: usize) -> Result<Self, ShapeError> {
        let rank = self.rank();
        let mut sizes = [1; MAX_RANK + 1];
        sizes[..axis].copy_from_slice(&self.sizes[..axis]);
        sizes[axis + 1..=rank].copy_from_slice(&self.sizes[axis..rank]);
        Self::new(&sizes[..=rank])
    }

    /// The shape with another size of one axis.
    pub(crate) fn with_size(mut self, axis: usize, size: usize) -> Self {
        self.sizes[axis] = size;
        self
    }

    /// Without the axes for which `drops` says so.
    pub(crate) fn without(&self, drops: impl Fn(usize) -> bool) -> Self {
        let mut shape = Self::SCALAR;
        let kept = self.iter().enumerate().filter(|&(axis, _)| !drops(axis));
        for (slot, (_, &size)) in shape.sizes.iter_mut().zip(kept) {
            *slot = size;
        }
        shape
    }
}

/// As derived, but without a call: a small expression compares the shape of each of its tensors.
impl PartialEq for Shape {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.sizes.iter().zip(&other.sizes).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.sizes[..self.rank()]
    }
}

/// As `[2, 3]`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self[..])
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What can be given for a shape: arrays and slices of sizes, the outermost first.
pub trait IntoShape {
    /// # Errors
    /// As [`Shape::new`].
    fn into_shape(self) -> Result<Shape, ShapeError>;
}

impl IntoShape for Shape {
    fn into_shape(self) -> Result<Shape, ShapeError> {
        Ok(self)
    }
}

impl IntoShape for &[usize] {
    fn into_shape(self) -> Result<Shape, ShapeError> {
        Shape::new(self)
    }
}

impl<const N: usize> IntoShape for [usize; N] {
    fn into_shape(self) -> Result<Shape, ShapeError> {
        Shape::new(&self)
    }
}

impl<const N: usize> IntoShape for &[usize; N] {
    fn into_shape(self) -> Result<Shape, ShapeError> {
        Shape::new(self)
    }
}

/// The number that `given` says of `count`, where negative ones count from the end.
fn resolve(given: isize, count: usize) -> Option<usize> {
    let number = if given < 0 { count.checked_sub(given.unsigned_abs())? } else { given.unsigned_abs() };
    (number < count).then_some(number)
}

impl Axis {
    pub(crate) fn of(self, shape: &Shape, operation: Operation) -> Result<usize, ShapeError> {
        self.among(shape.rank(), shape, operation)
    }

    /// A place for another axis, of which there is one more than there are axes.
    pub(crate) fn between(self, shape: &Shape, operation: Operation) -> Result<usize, ShapeError> {
        self.among(shape.rank() + 1, shape, operation)
    }

    fn among(self, count: usize, shape: &Shape, operation: Operation) -> Result<usize, ShapeError> {
        resolve(self.0, count).ok_or(ShapeErrorKind::Axis { operation, shape: *shape, axis: self.0 }.into())
    }
}

impl Index {
    /// The axis and the index.
    pub(crate) fn of(self, Axis(given): Axis, shape: &Shape) -> Result<(usize, usize), ShapeError> {
        let axis = Axis(given).of(shape, &"index_axis")?;
        let index = resolve(self.0, shape[axis]);
        Ok((axis, index.ok_or(ShapeErrorKind::Index { shape: *shape, axis: given, index: self.0 })?))
    }
}

impl Axes {
    /// A bit for each axis.
    pub(crate) fn of(&self, shape: &Shape, operation: Operation) -> Result<u8, ShapeError> {
        let mut set = 0;
        self.each(shape, operation, |_, axis| set |= 1 << axis)?;
        Ok(set)
    }

    /// All axes of a shape, in the order in which they are named.
    pub(crate) fn order(&self, shape: &Shape, operation: Operation) -> Result<[usize; MAX_RANK], ShapeError> {
        let (mut order, mut count) = ([0, 1, 2, 3, 4, 5], 0);
        self.each(shape, operation, |i, axis| {
            order[i] = axis;
            count += 1;
        })?;
        let is_whole = count == shape.rank();
        if is_whole { Ok(order) } else { Err(ShapeErrorKind::Order { operation, shape: *shape, given: count }.into()) }
    }

    /// Each axis with its place, none twice.
    fn each(&self, shape: &Shape, operation: Operation, mut take: impl FnMut(usize, usize)) -> Result<(), ShapeError> {
        let Given::Some(given, count) = &self.0 else {
            (0..shape.rank()).for_each(|axis| take(axis, axis));
            return Ok(());
        };
        let mut seen = 0_u8;
        for (i, &given) in given.iter().take(usize::from(*count)).enumerate() {
            let axis = Axis(given).of(shape, operation)?;
            if seen & (1 << axis) != 0 {
                return Err(ShapeErrorKind::Axis { operation, shape: *shape, axis: given }.into());
            }
            seen |= 1 << axis;
            take(i, axis);
        }
        Ok(())
    }
}

impl Indices {
    /// The axis, the first index and the one behind the last.
    pub(crate) fn of(
        self,
        Axis(given): Axis,
        shape: &Shape,
        operation: Operation,
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
            _ => Err(ShapeErrorKind::Range { operation, shape: *shape, axis: given, range: self }.into()),
        }
    }
}

/// Where the elements of a tensor lie in a slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strides {
    /// The index of the first element.
    pub(crate) start: usize,
    /// How far the next element along each axis is; 0 where it is the same.
    pub(crate) steps: [isize; MAX_RANK],
}

impl Strides {
    /// Those of elements one after the other, the last axis's next to each other.
    #[inline]
    pub(crate) fn row_major(shape: &Shape) -> Self {
        let mut steps = [0; MAX_RANK];
        let mut next = 1;
        for (axis, &size) in shape.iter().enumerate().rev() {
            steps[axis] = next;
            next *= size.max(1).cast_signed();
        }
        Self { start: 0, steps }
    }

    /// Those given, if there is one for each axis and all elements of the shape are among `count`.
    pub(crate) fn within(shape: &Shape, steps: &[isize], start: usize, count: usize) -> Option<Self> {
        if steps.len() != shape.rank() {
            return None;
        }
        if shape.elements() == 0 {
            return Some(Self::row_major(shape));
        }
        let mut strides = Self { start, steps: [0; MAX_RANK] };
        let (mut least, mut most) = (isize::try_from(start).ok()?, isize::try_from(start).ok()?);
        // Nobody takes a step along an axis of one element, which may be of any length.
        for (axis, &step) in steps.iter().enumerate().filter(|&(axis, _)| shape[axis] > 1) {
            let reach = (shape[axis] - 1).cast_signed().checked_mul(step)?;
            least = least.checked_add(reach.min(0))?;
            most = most.checked_add(reach.max(0))?;
            strides.steps[axis] = step;
        }
        (least >= 0 && most < count.cast_signed()).then_some(strides)
    }

    /// Where the element at an index along each axis lies; `None` where there is none.
    pub(crate) fn find(&self, shape: &Shape, index: &[usize]) -> Option<usize> {
        let is_within = index.len() == shape.rank() && index.iter().zip(shape.iter()).all(|(i, size)| i < size);
        let steps = index.iter().zip(&self.steps);
        let place =
            steps.fold(self.start, |place, (&i, &step)| place.wrapping_add_signed(step.wrapping_mul(i.cast_signed())));
        is_within.then_some(place)
    }

    /// Whether the elements of a shape lie one after the other from the start of their slice.
    pub(crate) fn is_row_major(&self, shape: &Shape) -> bool {
        let packed = Self::row_major(shape);
        let matters = |axis: usize| shape[axis] > 1;
        self.start == 0 && (0..shape.rank()).all(|axis| !matters(axis) || self.steps[axis] == packed.steps[axis])
    }

    /// Those for a shape that `from` is stretched to.
    #[inline]
    pub(crate) fn stretched(mut self, from: &Shape, to: &Shape) -> Self {
        if from != to {
            self.broadcast(from, to);
        }
        self
    }

    /// For a shape that `from` is stretched to.
    pub(crate) fn broadcast(&mut self, from: &Shape, to: &Shape) {
        let mut steps = [0; MAX_RANK];
        let new = to.rank() - from.rank();
        for (axis, &size) in from.iter().enumerate() {
            steps[new + axis] = if size == 1 { 0 } else { self.steps[axis] };
        }
        self.steps = steps;
    }

    pub(crate) fn permute(&mut self, order: &[usize]) {
        let old = self.steps;
        for (step, &axis) in self.steps.iter_mut().zip(order) {
            *step = old[axis];
        }
    }

    /// From index `first` of an axis on.
    pub(crate) fn skip(&mut self, axis: usize, first: usize) {
        self.start = self.start.wrapping_add_signed(self.steps[axis].wrapping_mul(first.cast_signed()));
    }

    /// Without an axis.
    pub(crate) fn remove(&mut self, axis: usize) {
        self.steps[axis..].rotate_left(1);
        self.steps[MAX_RANK - 1] = 0;
    }

    /// With another axis, of one element. There are fewer than [`MAX_RANK`].
    pub(crate) fn insert(&mut self, axis: usize) {
        self.steps[axis..].rotate_right(1);
        self.steps[axis] = 0;
    }

    /// The same elements in the same order under another shape; `None` where no steps express that.
    pub(crate) fn reshaped(&self, from: &Shape, to: &Shape) -> Option<Self> {
        if from.elements() == 0 {
            return Some(Self { start: self.start, ..Self::row_major(to) });
        }
        // The runs of elements at even distances, the outermost first, as long as they can be.
        let mut runs = [(1_usize, 0_isize); MAX_RANK];
        let mut count = 0;
        for (&size, &step) in from.iter().zip(&self.steps).filter(|&(&size, _)| size > 1) {
            match runs[..count].last_mut() {
                Some(outer) if outer.1 == step * size.cast_signed() => *outer = (outer.0 * size, step),
                _ => {
                    runs[count] = (size, step);
                    count += 1;
                }
            }
        }
        // Each new axis lies within a run.
        let mut result = Self { start: self.start, steps: [0; MAX_RANK] };
        let mut rest = runs[..count].iter().rev();
        let (mut left, mut step) = (1, 0);
        for (axis, &size) in to.iter().enumerate().rev().filter(|&(_, &size)| size > 1) {
            if left == 1 {
                (left, step) = *rest.next()?;
            }
            if left % size != 0 {
                return None;
            }
            result.steps[axis] = step;
            left /= size;
            step *= size.cast_signed();
        }
        Some(result)
    }
}
