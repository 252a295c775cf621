//! The passes over memory: the values of an expression, written by one thread or several.
//!
//! Unsafe code says that slots were written, after a walk over all of them.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use tenzor_memory::{Allocator, Buffer};

use crate::shape::Shape;
use crate::simd::{Level, Mode};
use crate::slots::uninit;
use crate::source::{Row, Values, write_row};
use crate::walk::Walk;

/// What has to be there to do for a thread to be woken, in additions or so: a tenth of a millisecond's work. Threads that sleep take some
/// hundredths until they work.
const GRAIN: usize = 1 << 20;

/// How many of `count` values a thread takes on, where each costs so many additions or so.
pub(crate) fn grain(count: usize, cost: usize, mode: Mode) -> usize {
    if !mode.parallel || count.saturating_mul(cost) < 2 * GRAIN {
        return usize::MAX;
    }
    (GRAIN / cost.max(1)).max(count / (4 * rayon::current_num_threads()))
}

/// Hands all slots to `write`, with the number of the first of them: in parts of whole units, each by one thread, of no more than `most` where that can be.
pub(crate) fn in_parts<T: Send>(
    slots: &mut [T],
    first: usize,
    unit: usize,
    most: usize,
    write: &(impl Fn(&mut [T], usize) + Sync),
) {
    let middle = (slots.len() / 2).next_multiple_of(unit);
    if slots.len() <= most || middle >= slots.len() {
        return write(slots, first);
    }
    let (left, right) = slots.split_at_mut(middle);
    let second = first + middle;
    rayon::join(|| in_parts(left, first, unit, most, write), || in_parts(right, second, unit, most, write));
}

/// Writes the values of a shape to new memory, to every slot, and changes its rows.
pub(crate) fn write<T: Copy + Send>(
    slots: &mut [MaybeUninit<T>],
    values: &dyn Values<T>,
    shape: &Shape,
    rows: &Rows<'_, T>,
    mode: Mode,
) {
    // SAFETY: where values are read in place, these are not new.
    unsafe { fill(slots, values, shape, rows, mode) };
}

/// Writes the values of a row to new memory, which has room for just them.
pub(crate) fn new_row<R: Row, A: Allocator>(
    mut buffer: Buffer<MaybeUninit<R::Item>, A>,
    row: R,
    level: Level,
) -> Buffer<R::Item, A> {
    write_row(&mut buffer, row, level);
    // SAFETY: all were written.
    unsafe { buffer.assume_init() }
}

/// Writes the values of a row over others.
pub(crate) fn overwrite_row<R: Row>(out: &mut [R::Item], row: R, level: Level) {
    write_row(uninit(out), row, level);
}

/// As above, over other values, which they may be read from in place.
pub(crate) fn overwrite<T: Copy + Send>(
    out: &mut [T],
    values: &dyn Values<T>,
    shape: &Shape,
    rows: &Rows<'_, T>,
    mode: Mode,
) {
    // SAFETY: it is initialised.
    unsafe { fill(uninit(out), values, shape, rows, mode) };
}

/// What is done to whole rows as soon as they are written, while they are in the cache.
pub(crate) struct Rows<'c, T> {
    /// The elements of one.
    pub(crate) len: usize,
    /// What that costs for each, in additions or so.
    pub(crate) cost: usize,
    /// Changes some.
    pub(crate) change: &'c (dyn Fn(&mut [T]) + Sync),
}

impl<T> Default for Rows<'_, T> {
    /// Nothing.
    fn default() -> Self {
        Self { len: 1, cost: 0, change: &|_| {} }
    }
}

/// So many elements are changed at a time.
const BATCH: usize = 1 << 13;

/// Changes whole rows that were written before.
pub(crate) fn change<T: Send>(out: &mut [T], rows: &Rows<'_, T>, mode: Mode) {
    let most = grain(out.len(), rows.cost, mode);
    in_parts(out, 0, rows.len, most, &|part, _| (rows.change)(part));
}

/// # Safety
/// Where something is read in place, `out` is initialised.
unsafe fn fill<T: Send>(
    out: &mut [MaybeUninit<T>],
    values: &dyn Values<T>,
    shape: &Shape,
    rows: &Rows<'_, T>,
    mode: Mode,
) {
    let walk = Walk::new::<T>(shape, values);
    let grain = grain(out.len(), 1 + values.cost() + rows.cost, mode);
    let part = if rows.cost == 0 { usize::MAX } else { BATCH.max(rows.len) };
    // SAFETY: the caller's word.
    unsafe { fill_parts(out, values, &walk, rows, part, grain, mode) };
}

/// # Safety
/// As above.
unsafe fn fill_parts<T: Send>(
    out: &mut [MaybeUninit<T>],
    values: &dyn Values<T>,
    walk: &Walk,
    rows: &Rows<'_, T>,
    part: usize,
    grain: usize,
    mode: Mode,
) {
    let is_shared = out.len() > grain;
    if (is_shared || out.len() > part)
        && let Some((first, second, middle)) = walk.split(rows.len)
    {
        let (left, right) = out.split_at_mut(middle);
        // SAFETY: the caller's word.
        let part = |out, walk: &Walk| unsafe { fill_parts(out, values, walk, rows, part, grain, mode) };
        if is_shared {
            rayon::join(|| part(left, &first), || part(right, &second));
        } else {
            part(left, &first);
            part(right, &second);
        }
        return;
    }
    // SAFETY: the caller's word.
    let out = unsafe { values.fill_all(walk, mode.level, out) };
    (rows.change)(out);
}
