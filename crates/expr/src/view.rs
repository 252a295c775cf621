//! Views: the same elements, found in another way. The leaves below change their steps; nothing is moved where that suffices.

use std::ops::Range;

use tenzor_memory::Allocator;

use crate::context::{Block, Context};
use crate::eval::materialise;
use crate::expr::Expr;
use crate::ops::known;
use crate::shape::{MAX_RANK, Shape, ShapeError, Strides};
use crate::source::{At, Leaf, LeafReader, Reader, Row, Slice as RowSlice, Source, Tile};

/// The same elements, found by other steps.
#[derive(Clone, Copy, Debug)]
pub struct Relaid<V, X> {
    x: X,
    view: V,
    shape: Result<Shape, ShapeError>,
}

/// How a view changes the steps below it.
pub trait Relayout: Copy {
    /// Those of one leaf.
    fn apply(&self, strides: &mut Strides);
}

impl<V: Relayout, X: Expr> Expr for Relaid<V, X> {
    type Elem = X::Elem;
    type Source<'e, A: Allocator>
        = X::Source<'e, A>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, X::Elem>
    where
        Self: 'e;

    fn shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    fn prepare<'e, A: Allocator + Clone>(&'e self, context: &Context<A>) -> Self::Source<'e, A>
    where
        Self: 'e,
    {
        let mut source = self.x.prepare(context);
        source.relayout(&mut |strides| self.view.apply(strides));
        source
    }
}

/// Axes in another order; see [`Expr::permute`].
pub type Permute<X> = Relaid<Order, X>;

/// Which axis stands in the place of each.
#[derive(Clone, Copy, Debug)]
pub struct Order([usize; MAX_RANK]);

impl Relayout for Order {
    fn apply(&self, strides: &mut Strides) {
        strides.permute(&self.0);
    }
}

impl<X: Expr> Permute<X> {
    pub(crate) fn new(x: X, order: &[usize]) -> Self {
        let mut axes = [0, 1, 2, 3, 4, 5];
        let shape = x.shape().and_then(|shape| {
            let mut seen = 0_u8;
            for (slot, &axis) in axes.iter_mut().zip(order) {
                if axis >= shape.rank() || seen & (1 << axis) != 0 {
                    return Err(ShapeError::Axis { operation: "permute", shape, axis });
                }
                seen |= 1 << axis;
                *slot = axis;
            }
            if order.len() != shape.rank() {
                return Err(ShapeError::Axis { operation: "permute", shape, axis: order.len().min(shape.rank()) });
            }
            Ok(shape.permuted(order))
        });
        Self { x, view: Order(axes), shape }
    }

    pub(crate) fn transposing(x: X) -> Self {
        let mut order = [0, 1, 2, 3, 4, 5];
        let shape = x.shape().and_then(|shape| match shape.rank() {
            0 | 1 => Err(ShapeError::Axis { operation: "transpose", shape, axis: 1 }),
            rank => {
                order.swap(rank - 2, rank - 1);
                Ok(shape.permuted(&order[..rank]))
            }
        });
        Self { x, view: Order(order), shape }
    }
}

/// Some indices of an axis; see [`Expr::slice`].
pub type Slice<X> = Relaid<From, X>;

/// From an index of an axis on.
#[derive(Clone, Copy, Debug)]
pub struct From {
    axis: usize,
    first: usize,
}

impl Relayout for From {
    fn apply(&self, strides: &mut Strides) {
        strides.skip(self.axis, self.first);
    }
}

impl<X: Expr> Slice<X> {
    pub(crate) fn new(x: X, axis: usize, Range { start, end }: Range<usize>) -> Self {
        let shape = x.shape().and_then(|shape| match shape.get(axis) {
            None => Err(ShapeError::Axis { operation: "slice", shape, axis }),
            Some(&size) if start > end || end > size => Err(ShapeError::Range { shape, axis, start, end }),
            Some(_) => Ok(shape.with_size(axis, end - start)),
        });
        Self { x, view: From { axis, first: start }, shape }
    }
}

/// Stretched to a shape; see [`Expr::broadcast_to`].
pub type BroadcastTo<X> = Relaid<Stretch, X>;

/// From one shape to another.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    from: Shape,
    to: Shape,
}

impl Relayout for Stretch {
    fn apply(&self, strides: &mut Strides) {
        strides.broadcast(&self.from, &self.to);
    }
}

impl<X: Expr> BroadcastTo<X> {
    pub(crate) fn new(x: X, to: Result<Shape, ShapeError>) -> Self {
        let mut view = Stretch { from: Shape::SCALAR, to: Shape::SCALAR };
        let shape = to.and_then(|to| {
            let from = x.shape()?;
            view = Stretch { from, to };
            let stretched = from.broadcast(&to, "broadcast_to")?;
            let mismatch = ShapeError::Mismatch { operation: "broadcast_to", left: from, right: to };
            if stretched == to { Ok(to) } else { Err(mismatch) }
        });
        Self { x, view, shape }
    }
}

/// The same elements under another shape; see [`Expr::reshape`].
#[derive(Clone, Copy, Debug)]
pub struct Reshape<X> {
    x: X,
    shape: Result<Shape, ShapeError>,
}

impl<X: Expr> Reshape<X> {
    pub(crate) fn new(x: X, to: Result<Shape, ShapeError>) -> Self {
        let shape = to.and_then(|to| {
            let from = x.shape()?;
            let mismatch = ShapeError::Mismatch { operation: "reshape", left: from, right: to };
            if from.elements() == to.elements() { Ok(to) } else { Err(mismatch) }
        });
        Self { x, shape }
    }
}

impl<X: Expr> Expr for Reshape<X> {
    type Elem = X::Elem;
    type Source<'e, A: Allocator>
        = Settled<X::Source<'e, A>, Leaf<'e, X::Elem, A>>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, X::Elem>
    where
        Self: 'e;

    fn shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    fn prepare<'e, A: Allocator + Clone>(&'e self, context: &Context<A>) -> Self::Source<'e, A>
    where
        Self: 'e,
    {
        let (from, to) = (*known(&self.x.shape()), *known(&self.shape));
        let mut source = self.x.prepare(context);
        if source.reader().all(&mut |strides| strides.reshaped(&from, &to).is_some()) {
            source.relayout(&mut |strides| *strides = strides.reshaped(&from, &to).unwrap_or(*strides));
            return Settled::As(source);
        }
        Settled::Moved(Leaf::own(materialise(context, source, &from), &to))
    }
}

/// A source that will do as it is, or its values in memory.
#[derive(Debug)]
pub enum Settled<S, L> {
    /// As it is.
    As(S),
    /// In memory, in order.
    Moved(L),
}

impl<'e, A: Allocator, S: Source<A>> Source<A> for Settled<S, Leaf<'e, S::Item, A>> {
    type Item = S::Item;
    type Reader<'s>
        = SettledReader<'s, S::Reader<'s>>
    where
        Self: 's;

    fn reader(&self) -> Self::Reader<'_> {
        match self {
            Self::As(source) => {
                source.leaf().map_or_else(|| SettledReader::Computed(source.reader()), SettledReader::Leaf)
            }
            Self::Moved(leaf) => SettledReader::Leaf(leaf.reader()),
        }
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        match self {
            Self::As(source) => source.relayout(change),
            Self::Moved(leaf) => leaf.relayout(change),
        }
    }

    fn take_over(&mut self, shape: &Shape) -> Option<Block<S::Item, A>> {
        match self {
            Self::As(source) => source.take_over(shape),
            Self::Moved(leaf) => leaf.take_over(shape),
        }
    }

    fn is_here(&self) -> bool {
        match self {
            Self::As(source) => source.is_here(),
            Self::Moved(leaf) => leaf.is_here(),
        }
    }

    fn leaf(&self) -> Option<LeafReader<'_, S::Item>> {
        match self {
            Self::As(source) => source.leaf(),
            Self::Moved(leaf) => leaf.leaf(),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::As(source) => source.text(),
            Self::Moved(leaf) => leaf.text(),
        }
    }
}

/// Reads what is settled. Values that are computed go through a tile, as a row has one type.
#[derive(Clone, Copy, Debug)]
pub enum SettledReader<'s, R: Reader> {
    /// From memory.
    Leaf(LeafReader<'s, R::Item>),
    /// From memory, with arithmetic in between.
    Computed(R),
}

impl<R: Reader> Reader for SettledReader<'_, R> {
    type Item = R::Item;
    type Scratch = (Tile<R::Item>, R::Scratch);
    const IS_SLICE: bool = true;
    type Row<'r>
        = RowSlice<'r, R::Item>
    where
        Self: 'r;

    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.all(holds),
            Self::Computed(reader) => reader.all(holds),
        }
    }

    fn reads_here(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.reads_here(),
            Self::Computed(reader) => reader.reads_here(),
        }
    }

    fn is_sliced(&self, axis: usize) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.is_sliced(axis),
            Self::Computed(_) => false,
        }
    }

    fn cost(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.cost(),
            Self::Computed(reader) => 1 + reader.cost(),
        }
    }

    #[inline(always)]
    fn row<'r>(&'r self, scratch: &'r mut Self::Scratch, here: &'r [R::Item], at: &At, len: usize) -> Self::Row<'r> {
        match self {
            Self::Leaf(leaf) => leaf.row(&mut scratch.0, here, at, len),
            Self::Computed(reader) => {
                let row = reader.row(&mut scratch.1, here, at, len);
                scratch.0.fill(len, |i| row.at(i))
            }
        }
    }
}
