//! Elements of another type.
//!
//! Unsafe code goes from the lines of a row to those of its parts.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use crate::context::Context;
use crate::item::Cast as Into;
use crate::item::Item;
use crate::node::Node;
use crate::shape::{Shape, ShapeError, Strides};
use crate::simd::Level;
use crate::source::{InPlace, Reader, Row, Source};
use crate::terms::{Term, Terms};
use crate::walk::Rect;

/// See [`Expr::cast`](crate::Expr::cast); also a source, reader or row of it.
#[derive(Clone, Copy, Debug)]
pub struct Cast<U, X> {
    pub(crate) x: X,
    pub(crate) element: PhantomData<fn() -> U>,
}

impl<U, X> Cast<U, X> {
    #[inline(always)]
    pub(crate) fn new(x: X) -> Self {
        Self { x, element: PhantomData }
    }
}

impl<U: Item, X: Node<Elem: Into<U>>> Node for Cast<U, X> {
    type Elem = U;
    type Source<'e>
        = Cast<U, X::Source<'e>>
    where
        Self: 'e;
    type Row<'e>
        = Cast<U, X::Row<'e>>
    where
        Self: 'e;

    #[inline(always)]
    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.x.checked_shape()
    }

    fn term(&self, terms: &mut Terms) -> Term {
        let x = self.x.term(terms);
        terms.plain::<U>(format!("{}({x})", U::NAME))
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let withheld = context.withhold();
        let x = self.x.prepare(context, to);
        context.offer(withheld);
        Cast::new(x)
    }

    #[inline(always)]
    fn as_row(&self, shape: &Shape) -> Option<Self::Row<'_>> {
        Some(Cast::new(self.x.as_row(shape)?))
    }
}

impl<U: Item, X: Source<Item: Into<U>>> Source for Cast<U, X> {
    type Item = U;
    type Reader<'s>
        = Cast<U, X::Reader<'s>>
    where
        Self: 's;

    #[inline(always)]
    fn reader(&self) -> Self::Reader<'_> {
        Cast::new(self.x.reader())
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        self.x.relayout(change);
    }

    fn in_place(&mut self, shape: &Shape, _: InPlace) -> bool {
        self.x.in_place(shape, InPlace::None)
    }

    fn text(&self) -> String {
        format!("{}({})", U::NAME, self.x.text())
    }
}

impl<U: Item, X: Reader<Item: Into<U>>> Reader for Cast<U, X> {
    type Item = U;
    type Scratch = X::Scratch;
    type Row<'r>
        = Cast<U, X::Row<'r>>
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
        1 + self.x.cost()
    }

    #[inline(always)]
    fn row<'r>(
        &'r self,
        scratch: &'r mut X::Scratch,
        _: &'r [U],
        rect: &Rect,
        level: Level,
        pieces: bool,
    ) -> Self::Row<'r> {
        Cast::new(self.x.row(scratch, &[], rect, level, pieces))
    }
}

impl<U: Item, X: Row<Item: Into<U>>> Row for Cast<U, X> {
    type Item = U;

    const HAS_FASTER: bool = X::HAS_FASTER;

    #[inline(always)]
    fn is_faster(&self) -> bool {
        self.x.is_faster()
    }

    #[inline(always)]
    unsafe fn at<const FASTER: bool>(&self, i: usize) -> U {
        // SAFETY: the caller's word is for it.
        unsafe { self.x.at::<FASTER>(i) }.cast()
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
        unsafe { Self::new(self.x.after(count)) }
    }
}
