//! Reductions: sums, means, products and extremes along axes, in one pass over what they are of, which is never materialised.
//!
//! The pass goes over memory in its order, whatever the axes are called: the axes are sorted by the steps of the largest tensor. What lies innermost, or
//! is the longest where that is short, makes the rows. Where its axes are kept, rows are added to rows, each value to a total of its own; where they are
//! reduced, a row is folded, also over several totals, of which each result's are combined in the end. Either way some rows are added in order, the totals
//! of such blocks in pairs, and those in pairs (a tree), so that the error of a sum grows with the logarithm of its length. The order of the operations
//! depends on shapes and steps alone, not on threads.

use std::cmp::Reverse;
use std::marker::PhantomData;
use std::ops::Range;

use tenzor_memory::{Allocator, Slots};

use crate::context::Context;
use crate::fill::{fill, grain};
use crate::math::{Element, IN_ORDER, LANES};
use crate::node::{Node, known};
use crate::ops::Reduction;
use crate::shape::{Axes, MAX_RANK, Shape, ShapeError, Strides};
use crate::simd::{Kernel, Mode, vectorised};
use crate::source::{At, Leaf, Lines, Reader, Row, RowSlice, Same, Source, Space, TILE, Tile};

/// A reduction along some axes; see [`Expr::sum`](crate::Expr::sum).
#[derive(Clone, Copy, Debug)]
pub struct Reduce<O, X> {
    x: X,
    /// A bit for each axis.
    axes: u8,
    shape: Result<Shape, ShapeError>,
    op: PhantomData<O>,
}

impl<O: Reduction<X::Elem>, X: Node> Reduce<O, X> {
    pub(crate) fn new(x: X, axes: Axes) -> Self {
        let mut set = 0;
        let shape = x.checked_shape().and_then(|shape| {
            set = axes.of(&shape, O::NAME)?;
            if O::OF_NONE.is_none() && shape.iter().enumerate().any(|(axis, &size)| size == 0 && is_in(set, axis)) {
                return Err(ShapeError::Empty { operation: O::NAME, shape });
            }
            Ok(shape.without(|axis| is_in(set, axis)))
        });
        Self { x, axes: set, shape, op: PhantomData }
    }

    /// Keeps the axes, with size 1, so that the result stretches to what it was made of.
    ///
    /// ```
    /// use tenzor_expr::{Expr, View, eval_into};
    ///
    /// let x = View::new(&[1.0_f32, 3.0, 2.0, 8.0], [2, 2])?;
    /// let mut centred = [0.0; 4];
    /// eval_into(&(x - x.mean(1).keep_dims()), &mut centred)?;
    /// assert_eq!(centred, [-1.0, 1.0, -3.0, 3.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keep_dims(self) -> Self {
        let kept = self.x.checked_shape().map(|shape| kept(&shape, self.axes));
        Self { shape: self.shape.and(kept), ..self }
    }
}

fn is_in(set: u8, axis: usize) -> bool {
    set & (1 << axis) != 0
}

/// The shape with a size of 1 along some axes.
fn kept(shape: &Shape, axes: u8) -> Shape {
    (0..shape.rank()).filter(|&axis| is_in(axes, axis)).fold(*shape, |shape, axis| shape.with_size(axis, 1))
}

impl<O: Reduction<X::Elem>, X: Node<Elem: Element>> Node for Reduce<O, X> {
    type Elem = X::Elem;
    type Source<'e, A: Allocator>
        = Leaf<'e, X::Elem, A>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, X::Elem>
    where
        Self: 'e;

    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    fn prepare<'e, A: Allocator + Clone>(&'e self, context: &Context<A>) -> Self::Source<'e, A>
    where
        Self: 'e,
    {
        let (from, to) = (*known(&self.x.checked_shape()), *known(&self.shape));
        let mut source = self.x.prepare(context);
        let order = Order::new(&from, self.axes, &source.reader());
        source.relayout(&mut |strides| strides.permute(&order.axes[..from.rank()]));
        let text = || {
            let axes: Vec<usize> = (0..from.rank()).filter(|&axis| is_in(self.axes, axis)).collect();
            format!("{}({}, {axes:?})", O::NAME, source.text())
        };
        let write = |slots: Slots<'_, _>| Work::new(source.reader(), &order, context.mode).write::<O>(slots);
        let block = context.produce(&to, text, write);
        Leaf::placed(block, order.strides(&from, &to, self.axes))
    }
}

/// The axes in the order kept, reduced, inner: those of the inner ones are kept as well, and lie behind the last reduced one.
#[derive(Debug)]
struct Order {
    axes: [usize; MAX_RANK],
    shape: Shape,
    /// Where the reduced ones begin, and where the inner ones do.
    reduced: usize,
    inner: usize,
}

/// Rows of fewer values are not worth to be read by themselves.
const SHORT: usize = 32;

impl Order {
    fn new<R: Reader>(shape: &Shape, set: u8, reader: &R) -> Self {
        let rank = shape.rank();
        // The steps of the tensor with the most elements, the first of those.
        let (mut most, mut steps) = (0, [0; MAX_RANK]);
        reader.all(&mut |strides| {
            let sizes = (0..rank).filter(|&axis| strides.steps[axis] != 0).map(|axis| shape[axis]);
            let elements = sizes.fold(1, usize::saturating_mul);
            if elements > most {
                (most, steps) = (elements, strides.steps);
            }
            true
        });
        // Outermost those along which it has no elements of its own.
        let mut sorted = [0, 1, 2, 3, 4, 5];
        sorted[..rank].sort_by_key(|&axis| Reverse(steps[axis].unsigned_abs().wrapping_sub(1)));
        // Of the axes that make up the rows: the first and the one behind the last, in the order of memory.
        let is_kept = |place: usize| !is_in(set, sorted[place]);
        let (mut best, mut end) = ((0, 0, 0), rank);
        while end > 0 && best.2 < SHORT {
            let start = (0..end).rev().take_while(|&place| is_kept(place) == is_kept(end - 1)).last().unwrap_or(0);
            let size = sorted[start..end].iter().fold(1, |size: usize, &axis| size.saturating_mul(shape[axis]));
            if size > best.2 || size == best.2 && is_kept(start) {
                best = (start, end, size);
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
    fn strides(&self, from: &Shape, to: &Shape, set: u8) -> Strides {
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

/// What a thread needs for itself: the reader's tiles, and one for values that are computed.
type Scratch<R> = (<R as Reader>::Scratch, Tile<<R as Reader>::Item>);

/// What all threads need to know.
#[derive(Debug)]
struct Work<R> {
    reader: R,
    kept: Space,
    reduced: Space,
    inner: Space,
    /// How rows go on where they are folded.
    folded: Space,
    /// How many values become one, and how many results lie next to each other.
    count: usize,
    width: usize,
    /// The totals of each result, where rows are folded; 0 where they are added.
    lanes: usize,
    /// What a value costs, in additions or so.
    cost: usize,
    mode: Mode,
}

/// The rows that are added in order.
const BLOCK: usize = 32;

/// As above, where a row is one result's: there are fewer additions to each total, as some values are added by themselves first.
const LONG_BLOCK: usize = 512;

impl<R: Reader<Item: Element>> Work<R> {
    fn new(reader: R, order: &Order, mode: Mode) -> Self {
        let (shape, rank) = (&order.shape, order.shape.rank());
        let space = |axes| Space::new(shape, axes, &reader);
        let (kept, reduced) = (space(0..order.reduced), space(order.reduced..order.inner));
        let (inner, folded) = (space(order.inner..rank), space(order.reduced..rank));
        let count = shape[order.reduced..order.inner].iter().product::<usize>();
        let width = shape[order.inner..].iter().product::<usize>();
        // Rows can be folded over the results of a step where they go on from one step to the next.
        let folds = width < SHORT && (width == 1 || folded.inner().0 > width);
        let most = (TILE / (2 * width.max(1)) + 1).next_power_of_two();
        let lanes = match width {
            _ if !folds => 0,
            1 => LANES,
            _ => most.min(count.next_power_of_two()),
        };
        let cost = 1 + reader.cost();
        Self { reader, kept, reduced, inner, folded, count, width, lanes, cost, mode }
    }

    fn write<O: Reduction<R::Item>>(&self, slots: Slots<'_, R::Item>) {
        if slots.is_empty() {
            return;
        }
        let most = grain(slots.len(), self.cost.saturating_mul(self.count), self.mode).max(1);
        if self.lanes > 0 {
            // Those of a step stay together.
            self.split(slots, most.div_ceil(self.width).saturating_mul(self.width), &|slots| self.fold::<O>(slots));
        } else {
            self.split(slots, most, &|slots| self.add::<O>(slots));
        }
    }

    /// Hands `most` results to a thread.
    fn split(&self, slots: Slots<'_, R::Item>, most: usize, write: &(impl Fn(Slots<'_, R::Item>) + Sync)) {
        if slots.len() > most {
            let middle = (slots.len() / 2).next_multiple_of(if self.lanes > 0 { self.width } else { 1 });
            let (left, right) = slots.split_at(middle);
            rayon::join(|| self.split(left, most, write), || self.split(right, most, write));
        } else {
            write(slots);
        }
    }

    /// The rows that one pass takes on, in order.
    fn block(&self) -> usize {
        match self.width {
            1 if self.lanes > 0 => LONG_BLOCK,
            _ => BLOCK,
        }
    }

    /// Rows added to rows.
    fn add<O: Reduction<R::Item>>(&self, mut slots: Slots<'_, R::Item>) {
        let mut scratch = Scratch::<R>::default();
        let mut totals = Lines([O::START; TILE]);
        while !slots.is_empty() {
            let mut at = At::FIRST;
            self.kept.locate(slots.first() / self.width, &mut at);
            self.inner.locate(slots.first() % self.width, &mut at);
            let (part, rest) = slots.split_at(self.inner.row_at(&at).min(TILE));
            let totals = &mut totals.0[..part.len()];
            self.tree::<O, TILE>(&at, 0..self.count, totals, &mut scratch);
            for total in &mut *totals {
                *total = O::finish(*total, self.count);
            }
            fill(part, RowSlice(totals));
            slots = rest;
        }
    }

    /// Rows folded.
    fn fold<O: Reduction<R::Item>>(&self, mut slots: Slots<'_, R::Item>) {
        let mut scratch = Scratch::<R>::default();
        let rows = self.count.div_ceil(self.lanes);
        if rows <= self.block() {
            return vectorised(self.mode.level, FoldEach { work: self, slots, scratch, op: PhantomData::<O> });
        }
        let mut totals = Lines([O::START; TILE]);
        let totals = &mut totals.0[..self.lanes * self.width];
        while !slots.is_empty() {
            let mut at = At::FIRST;
            self.kept.locate(slots.first() / self.width, &mut at);
            let (part, rest) = slots.split_at(self.width);
            if self.width == 1 {
                self.tree::<O, LANES>(&at, 0..rows, totals, &mut scratch);
            } else {
                self.tree::<O, TILE>(&at, 0..rows, totals, &mut scratch);
            }
            self.finish::<O>(totals);
            fill(part, RowSlice(&totals[..self.width]));
            slots = rest;
        }
    }

    /// Each result from its totals, in pairs.
    #[inline(always)]
    fn finish<O: Reduction<R::Item>>(&self, totals: &mut [R::Item]) {
        if self.width == 1
            && let Ok(lanes) = <&[R::Item; LANES]>::try_from(&*totals)
        {
            totals[0] = R::Item::total(O::FOLD, lanes);
        } else {
            let mut left = totals.len();
            while left > self.width {
                left /= 2;
                let (totals, others) = totals.split_at_mut(left);
                add_row::<O, _>(totals, RowSlice(&others[..left]));
            }
        }
        for total in &mut totals[..self.width] {
            *total = O::finish(*total, self.count);
        }
    }

    /// The totals of some rows, in pairs, and in pairs of those. There are at most `N` totals.
    fn tree<O: Reduction<R::Item>, const N: usize>(
        &self,
        at: &At,
        rows: Range<usize>,
        totals: &mut [R::Item],
        scratch: &mut Scratch<R>,
    ) {
        let Range { start, end } = rows;
        let block = self.block();
        if end - start <= block {
            totals.fill(O::START);
            return vectorised(
                self.mode.level,
                Block { work: self, at: *at, rows, totals, scratch, op: PhantomData::<O> },
            );
        }
        let middle = start + ((end - start).div_ceil(block).next_power_of_two() / 2) * block;
        let mut others = Lines([O::START; N]);
        let others = &mut others.0[..totals.len()];
        let work = (end - start).saturating_mul(totals.len());
        if work > grain(work, self.cost, self.mode) {
            rayon::join(
                || self.tree::<O, N>(at, start..middle, totals, scratch),
                || self.tree::<O, N>(at, middle..end, others, &mut Scratch::<R>::default()),
            );
        } else {
            self.tree::<O, N>(at, start..middle, totals, scratch);
            self.tree::<O, N>(at, middle..end, others, scratch);
        }
        for (total, &other) in totals.iter_mut().zip(&*others) {
            *total = O::combine(*total, other);
        }
    }
}

/// Adds some rows to totals, in order.
struct Block<'s, O, R: Reader> {
    work: &'s Work<R>,
    /// Of the results.
    at: At,
    rows: Range<usize>,
    totals: &'s mut [R::Item],
    scratch: &'s mut Scratch<R>,
    op: PhantomData<O>,
}

impl<O: Reduction<R::Item>, R: Reader<Item: Element>> Kernel for Block<'_, O, R> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { work, mut at, rows, totals, scratch, .. } = self;
        if work.lanes == 0 {
            let inner = at.inner;
            work.reduced.locate(rows.start, &mut at);
            at.inner = inner;
            for _ in rows {
                add_row::<O, _>(totals, work.reader.row(&mut scratch.0, &[], &at, totals.len()));
                work.reduced.advance(&mut at, 1);
            }
        } else if let Ok(totals) = <&mut [R::Item; LANES]>::try_from(&mut *totals)
            && work.width == 1
        {
            fold_lanes::<O, _>(work, at, rows, totals, scratch);
        } else {
            fold_rows::<O, _>(work, at, rows, totals, scratch);
        }
    }
}

/// Folds the values of each result, which are no more than a block.
struct FoldEach<'s, O, R: Reader> {
    work: &'s Work<R>,
    slots: Slots<'s, R::Item>,
    scratch: Scratch<R>,
    op: PhantomData<O>,
}

impl<O: Reduction<R::Item>, R: Reader<Item: Element>> Kernel for FoldEach<'_, O, R> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { work, mut slots, mut scratch, .. } = self;
        let mut at = At::FIRST;
        work.kept.locate(slots.first() / work.width, &mut at);
        let rows = 0..work.count.div_ceil(work.lanes);
        if work.width == 1 {
            for result in fill(slots, Same(O::START)) {
                let mut totals = Lines([O::START; LANES]);
                fold_lanes::<O, _>(work, at, rows.clone(), &mut totals.0, &mut scratch);
                *result = O::finish(R::Item::total(O::FOLD, &totals.0), work.count);
                work.kept.advance(&mut at, 1);
            }
            return;
        }
        let mut totals = Lines([O::START; TILE]);
        let totals = &mut totals.0[..work.lanes * work.width];
        while !slots.is_empty() {
            let (part, rest) = slots.split_at(work.width);
            totals.fill(O::START);
            fold_rows::<O, _>(work, at, rows.clone(), totals, &mut scratch);
            work.finish::<O>(totals);
            fill(part, RowSlice(&totals[..work.width]));
            work.kept.advance(&mut at, 1);
            slots = rest;
        }
    }
}

#[inline(always)]
fn add_row<O: Reduction<R::Item>, R: Row>(totals: &mut [R::Item], row: R) {
    let row = row.head(totals.len());
    if let Some(values) = row.as_slice() {
        for (total, &value) in totals.iter_mut().zip(values) {
            *total = O::combine(*total, value);
        }
        return;
    }
    for (i, total) in totals.iter_mut().enumerate() {
        *total = O::combine(*total, row.at(i));
    }
}

/// The values of rows, each to the total whose turn it is, wherever the rows of memory begin and end.
#[inline(always)]
fn fold_rows<O: Reduction<R::Item>, R: Reader<Item: Element>>(
    work: &Work<R>,
    mut at: At,
    rows: Range<usize>,
    totals: &mut [R::Item],
    (scratch, tile): &mut Scratch<R>,
) {
    let wide = totals.len();
    let first = rows.start * wide;
    let mut left = (rows.end * wide).min(work.count * work.width) - first;
    work.folded.locate(first, &mut at);
    let mut next = 0;
    while left > 0 {
        let len = work.folded.row_at(&at).min(left).min(if R::IS_SLICE { usize::MAX } else { TILE });
        let row = work.reader.row(scratch, &[], &at, len);
        let values = row.as_slice().unwrap_or_else(|| tile.fill(len, row));
        let (head, body) = values.split_at(((wide - next) % wide).min(len));
        add_row::<O, _>(&mut totals[next..next + head.len()], RowSlice(head));
        let (groups, rest) = body.split_at(body.len() - body.len() % wide);
        for group in groups.chunks_exact(wide) {
            add_row::<O, _>(totals, RowSlice(group));
        }
        add_row::<O, _>(&mut totals[..rest.len()], RowSlice(rest));
        next = (next + len) % wide;
        work.folded.advance(&mut at, len);
        left -= len;
    }
}

/// As above, where all values become one result.
#[inline(always)]
fn fold_lanes<O: Reduction<R::Item>, R: Reader<Item: Element>>(
    work: &Work<R>,
    mut at: At,
    rows: Range<usize>,
    totals: &mut [R::Item; LANES],
    (scratch, _): &mut Scratch<R>,
) {
    let mut left = (rows.end * LANES).min(work.count) - rows.start * LANES;
    work.folded.locate(rows.start * LANES, &mut at);
    let is_memory = R::IS_SLICE && work.folded.longest() >= left.min(IN_ORDER);
    while left > 0 {
        if is_memory {
            let len = work.folded.row_at(&at).min(left);
            if let Some(values) = work.reader.row(scratch, &[], &at, len).as_slice() {
                R::Item::fold(O::FOLD, work.mode.level, values, totals);
            }
            work.folded.advance(&mut at, len);
            left -= len;
            continue;
        }
        // What is computed, or lies in short rows, is put together first, to the very sums that memory in one piece has.
        let mut together = Lines([O::START; IN_ORDER]);
        let together = &mut together.0[..left.min(IN_ORDER)];
        let mut filled = 0;
        while filled < together.len() {
            let len = work.folded.row_at(&at).min(together.len() - filled);
            work.reader.row(scratch, &[], &at, len).overwrite(&mut together[filled..filled + len]);
            work.folded.advance(&mut at, len);
            filled += len;
        }
        R::Item::fold(O::FOLD, work.mode.level, together, totals);
        left -= filled;
    }
}
