//! Elementary functions of one expression, a tile of values at a time.

use std::mem::MaybeUninit;

use crate::block::Taken;
use crate::context::Context;
use crate::math::{Element, Through};
use crate::node::{Node, known, materialise};
use crate::ops::FunctionOp;
use crate::settled::Settled;
use crate::shape::{Shape, ShapeError, Strides};
use crate::simd::Level;
use crate::source::{InPlace, Leaf, Reader, RowSlice, Source, Tile};
use crate::terms::{Term, Terms};
use crate::walk::{Rect, TILE};

/// An elementary function of each element of an expression.
///
/// Its values go through a tile, so that its code stands once in a program, compiled for every level of vectors, and the loops of expressions stay
/// small. Where its values are stretched, they are computed once and kept.
#[derive(Clone, Copy, Debug)]
pub struct Function<O, X> {
    op: O,
    x: X,
    shape: Result<Shape, ShapeError>,
}

impl<O: FunctionOp, X: Node<Elem: Element>> Function<O, X> {
    pub(crate) fn new(op: O, x: X) -> Self {
        Self { op, shape: x.checked_shape(), x }
    }
}

impl<O: FunctionOp, X: Node<Elem: Element>> Node for Function<O, X> {
    type Elem = X::Elem;
    type Source<'e>
        = Settled<'e, Applied<O, X::Source<'e>>>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, X::Elem>
    where
        Self: 'e;

    #[inline(always)]
    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    fn term(&self, terms: &mut Terms) -> Term {
        let x = self.x.term(terms);
        terms.dear::<X::Elem>(self.op.text(&x.to_string()))
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        once(context, known(&self.shape), to, |to| Applied { op: self.op, x: self.x.prepare(context, to) })
    }
}

/// What a function makes of the values of a source for a shape: as they are read, or, where its own shape is stretched, once, in memory.
pub(super) fn once<'e, S: Source>(
    context: &'e Context<'e>,
    own: &Shape,
    to: &Shape,
    source: impl Fn(&Shape) -> S,
) -> Settled<'e, S> {
    if 2 * own.elements() > to.elements() {
        return Settled::As(source(to));
    }
    let withheld = context.withhold();
    let block = materialise(context, source(own), own);
    context.offer(withheld);
    Settled::Moved(Leaf::own(block, own, to))
}

/// A source or a reader to which a function is applied.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Applied<O, X> {
    op: O,
    x: X,
}

impl<O: FunctionOp, X: Source<Item: Element>> Source for Applied<O, X> {
    type Item = X::Item;
    type Reader<'s>
        = Applied<O, X::Reader<'s>>
    where
        Self: 's;

    #[inline(always)]
    fn reader(&self) -> Self::Reader<'_> {
        Applied { op: self.op, x: self.x.reader() }
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        self.x.relayout(change);
    }

    fn take_over(&mut self, shape: &Shape) -> Option<Taken<X::Item>> {
        self.x.take_over(shape)
    }

    fn in_place(&mut self, shape: &Shape, how: InPlace) -> bool {
        self.x.in_place(shape, how)
    }

    fn text(&self) -> String {
        self.op.text(&self.x.text())
    }
}

impl<O: FunctionOp, X: Reader<Item: Element>> Reader for Applied<O, X> {
    type Item = X::Item;
    type Scratch = (Tile<X::Item>, X::Scratch);
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
    fn longest(&self, _: usize, _: bool) -> usize {
        TILE
    }

    fn cost(&self) -> usize {
        O::COST + self.x.cost()
    }

    fn row<'r>(
        &'r self,
        scratch: &'r mut Self::Scratch,
        here: &'r [X::Item],
        rect: &Rect,
        level: Level,
        _: bool,
    ) -> Self::Row<'r> {
        RowSlice::new(self.apply(&mut scratch.1, here, rect, level, scratch.0.slots(rect.count())), rect)
    }

    fn fill<'o>(
        &self,
        scratch: &mut Self::Scratch,
        here: &[X::Item],
        rect: &Rect,
        level: Level,
        out: &'o mut [MaybeUninit<X::Item>],
    ) -> &'o mut [X::Item] {
        self.apply(&mut scratch.1, here, rect, level, out)
    }
}

impl<O: FunctionOp, X: Reader<Item: Element>> Applied<O, X> {
    /// See [`Reader::fill`].
    fn apply<'o>(
        &self,
        scratch: &mut X::Scratch,
        here: &[X::Item],
        rect: &Rect,
        level: Level,
        out: &'o mut [MaybeUninit<X::Item>],
    ) -> &'o mut [X::Item] {
        let values = match self.x.memory(rect) {
            Some(values) => Through::To(out, values),
            None => Through::InPlace(self.x.fill(scratch, here, rect, level, out)),
        };
        X::Item::apply(self.op.function(), level, values)
    }
}
