//! Reductions: sums, means, products and extremes along axes, in one pass over what they are of, which is never materialised.
//!
//! The pass goes over memory in its order, whatever the axes are called: the axes are sorted by the steps of the largest tensor. What lies innermost, or
//! is the longest where that is short, makes the rows. Where its axes are kept, rows are added to rows, each value to a total of its own; where they are
//! reduced, a row is folded, also over several totals, of which each result's are combined in the end. Either way some rows are added in order, the totals
//! of such blocks in pairs, and those in pairs (a tree), so that the error of a sum grows with the logarithm of its length. The order of the operations
//! depends on shapes and steps alone, not on threads.
//!
//! Unsafe code says that slots were written, after a loop over all of them.
#![allow(unsafe_code)]

use std::cmp::Reverse;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use crate::block::Block;
use crate::context::{Context, Withheld};
use crate::fill::grain;
use crate::math::{Element, IN_ORDER, LANES};
use crate::node::{Node, known};
use crate::nodes::Binary;
use crate::ops::{Mul, Reduction, Sum};
use crate::shape::{Axes, MAX_RANK, Shape, ShapeError, Strides};
use crate::simd::{Kernel, Mode, vectorised};
use crate::slots::{copied, written};
use crate::source::{Leaf, RowSlice, Source, Tile, Values};
use crate::walk::{Layout, Rect, Space, TILE};

/// A reduction along some axes; see [`Expr::sum`](crate::Expr::sum).
#[derive(Clone, Copy, Debug)]
pub struct Reduce<O, X> {
    pub(super) x: X,
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

impl<L: Node, R: Node<Elem = L::Elem>> Reduce<Sum, Binary<Mul, L, R>>
where
    L::Elem: Element,
{
    /// The sum of the products of two vectors' elements.
    pub(crate) fn dot(left: L, right: R) -> Self {
        let shape = left.checked_shape().and_then(|left| {
            let right = right.checked_shape()?;
            let goes = left.rank() == 1 && left == right;
            if goes { Ok(Shape::SCALAR) } else { Err(ShapeError::Mismatch { operation: "dot", left, right }) }
        });
        Self { shape, ..Self::new(Binary { op: Mul, left, right }, (..).into()) }
    }
}

fn is_in(set: u8, axis: usize) -> bool {
    set & (1 << axis) != 0
}

/// The shape with a size of 1 along some axes.
pub(super) fn kept(shape: &Shape, axes: u8) -> Shape {
    (0..shape.rank()).filter(|&axis| is_in(axes, axis)).fold(*shape, |shape, axis| shape.with_size(axis, 1))
}

impl<O: Reduction<X::Elem>, X: Node<Elem: Element>> Node for Reduce<O, X> {
    type Elem = X::Elem;
    type Source<'e>
        = Leaf<'e, X::Elem>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, X::Elem>
    where
        Self: 'e;

    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let (from, own) = (*known(&self.x.checked_shape()), *known(&self.shape));
        let withheld = context.withhold();
        let mut source = self.x.prepare(context, &from);
        let (block, strides) = reduced::<O, _>(context, &mut source, &from, self.axes, &own, Some(withheld));
        Leaf::placed(block, strides, &own, to)
    }
}

/// What comes of the values of a source, in a block of its own, and where there. The block may be the output, if that is offered again.
pub(super) fn reduced<'e, O: Reduction<S::Item>, S: Source<Item: Element>>(
    context: &'e Context<'e>,
    source: &mut S,
    from: &Shape,
    set: u8,
    own: &Shape,
    withheld: Option<Withheld>,
) -> (Block<'e, S::Item>, Strides) {
    let crossing = Crossing::new(from, &source.reader());
    if let Some(Crossing { inner, other, .. }) = crossing
        && is_in(set, inner)
        && is_in(set, other)
    {
        // Along all axes but one first: rows are then added to rows, and lie across memory for one of them only.
        let first = set & !(1 << inner);
        let middle = kept(from, first);
        let (block, strides) = reduced::<O, _>(context, source, from, first, &middle, None);
        let mut middle_source = Leaf::placed(block, strides, &middle, &middle);
        return reduced::<O, _>(context, &mut middle_source, &middle, set, own, withheld);
    }
    let order = Order::new(from, set, &source.reader());
    source.relayout(&mut |strides| strides.permute(&order.axes[..from.rank()]));
    let text = || {
        let axes: Vec<usize> = (0..from.rank()).filter(|&axis| is_in(set, axis)).collect();
        format!("{}({}, {axes:?})", O::NAME, source.text())
    };
    let strides = order.strides(from, own, set);
    if let Some(withheld) = withheld.filter(|_| strides.is_row_major(own)) {
        context.offer(withheld);
    }
    let write = |slots: &mut [_]| Work::new(&source.reader(), &order, context.mode).write::<O>(slots);
    // SAFETY: it writes to all.
    let block = unsafe { context.produce(own, text, write) };
    // Back to where they were, for who reads them again.
    let mut back = [0; MAX_RANK];
    for (place, &axis) in order.axes.iter().enumerate() {
        back[axis] = place;
    }
    source.relayout(&mut |strides| strides.permute(&back[..from.rank()]));
    (block, strides)
}

/// Two tensors of which the elements of either lie across memory where those of the other lie along it.
#[derive(Clone, Copy)]
struct Crossing {
    /// The innermost axis of the one with the most elements, and that of the other.
    inner: usize,
    other: usize,
    /// The steps of the other.
    steps: [isize; MAX_RANK],
}

impl Crossing {
    fn new(shape: &Shape, values: &dyn Layout) -> Option<Self> {
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
pub(super) struct Order {
    pub(super) axes: [usize; MAX_RANK],
    pub(super) shape: Shape,
    /// Where the reduced ones begin, and where the inner ones do.
    pub(super) reduced: usize,
    pub(super) inner: usize,
}

/// Rows of fewer values are not worth to be read by themselves.
const SHORT: usize = 32;

impl Order {
    pub(super) fn new(shape: &Shape, set: u8, values: &dyn Layout) -> Self {
        let rank = shape.rank();
        // Where tensors cross, in the order of one along which elements are kept next to each other.
        let steps = match Crossing::new(shape, values) {
            Some(Crossing { inner, other, steps }) if is_in(set, inner) && !is_in(set, other) => steps,
            _ => largest(shape, values),
        };
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
    pub(super) fn strides(&self, from: &Shape, to: &Shape, set: u8) -> Strides {
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

/// What all threads need to know.
struct Work<'w, T> {
    values: &'w dyn Values<T>,
    kept: Space,
    reduced: Space,
    inner: Space,
    /// How rows go on where they are folded, and where they are so by themselves.
    folded: Space,
    all: Space,
    /// How many values become one, and how many results lie next to each other.
    count: usize,
    width: usize,
    /// The totals of each result, where rows are folded; 0 where they are added.
    lanes: usize,
    /// The most results at a time, where rows are added.
    most: usize,
    /// What a value costs, in additions or so.
    cost: usize,
    mode: Mode,
}

/// The rows that are added in order.
const BLOCK: usize = 32;

/// The rows that are read at once where they lie across memory.
const TOGETHER: usize = 16;

/// As above, where a row is one result's: there are fewer additions to each total, as some values are added by themselves first.
const LONG_BLOCK: usize = 512;

impl<'w, T: Element> Work<'w, T> {
    fn new(values: &'w dyn Values<T>, order: &Order, mode: Mode) -> Self {
        let (shape, rank) = (&order.shape, order.shape.rank());
        let space = |axes| Space::new(shape, axes, values);
        let (kept, reduced) = (space(0..order.reduced), space(order.reduced..order.inner));
        let (inner, folded, all) = (space(order.inner..rank), space(order.reduced..rank), space(0..rank));
        let count = shape[order.reduced..order.inner].iter().product::<usize>();
        let width = shape[order.inner..].iter().product::<usize>();
        // Rows can be folded over the results of a step where they go on from one step to the next.
        let folds = width < SHORT && (width == 1 || folded.inner().1 > width);
        let lanes = match width {
            _ if !folds => 0,
            1 => LANES,
            _ => (TILE / (2 * width.max(1)) + 1).next_power_of_two().min(count.next_power_of_two()),
        };
        // Where rows lie across memory for a leaf, several are read at once, so that each of its cache lines is read once.
        let ((across, _), (down, size)) = (inner.inner(), reduced.inner());
        let lies_along = |strides: &Strides| strides.steps[down] != 1 || matches!(strides.steps[across], 0 | 1);
        let lines = if values.all(&mut |strides| lies_along(strides)) { 1 } else { size.clamp(1, TOGETHER) };
        let cost = 1 + values.cost();
        Self { values, kept, reduced, inner, folded, all, count, width, lanes, most: TILE / lines, cost, mode }
    }

    /// Writes to every slot.
    fn write<O: Reduction<T>>(&self, slots: &mut [MaybeUninit<T>]) {
        if slots.is_empty() {
            return;
        }
        let most = grain(slots.len(), self.cost.saturating_mul(self.count), self.mode).max(1);
        if self.lanes > 0 {
            let is_short = self.width.is_power_of_two() && (1..=IN_ORDER).contains(&(self.count * self.width));
            let write = if is_short { Self::fold_short::<O> } else { Self::fold::<O> };
            // Those of a step stay together.
            self.split(slots, 0, most.div_ceil(self.width).saturating_mul(self.width), write);
        } else {
            self.split(slots, 0, most, Self::add::<O>);
        }
    }

    /// Hands `most` results to a thread, from the one of number `first` on.
    fn split(
        &self,
        slots: &mut [MaybeUninit<T>],
        first: usize,
        most: usize,
        write: fn(&Self, &mut [MaybeUninit<T>], usize),
    ) {
        if slots.len() > most {
            let middle = (slots.len() / 2).next_multiple_of(if self.lanes > 0 { self.width } else { 1 });
            let (left, right) = slots.split_at_mut(middle);
            rayon::join(|| self.split(left, first, most, write), || self.split(right, first + middle, most, write));
        } else {
            write(self, slots, first);
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
    fn add<O: Reduction<T>>(&self, out: &mut [MaybeUninit<T>], first: usize) {
        let mut totals = Tile::<T>::default();
        let mut done = 0;
        while done < out.len() {
            let mut at = [0; MAX_RANK];
            self.kept.locate((first + done) / self.width, &mut at);
            self.inner.locate((first + done) % self.width, &mut at);
            let Rect { across, len, .. } = self.inner.rect(&at, self.most.min(out.len() - done));
            let totals = totals.filled(len, O::START);
            self.tree::<O, TILE>(&Results { at, across }, 0..self.count, totals);
            for total in &mut *totals {
                *total = O::finish(*total, self.count);
            }
            copied(&mut out[done..done + len], totals);
            done += len;
        }
    }

    /// Rows that are folded by themselves, wherever the rows of memory begin and end.
    fn fold_short<O: Reduction<T>>(&self, out: &mut [MaybeUninit<T>], first: usize) {
        let len = self.count * self.width;
        let mut together = Tile::<T, IN_ORDER>::default();
        let mut results = Tile::<T>::default();
        let mut at = [0; MAX_RANK];
        self.all.locate(first * self.count, &mut at);
        let most = TILE.max(self.width) / self.width * self.width;
        let mut done = 0;
        while done < out.len() {
            let results = results.filled(most.min(out.len() - done), O::START);
            let left = results.len() * self.count;
            let rect = self.all.rect(&at, left);
            let memory = self.values.memory(&rect).filter(|_| rect.count() >= len);
            let values = match memory {
                Some(values) => {
                    let values = &values[..values.len() / len * len];
                    self.all.advance(&mut at, values.len());
                    values
                }
                // What is computed, or lies in pieces, is put together first.
                None => self.together(&self.all, &mut at, together.slots(left.min(IN_ORDER / len * len))),
            };
            let results = &mut results[..values.len() / self.count];
            T::fold_rows(O::FOLD, self.mode.level, values, len, results, self.width);
            for total in &mut *results {
                *total = O::finish(*total, self.count);
            }
            copied(&mut out[done..], results);
            done += results.len();
        }
    }

    /// Rows folded.
    fn fold<O: Reduction<T>>(&self, out: &mut [MaybeUninit<T>], first: usize) {
        let rows = self.count.div_ceil(self.lanes);
        let mut totals = Tile::<T>::default();
        let mut at = [0; MAX_RANK];
        self.kept.locate(first / self.width, &mut at);
        for out in out.chunks_mut(self.width) {
            let totals = totals.filled(self.lanes * self.width, O::START);
            let results = Results { at, across: 0 };
            if rows <= self.block() {
                self.block_of::<O>(&results, 0..rows, totals);
            } else if self.width == 1 {
                self.tree::<O, LANES>(&results, 0..rows, totals);
            } else {
                self.tree::<O, TILE>(&results, 0..rows, totals);
            }
            self.finish::<O>(totals);
            copied(out, &totals[..self.width]);
            self.kept.advance(&mut at, 1);
        }
    }

    /// Each result from its totals, in pairs.
    fn finish<O: Reduction<T>>(&self, totals: &mut [T]) {
        if self.width == 1
            && let Ok(lanes) = <&[T; LANES]>::try_from(&*totals)
        {
            totals[0] = T::total(O::FOLD, lanes);
        } else {
            let mut left = totals.len();
            while left > self.width {
                left /= 2;
                let (totals, others) = totals.split_at_mut(left);
                for (total, &other) in totals.iter_mut().zip(&others[..left]) {
                    *total = O::combine(*total, other);
                }
            }
        }
        for total in &mut totals[..self.width] {
            *total = O::finish(*total, self.count);
        }
    }

    /// The totals of some rows, in pairs, and in pairs of those. There are at most `N` totals.
    fn tree<O: Reduction<T>, const N: usize>(&self, results: &Results, rows: Range<usize>, totals: &mut [T]) {
        let Range { start, end } = rows;
        let block = self.block();
        if end - start <= block {
            totals.fill(O::START);
            return self.block_of::<O>(results, rows, totals);
        }
        let middle = start + ((end - start).div_ceil(block).next_power_of_two() / 2) * block;
        let mut others = Tile::<T, N>::default();
        let others = others.filled(totals.len(), O::START);
        let work = (end - start).saturating_mul(totals.len());
        if work > grain(work, self.cost, self.mode) {
            rayon::join(
                || self.tree::<O, N>(results, start..middle, totals),
                || self.tree::<O, N>(results, middle..end, others),
            );
        } else {
            self.tree::<O, N>(results, start..middle, totals);
            self.tree::<O, N>(results, middle..end, others);
        }
        for (total, &other) in totals.iter_mut().zip(&*others) {
            *total = O::combine(*total, other);
        }
    }

    /// Adds some rows to totals, in order.
    fn block_of<O: Reduction<T>>(&self, results: &Results, rows: Range<usize>, totals: &mut [T]) {
        if self.lanes == 0 {
            self.add_rows::<O>(results, rows, totals);
        } else if let Ok(totals) = <&mut [T; LANES]>::try_from(&mut *totals)
            && self.width == 1
        {
            self.fold_lanes::<O>(results.at, rows, totals);
        } else {
            self.fold_rows::<O>(results.at, rows, totals);
        }
    }

    fn add_rows<O: Reduction<T>>(&self, &Results { mut at, across }: &Results, rows: Range<usize>, totals: &mut [T]) {
        let mut tile = Tile::default();
        let (down, size) = self.reduced.inner();
        let len = totals.len();
        let mut left = rows.len();
        self.reduced.locate(rows.start, &mut at);
        while left > 0 {
            // All of them at once, where they lie in memory, or some in a tile.
            let lines = if self.count == 1 { 1 } else { left.min(size - at[down]) };
            let all = Rect { index: at, down, across, lines, len };
            let some = Rect { lines: lines.min((TILE / len).max(1)), ..all };
            let (values, lines) = match self.values.memory(&all) {
                Some(values) => (values, lines),
                None => (self.values.read(&[], &some, self.mode.level, &mut tile), some.lines),
            };
            vectorised(self.mode.level, AddRows { values, totals, op: PhantomData::<O> });
            self.reduced.advance(&mut at, lines);
            left -= lines;
        }
    }

    /// The values of rows, each to the total whose turn it is, wherever the rows of memory begin and end.
    fn fold_rows<O: Reduction<T>>(&self, mut at: [usize; MAX_RANK], rows: Range<usize>, totals: &mut [T]) {
        let mut tile = Tile::default();
        let wide = totals.len();
        let first = rows.start * wide;
        let mut left = (rows.end * wide).min(self.count * self.width) - first;
        self.folded.locate(first, &mut at);
        let mut next = 0;
        while left > 0 {
            let (all, some) = (self.folded.rect(&at, left), self.folded.rect(&at, left.min(TILE)));
            let (values, rect) = match self.values.memory(&all) {
                Some(values) => (values, all),
                None => (self.values.read(&[], &some, self.mode.level, &mut tile), some),
            };
            let (head, body) = values.split_at(((wide - next) % wide).min(values.len()));
            let op = PhantomData::<O>;
            vectorised(self.mode.level, AddRows { values: head, totals: &mut totals[next..], op });
            vectorised(self.mode.level, AddRows { values: body, totals, op });
            next = (next + rect.count()) % wide;
            self.folded.pass(&rect, &mut at);
            left -= rect.count();
        }
    }

    /// As above, where all values become one result.
    fn fold_lanes<O: Reduction<T>>(&self, mut at: [usize; MAX_RANK], rows: Range<usize>, totals: &mut [T; LANES]) {
        let mut left = (rows.end * LANES).min(self.count) - rows.start * LANES;
        self.folded.locate(rows.start * LANES, &mut at);
        let mut together = Tile::<T, IN_ORDER>::default();
        while left > 0 {
            let rect = self.folded.rect(&at, left);
            if rect.count() >= left.min(IN_ORDER)
                && let Some(values) = self.values.memory(&rect)
            {
                T::fold(O::FOLD, self.mode.level, values, totals);
                self.folded.pass(&rect, &mut at);
                left -= rect.count();
                continue;
            }
            // What is computed, or lies in short rows, is put together first, to the very sums that memory in one piece has.
            let values = self.together(&self.folded, &mut at, together.slots(left.min(IN_ORDER)));
            left -= values.len();
            T::fold(O::FOLD, self.mode.level, values, totals);
        }
    }

    /// The values from an index on, in order; goes on behind them.
    fn together<'t>(&self, space: &Space, at: &mut [usize; MAX_RANK], slots: &'t mut [MaybeUninit<T>]) -> &'t [T] {
        let mut filled = 0;
        while filled < slots.len() {
            let rect = space.rect(at, slots.len() - filled);
            self.values.fill(&[], &rect, self.mode.level, &mut slots[filled..filled + rect.count()]);
            space.pass(&rect, at);
            filled += rect.count();
        }
        // SAFETY: rectangles follow each other without gaps.
        unsafe { written(slots) }
    }
}

/// Where some results are: the index of the first, and the axis along which they follow each other.
#[derive(Clone, Copy)]
struct Results {
    at: [usize; MAX_RANK],
    across: usize,
}

/// Combines rows of as many values as there are totals with these, one after the other; the last may be shorter.
struct AddRows<'s, T, O> {
    values: &'s [T],
    totals: &'s mut [T],
    op: PhantomData<O>,
}

impl<T: Element, O: Reduction<T>> Kernel for AddRows<'_, T, O> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        // Few totals stay in registers.
        const FEW: usize = 32;
        if self.totals.len() == FEW
            && let ([totals], []) = self.totals.as_chunks_mut::<FEW>()
        {
            let (rows, last) = self.values.as_chunks::<FEW>();
            let mut kept = *totals;
            for row in rows {
                for (total, &value) in kept.iter_mut().zip(row) {
                    *total = O::combine(*total, value);
                }
            }
            for (total, &value) in kept.iter_mut().zip(last) {
                *total = O::combine(*total, value);
            }
            *totals = kept;
            return;
        }
        for row in self.values.chunks(self.totals.len()) {
            for (total, &value) in self.totals.iter_mut().zip(row) {
                *total = O::combine(*total, value);
            }
        }
    }
}
