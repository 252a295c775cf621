//! Which pages hold physical memory, and which may hold something other than zero.
//!
//! A **unit** is the range of one huge page. A page is **dirty** once it was handed out, until it is purged; a unit is
//! **whole** if it was first touched as one huge page, so that all of its pages are resident. A page that is
//! neither dirty nor in a whole unit is **fresh**: it is zero, and using it takes memory from the system.

use bytemuck::Zeroable;

use super::extents::Extent;
use crate::layout::blocks::PAGE;
use crate::os::{HUGE, Os, Table};

/// Pages in a unit.
pub(crate) const UNIT: u32 = (HUGE / PAGE) as u32;

const WORDS: usize = UNIT as usize / 64;

#[derive(Clone, Copy, Debug, Zeroable)]
pub(crate) struct Unit {
    dirty: [u64; WORDS],
    whole: bool,
    /// The system was asked for huge pages here; it remembers.
    advised: bool,
    /// The system did not make one huge page of the small ones.
    stuck: bool,
}

impl Unit {
    fn resident(&self) -> u32 {
        if self.whole { UNIT } else { self.dirty.iter().map(|word| word.count_ones()).sum() }
    }

    /// A full unit is one huge page now, or will not be.
    fn set_whole(&mut self, whole: bool) {
        (self.whole, self.stuck) = (whole, !whole);
    }

    fn is_fresh(&self) -> bool {
        !self.whole && self.dirty == [0; WORDS]
    }
}

/// The bits of one word that belong to `from..to`, pages of one unit.
fn mask(word: usize, from: u32, to: u32) -> u64 {
    let start = word as u32 * 64;
    let low = from.clamp(start, start + 64) - start;
    let high = to.clamp(start, start + 64) - start;
    if low == high { 0 } else { (u64::MAX >> (64 - (high - low))) << low }
}

/// The parts of `start..end` by unit: the unit, and the first and the last page within it.
fn parts(start: u32, end: u32) -> impl Iterator<Item = (u32, u32, u32)> {
    (start / UNIT..end.div_ceil(UNIT)).map(move |unit| {
        let first = unit * UNIT;
        (unit, start.max(first) - first, end.min(first + UNIT) - first)
    })
}

#[derive(Debug)]
pub(crate) struct Units {
    units: Table<Unit>,
    resident: u32,
}

impl Units {
    pub(crate) const fn empty() -> Self {
        Self { units: Table::empty(), resident: 0 }
    }

    pub(crate) fn new(units: Table<Unit>) -> Self {
        Self { units, resident: 0 }
    }

    pub(crate) fn grow<O: Os>(&mut self, os: &O, pages: u32) -> bool {
        self.units.grow(os, pages.div_ceil(UNIT) as usize)
    }

    /// Resident pages.
    pub(crate) fn resident(&self) -> u32 {
        self.resident
    }

    /// A free range, with what is known of its pages.
    pub(crate) fn extent(&self, start: u32, end: u32) -> Extent {
        let (mut dirty, mut resident) = (0, 0);
        for (number, first, last) in parts(start, end) {
            let unit = &self.units[number];
            let bits: u32 = (0..WORDS).map(|word| (unit.dirty[word] & mask(word, first, last)).count_ones()).sum();
            dirty += bits;
            resident += if unit.whole { last - first } else { bits };
        }
        let pages = end - start;
        let zero = pages - dirty;
        Extent { start, pages, fresh: pages - resident, zero, dirty: if zero == 0 { pages } else { 0 } }
    }

    /// The least range that holds all dirty pages of `start..end`.
    pub(crate) fn dirty_within(&self, start: u32, end: u32) -> (u32, u32) {
        let mut hull = (end, start);
        for (number, first, last) in parts(start, end) {
            let unit = &self.units[number];
            for word in 0..WORDS {
                let bits = unit.dirty[word] & mask(word, first, last);
                if bits != 0 {
                    let base = number * UNIT + word as u32 * 64;
                    hull.0 = hull.0.min(base + bits.trailing_zeros());
                    hull.1 = hull.1.max(base + 64 - bits.leading_zeros());
                }
            }
        }
        if hull.0 > hull.1 { (start, start) } else { hull }
    }

    pub(crate) fn is_fresh(&self, unit: u32) -> bool {
        self.units[unit].is_fresh()
    }

    /// Whether all pages of a unit are resident.
    pub(crate) fn is_full(&self, unit: u32) -> bool {
        (unit as usize) < self.units.len() && self.units[unit].resident() == UNIT
    }

    /// The memory of one unit is now that of another, a fresh one.
    pub(crate) fn moved(&mut self, from: u32, to: u32) {
        self.units[to] = self.units[from];
        let advised = self.units[from].advised;
        self.units[from] = Unit { dirty: [0; WORDS], whole: false, advised, stuck: false };
    }

    /// Marks `start..end` as handed out. A fresh unit becomes whole if the range covers it, or if `spare` pages beyond the
    /// range allow for the rest of it: calls `advise` with each run of such units. One that is full now, and for the larger part
    /// was not resident, becomes whole if `collapse` makes it so: that is cheaper than its faults would be.
    pub(crate) fn touch(
        &mut self,
        start: u32,
        end: u32,
        mut spare: u32,
        mut advise: impl FnMut(u32, u32),
        collapse: impl Fn(u32) -> bool,
    ) {
        let mut run: Option<(u32, u32)> = None;
        for (number, first, last) in parts(start, end) {
            let unit = &mut self.units[number];
            let (before, fresh) = (unit.resident(), unit.is_fresh());
            for word in 0..WORDS {
                unit.dirty[word] |= mask(word, first, last);
            }
            let after = unit.resident();
            let rest = UNIT - after;
            if fresh && rest <= spare {
                spare -= rest;
                unit.whole = true;
                if !unit.advised {
                    unit.advised = true;
                    match &mut run {
                        Some((_, to)) if *to == number => *to += 1,
                        _ => {
                            if let Some((from, to)) = run.replace((number, number + 1)) {
                                advise(from, to);
                            }
                        }
                    }
                }
            } else if !unit.whole && !unit.stuck && rest == 0 && after - before > UNIT / 2 {
                unit.set_whole(collapse(number));
            }
            self.resident += unit.resident() - before;
        }
        if let Some((from, to)) = run {
            advise(from, to);
        }
    }

    /// The first unit from `from` to `to` that is full of small pages.
    pub(crate) fn next_small(&self, from: u32, to: u32) -> Option<u32> {
        (from..to).find(|&number| {
            let unit = &self.units[number];
            !unit.whole && !unit.stuck && unit.dirty == [u64::MAX; WORDS]
        })
    }

    /// A full unit is one huge page now, or will not be.
    pub(crate) fn set_whole(&mut self, unit: u32, whole: bool) {
        self.units[unit].set_whole(whole);
    }

    /// Marks `start..end` as purged.
    pub(crate) fn purge(&mut self, start: u32, end: u32) {
        for (number, first, last) in parts(start, end) {
            let unit = &mut self.units[number];
            let before = unit.resident();
            for word in 0..WORDS {
                if unit.whole {
                    // What stays of a broken huge page stays resident: from now on as dirty pages.
                    unit.dirty[word] = u64::MAX;
                }
                unit.dirty[word] &= !mask(word, first, last);
            }
            (unit.whole, unit.stuck) = (false, false);
            self.resident -= before - unit.resident();
        }
    }

    /// Units that are one huge page.
    #[cfg(test)]
    pub(crate) fn whole(&self) -> usize {
        (0..self.units.len() as u32).filter(|&unit| self.units[unit].whole).count()
    }
}
