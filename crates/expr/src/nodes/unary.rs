//! Operations on one expression.
//!
//! Unsafe code goes from the lines of a row to those of its parts.
#![allow(unsafe_code)]

use crate::block::Taken;
use crate::context::Context;
use crate::node::Node;
use crate::ops::UnaryOp;
use crate::shape::{Shape, ShapeError, Strides};
use crate::simd::Level;
use crate::source::{InPlace, Reader, Row, Source};
use crate::terms::{Term, Terms};
use crate::walk::Rect;

/// An operation on each element of an expression; also a source, reader or row of it.
#[derive(Clone, Copy, Debug)]
pub struct Unary<O, X> {
    pub(crate) op: O,
    pub(crate) x: X,
}

impl<O: UnaryOp<X::Elem>, X: Node> Node for Unary<O, X> {
    type Elem = X::Elem;
    type Source<'e>
        = Unary<O, X::Source<'e>>
    where
        Self: 'e;
    type Row<'e>
        = Unary<O, X::Row<'e>>
    where
        Self: 'e;

    #[inline(always)]
    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.x.checked_shape()
    }

    fn term(&self, terms: &mut Terms) -> Term {
        let x = self.x.term(terms);
        if O::IS_GIVEN {
            let name = terms.function(O::NAME, self);
            terms.dear::<X::Elem>(format!("{name}({x})"))
        } else {
            terms.plain::<X::Elem>(format!("{}({x})", O::NAME))
        }
    }

    #[inline]
    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        Unary { op: self.op, x: self.x.prepare(context, to) }
    }

    #[inline(always)]
    fn as_row(&self, shape: &Shape) -> Option<Self::Row<'_>> {
        Some(Unary { op: self.op, x: self.x.as_row(shape)? })
    }
}

impl<O: UnaryOp<X::Item>, X: Source> Source for Unary<O, X> {
    type Item = X::Item;
    type Reader<'s>
        = Unary<O, X::Reader<'s>>
    where
        Self: 's;

    #[inline]
    fn reader(&self) -> Self::Reader<'_> {
        Unary { op: self.op, x: self.x.reader() }
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
        format!("{}({})", O::NAME, self.x.text())
    }
}

impl<O: UnaryOp<X::Item>, X: Reader> Reader for Unary<O, X> {
    type Item = X::Item;
    type Scratch = X::Scratch;
    type Row<'r>
        = Unary<O, X::Row<'r>>
    where
        Self: 'r;

    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        self.x.all(holds)
    }

    fn reads_here(&self) -> bool {
        self.x.reads_here()
    }

    fn longest(&self, axis: usize, pieces: bool) -> usize {
        self.x.longest(axis, pieces)
    }

    fn cost(&self) -> usize {
        O::COST + self.x.cost()
    }

    #[inline(always)]
    fn row<'r>(
        &'r self,
        scratch: &'r mut X::Scratch,
        here: &'r [X::Item],
        rect: &Rect,
        level: Level,
        pieces: bool,
    ) -> Self::Row<'r> {
        Unary { op: self.op, x: self.x.row(scratch, here, rect, level, pieces) }
    }
}

impl<O: UnaryOp<X::Item>, X: Row> Row for Unary<O, X> {
    type Item = X::Item;

    const HAS_FASTER: bool = X::HAS_FASTER;

    #[inline(always)]
    fn is_faster(&self) -> bool {
        self.x.is_faster()
    }

    #[inline(always)]
    unsafe fn at<const FASTER: bool>(&self, i: usize) -> X::Item {
        // SAFETY: the caller's word is for it.
        self.op.apply(unsafe { self.x.at::<FASTER>(i) })
    }

    #[inline(always)]
    fn has(&self, lines: usize, len: usize) -> bool {
        self.x.has(lines, len)
    }

    #[inline(always)]
    fn is_joined(&self, len: usize) -> bool {
        self.x.is_joined(len)
    }

    #[inline(always)]
    fn is_stretched(&self) -> bool {
        self.x.is_stretched()
    }

    #[inline(always)]
    unsafe fn line<const STRETCHED: bool>(&self, number: usize, len: usize) -> Self {
        // SAFETY: the caller's word is for it.
        unsafe { Self { x: self.x.line::<STRETCHED>(number, len), ..*self } }
    }

    #[inline(always)]
    unsafe fn after(&self, count: usize) -> Self {
        // SAFETY: the caller's word.
        unsafe { Self { x: self.x.after(count), ..*self } }
    }
}
