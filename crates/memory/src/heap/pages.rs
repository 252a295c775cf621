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
//! Who calls holds the heap's lock, and others wait for it. So each call does a bounded piece of work: one unit is moved, or 16 MiB are
//! purged. Pages that are cut out and not lent yet are in **transit**: no one's but the caller's, who comes again with them
//! ([`PageHeap::proceed`]) until they are ready. Huge pages are made of small ones between two calls ([`Promotion`]).
//!
//! # What can go wrong
//!
//! Any call to the system may be refused, and may have lost what it was about. [`Space`] withdraws what is lost; here it leaves the
//! extents, or the run in transit is cancelled and what remains of it freed. Nothing is known of it any more, so nothing is done
//! with it. If the system takes no memory back, it stays resident and is counted as such.

use std::ops::Range;
use std::ptr::NonNull;

use bytemuck::Zeroable;

use super::budget::Budget;
use super::extents::{Extent, Extents, Side};
use super::filling::{Filling, Policy};
use super::space::{
    Advice, Layout, STEP, Space, Table, UNIT, UNITS, UnitSet, Unmapped, pages_of, parts, units, whole_units,
};
use super::units::Units;
use crate::layout::blocks::{CLASS_PAGES, PAGE};
use crate::os::{HUGE, Move, Os, Purge};

/// Pages that are purged in one piece, but for a unit more: 16 MiB.
const PIECE: u32 = 7 * UNIT;

/// Units side by side that are worth a mapping: where they hold nothing, their addresses go back.
const UNMAPPED: u32 = 16;

/// What is mapped beyond what is asked for: a part of what is mapped, and at most so many units.
const AHEAD: u32 = 16;

/// Units that are looked at in one piece for one to promote.
const PROMOTE_PIECE: u32 = 1 << 10;

/// Places that others hold are left out of a search so often.
const TRIES: usize = 8;

/// Pages on their way to who asked for them.
#[derive(Debug)]
pub(crate) struct Transit {
    pages: Range<u32>,
    /// The next unit that may have to be supplied with memory; all were if it is beyond the end. And the pages of those before that
    /// will take memory from the system.
    next: u32,
    expected: u32,
    /// Pages that were given back for these.
    evicted: u32,
    /// A unit to promote once the pages are lent.
    promotion: Option<u32>,
    /// Memory was taken from the system for them.
    missed: bool,
    dirty: Range<u32>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Supply,
    /// They are lent, and the budget is to be kept.
    Lent,
    Ready,
}

/// How far pages are on their way.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is more to do.
    More,
    Ready,
    /// The system lost some of them: there are none.
    Lost,
}

impl Transit {
    fn ready(pages: Range<u32>) -> Self {
        Self {
            next: 0,
            expected: 0,
            evicted: 0,
            promotion: None,
            missed: false,
            dirty: pages.clone(),
            stage: Stage::Ready,
            pages,
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    pub(crate) fn start(&self) -> u32 {
        self.pages.start
    }

    pub(crate) fn missed(&self) -> bool {
        self.missed
    }

    /// The least range that holds all pages that may not be zero.
    pub(crate) fn dirty(&self) -> Range<u32> {
        self.dirty.clone()
    }
}

/// A unit whose small pages shall come onto a huge one, by a call to the system that is made without the heap's lock.
#[derive(Debug)]
pub(crate) struct Promotion<O> {
    os: O,
    unit: u32,
    at: NonNull<u8>,
    /// It pays if so many of its pages are resident.
    least: u32,
}

impl<O: Os> Promotion<O> {
    /// Does it; whether it was done is for [`PageHeap::promoted`].
    pub(crate) fn run(&self) -> bool {
        let pays = || self.os.resident(self.at, HUGE).is_some_and(|bytes| bytes >= self.least as usize * PAGE);
        (self.least == 0 || pays()) && self.os.collapse(self.at)
    }
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
    /// Resident pages that are free, and that there was no memory to note.
    stray: u32,
    /// Units that are mapped as a whole.
    mapped: u32,
    /// The unit to look at next for promotion, and how often all were; `None` if no unit shall be promoted.
    promoted: Option<u32>,
    round: u32,
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
            mapped: 0,
            promoted: Some(0),
            round: 1,
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

    #[cfg(test)]
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

    pub(crate) fn set_policy(&mut self, policy: Policy) {
        self.filling.set_policy(policy);
    }

    /// Whether so many pages cannot be had, whatever else is freed.
    pub(crate) fn is_beyond(&self, pages: u32) -> bool {
        !self.budget.could_allow(pages)
            || pages > self.space.largest()
            || self.space.os().is_beyond(pages as usize * PAGE)
    }

    /// Takes `pages` pages that start at a multiple of `align` pages, a power of two. `None` when there is no memory.
    pub(crate) fn take(&mut self, pages: u32, align: u32) -> Option<Transit> {
        if !self.budget.allows(pages) {
            return None;
        }
        let side = side_of(pages);
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
        if !self.budget.allows(pages) {
            return None;
        }
        self.take_last(pages, align).or_else(|| self.take_ready(pages, align))
    }

    fn take_ready(&mut self, pages: u32, align: u32) -> Option<u32> {
        if align > 1 || !self.started {
            return None;
        }
        self.merge();
        self.prepare()?;
        let number = self.extents.best_resident(side_of(pages), pages)?;
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
    fn take_last(&mut self, pages: u32, align: u32) -> Option<u32> {
        let last = self.last?;
        if (last.pages, align, self.extents.side(last.start)) != (pages, 1, side_of(pages)) {
            return None;
        }
        // As long as the extents stay as they are, so does the answer.
        let known = (last.start, last.pages, self.extents.version());
        if known != self.best {
            if !self.extents.is_best(&last) {
                return None;
            }
            self.best = known;
        }
        self.last = None;
        self.budget.take(pages);
        self.runs += 1;
        Some(last.start)
    }

    /// As [`take`](Self::take), for few pages: all at once.
    pub(crate) fn take_now(&mut self, pages: u32) -> Option<Transit> {
        if let Some(start) = self.take_at_once(pages, 1) {
            return Some(Transit::ready(start..start + pages));
        }
        let mut transit = self.take(pages, 1)?;
        // A move at most, and a piece of purging: the rest is for others to come.
        loop {
            let stage = transit.stage;
            match self.proceed(&mut transit) {
                Progress::More if stage == Stage::Lent => break self.end(&mut transit),
                Progress::More => transit.next = u32::MAX,
                Progress::Ready => break,
                Progress::Lost => return None,
            }
        }
        Some(transit)
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
        if !matches!(self.space.start(), Some(Layout::Closed)) {
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
        // What is mapped has its room.
        if self.space.are_mapped(&pages) {
            return Ok(());
        }
        self.room(pages.clone()).ok_or(Unmapped::Refused)?;
        let wanted = units(&pages);
        let start = wanted.start * UNIT;
        // Where little is mapped, and no huge page is due, less than a unit will do: all of it may be locked, or counted.
        if self.mapped < 2 && wanted.len() == 1 && self.filling.policy() == Policy::Auto {
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
        let extent = self.extents.get(number);
        self.budget.take(pages.end - pages.start);
        let front = self.units.extent(extent.start..pages.start);
        let taken = self.units.extent(pages.clone());
        let rest = extent.rest(pages.end, front.fresh + taken.fresh, front.zero + taken.zero);
        self.cut_units(&pages, rest.pages > 0);
        self.space.set_aside(pages.clone());
        self.extents.update(number, rest);
        if front.pages > 0 {
            self.extents.insert(front);
            if !pages.start.is_multiple_of(UNIT) {
                self.partly.insert(pages.start / UNIT);
            }
        }
        Transit {
            next: pages.start / UNIT,
            expected: 0,
            evicted: 0,
            promotion: None,
            missed: false,
            dirty: 0..0,
            stage: Stage::Supply,
            pages,
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

    /// Goes on with pages in transit, by a piece of work.
    pub(crate) fn proceed(&mut self, transit: &mut Transit) -> Progress {
        match transit.stage {
            Stage::Ready => Progress::Ready,
            Stage::Supply => match self.supply(transit) {
                Progress::Ready if self.space.is_lent(transit.pages.clone()) => {
                    // Another's move lost a unit that we have a part of.
                    self.cancel(transit);
                    Progress::Lost
                }
                Progress::Ready => self.hand_over(transit),
                Progress::Lost => {
                    self.cancel(transit);
                    Progress::Lost
                }
                Progress::More => Progress::More,
            },
            Stage::Lent => {
                let budget = self.budget.pages();
                let (evicted, more) = self.purge_to(budget, PIECE, false);
                transit.evicted += evicted;
                if more {
                    return Progress::More;
                }
                self.end(transit);
                Progress::Ready
            }
        }
    }

    /// Pages in transit have arrived.
    fn end(&mut self, transit: &mut Transit) {
        self.budget.learn(transit.evicted);
        self.peak_resident = self.peak_resident.max(self.units.resident());
        transit.stage = Stage::Ready;
    }

    /// Before pages are touched: where that would take more memory from the system than the budget allows, free memory is moved there
    /// from elsewhere, a unit at a time.
    fn supply(&mut self, transit: &mut Transit) -> Progress {
        let budget = self.budget.pages();
        let Range { start, end } = transit.pages;
        while transit.next < end.div_ceil(UNIT) {
            let unit = transit.next;
            transit.next += 1;
            if !self.units.is_fresh(unit) {
                continue;
            }
            let covered = end.min((unit + 1) * UNIT) - start.max(unit * UNIT);
            let resident = self.units.resident() + transit.expected;
            // Nothing is moved to where only a part is mapped.
            let part = !self.space.is_mapped(unit);
            if part || resident + UNIT <= budget || (covered < UNIT && resident + covered <= budget) {
                transit.expected += covered;
                continue;
            }
            match self.supply_unit(unit) {
                Some(Move::Done) => return Progress::More,
                Some(Move::Lost) => return Progress::Lost,
                _ => transit.next = u32::MAX,
            }
        }
        Progress::Ready
    }

    /// Moves the memory of some free unit to one in transit; `None` if there is none to spare.
    fn supply_unit(&mut self, to: u32) -> Option<Move> {
        let from = self.spare.last()?;
        // What of it is free is an extent's at either end, and seldom more.
        let mut beside = [None, None];
        let mut pages = pages_of(to);
        while let Some(part) = self.space.free_within(pages.clone()) {
            pages.start = part.end;
            *beside.iter_mut().find(|place| place.is_none())? = Some((self.around(part.start)?, part));
        }
        if !self.space.may_move() {
            return None;
        }
        let moved = self.space.move_free(from, to);
        match moved {
            Move::Done => {
                let dirty = self.units.dirty(from) as i32;
                self.units.moved(from, to);
                self.spare.remove(from);
                self.filling.forget(&pages_of(from));
                if let Some(number) = self.around(from * UNIT) {
                    self.extents.adjust(number, &pages_of(from), UNIT as i32, dirty);
                }
                self.note_resident(to);
            }
            Move::Lost => {
                beside.into_iter().flatten().for_each(|(number, part)| self.forget(number, part));
                self.lost(pages_of(to));
            }
            Move::Kept | Move::Emptied => {}
        }
        Some(moved)
    }

    /// A unit that was fresh is resident now, and so is what of it is free.
    fn note_resident(&mut self, unit: u32) {
        let mut pages = pages_of(unit);
        while let Some(part) = self.space.free_within(pages.clone()) {
            pages.start = part.end;
            let Some(number) = self.around(part.start) else { continue };
            let known = self.units.extent(part.clone());
            let all = known.pages as i32;
            self.extents.adjust(number, &part, -all, known.zero as i32 - all);
            self.partly.insert(unit);
        }
    }

    /// The extent that a page lies in.
    fn around(&self, page: u32) -> Option<u32> {
        let start = self.space.free_from(page)?;
        let start = if page >= self.extents.border() { start.max(self.extents.border()) } else { start };
        self.extents.owners.extent(start)
    }

    /// Pages in transit are their requester's.
    fn hand_over(&mut self, transit: &mut Transit) -> Progress {
        let pages = transit.pages.clone();
        let fresh = self.units.extent(pages.clone()).fresh;
        transit.dirty = self.units.dirty_within(pages.clone());
        transit.missed = fresh > 0;
        if fresh > 0 {
            self.misses += 1;
            let Self { filling, space, .. } = self;
            filling.begin(pages.clone(), |pages| space.resident(pages));
        }
        transit.promotion = self.touch(pages.clone(), fresh);
        self.space.lend_aside(pages);
        transit.stage = if fresh > 0 { Stage::Lent } else { Stage::Ready };
        if fresh > 0 { Progress::More } else { Progress::Ready }
    }

    /// Marks pages as handed out, `fresh` of which are; a fresh unit becomes whole if they are expected to be filled and cover it, or if
    /// the budget allows for the rest of it. Returns a unit that grew full of small pages, for its larger part just now: to put it onto
    /// a huge page at once is cheaper than its faults would be.
    fn touch(&mut self, pages: Range<u32>, fresh: u32) -> Option<u32> {
        let expected = self.filling.expects(pages.end - pages.start);
        let most = if self.space.os().is_locked() { 0 } else { self.budget.huge_pages() };
        let mut spare = most.saturating_sub(self.units.resident() + fresh);
        let mut promotion = None;
        let mut advised = 0..0;
        for (unit, part) in parts(pages) {
            let rest = UNIT - (part.end - part.start);
            let is_fresh = self.units.is_fresh(unit);
            let whole = expected && is_fresh && rest <= spare && self.space.is_mapped(unit);
            if whole {
                spare -= rest;
            }
            let filled = self.units.touch(unit, part, whole);
            if whole && rest > 0 {
                self.note_resident(unit);
            }
            if filled && expected && self.promoted.is_some() {
                promotion = Some(unit);
            }
            let wanted = match (whole, self.filling.policy(), self.space.advice(unit)) {
                (true, _, Advice::Huge) | (false, Policy::Auto | Policy::Always, Advice::None) => None,
                (true, ..) => Some(true),
                (false, _, Advice::Small) => None,
                (false, ..) => self.space.is_mapped(unit).then_some(false),
            };
            // Units side by side are told together.
            if let Some(huge) = wanted {
                if !huge || advised.end != unit {
                    self.space.advise(std::mem::replace(&mut advised, unit..unit), true);
                }
                if huge {
                    advised.end = unit + 1;
                } else {
                    self.space.advise(unit..unit + 1, false);
                }
            }
        }
        self.space.advise(advised, true);
        promotion
    }

    /// Pages in transit, of which some were lost, are free as far as they are there.
    fn cancel(&mut self, transit: &Transit) {
        self.budget.give(transit.pages.end - transit.pages.start);
        self.runs -= 1;
        for (unit, part) in parts(transit.pages.clone()) {
            let part = unit * UNIT + part.start..unit * UNIT + part.end;
            self.space.put_back(part.clone());
            if self.space.is_lent(part.clone()) {
                self.holes += 1;
            } else {
                self.note(part, Self::free);
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

    /// A unit to promote once, as the pages in transit came to fill it.
    pub(crate) fn promotion_of(&mut self, transit: &mut Transit) -> Option<Promotion<O>> {
        let unit = transit.promotion.take()?;
        Some(self.begin_promotion(unit, 0))
    }

    fn begin_promotion(&mut self, unit: u32, least: u32) -> Promotion<O> {
        self.units.try_whole(unit);
        Promotion { os: self.space.os().clone(), unit, at: self.space.address(unit * UNIT), least }
    }

    /// Frees a run.
    pub(crate) fn give(&mut self, start: u32, pages: u32) {
        self.runs -= 1;
        self.budget.give(pages);
        self.merge();
        self.last = Some(Extent::used(start, pages));
        self.keep_within_idle_limit();
    }

    /// Frees a part of a run.
    pub(crate) fn cut(&mut self, start: u32, pages: u32) {
        self.merge();
        self.budget.give(pages);
        self.space.reclaim(start..start + pages);
        self.free(Extent::used(start, pages));
        self.keep_within_idle_limit();
    }

    fn keep_within_idle_limit(&mut self) {
        if self.budget.exceeds_idle_limit(self.units.resident()) {
            self.purge_to(self.budget.pages(), PIECE, false);
        }
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
        let inside = whole_units(&(all.start..all.end()));
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

    /// Gives free memory back until at most `target` pages are resident, or `most` were looked at: first whole units, then what breaks huge
    /// pages. With `unmap`, addresses go back as well. Returns the pages given back, and
    /// whether there are more.
    fn purge_to(&mut self, target: u32, most: u32, unmap: bool) -> (u32, bool) {
        self.merge();
        let before = self.units.resident();
        let mut left = most;
        while self.units.resident() > target && left > 0 {
            let done = if let Some(unit) = self.spare.last() {
                self.purge_units(unit, target.max(self.units.resident().saturating_sub(left)), unmap)
            } else if let Some(unit) = self.partly.last() {
                self.purge_part(unit, target)
            } else {
                None
            };
            match done {
                Some(pages) => left = left.saturating_sub(pages),
                None => return (before - self.units.resident(), false),
            }
        }
        (before - self.units.resident(), self.units.resident() > target)
    }

    /// Purges a spare unit and those before it; returns how many pages were looked at, or `None` if they stay.
    fn purge_units(&mut self, unit: u32, target: u32, unmap: bool) -> Option<u32> {
        let number = self.around(unit * UNIT)?;
        let most = (self.units.resident() - target).div_ceil(UNIT);
        let least = self.extents.get(number).start.div_ceil(UNIT).max((unit + 1).saturating_sub(most));
        let first = (least..unit).rev().take_while(|&unit| self.spare.contains(unit)).last().unwrap_or(unit);
        let pages = first * UNIT..(unit + 1) * UNIT;
        match self.purge(number, pages.clone()) {
            Purge::Kept => return None,
            Purge::Lost => {}
            Purge::Zero if unmap => self.unmap_around(number, unit),
            Purge::Zero => {}
        }
        Some(pages.end - pages.start)
    }

    /// Purges the free pages of a unit that is not spare, from the highest down; returns as [`purge_units`](Self::purge_units).
    fn purge_part(&mut self, unit: u32, target: u32) -> Option<u32> {
        let grain = self.space.page_size();
        let mut pages = pages_of(unit);
        while let Some(part) = self.space.free_within(pages.clone()) {
            pages.start = part.end;
            let Some(number) = self.around(part.start) else { continue };
            let low = part.start.next_multiple_of(grain);
            let mut high = part.end.min(unit * UNIT + self.space.mapped(unit)) / grain * grain;
            while high > low {
                let Some(needed) = self.units.resident().checked_sub(target).filter(|&needed| needed > 0) else {
                    return Some(UNIT);
                };
                let from = low.max(high.saturating_sub(needed.next_multiple_of(grain)));
                if self.units.extent(from..high).resident() > 0 {
                    match self.purge(number, from..high) {
                        Purge::Kept => return None,
                        // The extents are others now.
                        Purge::Lost => return Some(UNIT),
                        Purge::Zero => {}
                    }
                }
                high = from;
            }
        }
        self.partly.remove(unit);
        Some(UNIT)
    }

    /// Purges pages of a free extent.
    fn purge(&mut self, number: u32, pages: Range<u32>) -> Purge {
        let purged = self.space.purge(pages.clone());
        match purged {
            Purge::Kept => {}
            Purge::Lost => self.leave_out(number, pages),
            Purge::Zero => {
                self.filling.forget(&pages);
                self.spare.remove_all(units(&pages));
                let (resident, dirty) = self.units.purge(pages.clone());
                self.extents.adjust(number, &pages, resident as i32, dirty as i32);
            }
        }
        purged
    }

    /// Where units side by side in an extent hold nothing, their addresses go back, if they are many.
    fn unmap_around(&mut self, number: u32, unit: u32) {
        let extent = self.extents.get(number);
        let inside = whole_units(&(extent.start..extent.end()));
        let holds_nothing = |&unit: &u32| self.space.is_mapped(unit) && self.units.is_fresh(unit);
        let first = (inside.start..unit).rev().take_while(holds_nothing).last().unwrap_or(unit);
        let last = (unit..inside.end).take_while(holds_nothing).last();
        let Some(empty) = last.map(|last| first..last + 1).filter(|empty| empty.len() >= UNMAPPED as usize) else {
            return;
        };
        match self.space.unmap(empty.clone()) {
            Some(true) => self.mapped -= empty.len() as u32,
            Some(false) => {}
            None => self.leave_out(number, empty.start * UNIT..empty.end * UNIT),
        }
    }

    /// Takes the pages behind a live run that grows from `pages` to `more`; `None` when they are not free.
    pub(crate) fn extend(&mut self, start: u32, pages: u32, more: u32) -> Option<Transit> {
        self.merge();
        self.prepare()?;
        let (from, end) = (start + pages, start.checked_add(more)?);
        let number = self.extents.starting_at(from)?;
        if !self.budget.allows(more - pages) || self.extents.get(number).pages < more - pages {
            return None;
        }
        self.map_here(number, from..end)?;
        let transit = self.cut_out(number, from..end);
        // Until it is a part of the other.
        self.runs += 1;
        Some(transit)
    }

    /// What a run grew by is a part of it.
    pub(crate) fn extended(&mut self) {
        self.runs -= 1;
    }

    /// Takes `more` pages for a live run of `pages`, where its whole units can be moved to.
    pub(crate) fn relocate(&mut self, start: u32, pages: u32, more: u32) -> Option<Relocation> {
        self.merge();
        self.prepare()?;
        let number = self.extents.freshest(Side::Large)?;
        let extent = self.extents.get(number);
        // Units fall on units. Memory that is resident there is given up.
        let from = extent.start + extent.dirty;
        let goal = from.checked_add((start % UNIT + UNIT - from % UNIT) % UNIT)?;
        let end = goal.checked_add(more)?;
        if !self.budget.allows(more - pages.min(more)) || end > extent.end() {
            return None;
        }
        self.map_here(number, goal..end)?;
        self.budget.give(pages);
        let transit = self.cut_out(number, goal..end);
        self.runs += 1;
        debug_assert!(!transit.is_ready(), "it starts behind what is known to be dirty");
        let first = start.next_multiple_of(UNIT);
        Some(Relocation { start, pages, first, next: first, transit })
    }

    /// The unit to move next, and where to.
    pub(crate) fn next_move(&mut self, relocation: &Relocation) -> Option<(u32, u32)> {
        let next = relocation.next;
        if next + UNIT > relocation.start + relocation.pages || !self.space.may_move() {
            return None;
        }
        let goal = relocation.transit.pages.start;
        let (from, to) = (next / UNIT, (next - relocation.start + goal) / UNIT);
        // Others' moves may have lost a unit.
        (!self.space.is_lent(pages_of(to))).then_some((from, to))
    }

    /// A unit's memory moved so. Returns whether to go on.
    pub(crate) fn moved(&mut self, relocation: &mut Relocation, units: (u32, u32), moved: Move) -> bool {
        let (from, to) = units;
        match moved {
            Move::Done => {
                self.units.purge(pages_of(to));
                self.units.moved(from, to);
                self.filling.forget(&pages_of(from));
                relocation.next += UNIT;
                true
            }
            Move::Emptied => {
                self.units.purge(pages_of(to));
                false
            }
            Move::Kept => false,
            Move::Lost => {
                // All of it is set aside.
                self.lost(pages_of(to));
                false
            }
        }
    }

    /// Goes on with the pages that memory was moved to. They are not given up where some of them were lost.
    pub(crate) fn settle(&mut self, relocation: &mut Relocation) -> Progress {
        let transit = &mut relocation.transit;
        if transit.stage == Stage::Supply && self.space.is_lent(transit.pages.clone()) {
            return Progress::Lost;
        }
        // What is fresh in between is copied to.
        transit.next = u32::MAX;
        self.proceed(transit)
    }

    /// Nothing was moved, or what was is copied back: the pages are free again.
    pub(crate) fn cancel_relocation(&mut self, relocation: &Relocation) {
        self.cancel(&relocation.transit);
        self.budget.take(relocation.pages);
        for (unit, part) in parts(relocation.first..relocation.next) {
            self.units.touch(unit, part, false);
        }
    }

    /// Frees a run whose memory was moved.
    pub(crate) fn leave(&mut self, start: u32, pages: u32) {
        self.merge();
        self.runs -= 1;
        self.owners().clear(start);
        self.space.reclaim(start..start + pages);
        self.free(self.units.extent(start..start + pages));
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self) {
        self.budget.tick();
        let Self { filling, space, .. } = self;
        filling.judge(|pages| space.resident(pages));
    }

    /// Gives a piece of that back which the last ticks did not need, or of everything free if they needed nothing. Returns whether there
    /// is more of it.
    pub(crate) fn decay(&mut self) -> bool {
        let target = self.budget.decayed();
        self.purge_to(target, PIECE, true).1
    }

    /// Gives a piece of all free memory back; returns how many pages, and whether there are more.
    pub(crate) fn trim(&mut self) -> (u32, bool) {
        self.purge_to(self.budget.in_use(), PIECE, true)
    }

    /// Looks for a unit that grew full by small pages, of which enough is touched. Nothing is found in pieces, too: then `true` says to
    /// go on.
    pub(crate) fn promotion(&mut self) -> (Option<Promotion<O>>, bool) {
        let (Some(from), Some(least)) = (self.promoted, self.filling.least()) else { return (None, false) };
        if self.is_at_rest() {
            return (None, false);
        }
        let Some(from) = self.units.next(from) else {
            self.promoted = Some(0);
            self.round += 1;
            return (None, false);
        };
        let end = (from + PROMOTE_PIECE).min(UNITS as u32);
        let unit = self.units.next_small(from..end, self.round);
        self.promoted = Some(unit.map_or(end, |unit| unit + 1));
        (unit.map(|unit| self.begin_promotion(unit, least)), true)
    }

    /// A promotion was run, with this result.
    pub(crate) fn promoted(&mut self, promotion: &Promotion<O>, whole: bool) {
        self.units.set_whole(promotion.unit, whole);
    }

    /// The process is a fork's child: a huge page would be a copy of what it shares with its parent.
    pub(crate) fn keep_shared(&mut self) {
        self.promoted = None;
    }

    /// Whether there were no requests for some ticks.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.budget.is_at_rest()
    }

    /// Whether it is worth some work to give free memory back in time.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.budget.is_idle(self.units.resident())
    }
}

/// The side that a run is taken from, if it can be.
fn side_of(pages: u32) -> Side {
    if pages <= CLASS_PAGES { Side::Small } else { Side::Large }
}

/// A live run on its way to more pages.
#[derive(Debug)]
pub(crate) struct Relocation {
    start: u32,
    pages: u32,
    /// What lies in between was moved.
    first: u32,
    next: u32,
    pub(crate) transit: Transit,
}

impl Relocation {
    /// The pages that were moved, counted from the run's start.
    pub(crate) fn moved(&self) -> Range<u32> {
        self.first - self.start..self.next - self.start
    }
}

#[cfg(any(test, fuzzing))]
impl<O: Os> PageHeap<O> {
    /// Compares everything that is kept twice, while nothing is in transit.
    pub(crate) fn check(&self) {
        let mut free: Vec<Extent> = self.extents.all().collect();
        let idle: u32 = free.iter().map(Extent::resident).sum();
        let last = self.last.map_or(0, |last| last.pages);
        assert_eq!(self.budget.in_use() + idle + last + self.stray, self.units.resident(), "resident pages");
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
        assert!(free.iter().all(|extent| extent.end() <= border || extent.start >= border), "across the border");
    }

    /// Units that are one huge page.
    #[cfg(test)]
    pub(crate) fn whole(&self) -> usize {
        self.units.whole()
    }

    /// Whether no more is resident than shall be, which holds where no call to the system fails.
    pub(crate) fn is_within_budget(&self) -> bool {
        self.units.resident() <= self.budget.pages().max(self.budget.in_use())
    }
}
