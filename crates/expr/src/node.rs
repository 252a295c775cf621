//! `Node`: what an expression is to its evaluation.

use tenzor_memory::Allocator;

use crate::block::Block;
use crate::context::Context;
use crate::fill::{overwrite, write};
use crate::item::Item;
use crate::shape::{Shape, ShapeError};
use crate::source::{Row, Source};

/// What can be evaluated. Each is an [`Expr`](crate::Expr), which says what can be made of it.
pub trait Node: Sized {
    /// The elements of its value.
    type Elem: Item;

    /// What it is read from when it is evaluated.
    #[doc(hidden)]
    type Source<'e, A: Allocator>: Source<A, Item = Self::Elem>
    where
        Self: 'e;

    /// Its values as a row.
    #[doc(hidden)]
    type Row<'e>: Row<Item = Self::Elem>
    where
        Self: 'e;

    /// See [`Expr::shape`](crate::Expr::shape): what was found when it was made.
    ///
    /// # Errors
    /// [`ShapeError`] where shapes did not go together.
    fn checked_shape(&self) -> Result<Shape, ShapeError>;

    /// Materialises what has to be.
    #[doc(hidden)]
    fn prepare<'e, A: Allocator + Clone>(&'e self, context: &Context<A>) -> Self::Source<'e, A>
    where
        Self: 'e;

    /// All values as one row, where nothing has to be prepared: all tensors have this very shape and lie in its order.
    #[doc(hidden)]
    #[inline(always)]
    fn as_row<'e>(&'e self, shape: &Shape) -> Option<Self::Row<'e>>
    where
        Self: 'e,
    {
        let _ = shape;
        None
    }
}

/// The shape that was found when an expression was made. Only expressions that have one are prepared: `eval` asks for it first, and
/// whoever has a part without one has none.
#[inline(always)]
pub(crate) fn known(shape: &Result<Shape, ShapeError>) -> &Shape {
    shape.as_ref().unwrap_or(&Shape::SCALAR)
}

/// The source of an expression whose shape stretches to `to`.
#[inline(always)]
pub(crate) fn stretched<'e, N: Node, A: Allocator + Clone>(
    node: &'e N,
    context: &Context<A>,
    to: &Shape,
) -> N::Source<'e, A> {
    let mut source = node.prepare(context);
    let from = node.checked_shape();
    let from = known(&from);
    if from != to {
        source.relayout(&mut |strides| strides.broadcast(from, to));
    }
    source
}

/// Puts the values of a source into memory: in the place of what it gives up, or else in a new block.
pub(crate) fn materialise<A: Allocator + Clone, S: Source<A>>(
    context: &Context<A>,
    mut source: S,
    shape: &Shape,
) -> Block<S::Item, A> {
    match source.take_over(shape) {
        Some(block) if source.is_here() => block,
        Some(block) => {
            let write = |out: &mut [S::Item]| overwrite(out, &source.reader(), shape, context.mode);
            context.reuse(block, shape, || source.text(), write)
        }
        None => context.produce(shape, || source.text(), |slots| write(slots, &source.reader(), shape, context.mode)),
    }
}
