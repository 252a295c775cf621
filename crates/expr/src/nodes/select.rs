//! One of two, as a third says.
//!
//! Unsafe code goes from the lines of a row to those of its parts.
#![allow(unsafe_code)]

use std::panic::Location;

use crate::block::Taken;
use crate::context::Context;
use crate::node::Node;
use crate::shape::{Place, Shape, ShapeError, Strides};
use crate::simd::Level;
use crate::source::{InPlace, Reader, Row, Source};
use crate::terms::{Term, Terms};
use crate::walk::Rect;

/// One of two expressions' elements, as a third one says; also a source, reader or row of these, which have no place in the
/// program.
#[derive(Clone, Copy, Debug)]
pub struct Select<C, L, R, P = Place> {
    pub(crate) condition: C,
    pub(crate) yes: L,
    pub(crate) no: R,
    pub(crate) place: P,
}

impl<C, L, R> Select<C, L, R> {
    #[inline(always)]
    #[track_caller]
    pub(crate) fn new(condition: C, yes: L, no: R) -> Self {
        Self { condition, yes, no, place: Location::caller() }
    }
}

impl<C: Node<Elem = bool>, L: Node, R: Node<Elem = L::Elem>> Node for Select<C, L, R> {
    type Elem = L::Elem;
    type Source<'e>
        = Select<C::Source<'e>, L::Source<'e>, R::Source<'e>, ()>
    where
        Self: 'e;
    type Row<'e>
        = Select<C::Row<'e>, L::Row<'e>, R::Row<'e>, ()>
    where
        Self: 'e;

    #[inline(always)]
    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        let (condition, yes, no) =
            (self.condition.checked_shape()?, self.yes.checked_shape()?, self.no.checked_shape()?);
        let shape = yes.broadcast(&no, &"where").and_then(|values| condition.broadcast(&values, &"where"));
        shape.map_err(|error| error.at(self.place))
    }

    fn term(&self, terms: &mut Terms) -> Term {
        let (condition, yes, no) = (self.condition.term(terms), self.yes.term(terms), self.no.term(terms));
        terms.plain::<L::Elem>(format!("where({condition}, {yes}, {no})"))
    }

    #[inline]
    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let withheld = context.withhold();
        let condition = self.condition.prepare(context, to);
        context.offer(withheld);
        Select { condition, yes: self.yes.prepare(context, to), no: self.no.prepare(context, to), place: () }
    }

    #[inline(always)]
    fn as_row(&self, shape: &Shape) -> Option<Self::Row<'_>> {
        let condition = self.condition.as_row(shape)?;
        Some(Select { condition, yes: self.yes.as_row(shape)?, no: self.no.as_row(shape)?, place: () })
    }
}

impl<C: Source<Item = bool>, L: Source, R: Source<Item = L::Item>> Source for Select<C, L, R, ()> {
    type Item = L::Item;
    type Reader<'s>
        = Select<C::Reader<'s>, L::Reader<'s>, R::Reader<'s>, ()>
    where
        Self: 's;

    #[inline]
    fn reader(&self) -> Self::Reader<'_> {
        Select { condition: self.condition.reader(), yes: self.yes.reader(), no: self.no.reader(), place: () }
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        self.condition.relayout(change);
        self.yes.relayout(change);
        self.no.relayout(change);
    }

    fn take_over(&mut self, shape: &Shape) -> Option<Taken<L::Item>> {
        self.yes.take_over(shape).or_else(|| self.no.take_over(shape))
    }

    fn in_place(&mut self, shape: &Shape, how: InPlace) -> bool {
        self.condition.in_place(shape, InPlace::None) && self.yes.in_place(shape, how) && self.no.in_place(shape, how)
    }

    fn text(&self) -> String {
        format!("where({}, {}, {})", self.condition.text(), self.yes.text(), self.no.text())
    }
}

impl<C: Reader<Item = bool>, L: Reader, R: Reader<Item = L::Item>> Reader for Select<C, L, R, ()> {
    type Item = L::Item;
    type Scratch = (C::Scratch, L::Scratch, R::Scratch);
    type Row<'r>
        = Select<C::Row<'r>, L::Row<'r>, R::Row<'r>, ()>
    where
        Self: 'r;

    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        self.condition.all(holds) && self.yes.all(holds) && self.no.all(holds)
    }

    fn reads_here(&self) -> bool {
        self.yes.reads_here() || self.no.reads_here()
    }

    fn longest(&self, axis: usize, pieces: bool) -> usize {
        self.condition.longest(axis, pieces).min(self.yes.longest(axis, pieces)).min(self.no.longest(axis, pieces))
    }

    fn cost(&self) -> usize {
        1 + self.condition.cost() + self.yes.cost() + self.no.cost()
    }

    #[inline(always)]
    fn row<'r>(
        &'r self,
        scratch: &'r mut Self::Scratch,
        here: &'r [L::Item],
        rect: &Rect,
        level: Level,
        pieces: bool,
    ) -> Self::Row<'r> {
        let condition = self.condition.row(&mut scratch.0, &[], rect, level, pieces);
        let yes = self.yes.row(&mut scratch.1, here, rect, level, pieces);
        Select { condition, yes, no: self.no.row(&mut scratch.2, here, rect, level, pieces), place: () }
    }
}

impl<C: Row<Item = bool>, L: Row, R: Row<Item = L::Item>> Row for Select<C, L, R, ()> {
    type Item = L::Item;

    const HAS_FASTER: bool = C::HAS_FASTER || L::HAS_FASTER || R::HAS_FASTER;

    #[inline(always)]
    fn is_faster(&self) -> bool {
        self.condition.is_faster() && self.yes.is_faster() && self.no.is_faster()
    }

    #[inline(always)]
    unsafe fn at<const FASTER: bool>(&self, i: usize) -> L::Item {
        // SAFETY: the caller's word is for all.
        unsafe {
            let (yes, no) = (self.yes.at::<FASTER>(i), self.no.at::<FASTER>(i));
            if self.condition.at::<FASTER>(i) { yes } else { no }
        }
    }

    #[inline(always)]
    fn has(&self, lines: usize, len: usize) -> bool {
        self.condition.has(lines, len) && self.yes.has(lines, len) && self.no.has(lines, len)
    }

    #[inline(always)]
    fn is_joined(&self, len: usize) -> bool {
        self.condition.is_joined(len) && self.yes.is_joined(len) && self.no.is_joined(len)
    }

    #[inline(always)]
    fn is_stretched(&self) -> bool {
        self.condition.is_stretched() || self.yes.is_stretched() || self.no.is_stretched()
    }

    #[inline(always)]
    unsafe fn line<const STRETCHED: bool>(&self, number: usize, len: usize) -> Self {
        // SAFETY: the caller's word is for all.
        unsafe {
            let (yes, no) = (self.yes.line::<STRETCHED>(number, len), self.no.line::<STRETCHED>(number, len));
            Self { condition: self.condition.line::<STRETCHED>(number, len), yes, no, place: () }
        }
    }

    #[inline(always)]
    unsafe fn after(&self, count: usize) -> Self {
        // SAFETY: the caller's word is for all.
        unsafe {
            Self {
                condition: self.condition.after(count),
                yes: self.yes.after(count),
                no: self.no.after(count),
                ..*self
            }
        }
    }
}
