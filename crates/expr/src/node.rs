//! `Node`: what an expression is to its evaluation.
//!
//! Unsafe code says that a pass writes to every slot.
#![allow(unsafe_code)]

use crate::block::Block;
use crate::context::Context;
use crate::fill::{Rows, change, overwrite, write};
use crate::item::Item;
use crate::shape::{Shape, ShapeError};
use crate::source::{Row, Source};
use crate::terms::{Term, Terms};

/// What can be evaluated. Each is an [`Expr`](crate::Expr), which says what can be made of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no expression",
    note = "a tensor is one where it is borrowed: `&x`; a number is one as `nodes::Scalar(1.0_f32)`, as one of two has to be in `where_`"
)]
pub trait Node {
    /// The elements of its value.
    type Elem: Item;

    /// What it is read from when it is evaluated.
    #[doc(hidden)]
    type Source<'e>: Source<Item = Self::Elem>
    where
        Self: 'e;

    /// Its values as a row.
    #[doc(hidden)]
    type Row<'e>: Row<Item = Self::Elem>
    where
        Self: 'e;

    /// See [`Expr::shape`](crate::Expr::shape).
    ///
    /// # Errors
    /// [`ShapeError`] where shapes did not go together.
    fn checked_shape(&self) -> Result<Shape, ShapeError>;

    /// The term that it is, for explanations.
    #[doc(hidden)]
    fn term(&self, terms: &mut Terms) -> Term;

    /// Materialises what has to be, for its values stretched to the shape `to`.
    #[doc(hidden)]
    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e>;

    /// The number that all values are, where that is known before anything is computed.
    #[doc(hidden)]
    fn number(&self) -> Option<Self::Elem> {
        None
    }

    /// All values as one row, where nothing has to be prepared: all tensors have this very shape and lie in its order.
    #[doc(hidden)]
    #[inline(always)]
    fn as_row(&self, shape: &Shape) -> Option<Self::Row<'_>> {
        let _ = shape;
        None
    }
}

impl<N: Node + ?Sized> Node for &N {
    type Elem = N::Elem;
    type Source<'e>
        = N::Source<'e>
    where
        Self: 'e;
    type Row<'e>
        = N::Row<'e>
    where
        Self: 'e;

    #[inline(always)]
    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        N::checked_shape(self)
    }

    fn term(&self, terms: &mut Terms) -> Term {
        N::term(self, terms)
    }

    #[inline(always)]
    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        N::prepare(self, context, to)
    }

    fn number(&self) -> Option<N::Elem> {
        N::number(self)
    }

    #[inline(always)]
    fn as_row(&self, shape: &Shape) -> Option<Self::Row<'_>> {
        N::as_row(self, shape)
    }
}

/// The shape of an expression. Only expressions that have one are prepared: `eval` asks for it first, and whoever has a part
/// without one has none.
#[inline(always)]
pub(crate) fn known(shape: &Result<Shape, ShapeError>) -> &Shape {
    shape.as_ref().unwrap_or(&Shape::SCALAR)
}

/// Puts the values of a source into memory: in the place of what it gives up, or else in a new block.
pub(crate) fn materialise<'e, S: Source>(context: &'e Context<'e>, mut source: S, shape: &Shape) -> Block<'e, S::Item> {
    settle(context, &mut source, shape)
}

/// As above, of a source that has ended then, but for what it reads in place.
pub(crate) fn settle<'e, S: Source>(context: &'e Context<'e>, source: &mut S, shape: &Shape) -> Block<'e, S::Item> {
    match source.take_over(shape).map(|block| context.block(block)) {
        Some(block) if source.is_here() => block,
        Some(block) => {
            let write = |out: &mut [S::Item]| overwrite(out, &source.reader(), shape, &Rows::default(), context.mode);
            context.reuse(block, shape, || source.text(), write)
        }
        None => produce(context, source, shape),
    }
}

/// As above, and changes the rows of which it consists.
pub(crate) fn change_rows<'e, S: Source>(
    context: &'e Context<'e>,
    mut source: S,
    shape: &Shape,
    rows: &Rows<'_, S::Item>,
    name: &str,
) -> Block<'e, S::Item> {
    let mode = context.mode;
    let taken = source.take_over(shape).map(|block| context.block(block));
    let text = || format!("{name}({})", source.text());
    match taken {
        Some(block) if source.is_here() => context.reuse(block, shape, text, |out| change(out, rows, mode)),
        Some(block) => context.reuse(block, shape, text, |out| overwrite(out, &source.reader(), shape, rows, mode)),
        None => {
            let write = |slots: &mut [_]| write(slots, &source.reader(), shape, rows, mode);
            // SAFETY: a pass writes to all.
            unsafe { context.produce(shape, text, write) }
        }
    }
}

/// Puts the values of a source into a new block, or the output.
pub(crate) fn produce<'e, S: Source>(context: &'e Context<'e>, source: &S, shape: &Shape) -> Block<'e, S::Item> {
    let write = |slots: &mut [_]| write(slots, &source.reader(), shape, &Rows::default(), context.mode);
    // SAFETY: a pass writes to all.
    unsafe { context.produce(shape, || source.text(), write) }
}
