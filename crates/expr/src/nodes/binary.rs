//! Operations on two expressions.

use tenzor_memory::Allocator;

use super::pair::Pair;
use crate::block::Block;
use crate::context::Context;
use crate::node::{Node, known};
use crate::ops::BinaryOp;
use crate::shape::{Shape, ShapeError, Strides};
use crate::source::{At, Reader, Row, Source};

/// An operation on the elements of two expressions. Comparisons are of `bool`s, for [`Expr::where_`](crate::Expr::where_).
#[derive(Clone, Copy, Debug)]
pub struct Binary<O, L, R> {
    pub(crate) op: O,
    pub(crate) pair: Pair<L, R>,
    pub(crate) shape: Result<Shape, ShapeError>,
}

impl<O: BinaryOp<L::Elem>, L: Node, R: Node<Elem = L::Elem>> Binary<O, L, R> {
    pub(crate) fn new(op: O, left: L, right: R) -> Self {
        let pair = Pair { left, right };
        Self { op, shape: pair.shape(O::NAME), pair }
    }
}

impl<O: BinaryOp<L::Elem>, L: Node, R: Node<Elem = L::Elem>> Node for Binary<O, L, R> {
    type Elem = O::Output;
    type Source<'e, A: Allocator>
        = Zip<O, Pair<L::Source<'e, A>, R::Source<'e, A>>>
    where
        Self: 'e;
    type Row<'e>
        = Zip<O, Pair<L::Row<'e>, R::Row<'e>>>
    where
        Self: 'e;

    #[inline(always)]
    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    #[inline(always)]
    fn prepare<'e, A: Allocator + Clone>(&'e self, context: &Context<A>) -> Self::Source<'e, A>
    where
        Self: 'e,
    {
        Zip { op: self.op, pair: self.pair.prepare(context, known(&self.shape)) }
    }

    #[inline(always)]
    fn as_row<'e>(&'e self, shape: &Shape) -> Option<Self::Row<'e>>
    where
        Self: 'e,
    {
        Some(Zip { op: self.op, pair: self.pair.as_row(shape)? })
    }
}

/// A source, reader or row of two.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Zip<O, P> {
    op: O,
    pair: P,
}

impl<A: Allocator, O: BinaryOp<L::Item>, L: Source<A>, R: Source<A, Item = L::Item>> Source<A> for Zip<O, Pair<L, R>> {
    type Item = O::Output;
    type Reader<'s>
        = Zip<O, Pair<L::Reader<'s>, R::Reader<'s>>>
    where
        Self: 's;

    #[inline(always)]
    fn reader(&self) -> Self::Reader<'_> {
        Zip { op: self.op, pair: self.pair.reader() }
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        self.pair.relayout(change);
    }

    fn take_over(&mut self, shape: &Shape) -> Option<Block<O::Output, A>> {
        O::take_over(|| self.pair.take_over(shape))
    }

    fn text(&self) -> String {
        self.pair.text(O::NAME)
    }
}

impl<O: BinaryOp<L::Item>, L: Reader, R: Reader<Item = L::Item>> Reader for Zip<O, Pair<L, R>> {
    type Item = O::Output;
    type Scratch = (L::Scratch, R::Scratch);
    type Row<'r>
        = Zip<O, Pair<L::Row<'r>, R::Row<'r>>>
    where
        Self: 'r;

    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        self.pair.all(holds)
    }

    fn reads_here(&self) -> bool {
        self.pair.reads_here()
    }

    fn is_sliced(&self, axis: usize) -> bool {
        self.pair.is_sliced(axis)
    }

    fn cost(&self) -> usize {
        O::COST + self.pair.cost()
    }

    #[inline(always)]
    fn row<'r>(&'r self, scratch: &'r mut Self::Scratch, here: &'r [O::Output], at: &At, len: usize) -> Self::Row<'r> {
        Zip { op: self.op, pair: self.pair.row(scratch, O::here(here), at, len) }
    }
}

impl<O: BinaryOp<L::Item>, L: Row, R: Row<Item = L::Item>> Row for Zip<O, Pair<L, R>> {
    type Item = O::Output;

    #[inline(always)]
    fn at(&self, i: usize) -> O::Output {
        self.op.apply(self.pair.left.at(i), self.pair.right.at(i))
    }

    #[inline(always)]
    fn head(self, len: usize) -> Self {
        Self { pair: self.pair.head(len), ..self }
    }
}
