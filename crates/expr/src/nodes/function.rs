//! Elementary functions of one expression, a tile of values at a time.

use tenzor_memory::Allocator;

use crate::block::Block;
use crate::context::Context;
use crate::math::Element;
use crate::node::Node;
use crate::ops::FunctionOp;
use crate::shape::{Shape, ShapeError, Strides};
use crate::simd::Level;
use crate::source::{At, Reader, RowSlice, Source, Tile};

/// An elementary function of each element of an expression.
///
/// Its values go through a tile, so that its code stands once in a program, compiled for every level of vectors, and the loops of expressions stay
/// small.
#[derive(Clone, Copy, Debug)]
pub struct Function<O, X> {
    pub(crate) op: O,
    pub(crate) x: X,
}

impl<O: FunctionOp, X: Node<Elem: Element>> Node for Function<O, X> {
    type Elem = X::Elem;
    type Source<'e, A: Allocator>
        = Applied<O, X::Source<'e, A>>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, X::Elem>
    where
        Self: 'e;

    #[inline(always)]
    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.x.checked_shape()
    }

    #[inline(always)]
    fn prepare<'e, A: Allocator + Clone>(&'e self, context: &Context<A>) -> Self::Source<'e, A>
    where
        Self: 'e,
    {
        Applied { op: self.op, level: context.mode.level, x: self.x.prepare(context) }
    }
}

/// A source or a reader to which a function is applied.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Applied<O, X> {
    op: O,
    level: Level,
    x: X,
}

impl<A: Allocator, O: FunctionOp, X: Source<A, Item: Element>> Source<A> for Applied<O, X> {
    type Item = X::Item;
    type Reader<'s>
        = Applied<O, X::Reader<'s>>
    where
        Self: 's;

    #[inline(always)]
    fn reader(&self) -> Self::Reader<'_> {
        Applied { op: self.op, level: self.level, x: self.x.reader() }
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        self.x.relayout(change);
    }

    fn take_over(&mut self, shape: &Shape) -> Option<Block<X::Item, A>> {
        self.x.take_over(shape)
    }

    fn text(&self) -> String {
        format!("{}({})", O::NAME, self.x.text())
    }
}

impl<O: FunctionOp, X: Reader<Item: Element>> Reader for Applied<O, X> {
    type Item = X::Item;
    type Scratch = (Tile<X::Item>, X::Scratch);
    const IS_SLICE: bool = true;
    type Row<'r>
        = RowSlice<'r, X::Item>
    where
        Self: 'r;

    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        self.x.all(holds)
    }

    fn reads_here(&self) -> bool {
        self.x.reads_here()
    }

    /// A tile has an end.
    fn is_sliced(&self, axis: usize) -> bool {
        let _ = axis;
        false
    }

    fn cost(&self) -> usize {
        O::COST + self.x.cost()
    }

    #[inline(always)]
    fn row<'r>(&'r self, scratch: &'r mut Self::Scratch, here: &'r [X::Item], at: &At, len: usize) -> Self::Row<'r> {
        let values = scratch.0.fill(len, self.x.row(&mut scratch.1, here, at, len));
        X::Item::apply(O::FUNCTION, self.level, values);
        RowSlice(values)
    }
}
