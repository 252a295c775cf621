//! Reductions: sums, means, products and extremes along axes, in one pass over what they are of, which is never materialised.
//!
//! The axes are brought into the order *kept, reduced, inner*: `inner` are the kept axes behind the last reduced one. Without those,
//! each result is a fold over rows; with them, rows are added to rows. The order of the operations depends on shapes alone.

use std::marker::PhantomData;

use tenzor_memory::{Allocator, Slots};

use crate::context::Context;
use crate::fill::{fill, grain};
use crate::math::Element;
use crate::node::{Node, known};
use crate::ops::Reduction;
use crate::shape::{Axes, MAX_RANK, Shape, ShapeError};
use crate::simd::{Kernel, Mode, vectorised};
use crate::source::{At, Leaf, Reader, Row, RowSlice, Same, Source, Space, TILE, Tile};

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
        let order = Order::new(&from, self.axes);
        source.relayout(&mut |strides| strides.permute(&order.axes[..from.rank()]));
        let text = || {
            let axes: Vec<usize> = (0..from.rank()).filter(|&axis| is_in(self.axes, axis)).collect();
            format!("{}({}, {axes:?})", O::NAME, source.text())
        };
        let write = |slots: Slots<'_, _>| reduce::<O, _>(slots, source.reader(), &order, context.mode);
        let block = context.produce(&to, text, write);
        Leaf::own(block, &to)
    }
}

/// The axes in the order kept, reduced, inner.
#[derive(Debug)]
struct Order {
    axes: [usize; MAX_RANK],
    shape: Shape,
    /// Where the reduced ones begin, and where the inner ones do.
    reduced: usize,
    inner: usize,
}

impl Order {
    fn new(shape: &Shape, set: u8) -> Self {
        let rank = shape.rank();
        // An axis of size 1 is never worth to be the innermost.
        let last_reduced = (0..rank).rev().find(|&axis| is_in(set, axis));
        let inner = last_reduced.map_or(rank, |axis| axis + 1);
        let inner = if (inner..rank).all(|axis| shape[axis] == 1) { rank } else { inner };
        let mut axes = [0, 1, 2, 3, 4, 5];
        let kept = (0..inner).filter(|&axis| !is_in(set, axis));
        let reduced = (0..inner).filter(|&axis| is_in(set, axis));
        for (slot, axis) in axes.iter_mut().zip(kept.chain(reduced)) {
            *slot = axis;
        }
        let count = (0..inner).filter(|&axis| !is_in(set, axis)).count();
        Self { axes, shape: shape.permuted(&axes[..rank]), reduced: count, inner }
    }
}

/// What all threads need to know.
#[derive(Debug)]
struct Work<R> {
    reader: R,
    kept: Space,
    reduced: Space,
    inner: Space,
    /// How many values become one, and how many results lie next to each other.
    count: usize,
    width: usize,
    /// The most results, and the most blocks of one, that a thread takes on.
    results: usize,
    blocks: usize,
    mode: Mode,
}

fn reduce<O: Reduction<R::Item>, R: Reader<Item: Element>>(
    slots: Slots<'_, R::Item>,
    reader: R,
    order: &Order,
    mode: Mode,
) {
    let (shape, rank) = (&order.shape, order.shape.rank());
    let space = |axes| Space::new(shape, axes, &reader);
    let (kept, reduced) = (space(0..order.reduced), space(order.reduced..order.inner));
    let inner = space(order.inner..rank);
    let count = shape[order.reduced..order.inner].iter().product();
    let width = shape[order.inner..].iter().product();
    let cost = 1 + reader.cost();
    let results = grain(slots.len(), cost.saturating_mul(count), mode);
    let blocks = grain(count, cost, mode) / BLOCK;
    let work = Work { reader, kept, reduced, inner, count, width, results, blocks, mode };
    work.split::<O>(slots);
}

/// The values that are folded in order; the results of such blocks are combined in pairs.
const BLOCK: usize = 1 << 14;

impl<R: Reader<Item: Element>> Work<R> {
    fn split<O: Reduction<R::Item>>(&self, slots: Slots<'_, R::Item>) {
        if slots.len() > self.results.max(1) {
            let middle = slots.len() / 2;
            let (left, right) = slots.split_at(middle);
            rayon::join(|| self.split::<O>(left), || self.split::<O>(right));
        } else if self.width > 1 {
            vectorised(self.mode.level, AddRows { work: self, slots, op: PhantomData::<O> });
        } else if self.count <= BLOCK {
            vectorised(self.mode.level, FoldEach { work: self, slots, op: PhantomData::<O> });
        } else {
            let mut at = At::FIRST;
            for (i, result) in (slots.first()..).zip(fill(slots, Same(O::START))) {
                self.kept.locate(i, &mut at);
                *result = O::finish(self.tree::<O>(at, 0, self.count.div_ceil(BLOCK)), self.count);
            }
        }
    }

    /// The result of blocks `from..to`, of which there is one at least, in pairs, and in pairs of those.
    fn tree<O: Reduction<R::Item>>(&self, at: At, from: usize, to: usize) -> R::Item {
        if to - from == 1 {
            return vectorised(self.mode.level, FoldBlock { work: self, at, block: from, op: PhantomData::<O> });
        }
        let middle = from.midpoint(to);
        let left = || self.tree::<O>(at, from, middle);
        let right = || self.tree::<O>(at, middle, to);
        let (left, right) = if to - from > self.blocks { rayon::join(left, right) } else { (left(), right()) };
        O::combine(left, right)
    }

    /// The result of `left` values from `at` on, which goes on behind them.
    #[inline(always)]
    fn fold<O: Reduction<R::Item>>(
        &self,
        at: &mut At,
        mut left: usize,
        scratch: &mut R::Scratch,
        tile: &mut Tile<R::Item>,
    ) -> R::Item {
        // A value's lane follows from its number, wherever rows begin and end.
        const LANES: usize = 32;
        let mut lanes = [O::START; LANES];
        let mut width = left.next_power_of_two().min(LANES);
        let mut next = 0;
        while left > 0 {
            let len = self.reduced.row_at(at).min(left).min(if R::IS_SLICE { usize::MAX } else { TILE });
            let row = self.reader.row(scratch, &[], at, len);
            let values = row.as_slice().unwrap_or_else(|| tile.fill(len, row));
            let (head, body) = values.split_at(((LANES - next) % LANES).min(len));
            for (lane, &x) in lanes[next..].iter_mut().zip(head) {
                *lane = O::combine(*lane, x);
            }
            let (groups, rest) = body.as_chunks::<LANES>();
            for group in groups {
                for (lane, &x) in lanes.iter_mut().zip(group) {
                    *lane = O::combine(*lane, x);
                }
            }
            for (lane, &x) in lanes.iter_mut().zip(rest) {
                *lane = O::combine(*lane, x);
            }
            next = (next + len) % LANES;
            self.reduced.advance(at, len);
            left -= len;
        }
        while width > 1 {
            width /= 2;
            for lane in 0..width {
                lanes[lane] = O::combine(lanes[lane], lanes[lane + width]);
            }
        }
        lanes[0]
    }
}

/// Folds one block of the values of one result.
struct FoldBlock<'s, O, R> {
    work: &'s Work<R>,
    at: At,
    block: usize,
    op: PhantomData<O>,
}

impl<O: Reduction<R::Item>, R: Reader<Item: Element>> Kernel for FoldBlock<'_, O, R> {
    type Output = R::Item;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> R::Item {
        let mut at = self.at;
        let first = self.block * BLOCK;
        self.work.reduced.locate(first, &mut at);
        let left = (self.work.count - first).min(BLOCK);
        self.work.fold::<O>(&mut at, left, &mut R::Scratch::default(), &mut Tile::default())
    }
}

/// Folds the values of each result, which are no more than a block.
struct FoldEach<'s, O, R: Reader> {
    work: &'s Work<R>,
    slots: Slots<'s, R::Item>,
    op: PhantomData<O>,
}

impl<O: Reduction<R::Item>, R: Reader<Item: Element>> Kernel for FoldEach<'_, O, R> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { work, slots, .. } = self;
        let (mut scratch, mut tile) = (R::Scratch::default(), Tile::default());
        let mut at = At::FIRST;
        work.kept.locate(slots.first(), &mut at);
        at.inner = work.reduced.inner().1;
        for result in fill(slots, Same(O::START)) {
            // Behind the last value, the place is that of the first again.
            let total = work.fold::<O>(&mut at, work.count, &mut scratch, &mut tile);
            work.kept.advance(&mut at, 1);
            *result = O::finish(total, work.count);
        }
    }
}

/// Adds rows to rows: each result depends on values that lie apart, but its neighbours' lie next to them.
struct AddRows<'s, O, R: Reader> {
    work: &'s Work<R>,
    slots: Slots<'s, R::Item>,
    op: PhantomData<O>,
}

impl<O: Reduction<R::Item>, R: Reader<Item: Element>> Kernel for AddRows<'_, O, R> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Work { reader, kept, reduced, inner, count, width, .. } = self.work;
        let mut slots = self.slots;
        let mut scratch = R::Scratch::default();
        while !slots.is_empty() {
            let mut at = At::FIRST;
            kept.locate(slots.first() / width, &mut at);
            inner.locate(slots.first() % width, &mut at);
            let len = inner.row_at(&at).min(TILE).min(slots.len());
            let (part, rest) = slots.split_at(len);
            let totals = fill(part, Same(O::START));
            for _ in 0..*count {
                let row = reader.row(&mut scratch, &[], &at, totals.len()).head(totals.len());
                for (i, total) in totals.iter_mut().enumerate() {
                    *total = O::combine(*total, row.at(i));
                }
                reduced.advance(&mut at, 1);
            }
            for total in totals {
                *total = O::finish(*total, *count);
            }
            slots = rest;
        }
    }
}
