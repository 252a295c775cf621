//! The heap's addresses, and what the system is asked to do there: all of the heap's unsafe code but that of parcels, and of blocks that are copied.
//!
//! **Pages** are numbered from the *origin*, and a **unit** is the range of one huge page. For each unit its *frame* tells how much of
//! it is mapped, and which of its pages are *lent*: those that others use. What is lent is never purged, moved or unmapped, and what is
//! not mapped is never lent to others; each call looks itself, so that no mistake above can cost a byte. A page whose fate is not known, as
//! a call to the system failed half-way, is *withdrawn*: it counts as lent, to nobody, for ever. Pages that will be lent soon can be
//! *set aside*: they are free no more, but all may be done to them that may be done to free ones.
//!
//! Addresses are taken as they are needed, each piece beside the last, in a part of the address space where the system puts nothing by
//! itself. What others put there is left alone.
#![allow(unsafe_code)]

mod errand;
mod lending;
mod place;
mod ranges;
mod set;
mod table;

use std::ops::Range;
use std::ptr::{self, NonNull};

use bytemuck::Zeroable;

pub(crate) use self::errand::{Came, Errand, Return};
pub(crate) use self::place::Layout;
use self::ranges::any;
pub(crate) use self::ranges::{PAGES, UNIT, UNITS, WORDS, each_mask, mask, pages_of, parts, units, whole_units};
pub(crate) use self::set::UnitSet;
pub(crate) use self::table::{Atomic, Mappings, Table, TableMemory, TableView, zeroable};
use crate::heap::classes::PAGE;
use crate::heap::tuning::MAPPINGS_PART;
use crate::os::{HUGE, Map, Move, Os};

/// What the system is asked for in a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Advice {
    #[default]
    None,
    Huge,
    Small,
}

// SAFETY: all zero is `None`.
unsafe impl Zeroable for Advice {}

#[derive(Clone, Copy, Debug)]
struct Frame {
    lent: [u64; WORDS],
    /// Pages that are set aside.
    aside: [u64; WORDS],
    /// How many pages are not free.
    taken: u32,
    /// So many pages at its start are mapped.
    mapped: u32,
    /// So many of those that are lent are an errand's.
    away: u32,
    /// Its memory came from elsewhere: the system keeps a mapping for it alone.
    moved: bool,
    /// Some of its pages were withdrawn: others may have them.
    has_hole: bool,
    advice: Advice,
}

zeroable!(Frame { lent, aside, taken, mapped, away, moved, has_hole, advice });

impl Frame {
    /// The pages of a word that are lent, withdrawn or set aside.
    #[inline]
    fn not_free(&self, word: usize) -> u64 {
        self.lent[word] | self.aside[word]
    }
}

/// Attempts that failed make the next ones rarer.
#[derive(Debug)]
struct Backoff {
    failures: u32,
    skip: u64,
}

impl Backoff {
    const fn new() -> Self {
        Self { failures: 0, skip: 0 }
    }

    fn may_try(&mut self) -> bool {
        self.skip = self.skip.saturating_sub(1);
        self.skip == 0
    }

    fn tried(&mut self, well: bool) {
        self.failures = if well { 0 } else { (self.failures + 1).min(20) };
        self.skip = if well { 0 } else { 1 << self.failures };
    }
}

/// Why pages are not mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unmapped {
    /// Others have these, and keep them.
    Taken(Range<u32>),
    Refused,
}

#[derive(Debug)]
pub(crate) struct Space<O> {
    os: O,
    memory: TableMemory,
    /// The address of page 0; 0 before the start.
    origin: usize,
    layout: Option<Layout>,
    /// Where to start, if that was said: the address and so many pages.
    place: Option<(usize, u32)>,
    /// Bytes of addresses from the origin on in which nothing is put by the system itself.
    room: usize,
    frames: Table<Frame, UNITS, 512>,
    /// Units with pages that are not free.
    taken: UnitSet,
    /// Neighbouring units that are not one mapping, and how many there may be.
    cuts: usize,
    max_cuts: usize,
    /// A part of the mappings that the process may have: one of so many.
    share: usize,
    moves: Backoff,
    unmaps: Backoff,
    purges: Backoff,
    page_size: u32,
}

impl<O: Os> Space<O> {
    pub(crate) const fn new(os: O) -> Self {
        Self {
            os,
            memory: TableMemory::new(),
            origin: 0,
            layout: None,
            place: None,
            room: 0,
            frames: Table::empty(),
            taken: UnitSet::empty(),
            cuts: 0,
            max_cuts: 0,
            share: MAPPINGS_PART,
            moves: Backoff::new(),
            unmaps: Backoff::new(),
            purges: Backoff::new(),
            page_size: 1,
        }
    }

    pub(crate) fn is_started(&self) -> bool {
        self.origin != 0
    }

    pub(crate) fn os(&self) -> &O {
        &self.os
    }

    pub(crate) fn tables(&mut self) -> (&O, &mut TableMemory) {
        (&self.os, &mut self.memory)
    }

    /// Pages that are given back together.
    pub(crate) fn page_size(&self) -> u32 {
        self.page_size
    }

    /// The address of a page.
    #[inline]
    pub(crate) fn address(&self, page: u32) -> NonNull<u8> {
        match NonNull::new(ptr::with_exposed_provenance_mut(self.origin.wrapping_add(page as usize * PAGE))) {
            Some(address) => address,
            None => std::process::abort(),
        }
    }

    /// The number of the page that an address is in, whoever's it is.
    #[inline]
    pub(crate) fn page(&self, at: NonNull<u8>) -> Option<u32> {
        u32::try_from(at.addr().get().wrapping_sub(self.origin) / PAGE).ok()
    }

    /// Whether a unit is mapped as a whole.
    pub(crate) fn is_mapped(&self, unit: u32) -> bool {
        self.mapped(unit) == UNIT
    }

    /// Whether a unit is the heap's as a whole: mapped, without a hole, and without pages of an errand.
    pub(crate) fn is_intact(&self, unit: u32) -> bool {
        self.frames.get(unit).is_some_and(|frame| frame.mapped == UNIT && !frame.has_hole && frame.away == 0)
    }

    /// How many pages of a unit are mapped: those at its start.
    pub(crate) fn mapped(&self, unit: u32) -> u32 {
        self.frames.get(unit).map_or(0, |frame| frame.mapped)
    }

    /// Whether some pages are mapped.
    pub(crate) fn are_mapped(&self, pages: &Range<u32>) -> bool {
        parts(pages.clone()).all(|(unit, part)| part.end <= self.mapped(unit))
    }

    /// Room for what is noted of some units.
    fn room(&mut self, units: Range<u32>) -> bool {
        self.frames.ensure(&self.os, &mut self.memory, units.clone())
            && self.taken.ensure(&self.os, &mut self.memory, units)
    }

    /// Maps what is not mapped yet of some pages, and of what is before them in their first unit. What is taken is withdrawn.
    pub(crate) fn map(&mut self, pages: Range<u32>) -> Result<(), Unmapped> {
        if !self.room(units(&pages)) {
            return Err(Unmapped::Refused);
        }
        let mut unit = pages.start / UNIT;
        while unit * UNIT < pages.end {
            let from = unit * UNIT + self.frames[unit].mapped;
            let mut to = pages.end.min((unit + 1) * UNIT);
            unit += 1;
            if from >= to {
                continue;
            }
            while to < pages.end && self.frames[unit].mapped == 0 {
                unit += 1;
                to = pages.end.min(unit * UNIT);
            }
            expect(self.is_free(from..to));
            match self.os.map(self.address(from), (to - from) as usize * PAGE) {
                Map::Done => self.set(units(&(from..to)), |unit, frame| frame.mapped = (to - unit * UNIT).min(UNIT)),
                Map::Taken => {
                    // What is mapped of a unit begins at its start: the rest of the last one can be had no more.
                    let taken = from..to.next_multiple_of(UNIT);
                    self.withdraw(taken.clone());
                    return Err(Unmapped::Taken(taken));
                }
                Map::Refused => return Err(Unmapped::Refused),
            }
        }
        Ok(())
    }

    /// Maps so many units wherever the system likes. `None` as well where that is a place of which an errand is on its way: the system would not give it
    /// unless the errand had lost it, which is not known yet. Then it stays mapped, and nobody's.
    pub(crate) fn map_anywhere(&mut self, units: u32) -> Option<Range<u32>> {
        let bytes = units as usize * HUGE;
        let start = self.os.map_anywhere(bytes, HUGE)?;
        let address = start.addr().get();
        debug_assert!(address.is_multiple_of(HUGE));
        if !self.is_started() {
            self.origin = address - (address - HUGE).min(PAGES / 2 * PAGE);
        }
        let found = self.page(start).and_then(|page| {
            let found = page / UNIT..(page / UNIT).checked_add(units)?;
            ((found.end as usize) < UNITS && self.room(found.clone())).then_some(found)
        });
        if let Some(found) = &found
            && found.clone().any(|unit| self.frames[unit].away > 0)
        {
            return None;
        }
        match &found {
            // What was withdrawn there, whatever became of it, is there no more.
            Some(found) => {
                found.clone().for_each(|unit| self.taken.remove(unit));
                self.set(found.clone(), |_, frame| *frame = Frame { mapped: UNIT, ..Frame::zeroed() });
            }
            // SAFETY: it was just mapped, and nobody knows of it. If it stays, nobody will.
            None => _ = unsafe { self.os.unmap(start, bytes) },
        }
        found
    }

    /// Units that were just [mapped](Self::map_anywhere) are the heap's no more.
    pub(crate) fn unmap_unused(&mut self, units: Range<u32>) {
        let pages = units.start * UNIT..units.end * UNIT;
        expect(self.is_free(pages.clone()));
        self.set(units, |_, frame| *frame = Frame::zeroed());
        // SAFETY: mapped, and free; what is the heap's no more is not used. If it stays, nobody will.
        unsafe { self.os.unmap(self.address(pages.start), pages.len() * PAGE) };
    }

    /// Whether memory may be moved: that takes mappings.
    pub(crate) fn may_move(&mut self) -> bool {
        self.cuts + 4 <= self.max_cuts && self.moves.may_try()
    }

    /// Moves the memory of a free unit to another whose pages are not lent either; see [`Os::remap`].
    pub(crate) fn move_free(&mut self, from: u32, to: u32) -> Move {
        self.expect_mapped_and_not_lent(pages_of(from));
        // SAFETY: nobody needs the contents of what is not lent.
        unsafe { self.move_unit(from, to) }
    }

    /// Moves the memory of a unit that is lent as a whole.
    ///
    /// # Safety
    /// The caller has the unit's pages from [`lend`](Self::lend), and looks for their contents at `to` if they were moved.
    pub(crate) unsafe fn move_lent(&mut self, from: u32, to: u32) -> Move {
        expect(self.is_mapped(from) && self.frames[from].lent == [u64::MAX; WORDS]);
        // SAFETY: the caller's word.
        unsafe { self.move_unit(from, to) }
    }

    /// # Safety
    /// `from` is mapped. Its contents are looked for at `to` if they were moved.
    unsafe fn move_unit(&mut self, from: u32, to: u32) -> Move {
        debug_assert!(from != to && self.is_mapped(from));
        self.expect_mapped_and_not_lent(pages_of(to));
        let (source, target) = (self.address(from * UNIT), self.address(to * UNIT));
        // SAFETY: both units are mapped, they are not the same (one of them would be lent), and of what is not lent nobody needs the
        // contents.
        let moved = unsafe { self.os.remap(source, target, HUGE) };
        self.moves.tried(moved == Move::Done);
        match moved {
            Move::Done => {
                let advice = self.frames[from].advice;
                self.set(to..to + 1, |_, frame| (frame.moved, frame.advice) = (true, advice));
            }
            Move::Kept => {}
            Move::Emptied => self.set(to..to + 1, |_, frame| (frame.moved, frame.advice) = (false, Advice::None)),
            Move::Lost => self.withdraw(pages_of(to)),
        }
        moved
    }

    /// Asks for huge pages in units, or for none, as long as the process has mappings to spare.
    pub(crate) fn advise(&mut self, units: Range<u32>, huge: bool) {
        let advice = if huge { Advice::Huge } else { Advice::Small };
        if units.is_empty() || self.cuts + 2 > self.max_cuts {
            return;
        }
        expect(units.clone().all(|unit| self.is_intact(unit)));
        // SAFETY: the units are mapped, and nobody else's; advice changes no contents.
        unsafe { self.os.advise(self.address(units.start * UNIT), units.len() * HUGE, huge) };
        self.set(units, |_, frame| frame.advice = advice);
    }

    pub(crate) fn advice(&self, unit: u32) -> Advice {
        self.frames[unit].advice
    }

    /// The first unit at or behind one of which something is mapped.
    pub(crate) fn next_mapped(&self, mut unit: u32) -> Option<u32> {
        loop {
            let found = self.frames.next(unit..UNITS as u32)?;
            if self.mapped(found) > 0 {
                return Some(found);
            }
            unit = found + 1;
        }
    }

    /// The mappings of the heap's tables.
    pub(crate) fn table_mappings(&self) -> Mappings {
        self.memory.so_far()
    }

    /// The first unit at or behind one of which something may be known, and how many pages are mapped of it and of those behind it.
    pub(crate) fn survey<const N: usize>(&self, unit: u32) -> Option<(u32, [u32; N])> {
        let first = self.frames.next(unit..UNITS as u32)?;
        Some((first, std::array::from_fn(|behind| self.mapped(first + behind as u32))))
    }

    /// Changes frames, and counts the mappings that the system keeps for them.
    fn set(&mut self, units: Range<u32>, change: impl Fn(u32, &mut Frame)) {
        let borders = || units.start..units.end + 1;
        self.cuts -= borders().filter(|&unit| self.is_cut(unit)).count();
        units.clone().for_each(|unit| change(unit, &mut self.frames[unit]));
        self.cuts += borders().filter(|&unit| self.is_cut(unit)).count();
    }

    /// Whether a unit and the one before it are not in one mapping.
    fn is_cut(&self, unit: u32) -> bool {
        let kind = |unit: Option<u32>| {
            let frame = unit.and_then(|unit| self.frames.get(unit)).filter(|frame| frame.mapped > 0);
            frame.map(|frame| (frame.moved, frame.advice))
        };
        match (kind(unit.checked_sub(1)), kind(Some(unit))) {
            (Some((true, _)), Some((true, _))) => true,
            (before, after) => before != after,
        }
    }

    /// How many mappings are the heap's, at most: what others split is theirs.
    #[cfg(test)]
    pub(crate) fn mappings(&self) -> usize {
        self.cuts.div_ceil(2) + self.memory.mappings
    }

    /// Unmaps what is mapped and not lent, in a test that uses nothing of it any more.
    #[cfg(test)]
    pub(crate) fn release(&mut self) {
        let mut from = 0;
        while let Some(unit) = self.next_mapped(from) {
            let mut pages = unit * UNIT..unit * UNIT + self.mapped(unit);
            while let Some(part) = self.free_within(pages.clone()) {
                pages.start = part.end;
                // SAFETY: the test's word.
                unsafe { self.os.unmap(self.address(part.start), part.len() * PAGE) };
            }
            self.frames[unit] = Frame::zeroed();
            from = unit + 1;
        }
    }
}

/// The heap's own bookkeeping is right, or the process ends.
#[inline]
fn expect(right: bool) {
    if !right {
        std::process::abort();
    }
}
