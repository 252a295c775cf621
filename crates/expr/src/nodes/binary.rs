//! Operations on two expressions.
//!
//! Unsafe code goes from the lines of a row to those of its parts.
#![allow(unsafe_code)]

use std::fmt::Display;
use std::panic::Location;

use crate::block::Taken;
use crate::context::Context;
use crate::node::Node;
use crate::ops::BinaryOp;
use crate::shape::{Place, Shape, ShapeError, Strides};
use crate::simd::Level;
use crate::source::{InPlace, Reader, Row, Source};
use crate::terms::{Term, Terms};
use crate::walk::Rect;

/// An operation on the elements of two expressions. Comparisons are of `bool`s, for [`Expr::where_`](crate::Expr::where_).
///
/// Also a source, reader or row of two, which have no place in the program.
#[derive(Clone, Copy, Debug)]
pub struct Binary<O, L, R, P = Place> {
    pub(crate) op: O,
    pub(crate) left: L,
    pub(crate) right: R,
    /// Its shape is checked whenever it is asked for, long after the operator was called.
    pub(crate) place: P,
}

impl<O, L, R> Binary<O, L, R> {
    #[inline(always)]
    #[track_caller]
    pub(crate) fn new(op: O, left: L, right: R) -> Self {
        Self { op, left, right, place: Location::caller() }
    }
}

impl<O: BinaryOp<L::Elem>, L: Node, R: Node<Elem = L::Elem>> Node for Binary<O, L, R> {
    type Elem = O::Output;
    type Source<'e>
        = Binary<O, L::Source<'e>, R::Source<'e>, ()>
    where
        Self: 'e;
    type Row<'e>
        = Binary<O, L::Row<'e>, R::Row<'e>, ()>
    where
        Self: 'e;

    #[inline(always)]
    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        let (left, right) = (self.left.checked_shape()?, self.right.checked_shape()?);
        left.broadcast(&right, &O::NAME).map_err(|error| error.at(self.place))
    }

    fn term(&self, terms: &mut Terms) -> Term {
        let (left, right) = (self.left.term(terms), self.right.term(terms));
        if O::IS_GIVEN {
            let name = terms.function(O::NAME, self);
            terms.dear::<O::Output>(formula(&name, left, right))
        } else {
            terms.plain::<O::Output>(formula(O::NAME, left, right))
        }
    }

    #[inline]
    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let withheld = (!O::STAYS).then(|| context.withhold());
        let (left, right) = (self.left.prepare(context, to), self.right.prepare(context, to));
        if let Some(withheld) = withheld {
            context.offer(withheld);
        }
        Binary { op: self.op, left, right, place: () }
    }

    #[inline(always)]
    fn as_row(&self, shape: &Shape) -> Option<Self::Row<'_>> {
        Some(Binary { op: self.op, left: self.left.as_row(shape)?, right: self.right.as_row(shape)?, place: () })
    }
}

/// What is written of an operation, with its sign between the operands, or its name before them.
fn formula(name: &str, left: impl Display, right: impl Display) -> String {
    if name.starts_with(char::is_alphabetic) {
        format!("{name}({left}, {right})")
    } else {
        format!("({left} {name} {right})")
    }
}

impl<O: BinaryOp<L::Item>, L: Source, R: Source<Item = L::Item>> Source for Binary<O, L, R, ()> {
    type Item = O::Output;
    type Reader<'s>
        = Binary<O, L::Reader<'s>, R::Reader<'s>, ()>
    where
        Self: 's;

    #[inline]
    fn reader(&self) -> Self::Reader<'_> {
        Binary { op: self.op, left: self.left.reader(), right: self.right.reader(), place: () }
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        self.left.relayout(change);
        self.right.relayout(change);
    }

    fn take_over(&mut self, shape: &Shape) -> Option<Taken<O::Output>> {
        O::take_over(|| self.left.take_over(shape).or_else(|| self.right.take_over(shape)))
    }

    fn in_place(&mut self, shape: &Shape, how: InPlace) -> bool {
        let how = if O::STAYS { how } else { InPlace::None };
        self.left.in_place(shape, how) && self.right.in_place(shape, how)
    }

    fn text(&self) -> String {
        formula(O::NAME, self.left.text(), self.right.text())
    }
}

impl<O: BinaryOp<L::Item>, L: Reader, R: Reader<Item = L::Item>> Reader for Binary<O, L, R, ()> {
    type Item = O::Output;
    type Scratch = (L::Scratch, R::Scratch);
    type Row<'r>
        = Binary<O, L::Row<'r>, R::Row<'r>, ()>
    where
        Self: 'r;

    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        self.left.all(holds) && self.right.all(holds)
    }

    fn reads_here(&self) -> bool {
        self.left.reads_here() || self.right.reads_here()
    }

    fn longest(&self, axis: usize, pieces: bool) -> usize {
        self.left.longest(axis, pieces).min(self.right.longest(axis, pieces))
    }

    fn cost(&self) -> usize {
        O::COST + self.left.cost() + self.right.cost()
    }

    #[inline(always)]
    fn row<'r>(
        &'r self,
        scratch: &'r mut Self::Scratch,
        here: &'r [O::Output],
        rect: &Rect,
        level: Level,
        pieces: bool,
    ) -> Self::Row<'r> {
        let here = O::here(here);
        let left = self.left.row(&mut scratch.0, here, rect, level, pieces);
        Binary { op: self.op, left, right: self.right.row(&mut scratch.1, here, rect, level, pieces), place: () }
    }
}

impl<O: BinaryOp<L::Item>, L: Row, R: Row<Item = L::Item>> Row for Binary<O, L, R, ()> {
    type Item = O::Output;

    const HAS_FASTER: bool = O::HAS_FASTER && R::IS_NUMBER || L::HAS_FASTER || R::HAS_FASTER;

    #[inline(always)]
    fn is_faster(&self) -> bool {
        let is_faster = !(O::HAS_FASTER && R::IS_NUMBER) || self.right.number().is_some_and(O::is_faster);
        is_faster && self.left.is_faster() && self.right.is_faster()
    }

    #[inline(always)]
    unsafe fn at<const FASTER: bool>(&self, i: usize) -> O::Output {
        // SAFETY: the caller's word is for both.
        let (left, right) = unsafe { (self.left.at::<FASTER>(i), self.right.at::<FASTER>(i)) };
        if FASTER && R::IS_NUMBER { self.op.faster(left, right) } else { self.op.apply(left, right) }
    }

    #[inline(always)]
    fn has(&self, lines: usize, len: usize) -> bool {
        self.left.has(lines, len) && self.right.has(lines, len)
    }

    #[inline(always)]
    fn is_joined(&self, len: usize) -> bool {
        self.left.is_joined(len) && self.right.is_joined(len)
    }

    #[inline(always)]
    fn is_stretched(&self) -> bool {
        self.left.is_stretched() || self.right.is_stretched()
    }

    #[inline(always)]
    unsafe fn line<const STRETCHED: bool>(&self, number: usize, len: usize) -> Self {
        // SAFETY: the caller's word is for both.
        unsafe {
            Self {
                left: self.left.line::<STRETCHED>(number, len),
                right: self.right.line::<STRETCHED>(number, len),
                ..*self
            }
        }
    }

    #[inline(always)]
    unsafe fn after(&self, count: usize) -> Self {
        // SAFETY: the caller's word is for both.
        unsafe { Self { left: self.left.after(count), right: self.right.after(count), ..*self } }
    }
}
