//! One of two, as a third says.

use tenzor_memory::Allocator;

use super::pair::Pair;
use crate::block::Block;
use crate::context::Context;
use crate::node::{Node, known, stretched};
use crate::shape::{Shape, ShapeError, Strides};
use crate::source::{At, Reader, Row, Source};

/// One of two expressions' elements, as a third one says.
#[derive(Clone, Copy, Debug)]
pub struct Select<C, L, R> {
    pub(crate) condition: C,
    pub(crate) pair: Pair<L, R>,
    pub(crate) shape: Result<Shape, ShapeError>,
}

impl<C: Node<Elem = bool>, L: Node, R: Node<Elem = L::Elem>> Select<C, L, R> {
    pub(crate) fn new(condition: C, left: L, right: R) -> Self {
        let pair = Pair { left, right };
        let shape = pair.shape("where").and_then(|shape| condition.checked_shape()?.broadcast(&shape, "where"));
        Self { condition, pair, shape }
    }
}

impl<C: Node<Elem = bool>, L: Node, R: Node<Elem = L::Elem>> Node for Select<C, L, R> {
    type Elem = L::Elem;
    type Source<'e, A: Allocator>
        = Choose<C::Source<'e, A>, Pair<L::Source<'e, A>, R::Source<'e, A>>>
    where
        Self: 'e;
    type Row<'e>
        = Choose<C::Row<'e>, Pair<L::Row<'e>, R::Row<'e>>>
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
        let shape = known(&self.shape);
        let condition = stretched(&self.condition, context, shape);
        Choose { condition, pair: self.pair.prepare(context, shape) }
    }

    #[inline(always)]
    fn as_row<'e>(&'e self, shape: &Shape) -> Option<Self::Row<'e>>
    where
        Self: 'e,
    {
        Some(Choose { condition: self.condition.as_row(shape)?, pair: self.pair.as_row(shape)? })
    }
}

/// A source, reader or row of a selection.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Choose<C, P> {
    condition: C,
    pair: P,
}

impl<A: Allocator, C: Source<A, Item = bool>, L: Source<A>, R: Source<A, Item = L::Item>> Source<A>
    for Choose<C, Pair<L, R>>
{
    type Item = L::Item;
    type Reader<'s>
        = Choose<C::Reader<'s>, Pair<L::Reader<'s>, R::Reader<'s>>>
    where
        Self: 's;

    #[inline(always)]
    fn reader(&self) -> Self::Reader<'_> {
        Choose { condition: self.condition.reader(), pair: self.pair.reader() }
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        self.condition.relayout(change);
        self.pair.relayout(change);
    }

    fn take_over(&mut self, shape: &Shape) -> Option<Block<L::Item, A>> {
        self.pair.take_over(shape)
    }

    fn text(&self) -> String {
        format!("where({}, {}, {})", self.condition.text(), self.pair.left.text(), self.pair.right.text())
    }
}

impl<C: Reader<Item = bool>, L: Reader, R: Reader<Item = L::Item>> Reader for Choose<C, Pair<L, R>> {
    type Item = L::Item;
    type Scratch = (C::Scratch, (L::Scratch, R::Scratch));
    type Row<'r>
        = Choose<C::Row<'r>, Pair<L::Row<'r>, R::Row<'r>>>
    where
        Self: 'r;

    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        self.condition.all(holds) && self.pair.all(holds)
    }

    fn reads_here(&self) -> bool {
        self.pair.reads_here()
    }

    fn is_sliced(&self, axis: usize) -> bool {
        self.condition.is_sliced(axis) && self.pair.is_sliced(axis)
    }

    fn cost(&self) -> usize {
        1 + self.condition.cost() + self.pair.cost()
    }

    #[inline(always)]
    fn row<'r>(&'r self, scratch: &'r mut Self::Scratch, here: &'r [L::Item], at: &At, len: usize) -> Self::Row<'r> {
        let condition = self.condition.row(&mut scratch.0, &[], at, len);
        Choose { condition, pair: self.pair.row(&mut scratch.1, here, at, len) }
    }
}

impl<C: Row<Item = bool>, L: Row, R: Row<Item = L::Item>> Row for Choose<C, Pair<L, R>> {
    type Item = L::Item;

    #[inline(always)]
    fn at(&self, i: usize) -> L::Item {
        let (left, right) = (self.pair.left.at(i), self.pair.right.at(i));
        if self.condition.at(i) { left } else { right }
    }

    #[inline(always)]
    fn head(self, len: usize) -> Self {
        Self { condition: self.condition.head(len), pair: self.pair.head(len) }
    }
}
