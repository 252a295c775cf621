//! Elementary functions of two expressions, a tile of values at a time.

use std::mem::MaybeUninit;

use super::function::once;
use crate::block::Taken;
use crate::context::Context;
use crate::math::{Element, Elementary, Power, Through};
use crate::node::{Node, known};
use crate::nodes::Unary;
use crate::ops::{Function2Op, Square};
use crate::settled::Settled;
use crate::shape::{Shape, ShapeError, Strides, placed};
use crate::simd::Level;
use crate::source::{InPlace, Reader, RowSlice, Source, Tile, filled};
use crate::terms::{Term, Terms};
use crate::walk::{Rect, TILE};

/// An elementary function of the elements of two expressions; as [`Function`](super::Function), where the second is a number that makes it one.
#[derive(Clone, Copy, Debug)]
pub struct Function2<O, L, R> {
    op: O,
    left: L,
    right: R,
    shape: Result<Shape, ShapeError>,
}

impl<O: Function2Op, L: Node, R: Node<Elem = L::Elem>> Function2<O, L, R> {
    #[track_caller]
    pub(crate) fn new(op: O, left: L, right: R) -> Self {
        let shape = placed(left.checked_shape().and_then(|shape| shape.broadcast(&right.checked_shape()?, &O::NAME)));
        Self { op, left, right, shape }
    }
}

impl<O: Function2Op, L: Node<Elem: Element>, R: Node<Elem = L::Elem>> Node for Function2<O, L, R> {
    type Elem = L::Elem;
    type Source<'e>
        = Settled<'e, Applied2<O, L::Source<'e>, R::Source<'e>>>
    where
        Self: 'e;
    type Row<'e>
        = Unary<Square, L::Row<'e>>
    where
        Self: 'e;

    #[inline(always)]
    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    fn term(&self, terms: &mut Terms) -> Term {
        let (left, right) = (self.left.term(terms), self.right.term(terms));
        match self.right.number().and_then(O::with_number::<L::Elem>) {
            // A product or so: not worth to be kept, and not always the same in the last place.
            Some(_) => terms.plain::<L::Elem>(format!("{left}.{}({right})", O::NAME)),
            None => terms.dear::<L::Elem>(format!("{}({left}, {right})", O::NAME)),
        }
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        once(context, known(&self.shape), to, |to| {
            let (left, right) = (self.left.prepare(context, to), self.right.prepare(context, to));
            let function = self.right.number().and_then(O::with_number);
            Applied2 { op: self.op, function, left, right }
        })
    }

    /// Of squares, whose values need no tile.
    #[inline(always)]
    fn as_row(&self, shape: &Shape) -> Option<Self::Row<'_>> {
        match O::with_number(self.right.number()?)? {
            Elementary::Power(Power::Square) => Some(Unary { op: Square, x: self.left.as_row(shape)? }),
            _ => None,
        }
    }
}

/// A source or a reader of two to which a function is applied.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Applied2<O, L, R> {
    op: O,
    /// That of the first alone.
    function: Option<Elementary>,
    left: L,
    right: R,
}

impl<O: Function2Op, L: Source<Item: Element>, R: Source<Item = L::Item>> Source for Applied2<O, L, R> {
    type Item = L::Item;
    type Reader<'s>
        = Applied2<O, L::Reader<'s>, R::Reader<'s>>
    where
        Self: 's;

    #[inline(always)]
    fn reader(&self) -> Self::Reader<'_> {
        Applied2 { op: self.op, function: self.function, left: self.left.reader(), right: self.right.reader() }
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        self.left.relayout(change);
        self.right.relayout(change);
    }

    fn take_over(&mut self, shape: &Shape) -> Option<Taken<L::Item>> {
        self.left.take_over(shape).or_else(|| self.right.take_over(shape))
    }

    fn in_place(&mut self, shape: &Shape, how: InPlace) -> bool {
        self.left.in_place(shape, how) && self.right.in_place(shape, how)
    }

    fn text(&self) -> String {
        format!("{}({}, {})", O::NAME, self.left.text(), self.right.text())
    }
}

impl<O: Function2Op, L: Reader<Item: Element>, R: Reader<Item = L::Item>> Reader for Applied2<O, L, R> {
    type Item = L::Item;
    type Scratch = ((Tile<L::Item>, Tile<L::Item>), (L::Scratch, R::Scratch));
    type Row<'r>
        = RowSlice<'r, L::Item>
    where
        Self: 'r;

    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        self.left.all(holds) && self.right.all(holds)
    }

    fn reads_here(&self) -> bool {
        self.left.reads_here() || self.right.reads_here()
    }

    /// A tile has an end.
    fn longest(&self, _: usize, _: bool) -> usize {
        TILE
    }

    fn cost(&self) -> usize {
        // What a product costs, a quotient or a root.
        const OF_NUMBER: usize = 4;
        self.left.cost() + self.right.cost() + if self.function.is_some() { OF_NUMBER } else { O::COST }
    }

    fn row<'r>(
        &'r self,
        scratch: &'r mut Self::Scratch,
        here: &'r [L::Item],
        rect: &Rect,
        level: Level,
        _: bool,
    ) -> Self::Row<'r> {
        let ((first, second), scratch) = scratch;
        RowSlice::new(self.apply(second, scratch, here, rect, level, first.slots(rect.count())), rect)
    }

    fn fill<'o>(
        &self,
        scratch: &mut Self::Scratch,
        here: &[L::Item],
        rect: &Rect,
        level: Level,
        out: &'o mut [MaybeUninit<L::Item>],
    ) -> &'o mut [L::Item] {
        self.apply(&mut scratch.0.1, &mut scratch.1, here, rect, level, out)
    }
}

impl<O: Function2Op, L: Reader<Item: Element>, R: Reader<Item = L::Item>> Applied2<O, L, R> {
    /// See [`Reader::fill`].
    fn apply<'o>(
        &self,
        second: &mut Tile<L::Item>,
        scratch: &mut (L::Scratch, R::Scratch),
        here: &[L::Item],
        rect: &Rect,
        level: Level,
        out: &'o mut [MaybeUninit<L::Item>],
    ) -> &'o mut [L::Item] {
        // The most frequent, and the fastest: in the loop of what it is of.
        if matches!(self.function, Some(Elementary::Power(Power::Square))) {
            let x = self.left.row(&mut scratch.0, here, rect, level, true);
            return filled(out, rect, Unary { op: Square, x }, level);
        }
        let values = match self.left.memory(rect) {
            Some(values) => Through::To(out, values),
            None => Through::InPlace(self.left.fill(&mut scratch.0, here, rect, level, out)),
        };
        match self.function {
            Some(function) => L::Item::apply(function, level, values),
            None => {
                let exponents = self.right.fill(&mut scratch.1, here, rect, level, second.slots(rect.count()));
                O::apply(level, values, exponents)
            }
        }
    }
}
