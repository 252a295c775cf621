//! What nodes of two operands share: two expressions, sources, readers or rows.

use tenzor_memory::Allocator;

use crate::block::Block;
use crate::context::Context;
use crate::node::{Node, stretched};
use crate::shape::{Shape, ShapeError, Strides};
use crate::source::{At, Reader, Row, Source};

/// Two expressions whose shapes are stretched to a common one; the home of what the nodes with two operands share.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Pair<L, R> {
    pub(crate) left: L,
    pub(crate) right: R,
}

impl<L: Node, R: Node> Pair<L, R> {
    pub(super) fn shape(&self, operation: &'static str) -> Result<Shape, ShapeError> {
        self.left.checked_shape()?.broadcast(&self.right.checked_shape()?, operation)
    }

    /// Both sources, for the shape `to`.
    #[inline(always)]
    pub(super) fn prepare<'e, A: Allocator + Clone>(
        &'e self,
        context: &Context<A>,
        to: &Shape,
    ) -> Pair<L::Source<'e, A>, R::Source<'e, A>> {
        Pair { left: stretched(&self.left, context, to), right: stretched(&self.right, context, to) }
    }

    #[inline(always)]
    pub(super) fn as_row<'e>(&'e self, shape: &Shape) -> Option<Pair<L::Row<'e>, R::Row<'e>>> {
        Some(Pair { left: self.left.as_row(shape)?, right: self.right.as_row(shape)? })
    }
}

/// As sources.
impl<L, R> Pair<L, R> {
    pub(super) fn relayout<A: Allocator>(&mut self, change: &mut dyn FnMut(&mut Strides))
    where
        L: Source<A>,
        R: Source<A>,
    {
        self.left.relayout(change);
        self.right.relayout(change);
    }

    #[inline(always)]
    pub(super) fn reader<A: Allocator>(&self) -> Pair<L::Reader<'_>, R::Reader<'_>>
    where
        L: Source<A>,
        R: Source<A>,
    {
        Pair { left: self.left.reader(), right: self.right.reader() }
    }

    pub(super) fn take_over<A: Allocator>(&mut self, shape: &Shape) -> Option<Block<L::Item, A>>
    where
        L: Source<A>,
        R: Source<A, Item = L::Item>,
    {
        self.left.take_over(shape).or_else(|| self.right.take_over(shape))
    }

    pub(super) fn text<A: Allocator>(&self, name: &str) -> String
    where
        L: Source<A>,
        R: Source<A>,
    {
        let (left, right) = (self.left.text(), self.right.text());
        if name.starts_with(char::is_alphabetic) {
            format!("{name}({left}, {right})")
        } else {
            format!("({left} {name} {right})")
        }
    }
}

/// As readers.
impl<L: Reader, R: Reader<Item = L::Item>> Pair<L, R> {
    pub(super) fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        self.left.all(holds) && self.right.all(holds)
    }

    pub(super) fn reads_here(&self) -> bool {
        self.left.reads_here() || self.right.reads_here()
    }

    pub(super) fn is_sliced(&self, axis: usize) -> bool {
        self.left.is_sliced(axis) && self.right.is_sliced(axis)
    }

    pub(super) fn cost(&self) -> usize {
        self.left.cost() + self.right.cost()
    }

    #[inline(always)]
    pub(super) fn row<'r>(
        &'r self,
        scratch: &'r mut (L::Scratch, R::Scratch),
        here: &'r [L::Item],
        at: &At,
        len: usize,
    ) -> Pair<L::Row<'r>, R::Row<'r>> {
        let left = self.left.row(&mut scratch.0, here, at, len);
        let right = self.right.row(&mut scratch.1, here, at, len);
        Pair { left, right }
    }
}

/// As rows.
impl<L: Row, R: Row> Pair<L, R> {
    #[inline(always)]
    pub(super) fn head(self, len: usize) -> Self {
        Self { left: self.left.head(len), right: self.right.head(len) }
    }
}
