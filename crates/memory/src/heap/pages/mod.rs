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

mod looking;
mod promotion;
mod purging;
mod relocation;
mod transit;

use std::ops::Range;

use bytemuck::Zeroable;

pub(crate) use self::looking::Look;
pub(crate) use self::promotion::Promotion;
pub(crate) use self::purging::Goal;
use self::purging::UNMAPPED;
pub(crate) use self::relocation::Relocation;
pub(crate) use self::transit::{Progress, Transit};
use super::budget::Budget;
use super::extents::{Extent, Extents, Side};
use super::filling::Filling;
use super::space::{Layout, STEP, Space, Table, UNIT, UnitSet, Unmapped, units, whole_units};
use super::units::Units;
use crate::heap::classes::{CLASS_PAGES, PAGE};
use crate::heap_config::HugePages;
use crate::os::Os;

/// What is mapped beyond what is asked for: a part of what is mapped, and at most so many units.
const AHEAD: u32 = 16;

/// Places that others hold are left out of a search so often.
const TRIES: usize = 8;

/// The most blocks in a parcel of so many pages: each has two.
fn most_blocks(pages: u32) -> usize {
    pages as usize / 2
}

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

    /// Takes `pages` pages that start at a multiple of `align` pages, a power of two. `None` when there is no memory.
    pub(crate) fn take(&mut self, pages: u32, align: u32) -> Option<Transit> {
        self.take_on(self.side_of(pages), pages, align)
    }

    fn take_on(&mut self, side: Side, pages: u32, align: u32) -> Option<Transit> {
        if !self.budget.allows(pages) {
            return None;
        }
        self.merge();
        self.prepare()?;
        let transit = match self.find(side, pages, align) {
            None if self.expand(pages, align) => self.find(side, pages, align),
            found => found,
        }?;
        self.runs += 1;
        Some(transit)
    }

    /// Takes `pages` pages that need nothing to be done for them, all resident and none of them zero, if those are the best.
    #[inline]
    pub(crate) fn take_at_once(&mut self, pages: u32, align: u32) -> Option<u32> {
        self.take_at_once_on(self.side_of(pages), pages, align)
    }

    #[inline]
    fn take_at_once_on(&mut self, side: Side, pages: u32, align: u32) -> Option<u32> {
        if !self.budget.allows(pages) {
            return None;
        }
        self.take_last(side, pages, align).or_else(|| self.take_ready(side, pages, align))
    }

    fn take_ready(&mut self, side: Side, pages: u32, align: u32) -> Option<u32> {
        if align > 1 || !self.started {
            return None;
        }
        self.merge();
        self.prepare()?;
        let number = self.extents.best_resident(side, pages)?;
        let extent = self.extents.get(number);
        if extent.dirty < pages {
            return None;
        }
        let taken = extent.start..extent.start + pages;
        self.runs += 1;
        self.budget.take(pages);
        self.space.lend(taken.clone());
        self.cut_units(&taken, extent.pages > pages);
        self.extents.update(number, extent.rest(taken.end, 0, 0));
        Some(taken.start)
    }

    /// Takes the run that was given back last, if it is the best for `pages` pages.
    #[inline]
    fn take_last(&mut self, side: Side, pages: u32, align: u32) -> Option<u32> {
        let last = self.last.as_ref()?;
        if (last.pages, align, self.extents.side(last.start)) != (pages, 1, side) {
            return None;
        }
        // As long as the extents stay as they are, so does the answer.
        let known = (last.start, last.pages, self.extents.version());
        if known != self.best {
            if !self.extents.is_best(last) {
                return None;
            }
            self.best = known;
        }
        self.last = None;
        self.budget.take(pages);
        self.runs += 1;
        Some(known.0)
    }

    /// As [`take`](Self::take), for few pages: all at once.
    pub(crate) fn take_now(&mut self, pages: u32) -> Option<Transit> {
        self.take_now_on(self.side_of(pages), pages)
    }

    /// As [`take_now`](Self::take_now), for a parcel: there may be free ranges between its blocks, once parts of it were [cut](Self::cut).
    /// With `at_once`, only where nothing needs to be done for them.
    pub(crate) fn take_parcel(&mut self, pages: u32, at_once: bool) -> Option<u32> {
        let side = self.side_of(pages.min(CLASS_PAGES));
        self.runs += most_blocks(pages);
        self.merge();
        let start = self.prepare().and_then(|()| match at_once {
            true => self.take_at_once_on(side, pages, 1),
            false => self.take_now_on(side, pages).map(|transit| transit.start()),
        });
        if start.is_none() {
            self.runs -= most_blocks(pages);
        }
        start
    }

    /// All pages of a parcel were cut.
    pub(crate) fn parcel_ended(&mut self, pages: u32) {
        self.runs -= most_blocks(pages) + 1;
    }

    fn take_now_on(&mut self, side: Side, pages: u32) -> Option<Transit> {
        if let Some(start) = self.take_at_once_on(side, pages, 1) {
            return Some(Transit::ready(start..start + pages));
        }
        let mut transit = self.take_on(side, pages, 1)?;
        // One move at most.
        loop {
            match self.proceed(&mut transit) {
                Progress::More => transit.next = u32::MAX,
                Progress::Ready => return Some(transit),
                Progress::Lost => return None,
            }
        }
    }

    /// Cuts pages out of the extent that fits best, on a side if it can be.
    fn find(&mut self, side: Side, pages: u32, align: u32) -> Option<Transit> {
        let wanted = pages.checked_add(align - 1)?;
        for side in [side, side.other()] {
            for _ in 0..TRIES {
                let best = self.extents.best(side, wanted, |extent| match extent.dirty >= wanted {
                    true => 0,
                    false if extent.fresh == extent.pages => pages,
                    false => self.units.extent(extent.start..extent.start + pages).fresh,
                });
                let Some(number) = best else { break };
                // The heap's first page is aligned to a huge page only.
                let skew = (self.space.address(0).addr().get() / PAGE) as u32 & (align - 1);
                let start = (self.extents.get(number).start + skew).next_multiple_of(align) - skew;
                match self.map(number, start..start + pages) {
                    Ok(()) => return Some(self.cut_out(number, start..start + pages)),
                    Err(Unmapped::Taken(pages)) => self.leave_out(number, pages),
                    Err(Unmapped::Refused) => break,
                }
            }
        }
        None
    }

    /// Where there are no open addresses: takes some wherever the system likes, ever more of them.
    #[cold]
    fn expand(&mut self, pages: u32, align: u32) -> bool {
        let Some(wanted) = pages.checked_add(align - 1) else { return false };
        if !self.space.is_closed() {
            return false;
        }
        let least = wanted.div_ceil(UNIT);
        for units in [self.mapped.max(UNMAPPED).max(least), least] {
            let Some(found) = self.space.map_anywhere(units) else { continue };
            self.mapped += units;
            let pages = found.start * UNIT..found.end * UNIT;
            // Without the tables for it, it stays unused.
            if self.room(pages.clone()).is_none() || self.prepare().is_none() {
                return false;
            }
            self.extents.give(Extent::fresh(pages.start, pages.end - pages.start));
            return true;
        }
        false
    }

    /// Maps what is not mapped of a part of an extent, and somewhat more, so that the next part is.
    fn map(&mut self, number: u32, pages: Range<u32>) -> Result<(), Unmapped> {
        // What is mapped has its room, and so has what is beside it.
        if self.space.are_mapped(&pages) {
            return Ok(());
        }
        let wanted = units(&pages);
        let start = wanted.start * UNIT;
        self.room(start..wanted.end * UNIT).ok_or(Unmapped::Refused)?;
        // Where little is mapped, and no huge page is due, less than a unit will do: all of it may be locked, or counted.
        if self.mapped < 2 && wanted.len() == 1 && self.filling.policy() == HugePages::Auto {
            let end = (pages.end - start).next_multiple_of(STEP).max(2 * self.space.mapped(wanted.start));
            return self.map_to(start..start + end.min(UNIT));
        }
        let end = self.extents.get(number).end() / UNIT;
        let ahead = (wanted.end + (self.mapped / AHEAD).min(AHEAD)).min(end);
        let grows = ahead > wanted.end && !self.space.is_mapped(wanted.end - 1) && !self.space.os().is_locked();
        if grows && self.room(start..ahead * UNIT).is_some() {
            let mapped = self.map_to(start..ahead * UNIT);
            if mapped != Err(Unmapped::Refused) {
                return mapped;
            }
        }
        self.map_to(start..wanted.end * UNIT)
    }

    /// Maps pages, and counts the units that are.
    fn map_to(&mut self, pages: Range<u32>) -> Result<(), Unmapped> {
        let count = |heap: &Self| units(&pages).filter(|&unit| heap.space.is_mapped(unit)).count() as u32;
        let before = count(self);
        let mapped = self.space.map(pages.clone());
        self.mapped += count(self) - before;
        mapped
    }

    /// As [`map`](Self::map), for who can use no other pages: what others have is left out.
    fn map_here(&mut self, number: u32, pages: Range<u32>) -> Option<()> {
        match self.map(number, pages) {
            Ok(()) => Some(()),
            Err(Unmapped::Taken(pages)) => {
                self.leave_out(number, pages);
                None
            }
            Err(Unmapped::Refused) => None,
        }
    }

    /// Room for what is noted of some pages and their neighbours.
    fn room(&mut self, pages: Range<u32>) -> Option<()> {
        let pages = pages.start.saturating_sub(1)..pages.end + 1;
        let units = units(&pages);
        let (os, memory) = self.space.tables();
        (self.extents.ensure(os, memory, pages)
            && self.units.ensure(os, memory, units.clone())
            && self.spare.ensure(os, memory, units.clone())
            && self.partly.ensure(os, memory, units))
        .then_some(())
    }

    /// Room for an item of a table of somebody else's.
    pub(crate) fn room_in<T: Zeroable, const LEN: usize, const PIECE: usize>(
        &mut self,
        table: &mut Table<T, LEN, PIECE>,
        index: u32,
    ) -> bool {
        let (os, memory) = self.space.tables();
        table.open(os, memory).is_some() && table.ensure(os, memory, index..index + 1)
    }

    /// Room for what the next run may leave behind: each live run and each hole at most one extent, and some more where one is cut.
    fn prepare(&mut self) -> Option<()> {
        let most = self.runs + self.holes + 8;
        let (os, memory) = self.space.tables();
        (most <= self.extents.capacity() || self.extents.grow(os, memory, 2 * most)).then_some(())
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

#[cfg(any(test, fuzzing))]
impl<O: Os> PageHeap<O> {
    /// Compares everything that is kept twice, while nothing is in transit.
    pub(crate) fn check(&self) {
        let mut free: Vec<Extent> = self.extents.all().collect();
        let idle: u32 = free.iter().map(Extent::resident).sum();
        let last = self.last.map_or(0, |last| last.pages);
        assert_eq!(
            self.budget.in_use() + idle + last + self.stray + self.away,
            self.units.resident(),
            "resident pages"
        );
        free.sort_by_key(|extent| extent.start);
        let border = self.extents.border();
        for pair in free.windows(2) {
            let apart = pair[0].end() < pair[1].start;
            let at_border = pair[0].end() == pair[1].start && pair[1].start == border;
            assert!(apart || at_border, "extents overlap or touch: {pair:?}");
        }
        for extent in &free {
            let pages = extent.start..extent.end();
            let known = self.units.extent(pages.clone());
            assert_eq!(extent.fresh, known.fresh, "{extent:?}");
            assert!(extent.zero >= known.zero, "{extent:?}");
            assert!(known.zero > 0 || extent.zero == 0 || extent.dirty <= extent.pages, "{extent:?}");
            self.extents.check(extent);
            for page in [extent.start, extent.start + extent.pages / 2, extent.end() - 1] {
                let found = self.around(page).map(|number| self.extents.get(number));
                assert_eq!(found, Some(*extent), "around page {page}");
            }
            let whole = whole_units(&pages);
            let mut from = units(&pages).start;
            while let Some(unit) = self.units.next(from).filter(|unit| *unit < units(&pages).end) {
                from = unit + 1;
                let part = unit * UNIT..(unit + 1) * UNIT;
                let part = part.start.max(pages.start)..part.end.min(pages.end);
                assert!(!self.space.is_lent(part.clone()), "a free page of {part:?} is lent");
                let full = whole.contains(&unit) && self.units.is_full(unit);
                assert_eq!(full, self.spare.contains(unit), "unit {unit} in {extent:?}");
                let resident = self.units.extent(part).resident();
                assert!(full || resident == 0 || self.partly.contains(unit), "unit {unit} in {extent:?}");
                assert!(self.space.mapped(unit) > 0 || self.units.is_fresh(unit), "unit {unit} is not mapped");
            }
        }
        self.budget.check();
        self.units.check();
        assert!(free.iter().all(|extent| extent.end() <= border || extent.start >= border), "across the border");
    }

    /// Units that are one huge page.
    #[cfg(test)]
    pub(crate) fn whole(&self) -> usize {
        self.units.whole()
    }

    /// Whether no more is resident than shall be, which holds where no call to the system fails.
    pub(crate) fn is_within_budget(&self) -> bool {
        self.staying() <= self.budget.pages().max(self.budget.in_use())
    }
}
