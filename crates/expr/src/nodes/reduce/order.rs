//! The order of the axes in which a reduction goes over memory.

use std::cmp::Reverse;

use crate::math::Fold;
use crate::shape::{MAX_RANK, Shape, Strides};
use crate::walk::Layout;

/// Whether an axis is in a set.
pub(super) fn is_in(set: u8, axis: usize) -> bool {
    set & (1 << axis) != 0
}

/// Two tensors of which the elements of either lie across memory where those of the other lie along it.
#[derive(Clone, Copy)]
pub(super) struct Crossing {
    /// The innermost axis of the one with the most elements, and that of the other.
    pub(super) inner: usize,
    pub(super) other: usize,
    /// The steps of the other.
    steps: [isize; MAX_RANK],
}

impl Crossing {
    pub(super) fn new(shape: &Shape, values: &dyn Layout) -> Option<Self> {
        // Fewer elements are in the cache anyway.
        const MANY: usize = 64;
        let is_long = |axis: usize| shape[axis] >= MANY;
        let along = |steps: &[isize; MAX_RANK]| (0..shape.rank()).find(|&axis| steps[axis] == 1 && is_long(axis));
        let inner = along(&largest(shape, values))?;
        let mut found = None;
        values.all(&mut |&Strides { steps, .. }| {
            if !matches!(steps[inner], 0 | 1) {
                found = found.or(along(&steps).map(|other| Self { inner, other, steps }));
            }
            true
        });
        found
    }
}

/// The steps of the tensor with the most elements, the first of those.
fn largest(shape: &Shape, values: &dyn Layout) -> [isize; MAX_RANK] {
    let (mut most, mut steps) = (0, [0; MAX_RANK]);
    values.all(&mut |strides| {
        let sizes = (0..shape.rank()).filter(|&axis| strides.steps[axis] != 0).map(|axis| shape[axis]);
        let elements = sizes.fold(1, usize::saturating_mul);
        if elements > most {
            (most, steps) = (elements, strides.steps);
        }
        true
    });
    steps
}

/// The axes in the order kept, reduced, inner: those of the inner ones are kept as well, and lie behind the last reduced one.
#[derive(Debug)]
pub(in crate::nodes) struct Order {
    pub(in crate::nodes) axes: [usize; MAX_RANK],
    pub(in crate::nodes) shape: Shape,
    /// Where the reduced ones begin, and where the inner ones do.
    pub(in crate::nodes) reduced: usize,
    pub(in crate::nodes) inner: usize,
}

/// Innermost rows of fewer values are not worth to be folded by themselves, and of fewer than twice as many, to be searched; others of fewer than half as many.
/// Of several tensors, each would have to be transposed instead.
const SHORT: usize = 64;

impl Order {
    /// `fold`: how rows become results, unless they are searched.
    pub(in crate::nodes) fn new(shape: &Shape, set: u8, values: &dyn Layout, fold: Option<Fold>) -> Self {
        Self::of(shape, set, values, Crossing::new(shape, values), fold)
    }

    /// As above, of tensors that are known to cross, or not to.
    pub(super) fn of(
        shape: &Shape,
        set: u8,
        values: &dyn Layout,
        crossing: Option<Crossing>,
        fold: Option<Fold>,
    ) -> Self {
        let rank = shape.rank();
        // Where tensors cross, in the order of one along which elements are kept next to each other.
        let steps = match crossing {
            Some(Crossing { inner, other, steps }) if is_in(set, inner) && !is_in(set, other) => steps,
            _ => largest(shape, values),
        };
        // Outermost those along which it has no elements of its own.
        let mut sorted = [0, 1, 2, 3, 4, 5];
        sorted[..rank].sort_by_key(|&axis| Reverse(steps[axis].unsigned_abs().wrapping_sub(1)));
        // Of the axes that make up the rows: the first and the one behind the last, in the order of memory.
        let is_kept = |place: usize| !is_in(set, sorted[place]);
        let (mut best, mut end) = ((0, 0, 0), rank);
        let mut leaves = 0;
        values.all(&mut |_| {
            leaves += 1;
            true
        });
        let short = SHORT * if fold.is_some() { 1 } else { 2 } / leaves.max(1);
        while end > 0 && best.2 < if best.1 == rank { short } else { SHORT / 2 } {
            let start = (0..end).rev().take_while(|&place| is_kept(place) == is_kept(end - 1)).last().unwrap_or(0);
            let size = sorted[start..end].iter().fold(1, |size: usize, &axis| size.saturating_mul(shape[axis]));
            if size > best.2 || size == best.2 && is_kept(start) {
                best = (start, end, size);
            }
            // Narrow rows that become one result each, where they lie in one piece.
            let is_narrow = end == rank && fold.is_some_and(|fold| fold.is_narrow(size));
            let is_row = |strides: &Strides| matches!(strides.steps[sorted[rank - 1]], 0 | 1);
            if is_narrow
                && (0..rank).all(|place| is_kept(place) == (place < start))
                && values.all(&mut |strides| is_row(strides))
            {
                break;
            }
            end = start;
        }
        let (start, end, size) = best;
        // Folded rows may have some kept values in each step.
        let narrow = if size > 1 && !is_kept(start) && end < rank { end..rank } else { rank..rank };
        let inner = if size > 1 && is_kept(start) { start..end } else { narrow };
        let is_inner = |place: usize| inner.contains(&place) && is_kept(place);
        let kept = (0..rank).filter(|&place| is_kept(place) && !is_inner(place));
        let reduced = (0..rank).filter(|&place| !is_kept(place));
        let mut axes = [0, 1, 2, 3, 4, 5];
        for (slot, place) in
            axes.iter_mut().zip(kept.clone().chain(reduced.clone()).chain((0..rank).filter(|&place| is_inner(place))))
        {
            *slot = sorted[place];
        }
        let (kept, reduced) = (kept.count(), reduced.count());
        Self { axes, shape: shape.permuted(&axes[..rank]), reduced: kept, inner: kept + reduced }
    }

    /// Where the results lie: in the order of the axes here.
    pub(in crate::nodes) fn strides(&self, from: &Shape, to: &Shape, set: u8) -> Strides {
        let mut strides = Strides { start: 0, steps: [0; MAX_RANK] };
        let rank = from.rank();
        let mut next = 1;
        let kept = (0..self.reduced).chain(self.inner..rank);
        for axis in kept.rev().map(|place| self.axes[place]) {
            let dropped = if to.rank() == rank { 0 } else { (0..axis).filter(|&axis| is_in(set, axis)).count() };
            strides.steps[axis - dropped] = next;
            next *= from[axis].max(1).cast_signed();
        }
        strides
    }
}
