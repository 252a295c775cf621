//! Expressions behind a pointer.

use std::fmt;
use std::mem::MaybeUninit;

use crate::block::Taken;
use crate::context::Context;
use crate::item::Item;
use crate::node::Node;
use crate::shape::{Shape, ShapeError, Strides};
use crate::simd::Level;
use crate::source::{InPlace, LeafReader, Reader, RowSlice, Source, Tile, Values};
use crate::terms::{Term, Terms};
use crate::walk::Rect;

/// An expression whose type says nothing but that of its elements; see [`Expr::boxed`](crate::Expr::boxed).
pub struct Boxed<'x, T: Item>(Box<dyn AnyNode<T> + 'x>);

impl<'x, T: Item> Boxed<'x, T> {
    pub(crate) fn new(x: impl Node<Elem = T> + 'x) -> Self {
        Self(Box::new(x))
    }
}

impl<T: Item> fmt::Debug for Boxed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.checked_shape() {
            Ok(shape) => write!(f, "Boxed({}{shape})", T::NAME),
            Err(error) => write!(f, "Boxed({error})"),
        }
    }
}

/// [`Node`], without its types.
trait AnyNode<T: Item> {
    fn checked_shape(&self) -> Result<Shape, ShapeError>;
    fn term(&self, terms: &mut Terms) -> Term;
    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Box<dyn AnySource<T> + 'e>;
}

impl<N: Node> AnyNode<N::Elem> for N {
    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        Node::checked_shape(self)
    }

    fn term(&self, terms: &mut Terms) -> Term {
        Node::term(self, terms)
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Box<dyn AnySource<N::Elem> + 'e> {
        Box::new(Node::prepare(self, context, to))
    }
}

/// [`Source`], without its types.
trait AnySource<T: Item> {
    fn values(&self) -> Box<dyn Values<T> + '_>;
    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides));
    fn take_over(&mut self, shape: &Shape) -> Option<Taken<T>>;
    fn in_place(&mut self, shape: &Shape, how: InPlace) -> bool;
    fn is_here(&self) -> bool;
    fn leaf(&self) -> Option<LeafReader<'_, T>>;
    fn text(&self) -> String;
}

impl<S: Source> AnySource<S::Item> for S {
    fn values(&self) -> Box<dyn Values<S::Item> + '_> {
        Box::new(self.reader())
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        Source::relayout(self, change);
    }

    fn take_over(&mut self, shape: &Shape) -> Option<Taken<S::Item>> {
        Source::take_over(self, shape)
    }

    fn in_place(&mut self, shape: &Shape, how: InPlace) -> bool {
        Source::in_place(self, shape, how)
    }

    fn is_here(&self) -> bool {
        Source::is_here(self)
    }

    fn leaf(&self) -> Option<LeafReader<'_, S::Item>> {
        Source::leaf(self)
    }

    fn text(&self) -> String {
        Source::text(self)
    }
}

impl<T: Item> Node for Boxed<'_, T> {
    type Elem = T;
    type Source<'e>
        = BoxedSource<'e, T>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, T>
    where
        Self: 'e;

    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.0.checked_shape()
    }

    fn term(&self, terms: &mut Terms) -> Term {
        self.0.term(terms)
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> BoxedSource<'e, T> {
        BoxedSource(self.0.prepare(context, to))
    }
}

/// The source of a boxed expression.
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "nobody else sees one")]
pub struct BoxedSource<'e, T: Item>(Box<dyn AnySource<T> + 'e>);

impl<'e, T: Item> Source for BoxedSource<'e, T> {
    type Item = T;
    type Reader<'s>
        = BoxedReader<'s, T>
    where
        Self: 's;

    fn reader(&self) -> BoxedReader<'_, T> {
        BoxedReader(self.0.values())
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        self.0.relayout(change);
    }

    fn take_over(&mut self, shape: &Shape) -> Option<Taken<T>> {
        self.0.take_over(shape)
    }

    fn in_place(&mut self, shape: &Shape, how: InPlace) -> bool {
        self.0.in_place(shape, how)
    }

    fn is_here(&self) -> bool {
        self.0.is_here()
    }

    fn leaf(&self) -> Option<LeafReader<'_, T>> {
        self.0.leaf()
    }

    fn text(&self) -> String {
        self.0.text()
    }
}

/// Reads a boxed expression, through a tile.
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "nobody else sees one")]
pub struct BoxedReader<'s, T: Item>(Box<dyn Values<T> + 's>);

impl<T: Item> Reader for BoxedReader<'_, T> {
    type Item = T;
    type Scratch = Tile<T>;
    type Row<'r>
        = RowSlice<'r, T>
    where
        Self: 'r;

    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        self.0.all(holds)
    }

    fn reads_here(&self) -> bool {
        self.0.reads_here()
    }

    /// A tile has an end.
    fn is_sliced(&self, _: usize) -> bool {
        false
    }

    fn cost(&self) -> usize {
        self.0.cost()
    }

    fn row<'r>(&'r self, tile: &'r mut Tile<T>, here: &'r [T], rect: &Rect, level: Level) -> RowSlice<'r, T> {
        RowSlice(self.0.read(here, rect, level, tile))
    }

    fn memory(&self, rect: &Rect) -> Option<&[T]> {
        self.0.memory(rect)
    }

    fn fill<'o>(
        &self,
        _: &mut Tile<T>,
        here: &[T],
        rect: &Rect,
        level: Level,
        out: &'o mut [MaybeUninit<T>],
    ) -> &'o mut [T] {
        self.0.fill(here, rect, level, out)
    }
}
