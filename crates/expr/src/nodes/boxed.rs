//! Expressions behind a pointer.
//!
//! Boxes within boxes are read one from within the other, and each has its tiles on the stack meanwhile. So that many can be nested, the values of a
//! box for which there is no room left are put into memory. Neither are such boxes prepared one from within the other, for that takes stack as
//! well: where the first is met, those within it are looked for, and come before it.

use std::fmt;
use std::mem::MaybeUninit;

use crate::block::{Block, Taken};
use crate::context::{Context, Deep};
use crate::item::Item;
use crate::node::{Node, known, materialise};
use crate::shape::{Shape, ShapeError, Strides};
use crate::simd::Level;
use crate::source::{InPlace, Leaf, LeafReader, Reader, RowSlice, Source, Tile, Values};
use crate::terms::{Term, Terms};
use crate::walk::{Rect, TILE};

/// An expression whose type says nothing but that of its elements; see [`Expr::boxed`](crate::Expr::boxed).
pub struct Boxed<'x, T: Item> {
    x: Box<dyn AnyNode<T> + 'x>,
    /// Known from the start, so that who asks does not go through all boxes within.
    shape: Result<Shape, ShapeError>,
}

impl<'x, T: Item> Boxed<'x, T> {
    pub(crate) fn new(x: impl Node<Elem = T> + 'x) -> Self {
        let shape = x.checked_shape();
        Self { x: Box::new(x), shape }
    }
}

impl<T: Item> fmt::Debug for Boxed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shape {
            Ok(shape) => write!(f, "Boxed({}{shape})", T::NAME),
            Err(error) => write!(f, "Boxed({error})"),
        }
    }
}

/// [`Node`], without its types.
trait AnyNode<T: Item> {
    /// The stack that reading its values takes for tiles.
    fn tiles(&self) -> usize;
    fn term(&self, terms: &mut Terms) -> Term;
    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Box<dyn AnySource<T> + 'e>;
}

impl<N: Node> AnyNode<N::Elem> for N {
    fn tiles(&self) -> usize {
        scratch_of(self)
    }

    fn term(&self, terms: &mut Terms) -> Term {
        Node::term(self, terms)
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Box<dyn AnySource<N::Elem> + 'e> {
        Box::new(Node::prepare(self, context, to))
    }
}

fn scratch_of<'e, N: Node>(_: &'e N) -> usize {
    size_of::<<<N::Source<'e> as Source>::Reader<'e> as Reader>::Scratch>()
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

/// The stack that boxes within boxes may take while their values are read: a small part of what a thread has.
#[cfg(not(test))]
const MOST: usize = 256 << 10;
/// Little enough for the tests' random expressions.
#[cfg(test)]
const MOST: usize = 16 << 10;

/// What each takes besides its tiles.
const FRAMES: usize = 1 << 10;

impl<'e, T: Item> Deep<'e> for Boxed<'_, T> {
    fn look(&'e self, context: &'e Context<'e>) {
        drop(self.alone(context));
    }

    fn keep(&'e self, context: &'e Context<'e>) {
        let block = materialise(context, self.alone(context), known(&self.shape));
        context.keep(self.address(), block);
    }
}

/// Keeps blocks no longer than this lives.
struct Kept<'e>(&'e Context<'e>);

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.forget();
    }
}

impl<T: Item> Boxed<'_, T> {
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// As if there were no boxes around it.
    fn alone<'e>(&'e self, context: &'e Context<'e>) -> BoxedSource<'e, T> {
        let around = context.boxes.replace(self.x.tiles() + FRAMES);
        let source = self.x.prepare(context, known(&self.shape));
        context.boxes.set(around);
        BoxedSource(source)
    }

    /// Its values in memory. A function of its own, so that its variables take no stack where boxes are nested.
    #[inline(never)]
    fn moved<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Box<dyn AnySource<T> + 'e> {
        let block = match context.finds(self) {
            true => Block::Missing,
            false => context.kept(self.address()).unwrap_or_else(|| self.block(context)),
        };
        Box::new(Leaf::own(block, known(&self.shape), to))
    }

    /// After all that is deep within it, each of which comes after what is deep within that.
    fn block<'e>(&'e self, context: &'e Context<'e>) -> Block<'e, T> {
        let kept = Kept(context);
        let mut waiting: Vec<(&'e dyn Deep<'e>, bool)> = vec![(self, false)];
        while let Some((deep, is_next)) = waiting.pop() {
            if is_next {
                deep.keep(context);
            } else {
                waiting.push((deep, true));
                waiting.extend(context.within(deep).into_iter().rev().map(|inner| (inner, false)));
            }
        }
        let block = context.kept(self.address());
        drop(kept);
        block.unwrap_or(Block::Missing)
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
        self.shape
    }

    fn term(&self, terms: &mut Terms) -> Term {
        self.x.term(terms)
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> BoxedSource<'e, T> {
        let (around, own) = (context.boxes.get(), self.x.tiles() + FRAMES);
        let fits = around + own <= MOST;
        context.boxes.set(around + own);
        let source = if fits { self.x.prepare(context, to) } else { self.moved(context, to) };
        context.boxes.set(around);
        BoxedSource(source)
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
    fn longest(&self, _: usize, _: bool) -> usize {
        TILE
    }

    fn cost(&self) -> usize {
        self.0.cost()
    }

    fn row<'r>(&'r self, tile: &'r mut Tile<T>, here: &'r [T], rect: &Rect, level: Level, _: bool) -> RowSlice<'r, T> {
        RowSlice::new(self.0.read(here, rect, level, tile), rect)
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
