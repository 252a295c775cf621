//! Which pages hold physical memory, and which may hold something other than zero.
//!
//! A page is **dirty** once it was handed out, until it is purged; a unit is **whole** if it was first touched as one huge page, so that
//! all of its pages are resident. A page that is neither dirty nor in a whole unit is **fresh**: it is zero, and using it takes
//! memory from the system. So are pages that are not mapped.

use std::ops::Range;

use bytemuck::Zeroable;

use super::extents::Extent;
use super::space::{Table, TableMemory, UNIT, UNITS, WORDS, each_mask, mask, parts, units, zeroable};
use crate::os::Os;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    dirty: [u64; WORDS],
    whole: bool,
    /// Someone tries to make one huge page of the small ones, and nothing has changed since.
    tried: bool,
    /// How often that was tried in vain, or did not pay, since the unit was filled.
    patience: u8,
}

zeroable!(Unit { dirty, whole, tried, patience });

impl Unit {
    fn resident(&self) -> u32 {
        if self.whole { UNIT } else { self.dirty.iter().map(|word| word.count_ones()).sum() }
    }

    fn is_fresh(&self) -> bool {
        !self.whole && self.dirty == [0; WORDS]
    }

    fn is_small(&self) -> bool {
        !self.whole && self.dirty == [u64::MAX; WORDS]
    }

    /// Whether it grew full of small pages, and nobody has tried yet to make one huge page of them.
    fn is_promising(&self) -> bool {
        self.is_small() && self.patience == 0
    }
}

#[derive(Debug)]
pub(crate) struct Units {
    units: Table<Unit, UNITS, 512>,
    resident: u32,
    /// Units that are promising.
    promising: u32,
}

impl Units {
    pub(crate) const fn empty() -> Self {
        Self { units: Table::empty(), resident: 0, promising: 0 }
    }

    pub(crate) fn open<O: Os>(&mut self, os: &O, memory: &mut TableMemory) -> Option<()> {
        self.units.open(os, memory)
    }

    /// Room for units.
    pub(crate) fn ensure<O: Os>(&self, os: &O, memory: &mut TableMemory, units: Range<u32>) -> bool {
        self.units.ensure(os, memory, units)
    }

    /// Whether there is anything to be known of the units of a range.
    pub(crate) fn is_known(&self, pages: &Range<u32>) -> bool {
        units(pages).all(|unit| self.units.get(unit).is_some())
    }

    /// Resident pages.
    pub(crate) fn resident(&self) -> u32 {
        self.resident
    }

    /// Units that grew full of small pages, and that nobody has tried yet to put onto huge ones.
    #[inline]
    pub(crate) fn promising(&self) -> u32 {
        self.promising
    }

    /// A free range, with what is known of its pages.
    pub(crate) fn extent(&self, pages: Range<u32>) -> Extent {
        let (mut dirty, mut resident) = (0, 0);
        let end = pages.end.div_ceil(UNIT);
        let mut from = pages.start / UNIT;
        while let Some(number) = self.units.next(from..end) {
            let unit = &self.units[number];
            let (first, last) = (number * UNIT, number * UNIT + UNIT - 1);
            let part = pages.start.max(first) - first..pages.end.min(last + 1).wrapping_sub(first);
            let mut bits = 0;
            each_mask(part.clone(), |word, mask| bits += (unit.dirty[word] & mask).count_ones());
            dirty += bits;
            resident += if unit.whole { part.end - part.start } else { bits };
            from = number + 1;
        }
        let Range { start, end } = pages;
        let pages = end - start;
        let zero = pages - dirty;
        Extent { start, pages, fresh: pages - resident, zero, dirty: if zero == 0 { pages } else { 0 } }
    }

    /// The least range that holds all dirty pages of a range.
    pub(crate) fn dirty_within(&self, pages: Range<u32>) -> Range<u32> {
        let mut hull = pages.end..pages.start;
        for (number, part) in parts(pages.clone()) {
            let unit = &self.units[number];
            each_mask(part, |word, mask| {
                let bits = unit.dirty[word] & mask;
                if bits != 0 {
                    let base = number * UNIT + word as u32 * 64;
                    hull.start = hull.start.min(base + bits.trailing_zeros());
                    hull.end = hull.end.max(base + 64 - bits.leading_zeros());
                }
            });
        }
        if hull.start > hull.end { pages.start..pages.start } else { hull }
    }

    pub(crate) fn is_fresh(&self, unit: u32) -> bool {
        self.units[unit].is_fresh()
    }

    /// Whether all pages of a unit are resident.
    #[inline]
    pub(crate) fn is_full(&self, unit: u32) -> bool {
        let unit = &self.units[unit];
        unit.whole || unit.is_small()
    }

    /// The memory of one unit is now that of another, a fresh one.
    pub(crate) fn moved(&mut self, from: u32, to: u32) {
        self.units[to] = self.units[from];
        self.units[to].tried = false;
        self.units[from] = Unit::zeroed();
    }

    /// Marks pages of one unit as handed out, as one huge page if it is fresh and `whole` says so. Returns whether the unit grew full
    /// of small pages, for the larger part of it now.
    pub(crate) fn touch(&mut self, number: u32, pages: Range<u32>, whole: bool) -> bool {
        let unit = &mut self.units[number];
        let is_whole = unit.whole;
        unit.whole |= whole && unit.is_fresh();
        let mut touched = 0;
        each_mask(pages, |word, mask| {
            touched += (mask & !unit.dirty[word]).count_ones();
            unit.dirty[word] |= mask;
        });
        if unit.whole {
            touched = if is_whole { 0 } else { UNIT };
        }
        self.resident += touched;
        self.promising += u32::from(touched > 0 && unit.is_promising());
        touched > UNIT / 2 && unit.is_small()
    }

    /// The first unit from this one on that something may be known of.
    pub(crate) fn next(&self, unit: u32) -> Option<u32> {
        self.units.next(unit..UNITS as u32)
    }

    /// Dirty pages of a unit.
    pub(crate) fn dirty(&self, unit: u32) -> u32 {
        self.units[unit].dirty.iter().map(|word| word.count_ones()).sum()
    }

    /// The first unit of a range that is full of small pages, and worth another try in this round.
    pub(crate) fn next_small(&self, units: Range<u32>, round: u32) -> Option<u32> {
        let mut from = units.start;
        while let Some(number) = self.units.next(from..units.end) {
            let unit = &self.units[number];
            if unit.is_small() && round.is_multiple_of(1 << unit.patience) {
                return Some(number);
            }
            from = number + 1;
        }
        None
    }

    /// Someone tries to put a unit's small pages onto a huge one.
    pub(crate) fn try_whole(&mut self, unit: u32) {
        self.units[unit].tried = true;
    }

    /// The try ended so. Nothing is known if the unit's pages were given back or moved meanwhile.
    pub(crate) fn set_whole(&mut self, unit: u32, whole: bool) {
        let unit = &mut self.units[unit];
        if unit.tried && unit.is_small() {
            self.promising -= u32::from(unit.is_promising());
            unit.whole = whole;
            unit.patience = if whole { 0 } else { (unit.patience + 1).min(16) };
        }
        unit.tried = false;
    }

    /// Marks pages as purged. Returns how many were resident.
    pub(crate) fn purge(&mut self, pages: Range<u32>) -> u32 {
        let mut resident = 0;
        for (number, pages) in parts(pages) {
            let unit = &mut self.units[number];
            let before = unit.resident();
            self.promising -= u32::from(unit.is_promising());
            for word in 0..WORDS {
                let mask = mask(word, &pages);
                if unit.whole {
                    // What stays of a broken huge page stays resident: from now on as dirty pages.
                    unit.dirty[word] = u64::MAX;
                }
                unit.dirty[word] &= !mask;
            }
            (unit.whole, unit.tried, unit.patience) = (false, false, 0);
            resident += before - unit.resident();
        }
        self.resident -= resident;
        resident
    }

    /// Compares what is kept twice.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn check(&self) {
        let (mut resident, mut promising) = (0, 0);
        let mut from = 0;
        while let Some(number) = self.units.next(from..UNITS as u32) {
            let unit = &self.units[number];
            resident += unit.resident();
            promising += u32::from(unit.is_promising());
            from = number + 1;
        }
        assert_eq!((resident, promising), (self.resident, self.promising), "pages resident, units promising");
    }

    /// Units that are one huge page.
    #[cfg(test)]
    pub(crate) fn whole(&self) -> usize {
        let mut whole = 0;
        let mut from = 0;
        while let Some(number) = self.units.next(from..UNITS as u32) {
            whole += usize::from(self.units[number].whole);
            from = number + 1;
        }
        whole
    }
}
