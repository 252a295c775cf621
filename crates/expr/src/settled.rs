//! `Settled`: values as they are, or in memory, which is known only when the expression is evaluated.

use tenzor_memory::Allocator;

use crate::block::Block;
use crate::shape::{Shape, Strides};
use crate::source::{At, Leaf, LeafReader, Reader, RowSlice, Source, Tile};

/// A source that will do as it is, or its values in memory.
#[derive(Debug)]
pub enum Settled<S, L> {
    /// As it is.
    As(S),
    /// In memory, in order.
    Moved(L),
}

impl<'e, A: Allocator, S: Source<A>> Source<A> for Settled<S, Leaf<'e, S::Item, A>> {
    type Item = S::Item;
    type Reader<'s>
        = SettledReader<'s, S::Reader<'s>>
    where
        Self: 's;

    fn reader(&self) -> Self::Reader<'_> {
        match self {
            Self::As(source) => {
                source.leaf().map_or_else(|| SettledReader::Computed(source.reader()), SettledReader::Leaf)
            }
            Self::Moved(leaf) => SettledReader::Leaf(leaf.reader()),
        }
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        match self {
            Self::As(source) => source.relayout(change),
            Self::Moved(leaf) => leaf.relayout(change),
        }
    }

    fn take_over(&mut self, shape: &Shape) -> Option<Block<S::Item, A>> {
        match self {
            Self::As(source) => source.take_over(shape),
            Self::Moved(leaf) => leaf.take_over(shape),
        }
    }

    fn is_here(&self) -> bool {
        match self {
            Self::As(source) => source.is_here(),
            Self::Moved(leaf) => leaf.is_here(),
        }
    }

    fn leaf(&self) -> Option<LeafReader<'_, S::Item>> {
        match self {
            Self::As(source) => source.leaf(),
            Self::Moved(leaf) => leaf.leaf(),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::As(source) => source.text(),
            Self::Moved(leaf) => leaf.text(),
        }
    }
}

/// Reads what is settled. Values that are computed go through a tile, as a row has one type.
#[derive(Clone, Copy, Debug)]
pub enum SettledReader<'s, R: Reader> {
    /// From memory.
    Leaf(LeafReader<'s, R::Item>),
    /// From memory, with arithmetic in between.
    Computed(R),
}

impl<R: Reader> Reader for SettledReader<'_, R> {
    type Item = R::Item;
    type Scratch = (Tile<R::Item>, R::Scratch);
    const IS_SLICE: bool = true;
    type Row<'r>
        = RowSlice<'r, R::Item>
    where
        Self: 'r;

    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.all(holds),
            Self::Computed(reader) => reader.all(holds),
        }
    }

    fn reads_here(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.reads_here(),
            Self::Computed(reader) => reader.reads_here(),
        }
    }

    fn is_sliced(&self, axis: usize) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.is_sliced(axis),
            Self::Computed(_) => false,
        }
    }

    fn cost(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.cost(),
            Self::Computed(reader) => 1 + reader.cost(),
        }
    }

    #[inline(always)]
    fn row<'r>(&'r self, scratch: &'r mut Self::Scratch, here: &'r [R::Item], at: &At, len: usize) -> Self::Row<'r> {
        match self {
            Self::Leaf(leaf) => leaf.row(&mut scratch.0, here, at, len),
            Self::Computed(reader) => {
                let row = reader.row(&mut scratch.1, here, at, len);
                RowSlice(scratch.0.fill(len, row))
            }
        }
    }
}
