//! Numbers.

use tenzor_memory::Allocator;

use crate::context::Context;
use crate::math::Element;
use crate::node::Node;
use crate::shape::{Shape, ShapeError, Strides};
use crate::source::{At, Reader, Row, Source};

/// One number, wherever it is needed.
#[derive(Clone, Copy, Debug)]
pub struct Scalar<T>(pub T);

impl<T: Element> Node for Scalar<T> {
    type Elem = T;
    type Source<'e, A: Allocator> = Self;
    type Row<'e> = Self;

    #[inline(always)]
    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        Ok(Shape::SCALAR)
    }

    #[inline(always)]
    fn as_row<'e>(&'e self, shape: &Shape) -> Option<Self>
    where
        Self: 'e,
    {
        let _ = shape;
        Some(*self)
    }

    #[inline(always)]
    fn prepare<'e, A: Allocator + Clone>(&'e self, context: &Context<A>) -> Self
    where
        Self: 'e,
    {
        let _ = context;
        *self
    }
}

impl<T: Element, A: Allocator> Source<A> for Scalar<T> {
    type Item = T;
    type Reader<'s> = Self;

    fn reader(&self) -> Self {
        *self
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        let _ = change;
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

impl<T: Element> Reader for Scalar<T> {
    type Item = T;
    type Scratch = ();
    type Row<'r> = Self;

    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        let _ = holds;
        true
    }

    fn reads_here(&self) -> bool {
        false
    }

    fn is_sliced(&self, axis: usize) -> bool {
        let _ = axis;
        true
    }

    fn cost(&self) -> usize {
        0
    }

    #[inline(always)]
    fn row<'r>(&'r self, scratch: &'r mut (), here: &'r [T], at: &At, len: usize) -> Self {
        let _ = (scratch, here, at, len);
        *self
    }
}

impl<T: Element> Row for Scalar<T> {
    type Item = T;

    #[inline(always)]
    fn at(&self, i: usize) -> T {
        let _ = i;
        self.0
    }

    #[inline(always)]
    fn head(self, len: usize) -> Self {
        let _ = len;
        self
    }
}
