//! The pass of a reduction.
//!
//! It goes over memory in its order, whatever the axes are called: the axes are sorted by the steps of the largest tensor. What lies innermost, or
//! is the longest where that is short, makes the rows. Where its axes are kept, rows are added to rows, each value to a total of its own; where they are
//! reduced, a row is folded, also over several totals, of which each result's are combined in the end. Either way some rows are added in order, the totals
//! of such blocks in pairs, and those in pairs (a tree), so that the error of a sum grows with the logarithm of its length. The order of the operations
//! depends on shapes and steps alone, not on threads.
//!
//! Unsafe code says that slots were written, after a loop over all of them.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use crate::fill::{grain, in_parts};
use crate::math::{Element, IN_ORDER, LANES};
use crate::ops::Reduction;
use crate::shape::{MAX_RANK, Strides};
use crate::simd::{Kernel, Mode, vectorised};
use crate::slots::{copied, written};
use crate::source::{Folded, Tile, Values};
use crate::walk::{LONE, Rect, Space, TILE};

use super::order::Order;

/// What all threads need to know.
pub(super) struct Work<'w, T, O> {
    values: &'w dyn Folded<T, O>,
    kept: Space,
    reduced: Space,
    inner: Space,
    /// How rows go on where they are folded, and where they are so by themselves.
    folded: Space,
    all: Space,
    /// How many values become one, and how many results lie next to each other.
    count: usize,
    width: usize,
    /// See [`new`](Self::new).
    of: Option<usize>,
    /// The totals of each result, where rows are folded; 0 where they are added.
    lanes: usize,
    /// The most results at a time, where rows are added.
    most: usize,
    /// What a value costs, in additions or so.
    cost: usize,
    mode: Mode,
}

/// Rows of fewer results are not worth to be added by themselves.
const NARROW: usize = 32;

/// The rows that are added in order.
const BLOCK: usize = 32;

/// The rows that are read at once where they lie across memory.
const TOGETHER: usize = 16;

/// As above, where a row is one result's: there are fewer additions to each total, as some values are added by themselves first.
const LONG_BLOCK: usize = 512;

impl<'w, T: Element, O: Reduction<T>> Work<'w, T, O> {
    /// `of`: how many values a result is of altogether; `None` if it is to be combined with others.
    pub(super) fn new(values: &'w dyn Folded<T, O>, order: &Order, of: Option<usize>, mode: Mode) -> Self {
        let (shape, rank) = (&order.shape, order.shape.rank());
        let space = |axes| Space::new(shape, axes, values);
        let (kept, reduced, inner) =
            (space(0..order.reduced), space(order.reduced..order.inner), space(order.inner..rank));
        // Of a small tensor, what the spaces cost is a good part of the time: these are most often the same.
        let folded = if order.inner == rank { reduced } else { space(order.reduced..rank) };
        let all = if order.reduced == 0 { folded } else { space(0..rank) };
        let count = shape[order.reduced..order.inner].iter().product::<usize>();
        let width = shape[order.inner..].iter().product::<usize>();
        // Rows can be folded over the results of a step where they go on from one step to the next.
        let folds = width < NARROW && (width == 1 || folded.inner().1 > width);
        let lanes = match width {
            _ if !folds => 0,
            1 => LANES,
            _ => (TILE / (2 * width.max(1)) + 1).next_power_of_two().min(count.next_power_of_two()),
        };
        // Where rows lie across memory for a leaf, several are read at once, so that each of its cache lines is read once.
        let ((across, _), (down, size)) = (inner.inner(), reduced.inner());
        let lies_along = |strides: &Strides| strides.steps[down] != 1 || matches!(strides.steps[across], 0 | 1);
        let lines = if values.all(&mut |strides| lies_along(strides)) { 1 } else { size.clamp(1, TOGETHER) };
        let cost = 1 + values.cost();
        Self { values, kept, reduced, inner, folded, all, of, count, width, lanes, most: TILE / lines, cost, mode }
    }

    #[inline(always)]
    fn finished(&self, total: T) -> T {
        self.of.map_or(total, |count| O::finish(total, count))
    }

    /// Writes to every slot.
    pub(super) fn write(&self, slots: &mut [MaybeUninit<T>]) {
        if slots.is_empty() {
            return;
        }
        in_parts(slots, 0, self.unit(), self.share(slots.len()), &|slots, first| self.write_from(slots, first));
    }

    /// What a thread takes on of so many results: those of a step stay together.
    pub(super) fn share(&self, len: usize) -> usize {
        let most = grain(len, self.cost.saturating_mul(self.count), self.mode).max(1);
        most.div_ceil(self.unit()).saturating_mul(self.unit())
    }

    /// The results that stay together.
    pub(super) fn unit(&self) -> usize {
        if self.lanes > 0 { self.width } else { 1 }
    }

    /// The most results that are computed at once: those of a step, or of a tile.
    pub(super) fn step(&self) -> usize {
        if self.lanes > 0 { self.width } else { TILE }
    }

    /// Writes to every slot, those of the results from number `first` on, which begin a step.
    pub(super) fn write_from(&self, slots: &mut [MaybeUninit<T>], first: usize) {
        let is_short = self.width.is_power_of_two() && (1..=IN_ORDER).contains(&(self.count * self.width));
        match () {
            () if self.lanes == 0 => self.add(slots, first),
            () if is_short => self.fold_short(slots, first),
            () => self.fold(slots, first),
        }
    }

    /// The rows that one pass takes on, in order.
    fn block(&self) -> usize {
        match self.width {
            1 if self.lanes > 0 => LONG_BLOCK,
            _ => BLOCK,
        }
    }

    /// Rows added to rows.
    fn add(&self, out: &mut [MaybeUninit<T>], first: usize) {
        let mut totals = Tile::<T>::default();
        let mut done = 0;
        while done < out.len() {
            let mut at = [0; MAX_RANK];
            self.kept.locate((first + done) / self.width, &mut at);
            self.inner.locate((first + done) % self.width, &mut at);
            let Rect { across, len, .. } = self.inner.rect(&at, self.most.min(out.len() - done));
            let totals = totals.filled(len, O::START);
            self.tree::<TILE>(&Results { at, across }, 0..self.count, totals);
            for total in &mut *totals {
                *total = self.finished(*total);
            }
            copied(&mut out[done..done + len], totals);
            done += len;
        }
    }

    /// Rows that are folded by themselves, wherever the rows of memory begin and end.
    fn fold_short(&self, out: &mut [MaybeUninit<T>], first: usize) {
        let len = self.count * self.width;
        let mut together = Tile::<T, IN_ORDER>::default();
        let mut results = Tile::<T>::default();
        let mut at = [0; MAX_RANK];
        self.all.locate(first * self.count, &mut at);
        let most = TILE.max(self.width) / self.width * self.width;
        let mut done = 0;
        while done < out.len() {
            let results = results.filled(most.min(out.len() - done), O::START);
            let left = results.len() * self.count;
            let rect = self.all.rect(&at, left);
            let values = match self.values.memory(&rect).filter(|_| rect.count() >= len) {
                Some(values) => &values[..values.len() / len * len],
                None if self.folds_itself(&rect, len) => {
                    let rect = Rect { len: rect.len / len * len, ..rect };
                    let results = &mut results[..rect.count() / len];
                    self.values.fold_rows(&rect, self.mode.level, len, results);
                    self.all.advance(&mut at, rect.count());
                    done += self.finish_rows(results, &mut out[done..]);
                    continue;
                }
                // What lies in pieces, or goes through tiles, is put together first.
                None => self.together(&self.all, at, together.slots(left.min(IN_ORDER / len * len))),
            };
            self.all.advance(&mut at, values.len());
            let results = &mut results[..values.len() / self.count];
            T::fold_rows(O::FOLD, self.mode.level, values, len, results, self.width);
            done += self.finish_rows(results, &mut out[done..]);
        }
    }

    /// Whether rows are folded in the loop that computes their values: long ones, where what is left to combine in the end takes little.
    fn folds_itself(&self, rect: &Rect, len: usize) -> bool {
        let is_whole = rect.len == len || rect.lines == 1 && rect.len > len;
        self.width == 1 && len >= LANES && is_whole && O::FOLD.is_plain()
    }

    /// Finishes some results, and copies them to the first slots. How many there are.
    fn finish_rows(&self, results: &mut [T], out: &mut [MaybeUninit<T>]) -> usize {
        for total in &mut *results {
            *total = self.finished(*total);
        }
        copied(out, results).len()
    }

    /// Rows folded.
    fn fold(&self, out: &mut [MaybeUninit<T>], first: usize) {
        let rows = self.count.div_ceil(self.lanes);
        let mut totals = Tile::<T>::default();
        let mut at = [0; MAX_RANK];
        self.kept.locate(first / self.width, &mut at);
        for out in out.chunks_mut(self.width) {
            let totals = totals.filled(self.lanes * self.width, O::START);
            let results = Results { at, across: 0 };
            if rows <= self.block() {
                self.block_of(&results, 0..rows, totals);
            } else if self.width == 1 {
                self.tree::<LANES>(&results, 0..rows, totals);
            } else {
                self.tree::<TILE>(&results, 0..rows, totals);
            }
            self.finish(totals);
            copied(out, &totals[..self.width]);
            self.kept.advance(&mut at, 1);
        }
    }

    /// Each result from its totals, in pairs.
    fn finish(&self, totals: &mut [T]) {
        if self.width == 1
            && let Ok(lanes) = <&[T; LANES]>::try_from(&*totals)
        {
            totals[0] = T::total(O::FOLD, lanes);
        } else {
            let mut left = totals.len();
            while left > self.width {
                left /= 2;
                let (totals, others) = totals.split_at_mut(left);
                for (total, &other) in totals.iter_mut().zip(&others[..left]) {
                    *total = O::combine(*total, other);
                }
            }
        }
        for total in &mut totals[..self.width] {
            *total = self.finished(*total);
        }
    }

    /// The totals of some rows, in pairs, and in pairs of those. There are at most `N` totals.
    fn tree<const N: usize>(&self, results: &Results, rows: Range<usize>, totals: &mut [T]) {
        let Range { start, end } = rows;
        let block = self.block();
        if end - start <= block {
            totals.fill(O::START);
            return self.block_of(results, rows, totals);
        }
        let middle = start + ((end - start).div_ceil(block).next_power_of_two() / 2) * block;
        let mut others = Tile::<T, N>::default();
        let others = others.filled(totals.len(), O::START);
        let work = (end - start).saturating_mul(totals.len());
        if work > grain(work, self.cost, self.mode) {
            rayon::join(
                || self.tree::<N>(results, start..middle, totals),
                || self.tree::<N>(results, middle..end, others),
            );
        } else {
            self.tree::<N>(results, start..middle, totals);
            self.tree::<N>(results, middle..end, others);
        }
        for (total, &other) in totals.iter_mut().zip(&*others) {
            *total = O::combine(*total, other);
        }
    }

    /// Adds some rows to totals, in order.
    fn block_of(&self, results: &Results, rows: Range<usize>, totals: &mut [T]) {
        if self.lanes == 0 {
            self.add_rows(results, rows, totals);
        } else if let Ok(totals) = <&mut [T; LANES]>::try_from(&mut *totals)
            && self.width == 1
        {
            self.fold_lanes(results.at, rows, totals);
        } else {
            self.fold_rows(results.at, rows, totals);
        }
    }

    fn add_rows(&self, &Results { mut at, across }: &Results, rows: Range<usize>, totals: &mut [T]) {
        let (down, size) = self.reduced.inner();
        let len = totals.len();
        let longest = if len < LONE { TILE } else { self.values.longest(across, false) };
        let mut left = rows.len();
        self.reduced.locate(rows.start, &mut at);
        while left > 0 {
            let lines = if self.count == 1 { 1 } else { left.min(size - at[down]).min((longest / len).max(1)) };
            self.values.fold_lines(&Rect { index: at, down, across, lines, len }, self.mode.level, totals);
            self.reduced.advance(&mut at, lines);
            left -= lines;
        }
    }

    /// The values of rows, each to the total whose turn it is, wherever the rows of memory begin and end.
    fn fold_rows(&self, mut at: [usize; MAX_RANK], rows: Range<usize>, totals: &mut [T]) {
        let values: &dyn Values<T> = self.values;
        let mut tile = Tile::default();
        let wide = totals.len();
        let first = rows.start * wide;
        let mut left = (rows.end * wide).min(self.count * self.width) - first;
        self.folded.locate(first, &mut at);
        let mut next = 0;
        while left > 0 {
            let (all, some) = (self.folded.rect(&at, left), self.folded.rect(&at, left.min(TILE)));
            let (values, rect) = match values.memory(&all) {
                Some(values) => (values, all),
                None => (values.read(&[], &some, self.mode.level, &mut tile), some),
            };
            let (head, body) = values.split_at(((wide - next) % wide).min(values.len()));
            let op = PhantomData::<O>;
            vectorised(self.mode.level, AddRows { values: head, totals: &mut totals[next..], op });
            vectorised(self.mode.level, AddRows { values: body, totals, op });
            next = (next + rect.count()) % wide;
            self.folded.pass(&rect, &mut at);
            left -= rect.count();
        }
    }

    /// As above, where all values become one result.
    fn fold_lanes(&self, mut at: [usize; MAX_RANK], rows: Range<usize>, totals: &mut [T; LANES]) {
        let mut left = (rows.end * LANES).min(self.count) - rows.start * LANES;
        self.folded.locate(rows.start * LANES, &mut at);
        let mut together = Tile::<T, IN_ORDER>::default();
        while left > 0 {
            let rect = self.folded.rect(&at, left);
            let is_long = rect.count() >= left.min(IN_ORDER);
            let memory = self.values.memory(&rect).filter(|_| is_long);
            if memory.is_some() || is_long && rect.lines == 1 {
                match memory {
                    Some(values) => T::fold(O::FOLD, self.mode.level, values, totals),
                    None => self.values.fold(&rect, self.mode.level, totals),
                }
                self.folded.pass(&rect, &mut at);
                left -= rect.count();
                continue;
            }
            // What lies in short rows, or goes through tiles, is put together first, to the very sums that memory in one piece has.
            let values = self.together(&self.folded, at, together.slots(left.min(IN_ORDER)));
            self.folded.advance(&mut at, values.len());
            left -= values.len();
            T::fold(O::FOLD, self.mode.level, values, totals);
        }
    }

    /// The values from an index on, in order.
    fn together<'t>(&self, space: &Space, mut at: [usize; MAX_RANK], slots: &'t mut [MaybeUninit<T>]) -> &'t [T] {
        let mut filled = 0;
        while filled < slots.len() {
            let rect = space.rect(&at, slots.len() - filled);
            self.values.fill(&[], &rect, self.mode.level, &mut slots[filled..filled + rect.count()]);
            space.pass(&rect, &mut at);
            filled += rect.count();
        }
        // SAFETY: rectangles follow each other without gaps.
        unsafe { written(slots) }
    }
}

/// Where some results are: the index of the first, and the axis along which they follow each other.
#[derive(Clone, Copy)]
struct Results {
    at: [usize; MAX_RANK],
    across: usize,
}

/// Combines rows of as many values as there are totals with these, one after the other; the last may be shorter.
struct AddRows<'s, T, O> {
    values: &'s [T],
    totals: &'s mut [T],
    op: PhantomData<O>,
}

impl<T: Element, O: Reduction<T>> Kernel for AddRows<'_, T, O> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        // Few totals stay in registers.
        const FEW: usize = 32;
        if self.totals.len() == FEW
            && let ([totals], []) = self.totals.as_chunks_mut::<FEW>()
        {
            let (rows, last) = self.values.as_chunks::<FEW>();
            let mut kept = *totals;
            for row in rows {
                for (total, &value) in kept.iter_mut().zip(row) {
                    *total = O::combine(*total, value);
                }
            }
            for (total, &value) in kept.iter_mut().zip(last) {
                *total = O::combine(*total, value);
            }
            *totals = kept;
            return;
        }
        for row in self.values.chunks(self.totals.len()) {
            for (total, &value) in self.totals.iter_mut().zip(row) {
                *total = O::combine(*total, value);
            }
        }
    }
}
