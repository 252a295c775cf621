//! Numbers.
//!
//! Unsafe code is a line of a row, which is the row itself, and what stands there.
#![allow(unsafe_code)]

use crate::context::Context;
use crate::item::Item;
use crate::node::Node;
use crate::shape::{Shape, ShapeError, Strides};
use crate::simd::Level;
use crate::source::{InPlace, Reader, Row, Source};
use crate::terms::{Term, Terms};
use crate::walk::Rect;

/// One number, wherever it is needed.
#[derive(Clone, Copy, Debug)]
pub struct Scalar<T>(pub T);

impl<T: Item> Node for Scalar<T> {
    type Elem = T;
    type Source<'e> = Self;
    type Row<'e> = Self;

    #[inline(always)]
    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        Ok(Shape::SCALAR)
    }

    fn term(&self, terms: &mut Terms) -> Term {
        terms.plain::<T>(self.0.to_string())
    }

    fn number(&self) -> Option<T> {
        Some(self.0)
    }

    #[inline(always)]
    fn as_row(&self, _: &Shape) -> Option<Self> {
        Some(*self)
    }

    #[inline(always)]
    fn prepare<'e>(&'e self, _: &'e Context<'e>, _: &Shape) -> Self {
        *self
    }
}

impl<T: Item> Source for Scalar<T> {
    type Item = T;
    type Reader<'s> = Self;

    fn reader(&self) -> Self {
        *self
    }

    fn relayout(&mut self, _: &mut dyn FnMut(&mut Strides)) {}

    fn in_place(&mut self, _: &Shape, _: InPlace) -> bool {
        true
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

impl<T: Item> Reader for Scalar<T> {
    type Item = T;
    type Scratch = ();
    type Row<'r> = Self;

    fn all(&self, _: &mut dyn FnMut(&Strides) -> bool) -> bool {
        true
    }

    fn reads_here(&self) -> bool {
        false
    }

    fn longest(&self, _: usize, _: bool) -> usize {
        usize::MAX
    }

    fn cost(&self) -> usize {
        0
    }

    #[inline(always)]
    fn row<'r>(&'r self, _: &'r mut (), _: &'r [T], _: &Rect, _: Level, _: bool) -> Self {
        *self
    }
}

impl<T: Item> Row for Scalar<T> {
    type Item = T;

    const IS_NUMBER: bool = true;

    #[inline(always)]
    fn number(&self) -> Option<T> {
        Some(self.0)
    }

    #[inline(always)]
    unsafe fn at<const FASTER: bool>(&self, _: usize) -> T {
        self.0
    }

    #[inline(always)]
    fn has(&self, _: usize, _: usize) -> bool {
        true
    }

    #[inline(always)]
    fn is_joined(&self, _: usize) -> bool {
        true
    }

    #[inline(always)]
    fn is_stretched(&self) -> bool {
        false
    }

    #[inline(always)]
    unsafe fn line<const STRETCHED: bool>(&self, _: usize, _: usize) -> Self {
        *self
    }

    #[inline(always)]
    unsafe fn after(&self, _: usize) -> Self {
        *self
    }
}
