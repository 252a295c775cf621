//! The passes over memory: the values of a reader, written row by row, by one thread or several.

use tenzor_memory::Slots;

use crate::shape::Shape;
use crate::source::{At, Reader, Row, Space, TILE};

/// The least elements that are worth a thread's while.
const GRAIN: usize = 1 << 15;

/// Runs `body` with the widest vectors that the processor has.
#[inline]
pub(crate) fn vectorised<R>(body: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(body)
}

/// How many elements a thread takes on, of `len`.
pub(crate) fn grain(len: usize, parallel: bool) -> usize {
    if parallel { GRAIN.max(len / (4 * rayon::current_num_threads())) } else { usize::MAX }
}

/// Writes the values of a shape to new memory.
pub(crate) fn write<R: Reader>(slots: Slots<'_, R::Item>, reader: &R, shape: &Shape, parallel: bool) {
    let space = Space::new(shape, 0..shape.rank(), reader);
    let grain = grain(slots.len(), parallel);
    write_parts(slots, reader, &space, grain);
}

fn write_parts<R: Reader>(slots: Slots<'_, R::Item>, reader: &R, space: &Space, grain: usize) {
    if slots.len() <= grain {
        return vectorised(|| write_rows(slots, reader, space));
    }
    let (left, right) = halves(slots.len(), |middle| slots.split_at(middle));
    rayon::join(|| write_parts(left, reader, space, grain), || write_parts(right, reader, space, grain));
}

/// Splits so that the right half starts with a cache line if the left one does.
fn halves<T>(len: usize, split: impl FnOnce(usize) -> T) -> T {
    split((len / 2).next_multiple_of(64))
}

#[inline(always)]
fn write_rows<R: Reader>(mut slots: Slots<'_, R::Item>, reader: &R, space: &Space) {
    let mut scratch = R::Scratch::default();
    let mut at = At::FIRST;
    space.locate(slots.first(), &mut at);
    while !slots.is_empty() {
        let (part, rest) = slots.split_at(space.row_at(&at));
        let (len, first) = (part.len(), part.first());
        let row = reader.row(&mut scratch, &[], &at, len);
        part.fill_with(|i| row.at(i - first));
        space.advance(&mut at, len);
        slots = rest;
    }
}

/// Writes the values of a shape over others, which `reader` may read in place.
pub(crate) fn overwrite<R: Reader>(out: &mut [R::Item], reader: &R, shape: &Shape, parallel: bool) {
    let space = Space::new(shape, 0..shape.rank(), reader);
    let grain = grain(out.len(), parallel);
    overwrite_parts(out, 0, reader, &space, grain);
}

fn overwrite_parts<R: Reader>(out: &mut [R::Item], first: usize, reader: &R, space: &Space, grain: usize) {
    if out.len() <= grain {
        return vectorised(|| overwrite_rows(out, first, reader, space));
    }
    let (left, right) = halves(out.len(), |middle| out.split_at_mut(middle));
    let middle = first + left.len();
    rayon::join(
        || overwrite_parts(left, first, reader, space, grain),
        || overwrite_parts(right, middle, reader, space, grain),
    );
}

/// Writes the values from number `first` on.
#[inline(always)]
pub(crate) fn overwrite_rows<R: Reader>(mut out: &mut [R::Item], first: usize, reader: &R, space: &Space) {
    let mut scratch = R::Scratch::default();
    let mut copy = [R::Item::default(); TILE];
    let reads_here = reader.reads_here();
    let mut at = At::FIRST;
    space.locate(first, &mut at);
    while !out.is_empty() {
        let len = space.row_at(&at).min(out.len());
        let (part, rest) = out.split_at_mut(len);
        let here: &[R::Item] = if reads_here {
            let copy = &mut copy[..len];
            copy.copy_from_slice(part);
            copy
        } else {
            &[]
        };
        let row = reader.row(&mut scratch, here, &at, part.len());
        for (i, slot) in part.iter_mut().enumerate() {
            *slot = row.at(i);
        }
        space.advance(&mut at, len);
        out = rest;
    }
}
