//! `Settled`: values as they are, or in memory, which is known only when the expression is evaluated.

use std::mem::MaybeUninit;

use crate::block::Taken;
use crate::shape::{Shape, Strides};
use crate::simd::Level;
use crate::source::{InPlace, Leaf, LeafReader, Reader, RowSlice, Source, Tile};
use crate::walk::{Rect, TILE};

/// A source that will do as it is, or its values in memory.
#[derive(Debug)]
pub enum Settled<'e, S: Source> {
    /// As it is.
    As(S),
    /// In memory.
    Moved(Leaf<'e, S::Item>),
}

macro_rules! either {
    ($self:ident, $x:ident => $do:expr) => {
        match $self {
            Self::As($x) => $do,
            Self::Moved($x) => $do,
        }
    };
}

impl<S: Source> Source for Settled<'_, S> {
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
        either!(self, x => x.relayout(change));
    }

    fn take_over(&mut self, shape: &Shape) -> Option<Taken<S::Item>> {
        either!(self, x => x.take_over(shape))
    }

    fn in_place(&mut self, shape: &Shape, how: InPlace) -> bool {
        either!(self, x => x.in_place(shape, how))
    }

    fn is_here(&self) -> bool {
        either!(self, x => x.is_here())
    }

    fn leaf(&self) -> Option<LeafReader<'_, S::Item>> {
        either!(self, x => x.leaf())
    }

    fn text(&self) -> String {
        either!(self, x => x.text())
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
    type Row<'r>
        = RowSlice<'r, R::Item>
    where
        Self: 'r;

    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        match self {
            Self::Leaf(leaf) => Reader::all(leaf, holds),
            Self::Computed(reader) => reader.all(holds),
        }
    }

    fn reads_here(&self) -> bool {
        match self {
            Self::Leaf(leaf) => Reader::reads_here(leaf),
            Self::Computed(reader) => reader.reads_here(),
        }
    }

    fn longest(&self, axis: usize, pieces: bool) -> usize {
        match self {
            Self::Leaf(leaf) => Reader::longest(leaf, axis, pieces),
            Self::Computed(_) => TILE,
        }
    }

    fn cost(&self) -> usize {
        match self {
            Self::Leaf(leaf) => Reader::cost(leaf),
            Self::Computed(reader) => 1 + reader.cost(),
        }
    }

    fn row<'r>(
        &'r self,
        scratch: &'r mut Self::Scratch,
        here: &'r [R::Item],
        rect: &Rect,
        level: Level,
        pieces: bool,
    ) -> Self::Row<'r> {
        match self {
            Self::Leaf(leaf) => leaf.row(&mut scratch.0, here, rect, level, pieces),
            Self::Computed(reader) => {
                let values = reader.fill(&mut scratch.1, here, rect, level, scratch.0.slots(rect.count()));
                RowSlice::new(values, rect)
            }
        }
    }

    fn memory(&self, rect: &Rect) -> Option<&[R::Item]> {
        match self {
            Self::Leaf(leaf) => Reader::memory(leaf, rect),
            Self::Computed(reader) => reader.memory(rect),
        }
    }

    fn fill<'o>(
        &self,
        scratch: &mut Self::Scratch,
        here: &[R::Item],
        rect: &Rect,
        level: Level,
        out: &'o mut [MaybeUninit<R::Item>],
    ) -> &'o mut [R::Item] {
        match self {
            Self::Leaf(leaf) => Reader::fill(leaf, &mut scratch.0, here, rect, level, out),
            Self::Computed(reader) => reader.fill(&mut scratch.1, here, rect, level, out),
        }
    }
}
