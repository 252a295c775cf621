//! The page heap: which pages serve a request, and which go back.
//!
//! # The life of a range
//!
//! ```text
//!   addresses          free, an extent                in use
//!  ┌─────────┐ map  ┌───────┐ touch ┌──────────┐ ──take──► ┌──────┐
//!  │  open   │ ───► │ fresh │ ····► │ resident │           │ lent │
//!  └─────────┘ ◄─── └───────┘ ◄──── └──────────┘ ◄──give── └──────┘
//!             unmap           purge
//! ```
//!
//! All that is not in use stands in the [extents](super::extents): free ranges of pages, mapped or not. To *take* pages is to find the
//! extent that fits best, cut them out of it, and map what of them is not mapped. Pages of it that are **resident** already cost
//! nothing. **Fresh** ones take memory from the system, and the [budget](super::budget) says how much may be resident; where there
//! is not enough room in it, the memory behind a free unit elsewhere is *moved* there ([`Space::move_free`]). Then the pages are *touched*, which is
//! to say, counted as resident, and *lent*. To *give* them back is to join them with the free ranges beside them. What is free and resident
//! beyond the budget is *purged*: whole units first, from the highest address down, then what breaks huge pages. What time shows
//! to be needed no more is purged as well, and where 16 units side by side hold nothing they are *unmapped*.
//!
//! # A piece at a time
//!
//! Who calls holds the heap's lock, and others wait for it. So each call does a bounded piece of work: one unit is moved. Pages that are
//! cut out and not lent yet are in **transit**: no one's but the caller's, who comes again with them ([`PageHeap::proceed`]) until
//! they are ready. What goes back to the system does so between two calls ([`Goal`]), and so do small pages onto huge ones
//! ([`Promotion`]).
//!
//! # What can go wrong
//!
//! Any call to the system may be refused, and may have lost what it was about. [`Space`] withdraws what is lost; here it leaves the
//! extents, or the run in transit is cancelled and what remains of it freed. Nothing is known of it any more, so nothing is done
//! with it. If the system takes no memory back, it stays resident and is counted as such.

#[cfg(any(test, fuzzing))]
mod check;
mod looking;
mod mapping;
mod promotion;
mod purging;
mod relocation;
mod taking;
mod transit;

use std::ops::Range;

pub(crate) use self::looking::Look;
pub(crate) use self::promotion::Promotion;
pub(crate) use self::purging::Goal;
pub(crate) use self::relocation::Relocation;
pub(crate) use self::transit::{Progress, Transit};
use super::budget::Budget;
use super::extents::{Extent, Extents, Side};
use super::filling::Filling;
use super::space::{Layout, Space, UNIT, UnitSet, units, whole_units};
use super::units::Units;
use crate::heap::classes::{CLASS_PAGES, PAGE};
use crate::heap_config::HugePages;
use crate::os::Os;

/// Pages by number, counted from the heap's origin.
#[derive(Debug)]
pub(crate) struct PageHeap<O> {
    space: Space<O>,
    extents: Extents,
    units: Units,
    /// Units that are free as a whole and resident as a whole; and all others that have free resident pages, with some that have
    /// none any more.
    spare: UnitSet,
    partly: UnitSet,
    budget: Budget,
    filling: Filling,
    /// The run that was given back last: it is free, but none of the extents yet, and still lent.
    last: Option<Extent>,
    /// Of which run it was known that it would be the best, and by which version of the extents.
    best: (u32, u32, u32),
    started: bool,
    /// Live runs, and ranges that were lost.
    runs: usize,
    holes: usize,
    /// Resident pages that are free, and that there was no memory to note; and those that errands are about.
    stray: u32,
    away: u32,
    /// Units that are mapped as a whole.
    mapped: u32,
    /// The unit to look at next for promotion, and how often all were; `None` if no unit shall be promoted.
    promoted: Option<u32>,
    round: u32,
    /// The page to look at next for what nobody needs, and is mapped.
    swept: u32,
    /// How often a run took memory from the system.
    misses: u64,
    /// How many ranges of pages went back to the system.
    released: u64,
    peak_resident: u32,
}

impl<O: Os> PageHeap<O> {
    pub(crate) const fn new(os: O) -> Self {
        Self {
            space: Space::new(os),
            extents: Extents::empty(),
            units: Units::empty(),
            spare: UnitSet::empty(),
            partly: UnitSet::empty(),
            budget: Budget::new(),
            filling: Filling::new(),
            last: None,
            best: (0, 0, 0),
            started: false,
            runs: 0,
            holes: 0,
            stray: 0,
            away: 0,
            mapped: 0,
            promoted: Some(0),
            round: 1,
            swept: 0,
            misses: 0,
            released: 0,
            peak_resident: 0,
        }
    }

    pub(crate) fn space(&mut self) -> &mut Space<O> {
        &mut self.space
    }

    pub(crate) fn owners(&self) -> &super::owners::Owners {
        &self.extents.owners
    }

    /// Takes the heap's place in the address space, if there is memory for the tables.
    #[cold]
    pub(crate) fn start(&mut self) -> Option<()> {
        let layout = self.space.start()?;
        let border = if let Layout::Open { border, .. } = layout { border } else { 0 };
        let (os, memory) = self.space.tables();
        self.extents.start(os, memory, border)?;
        self.units.open(os, memory)?;
        self.spare.open(os, memory)?;
        self.partly.open(os, memory)?;
        if let Layout::Open { border, end } = layout {
            self.room(0..1)?;
            self.room(border..border + 1)?;
            self.prepare()?;
            self.extents.insert(Extent::fresh(0, border));
            self.extents.insert(Extent::fresh(border, end - border));
        }
        self.started = true;
        Some(())
    }

    #[inline]
    pub(crate) fn is_started(&self) -> bool {
        self.started
    }

    #[inline]
    pub(crate) fn in_use(&self) -> u32 {
        self.budget.in_use()
    }

    pub(crate) fn resident(&self) -> u32 {
        self.units.resident()
    }

    pub(crate) fn peak_resident(&self) -> u32 {
        self.peak_resident
    }

    /// The peak is taken anew from now on.
    pub(crate) fn forget_peak(&mut self) {
        self.peak_resident = self.staying();
    }

    pub(crate) fn released(&self) -> u64 {
        self.released
    }

    pub(crate) fn misses(&self) -> u64 {
        self.misses
    }

    pub(crate) fn set_limits(&mut self, in_use: u32, idle: u32) {
        self.budget.set_limits(in_use, idle);
    }

    pub(crate) fn set_policy(&mut self, policy: HugePages) {
        self.filling.set_policy(policy);
    }

    pub(crate) fn policy(&self) -> HugePages {
        self.filling.policy()
    }

    /// As [`Heap::is_beyond`](crate::heap::Heap::is_beyond).
    pub(crate) fn is_beyond(&self, pages: u32) -> bool {
        pages > self.space.largest() || self.space.os().is_beyond(pages as usize * PAGE)
    }

    /// Pages of a free extent, all mapped, are in use from now on.
    fn cut_out(&mut self, number: u32, pages: Range<u32>) -> Transit {
        self.budget.take(pages.end - pages.start);
        self.space.set_aside(pages.clone());
        self.cut_from(number, &pages);
        Transit::begun(pages)
    }

    /// Pages are a free extent's no more.
    fn cut_from(&mut self, number: u32, pages: &Range<u32>) {
        let extent = self.extents.get(number);
        let known = |part: Range<u32>| match part.end <= extent.start + extent.dirty {
            true => Extent::used(part.start, part.end - part.start),
            false => self.units.extent(part),
        };
        let (front, taken) = (known(extent.start..pages.start), known(pages.clone()));
        let rest = extent.rest(pages.end, front.fresh + taken.fresh, front.zero + taken.zero);
        self.cut_units(pages, rest.pages > 0);
        self.extents.update(number, rest);
        if front.pages > 0 {
            self.extents.insert(front);
            if !pages.start.is_multiple_of(UNIT) {
                self.partly.insert(pages.start / UNIT);
            }
        }
    }

    /// Pages are free no more; of their last unit, there may be some behind them that are.
    fn cut_units(&mut self, pages: &Range<u32>, goes_on: bool) {
        let units = units(pages);
        if units.len() <= 2 {
            units.clone().for_each(|unit| self.spare.remove(unit));
        } else {
            self.spare.remove_all(units.clone());
        }
        if goes_on && !pages.end.is_multiple_of(UNIT) {
            self.partly.insert(units.end - 1);
        }
    }

    /// The extent that a page lies in.
    fn around(&self, page: u32) -> Option<u32> {
        let start = self.space.free_from(page)?;
        let start = if page >= self.extents.border() { start.max(self.extents.border()) } else { start };
        self.extents.owners.extent(start)
    }

    /// The first of some pages, all within one unit, that are free, and their extent; the pages begin behind them then.
    fn next_free(&self, pages: &mut Range<u32>) -> Option<(u32, Range<u32>)> {
        loop {
            let part = self.space.free_within(pages.clone())?;
            pages.start = part.end;
            if let Some(number) = self.around(part.start) {
                return Some((number, part));
            }
        }
    }

    /// Free pages, in no extent any more, become one by the given means, if there is room for it. If not they stay unused.
    fn note(&mut self, pages: Range<u32>, means: fn(&mut Self, Extent)) {
        let extent = self.units.extent(pages.clone());
        if self.prepare().is_some() || self.extents.has_room() {
            means(self, extent);
        } else {
            self.stray += extent.resident();
            self.space.withdraw(pages);
        }
    }

    /// Pages of an extent were withdrawn.
    fn leave_out(&mut self, number: u32, pages: Range<u32>) {
        self.forget(number, pages.clone());
        self.lost(pages);
    }

    /// Some pages are no more of an extent.
    fn forget(&mut self, number: u32, pages: Range<u32>) {
        let extent = self.extents.remove(number);
        for rest in [extent.start..pages.start.max(extent.start), pages.end.min(extent.end())..extent.end()] {
            if !rest.is_empty() {
                self.note(rest, |heap, rest| heap.extents.insert(rest));
            }
        }
    }

    /// Pages were withdrawn that are in no extent.
    fn lost(&mut self, pages: Range<u32>) {
        self.holes += 1;
        self.filling.forget(&pages);
        self.spare.remove_all(units(&pages));
        self.mapped -= whole_units(&pages).filter(|&unit| self.space.is_mapped(unit)).count() as u32;
        if self.units.is_known(&pages) {
            self.units.purge(pages);
        }
    }

    /// Frees a run.
    #[inline]
    pub(crate) fn give(&mut self, start: u32, pages: u32) {
        self.runs -= 1;
        self.budget.give(pages);
        self.merge();
        self.last = Some(Extent::used(start, pages));
    }

    /// Frees a part of a run.
    pub(crate) fn cut(&mut self, start: u32, pages: u32) {
        self.merge();
        self.budget.give(pages);
        self.space.reclaim(start..start + pages);
        self.free(Extent::used(start, pages));
    }

    /// Puts the run that was given back last among the free extents.
    fn merge(&mut self) {
        if let Some(last) = self.last.take() {
            self.owners().clear(last.start);
            self.space.reclaim(last.start..last.end());
            self.free(last);
        }
    }

    /// Pages that are not lent any more are free.
    fn free(&mut self, range: Extent) {
        let all = self.extents.give(range);
        let pages = range.start..range.end();
        let inside = whole_units(&all);
        let full = if range.zero == 0 { whole_units(&pages) } else { 0..0 };
        if !full.is_empty() {
            self.spare.insert_all(full.clone());
        }
        for unit in units(&pages) {
            if full.contains(&unit) {
                continue;
            }
            if inside.contains(&unit) && self.units.is_full(unit) {
                self.spare.insert(unit);
            } else {
                self.partly.insert(unit);
            }
        }
    }

    /// The side that a run is taken from, if it can be. Where the system chooses the places, there is one.
    #[inline]
    fn side_of(&self, pages: u32) -> Side {
        if pages <= CLASS_PAGES && self.extents.border() > 0 { Side::Small } else { Side::Large }
    }

    /// Whether there were no requests for some ticks.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.budget.is_at_rest()
    }

    /// Whether more is free than may be.
    #[inline]
    pub(crate) fn exceeds_idle_limit(&self) -> bool {
        self.budget.exceeds_idle_limit(self.staying())
    }

    /// Whether it is worth some work to give free memory back in time.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.budget.is_idle(self.units.resident())
    }
}
