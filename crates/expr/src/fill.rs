//! The passes over memory: the values of a reader, written row by row, by one thread or several.
//!
//! Unsafe code says that slots were written, after a loop over all of them.
#![allow(unsafe_code)]

use tenzor_memory::Slots;

use crate::shape::Shape;
use crate::simd::{Kernel, Mode, vectorised};
use crate::source::{At, Reader, Row, RowSlice, Space, Tile};

/// What has to be there to do for a thread to be woken, in additions or so: about a millisecond's work.
const GRAIN: usize = 1 << 23;

/// Parts begin with multiples of so many elements, so that no cache line is written by two threads.
const LINES: usize = 64;

/// How many of `count` values a thread takes on, where each costs so many additions or so.
pub(crate) fn grain(count: usize, cost: usize, mode: Mode) -> usize {
    if !mode.parallel || count.saturating_mul(cost) < 2 * GRAIN {
        return usize::MAX;
    }
    (GRAIN / cost.max(1)).max(count / (4 * rayon::current_num_threads()))
}

/// Writes a value of a row to each slot; as [`Row::overwrite`].
#[inline(always)]
pub(crate) fn fill<R: Row>(mut slots: Slots<'_, R::Item>, row: R) -> &mut [R::Item] {
    let row = row.head(slots.len());
    for (i, slot) in slots.as_uninit().iter_mut().enumerate() {
        slot.write(row.at(i));
    }
    // SAFETY: the loop wrote to every slot.
    unsafe { slots.assume_written() }
}

/// Writes the values of a shape to new memory.
pub(crate) fn write<R: Reader>(slots: Slots<'_, R::Item>, reader: &R, shape: &Shape, mode: Mode) {
    let space = Space::new(shape, 0..shape.rank(), reader);
    let grain = grain(slots.len(), 1 + reader.cost(), mode);
    write_parts(slots, reader, &space, grain, mode);
}

fn write_parts<R: Reader>(slots: Slots<'_, R::Item>, reader: &R, space: &Space, grain: usize, mode: Mode) {
    if slots.len() <= grain.max(LINES) {
        return vectorised(mode.level, Write { slots, reader, space });
    }
    let (left, right) = halves(slots.len(), |middle| slots.split_at(middle));
    rayon::join(|| write_parts(left, reader, space, grain, mode), || write_parts(right, reader, space, grain, mode));
}

/// Splits so that the right half starts with a cache line if the left one does.
fn halves<T>(len: usize, split: impl FnOnce(usize) -> T) -> T {
    split((len / 2).next_multiple_of(LINES))
}

struct Write<'s, R: Reader> {
    slots: Slots<'s, R::Item>,
    reader: &'s R,
    space: &'s Space,
}

impl<R: Reader> Kernel for Write<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { mut slots, reader, space } = self;
        let mut scratch = R::Scratch::default();
        let mut at = At::FIRST;
        space.locate(slots.first(), &mut at);
        while !slots.is_empty() {
            let (part, rest) = slots.split_at(space.row_at(&at));
            let len = part.len();
            fill(part, reader.row(&mut scratch, &[], &at, len));
            space.advance(&mut at, len);
            slots = rest;
        }
    }
}

/// Writes the values of a row to new memory, which has no more of them.
pub(crate) fn write_row<R: Row>(slots: Slots<'_, R::Item>, row: R, mode: Mode) {
    vectorised(mode.level, WriteRow { slots, row });
}

struct WriteRow<'s, R: Row> {
    slots: Slots<'s, R::Item>,
    row: R,
}

impl<R: Row> Kernel for WriteRow<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        fill(self.slots, self.row);
    }
}

/// Writes the values of a row over others, as many.
pub(crate) fn overwrite_row<R: Row>(out: &mut [R::Item], row: R, mode: Mode) {
    vectorised(mode.level, OverwriteRow { out, row });
}

struct OverwriteRow<'s, R: Row> {
    out: &'s mut [R::Item],
    row: R,
}

impl<R: Row> Kernel for OverwriteRow<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        self.row.overwrite(self.out);
    }
}

/// Writes the values of a shape over others, which `reader` may read in place.
pub(crate) fn overwrite<R: Reader>(out: &mut [R::Item], reader: &R, shape: &Shape, mode: Mode) {
    let space = Space::new(shape, 0..shape.rank(), reader);
    let grain = grain(out.len(), 1 + reader.cost(), mode);
    overwrite_parts(out, 0, reader, &space, grain, mode);
}

fn overwrite_parts<R: Reader>(out: &mut [R::Item], first: usize, reader: &R, space: &Space, grain: usize, mode: Mode) {
    if out.len() <= grain.max(LINES) {
        return vectorised(mode.level, Overwrite { out, first, reader, space });
    }
    let (left, right) = halves(out.len(), |middle| out.split_at_mut(middle));
    let middle = first + left.len();
    rayon::join(
        || overwrite_parts(left, first, reader, space, grain, mode),
        || overwrite_parts(right, middle, reader, space, grain, mode),
    );
}

struct Overwrite<'s, R: Reader> {
    out: &'s mut [R::Item],
    /// The number of the first value.
    first: usize,
    reader: &'s R,
    space: &'s Space,
}

impl<R: Reader> Kernel for Overwrite<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { mut out, first, reader, space } = self;
        let mut scratch = R::Scratch::default();
        let mut copy = Tile::default();
        let reads_here = reader.reads_here();
        let mut at = At::FIRST;
        space.locate(first, &mut at);
        while !out.is_empty() {
            let len = space.row_at(&at).min(out.len());
            let (part, rest) = out.split_at_mut(len);
            let here: &[R::Item] = if reads_here { copy.fill(len, RowSlice(part)) } else { &[] };
            reader.row(&mut scratch, here, &at, part.len()).overwrite(part);
            space.advance(&mut at, len);
            out = rest;
        }
    }
}
