//! What an expression becomes when it is evaluated: a source of values, read rectangle by rectangle.
//!
//! A [`Source`] owns what had to be materialised below it. Its [`Reader`] only points there, so that threads can share it. A reader
//! is asked for a [`Row`] at a time, of which the compiler makes one loop over slices: the leaves know where their elements lie,
//! everything between them is arithmetic on values in registers. There is one such loop for what stands between two leaves or
//! functions, in whatever way the expression is evaluated: all passes see readers as [`Values`], which hides their types.
//!
//! Rows are lines of slices, always. A leaf whose lines do not lie in one piece each, as after a transposition, copies them to a **tile** first, a piece of
//! scratch memory that stays in the first-level cache; so it does with short lines, which are one line there. Where a size of 1 is stretched along lines, each
//! is one value: the loop that writes values goes by **pieces** of lines then, and the leaf has one of them in its tile, which is all of them; others, who want
//! slices, get whole lines. A leaf whose memory was **taken over** for the output reads what stands there (`here`), of which a tile holds a copy as well.
//!
//! Unsafe code says that slots were written, after a loop over all of them.
#![allow(unsafe_code)]

mod leaf;
mod row;
mod tile;

use std::mem::MaybeUninit;

use crate::block::Taken;
use crate::item::Item;
use crate::math::LANES;
use crate::ops::Reduction;
use crate::shape::{Shape, Strides};
use crate::simd::Level;
use crate::slots::{copied, written};
use crate::transpose::{Across, transpose};
use crate::walk::{COPY, LONE, Layout, Rect, TURNED, Walk};

pub(crate) use leaf::{Leaf, LeafReader};
pub(crate) use row::{Row, RowSlice, filled, write_lines, write_row};
use row::{combine_lines, fold, fold_rows};
pub(crate) use tile::Tile;

/// Values that are ready to be read, and what was materialised for them.
pub trait Source {
    /// The elements.
    type Item: Item;
    /// What reads them.
    type Reader<'s>: Reader<Item = Self::Item> + 's
    where
        Self: 's;

    /// Reads from here.
    fn reader(&self) -> Self::Reader<'_>;

    /// Changes how each leaf's elements are found.
    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides));

    /// Gives up memory that nobody will read any more, with the elements of this shape in order, to be written to. Reading
    /// goes on in place.
    fn take_over(&mut self, shape: &Shape) -> Option<Taken<Self::Item>> {
        let _ = shape;
        None
    }

    /// Makes the leaves that read the tensor that is updated read in place, if all can, for the output has its elements of this shape in order.
    fn in_place(&mut self, shape: &Shape, how: InPlace) -> bool;

    /// Whether the values are just those of the memory that was taken over.
    fn is_here(&self) -> bool {
        false
    }

    /// The values themselves, where they stand in memory.
    fn leaf(&self) -> Option<LeafReader<'_, Self::Item>> {
        None
    }

    /// What is computed, in terms of what is in memory.
    fn text(&self) -> String;
}

/// What is asked of leaves; see [`Source::in_place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InPlace {
    /// Whether none reads the tensor.
    None,
    /// Whether those that do could read in place.
    Could,
    /// To do so.
    Now,
}

/// Reads the values of a source, from any thread.
pub trait Reader: Send + Sync {
    /// The elements.
    type Item: Item;
    /// Tiles for the leaves, for each thread.
    type Scratch: Default;
    /// Values at hand.
    type Row<'r>: Row<Item = Self::Item>
    where
        Self: 'r;

    /// Whether `holds` for the strides of every leaf that is not read in place.
    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool;

    /// Whether something is read in place, where `here` is needed.
    fn reads_here(&self) -> bool;

    /// How many values can be read at once in lines along this axis that are no shorter than [`LONE`](crate::walk::LONE), or, in `pieces`, than
    /// a [piece](crate::walk::PIECE): no fewer than a tile has.
    fn longest(&self, axis: usize, pieces: bool) -> usize;

    /// What a value costs, in additions or so.
    fn cost(&self) -> usize;

    /// The values of a rectangle, which has no more than a tile or is of [lines of which so many can be read](Self::longest). Of what is read in place,
    /// `here` is a copy. `pieces`: who asks for them takes lines by [pieces](crate::walk::PIECE) as well, if they [come](Row::is_stretched) so.
    fn row<'r>(
        &'r self,
        scratch: &'r mut Self::Scratch,
        here: &'r [Self::Item],
        rect: &Rect,
        level: Level,
        pieces: bool,
    ) -> Self::Row<'r>;

    /// As above, where they stand in memory next to each other.
    #[inline(always)]
    fn memory(&self, rect: &Rect) -> Option<&[Self::Item]> {
        let _ = rect;
        None
    }

    /// As above, written to `out`, which has room for just them, line after line.
    fn fill<'o>(
        &self,
        scratch: &mut Self::Scratch,
        here: &[Self::Item],
        rect: &Rect,
        level: Level,
        out: &'o mut [MaybeUninit<Self::Item>],
    ) -> &'o mut [Self::Item] {
        filled(out, rect, self.row(scratch, here, rect, level, true), level)
    }

    /// As above, where the lines begin `step` elements after each other in `out`; other elements there stay as they are. `turns`: elements lie along
    /// the other axis for all leaves.
    #[expect(clippy::too_many_arguments, reason = "as above, and two more")]
    fn fill_lines(
        &self,
        scratch: &mut Self::Scratch,
        here: &[Self::Item],
        rect: &Rect,
        level: Level,
        out: &mut [MaybeUninit<Self::Item>],
        step: usize,
        turns: bool,
    ) {
        if rect.len >= LONE && !turns {
            let row = self.row(scratch, here, rect, level, true);
            return write_lines(out, step, (rect.lines, rect.len), row, level);
        }
        if turns {
            // One transposition of the values, instead of one for each leaf.
            let mut tile = Tile::<Self::Item, TURNED>::default();
            let values = self.fill(scratch, here, &rect.turned(), level, tile.slots(rect.count()));
            let across = Across { first: 0, step: rect.lines.cast_signed(), lines: rect.lines, len: rect.len };
            return transpose(level, (&*values).into(), across, out, step);
        }
        let mut tile = Tile::<Self::Item>::default();
        let values = self.fill(scratch, here, rect, level, tile.slots(rect.count()));
        for (line, values) in values.chunks_exact(rect.len).enumerate() {
            copied(&mut out[line * step..], values);
        }
    }
}

/// The values of an expression, and what a reduction makes of them.
pub(crate) trait Folded<T, O>: Values<T> {
    /// Combines the lines of a rectangle with totals, one after the other.
    fn fold_lines(&self, rect: &Rect, level: Level, totals: &mut [T]);
    /// Combines the values of a single line with the total whose turn it is.
    fn fold(&self, rect: &Rect, level: Level, totals: &mut [T; LANES]);
    /// Combines each `len` values of a rectangle, whose lines consist of such.
    fn fold_rows(&self, rect: &Rect, level: Level, len: usize, out: &mut [T]);
}

impl<R: Reader, O: Reduction<R::Item>> Folded<R::Item, O> for R {
    fn fold_lines(&self, rect: &Rect, level: Level, totals: &mut [R::Item]) {
        let mut scratch = R::Scratch::default();
        let row = self.row(&mut scratch, &[], rect, level, false);
        combine_lines::<O, _>(totals, rect.lines, row, level);
    }

    fn fold(&self, rect: &Rect, level: Level, totals: &mut [R::Item; LANES]) {
        let mut scratch = R::Scratch::default();
        fold::<O, _>(totals, rect.count(), self.row(&mut scratch, &[], rect, level, false), level);
    }

    fn fold_rows(&self, rect: &Rect, level: Level, len: usize, out: &mut [R::Item]) {
        let mut scratch = R::Scratch::default();
        fold_rows::<O, _>(out, rect, len, self.row(&mut scratch, &[], rect, level, false), level);
    }
}

/// The values of an expression, whatever its type: what passes over memory see.
pub(crate) trait Values<T>: Layout + Send + Sync {
    /// See [`Reader::reads_here`].
    fn reads_here(&self) -> bool;
    /// See [`Reader::cost`].
    fn cost(&self) -> usize;
    /// See [`Reader::memory`].
    fn memory(&self, rect: &Rect) -> Option<&[T]>;
    /// See [`Reader::fill`].
    fn fill<'o>(&self, here: &[T], rect: &Rect, level: Level, out: &'o mut [MaybeUninit<T>]) -> &'o mut [T];

    /// Writes the values of a walk to `out`, which has room for just them.
    ///
    /// # Safety
    /// Where something is read in place, `out` is initialised.
    unsafe fn fill_all<'o>(&self, walk: &Walk, level: Level, out: &'o mut [MaybeUninit<T>]) -> &'o mut [T];
}

impl<T: Item> dyn Values<T> + '_ {
    /// The values of a rectangle where they stand in memory, or else in a tile.
    #[inline]
    pub(crate) fn read<'t>(&'t self, here: &[T], rect: &Rect, level: Level, tile: &'t mut Tile<T>) -> &'t [T] {
        match self.memory(rect) {
            Some(values) => values,
            None => self.fill(here, rect, level, tile.slots(rect.count())),
        }
    }
}

impl<R: Reader> Layout for R {
    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        Reader::all(self, holds)
    }

    fn longest(&self, axis: usize, pieces: bool) -> usize {
        Reader::longest(self, axis, pieces)
    }
}

impl<R: Reader> Values<R::Item> for R {
    fn reads_here(&self) -> bool {
        Reader::reads_here(self)
    }

    fn cost(&self) -> usize {
        Reader::cost(self)
    }

    fn memory(&self, rect: &Rect) -> Option<&[R::Item]> {
        Reader::memory(self, rect)
    }

    fn fill<'o>(
        &self,
        here: &[R::Item],
        rect: &Rect,
        level: Level,
        out: &'o mut [MaybeUninit<R::Item>],
    ) -> &'o mut [R::Item] {
        Reader::fill(self, &mut R::Scratch::default(), here, rect, level, out)
    }

    unsafe fn fill_all<'o>(&self, walk: &Walk, level: Level, out: &'o mut [MaybeUninit<R::Item>]) -> &'o mut [R::Item] {
        let mut scratch = R::Scratch::default();
        let mut copy = Tile::<R::Item, COPY>::default();
        let (reads_here, step) = (Reader::reads_here(self), walk.step());
        let turns = walk.turns() && !reads_here;
        for (rect, first) in walk.rects() {
            let here = if reads_here {
                // SAFETY: it is initialised, as the caller says: what is read in place is not read before.
                unsafe { copy.gather_from(out, first, step, &rect) }
            } else {
                &[]
            };
            if rect.lines == 1 || step == rect.len && !turns {
                Reader::fill(self, &mut scratch, here, &rect, level, &mut out[first..first + rect.count()]);
                continue;
            }
            Reader::fill_lines(self, &mut scratch, here, &rect, level, &mut out[first..], step, turns);
        }
        // SAFETY: the rectangles of a walk have all its elements.
        unsafe { written(out) }
    }
}
