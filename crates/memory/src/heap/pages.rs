//! The page heap: ranges of pages, taken where they cost the least.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use super::extents::{Extent, Extents, Node, Side};
use super::slabs::Slab;
use super::units::{UNIT, Unit, Units};
use crate::layout::blocks::{CLASS_PAGES, PAGE};
use crate::os::{HUGE, Os, Table};
use crate::retention::{Retention, TICKS};

/// The address space to reserve, and the least to do with; what lies between is tried in halves.
const RESERVE: usize = 1 << 40;
const LEAST: usize = 16 << 20;

/// The small side is one of so many equal parts of the address space. Where it is full, the other side serves.
const PARTS: u32 = 256;

/// Only the first so many units take part in moves, 32 GiB: each may become a mapping of its own, and a process may have
/// 65,530.
const MOVABLE: u32 = 16 << 10;

/// Pages that decay under the lock at a time: some hundred microseconds.
const DECAY_STEP: u32 = 32 * UNIT;

/// Units that are looked at under the lock for one to promote.
const PROMOTE_STEP: u32 = 1 << 10;

/// Ticks after which a need of more memory is beyond doubt.
const PROOF: usize = 8;

/// Pages that are committed at a time.
const COMMIT: u32 = 16 * UNIT;

/// A granted range of pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) start: u32,
    /// The least range that holds all its pages that may not be zero.
    pub(crate) dirty: (u32, u32),
}

/// Pages by number, counted from the heap's base.
#[derive(Debug)]
pub(crate) struct PageHeap<O> {
    os: O,
    base: Option<NonNull<u8>>,
    /// The bytes reserved from there, tables included.
    #[cfg(test)]
    reserved: usize,
    /// Pages reserved, and where the accessible ones of each side end.
    pages: u32,
    committed: [u32; 2],
    extents: Extents,
    units: Units,
    retention: Retention,
    /// The peak at which the heap was last seen to grow, the pages that were given back for others to take their place since the
    /// last tick and since that peak, and the ticks in which these were many.
    settled: usize,
    evicted: usize,
    proven: usize,
    /// Pages that may be resident beyond the budget, as steps that repeat were seen to need them.
    slack: usize,
    in_use: u32,
    /// The run that was given back last: it is free, but none of the extents yet.
    last: Option<Extent>,
    /// The most pages that may be in use, and resident but free.
    limit: u32,
    idle_limit: u32,
    runs: usize,
    /// The unit to look at next for promotion; `None` if no unit shall be promoted.
    promoted: Option<u32>,
    /// Ticks since the last grant.
    idle: usize,
    /// How often a run took memory from the system.
    misses: u64,
    peak_resident: u32,
}

// SAFETY: the heap owns its address range; nothing in it belongs to a thread.
unsafe impl<O: Send> Send for PageHeap<O> {}

impl<O: Os> PageHeap<O> {
    pub(crate) const fn new(os: O) -> Self {
        Self {
            os,
            base: None,
            #[cfg(test)]
            reserved: 0,
            pages: 0,
            committed: [0; 2],
            extents: Extents::empty(),
            units: Units::empty(),
            retention: Retention::new(),
            settled: 0,
            evicted: 0,
            proven: 0,
            slack: 0,
            in_use: 0,
            last: None,
            limit: u32::MAX,
            idle_limit: u32::MAX,
            runs: 0,
            promoted: Some(0),
            idle: 0,
            misses: 0,
            peak_resident: 0,
        }
    }

    /// Reserves the address range, and returns the table of slabs that stands beside it; `None` when that was done
    /// before, or there is none.
    pub(crate) fn start(&mut self) -> Option<Table<Slab>> {
        if self.base.is_some() {
            return None;
        }
        // Others need addresses as well: half of what there may be is theirs.
        let mut bytes = match self.os.address_limit() {
            Some(limit) => (limit / 2 / HUGE * HUGE).min(RESERVE),
            None => RESERVE,
        };
        while bytes >= LEAST {
            let pages = bytes / PAGE;
            let tables = [
                Table::<u32>::bytes(pages),
                Table::<Unit>::bytes(pages / UNIT as usize),
                // No two extents touch; a slab has at least a page.
                Table::<Node>::bytes(pages / 2 + 2),
                Table::<Slab>::bytes(pages),
            ];
            let reserved = bytes + tables.iter().sum::<usize>();
            if let Some(base) = self.os.reserve(reserved) {
                let [tags, units, extents, slabs] = tables.map({
                    let mut offset = bytes;
                    move |bytes| {
                        // SAFETY: within the reserved range.
                        let at = unsafe { base.add(offset) };
                        offset += bytes;
                        at
                    }
                });
                // SAFETY: each table has its own part of the reserved range, as large as `bytes` says; if there is no memory
                // for the first extent, nothing has been in use.
                unsafe {
                    let (extents, tags) = (Table::new(extents, pages / 2 + 2), Table::new(tags, pages));
                    let border = (pages as u32 / PARTS).next_multiple_of(UNIT);
                    let mut extents = Extents::new(extents, tags, border, pages as u32);
                    if !extents.grow(&self.os, 64, border) {
                        self.os.release(base, reserved);
                        return None;
                    }
                    self.extents = extents;
                    self.units = Units::new(Table::new(units, pages / UNIT as usize));
                    self.base = Some(base);
                    #[cfg(test)]
                    {
                        self.reserved = reserved;
                    }
                    self.pages = pages as u32;
                    self.committed = [0, border];
                    self.extents.give(Extent::fresh(0, border));
                    self.extents.give(Extent::fresh(border, self.pages - border));
                    return Some(Table::new(slabs, pages));
                }
            }
            bytes = bytes / 2 / HUGE * HUGE;
        }
        None
    }

    pub(crate) fn os(&self) -> &O {
        &self.os
    }

    #[cfg(test)]
    pub(crate) fn in_use(&self) -> u32 {
        self.in_use
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

    /// The address of a page.
    pub(crate) fn address(&self, page: u32) -> NonNull<u8> {
        match self.base {
            // SAFETY: pages are numbered within the reserved range.
            Some(base) => unsafe { base.add(page as usize * PAGE) },
            None => std::process::abort(),
        }
    }

    /// The page at an address of the heap.
    pub(crate) fn page(&self, at: NonNull<u8>) -> u32 {
        let base = self.base.map_or(0, |base| base.addr().get());
        ((at.addr().get() - base) / PAGE) as u32
    }

    pub(crate) fn extents(&mut self) -> &mut Extents {
        &mut self.extents
    }

    pub(crate) fn set_limits(&mut self, in_use: u32, idle: u32) {
        (self.limit, self.idle_limit) = (in_use, idle);
    }

    /// The most pages that may be resident: a peak is seldom packed without any gaps, and the fewer its blocks are, the larger
    /// are these.
    fn budget(&self) -> u32 {
        let peak = self.retention.peak();
        self.capped(peak + peak / 32 + (peak / 8).min(2 * UNIT as usize) + self.slack)
    }

    /// The most pages that may be resident when a huge page takes more than is asked for: nobody may come to use the rest.
    fn huge_budget(&self) -> u32 {
        let peak = self.retention.peak();
        self.capped(peak + peak / 48 + (peak / 16).min(UNIT as usize))
    }

    fn capped(&self, pages: usize) -> u32 {
        let pages = u32::try_from(pages).unwrap_or(u32::MAX);
        pages.min(self.limit).min(self.in_use.saturating_add(self.idle_limit))
    }

    /// Whether so many pages more may be in use.
    fn allows(&self, more: u32) -> bool {
        more <= self.limit.saturating_sub(self.in_use)
    }

    /// Takes `pages` pages that start at a multiple of `align` pages, a power of two. `None` when there is no memory.
    pub(crate) fn take(&mut self, pages: u32, align: u32) -> Option<Run> {
        if !self.allows(pages) {
            return None;
        }
        let side = if pages <= CLASS_PAGES { Side::Small } else { Side::Large };
        if let Some(last) = self.last
            && (last.pages, align, self.extents.side(last.start)) == (pages, 1, side)
            && self.extents.is_best(&last)
        {
            self.last = None;
            self.count_in_use(pages);
            self.runs += 1;
            return Some(Run { start: last.start, dirty: (last.start, last.end()) });
        }
        self.merge();
        self.prepare()?;
        let wanted = pages.checked_add(align - 1)?;
        // The heap's first page is aligned to a huge page only.
        let skew = (self.address(0).addr().get() / PAGE) as u32 & (align - 1);
        for side in [side, side.other()] {
            let number = self.extents.best(side, wanted, |extent| match extent.dirty >= wanted {
                true => 0,
                false => self.survey(extent.start, extent.start + pages).fresh,
            });
            let Some(number) = number else { continue };
            let start = (self.extents.get(number).start + skew).next_multiple_of(align) - skew;
            if self.commit(start + pages) {
                let dirty = self.hand_out(number, start, start + pages);
                self.runs += 1;
                return Some(Run { start, dirty });
            }
        }
        None
    }

    /// Room for what the next run may leave behind: each live run at most one extent, and two more where one is cut.
    fn prepare(&mut self) -> Option<()> {
        (self.runs + 4 <= self.extents.capacity() || self.extents.grow(&self.os, 2 * self.runs + 64, 0)).then_some(())
    }

    /// Takes `more` pages for a live run of `pages`, and moves the memory of its whole units there. The result is the new start,
    /// and from where to where memory was moved, in pages from the run's start: the rest is for the caller to copy before it
    /// calls [`leave`](Self::leave).
    pub(crate) fn relocate(&mut self, start: u32, pages: u32, more: u32) -> Option<(u32, u32, u32)> {
        self.merge();
        self.prepare()?;
        let number = self.extents.freshest(Side::Large)?;
        let extent = self.extents.get(number);
        // Units fall on units. Memory that is resident there would be lost.
        let from = extent.start + extent.dirty;
        let goal = from + (start % UNIT + UNIT - from % UNIT) % UNIT;
        let end = goal.checked_add(more)?;
        if !self.allows(more - pages.min(more)) || end > extent.end() || !self.commit(end) {
            return None;
        }
        let first = start.next_multiple_of(UNIT);
        let mut moved = first;
        while moved + UNIT <= start + pages {
            if !self.move_memory(moved / UNIT, (moved - start + goal) / UNIT) {
                break;
            }
            moved += UNIT;
        }
        if moved == first {
            return None;
        }
        self.extents.update(number, self.survey(extent.start, extent.end()));
        self.in_use -= pages;
        self.hand_out(number, goal, end);
        self.runs += 1;
        Some((goal, first - start, moved - start))
    }

    /// Frees a run whose memory was moved.
    pub(crate) fn leave(&mut self, start: u32, pages: u32) {
        self.runs -= 1;
        self.extents.give(self.units.extent(start, start + pages));
    }

    /// Takes the pages behind a live run that grows from `pages` to `more`; `None` when they are not free.
    pub(crate) fn extend(&mut self, start: u32, pages: u32, more: u32) -> Option<Run> {
        self.merge();
        let (from, end) = (start + pages, start + more);
        let number = self.extents.starting_at(from)?;
        if !self.allows(more - pages) || self.extents.get(number).pages < more - pages || !self.commit(end) {
            return None;
        }
        let dirty = self.hand_out(number, from, end);
        Some(Run { start, dirty })
    }

    /// Frees a run.
    pub(crate) fn give(&mut self, start: u32, pages: u32) {
        self.runs -= 1;
        self.in_use -= pages;
        self.merge();
        self.last = Some(Extent::used(start, pages));
        self.keep_within_idle_limit();
    }

    /// Frees a part of a run.
    pub(crate) fn cut(&mut self, start: u32, pages: u32) {
        self.in_use -= pages;
        self.extents.give(Extent::used(start, pages));
        self.keep_within_idle_limit();
    }

    fn keep_within_idle_limit(&mut self) {
        if self.units.resident() - self.in_use > self.idle_limit {
            self.purge_to(self.budget());
        }
    }

    /// Puts the run that was given back last among the free extents.
    fn merge(&mut self) {
        if let Some(last) = self.last.take() {
            self.extents.give(last);
        }
    }

    /// Makes the pages of a side before `end` accessible.
    fn commit(&mut self, end: u32) -> bool {
        let side = self.extents.side(end - 1) as usize;
        let (committed, last) = (self.committed[side], [self.extents.border(), self.pages][side]);
        if end <= committed {
            return true;
        }
        let ample = end.saturating_add(COMMIT).min(last) / UNIT * UNIT;
        for goal in [ample, end.next_multiple_of(UNIT).min(last)] {
            let bytes = (goal - committed) as usize * PAGE;
            let tables = self.extents.grow(&self.os, 0, goal) && self.units.grow(&self.os, goal);
            // SAFETY: the range is reserved, and nothing beyond `committed` is in use.
            if tables && unsafe { self.os.commit(self.address(committed), bytes) } {
                self.committed[side] = goal;
                return true;
            }
        }
        false
    }

    /// Where the accessible part of a free extent ends.
    fn accessible(&self, extent: &Extent) -> u32 {
        extent.end().min(self.committed[self.extents.side(extent.start) as usize])
    }

    /// A free range of one side, with what is known of its pages: what is not accessible yet is fresh.
    fn survey(&self, start: u32, end: u32) -> Extent {
        let known = self.committed[self.extents.side(start) as usize].clamp(start, end);
        Extent::joined(self.units.extent(start, known), Extent::fresh(known, end - known))
    }

    fn count_in_use(&mut self, pages: u32) {
        self.idle = 0;
        self.in_use += pages;
        self.retention.in_use(self.in_use as usize);
    }

    /// Pages of a free extent are in use from now on. Returns the least range of them that may not be zero.
    fn hand_out(&mut self, number: u32, start: u32, end: u32) -> (u32, u32) {
        self.count_in_use(end - start);
        let extent = self.extents.get(number);
        if end - extent.start <= extent.dirty {
            self.cut_out(number, extent, extent.rest(end, 0, 0), start);
            return (start, end);
        }
        let moved = self.supply(number, start, end);
        let before = self.units.extent(start, end);
        let resident = self.units.resident();
        let dirty = self.use_first(start, end, before.fresh);
        let rest = match moved {
            true => self.survey(end, extent.end()),
            false => extent.rest(end, self.units.resident() - resident, before.zero),
        };
        self.cut_out(number, extent, rest, start);
        if before.fresh > 0 {
            let evicted = self.purge_to(self.budget());
            self.learn(evicted as usize);
            self.peak_resident = self.peak_resident.max(self.units.resident());
        }
        dirty
    }

    /// Leaves `rest` of a free extent, and what lies before `start`: it is cut in front only for the sake of alignment.
    fn cut_out(&mut self, number: u32, extent: Extent, mut rest: Extent, start: u32) {
        if extent.start == start {
            self.extents.update(number, rest);
            return;
        }
        let front = self.units.extent(extent.start, start);
        rest = self.survey(rest.start, rest.end());
        self.extents.update(number, rest);
        self.extents.give(front);
    }

    /// Before pages of a free extent are used: where that would take more memory from the system than the budget allows, free
    /// memory is moved there from elsewhere. Returns whether any was.
    fn supply(&mut self, number: u32, start: u32, end: u32) -> bool {
        let budget = self.budget();
        let mut resident = self.units.resident();
        let mut moved = false;
        for unit in start / UNIT..end.div_ceil(UNIT).min(MOVABLE) {
            if !self.units.is_fresh(unit) {
                continue;
            }
            let covered = end.min((unit + 1) * UNIT) - start.max(unit * UNIT);
            if resident + UNIT <= budget || (covered < UNIT && resident + covered <= budget) {
                resident += covered;
                continue;
            }
            if !self.supply_unit(unit, number, start, end) {
                break;
            }
            moved = true;
        }
        moved
    }

    /// Moves the memory of some free unit outside of `start..end` to a fresh one.
    fn supply_unit(&mut self, unit: u32, target: u32, start: u32, end: u32) -> bool {
        for number in 1..=self.extents.last() {
            let extent = self.extents.get(number);
            if extent.resident() < UNIT {
                continue;
            }
            let last = (self.accessible(&extent) / UNIT).min(MOVABLE);
            for from in (extent.start.div_ceil(UNIT)..last).rev() {
                let apart = (from + 1) * UNIT <= start || from * UNIT >= end;
                if !apart || !self.units.is_full(from) {
                    continue;
                }
                if !self.move_memory(from, unit) {
                    return false;
                }
                if number != target {
                    self.extents.update(number, self.survey(extent.start, extent.end()));
                }
                return true;
            }
        }
        false
    }

    /// Moves the memory of one unit to another that is committed and free. What lay there is lost.
    fn move_memory(&mut self, from: u32, to: u32) -> bool {
        let (source, target) = (self.address(from * UNIT), self.address(to * UNIT));
        // SAFETY: both units are committed, and nobody needs the contents of `to` (the callers' choice of units).
        if from.max(to) >= MOVABLE || !unsafe { self.os.remap(source, target, HUGE) } {
            return false;
        }
        self.units.purge(to * UNIT, (to + 1) * UNIT);
        self.units.moved(from, to);
        true
    }

    /// Marks pages that are used for the first time since they were purged, or ever. Returns as `hand_out`.
    fn use_first(&mut self, start: u32, end: u32, fresh: u32) -> (u32, u32) {
        let dirty = self.units.dirty_within(start, end);
        self.misses += u64::from(fresh > 0);
        let spare = self.huge_budget().saturating_sub(self.units.resident() + fresh);
        let (os, base, promotes) = (&self.os, self.base, self.promoted.is_some());
        let Some(base) = base else { return dirty };
        // SAFETY: pages are numbered within the reserved range.
        let address = |unit: u32| unsafe { base.add(unit as usize * HUGE) };
        self.units.touch(
            start,
            end,
            spare,
            // SAFETY: the units are committed: `end` is, and commits cover whole units.
            |from, to| unsafe { os.prefer_huge(address(from), (to - from) as usize * HUGE) },
            // SAFETY: as above.
            |unit| promotes && unsafe { os.collapse(address(unit)) },
        );
        dirty
    }

    /// Gives free memory back until at most `target` pages are resident: first whole units, then what breaks huge pages. Returns
    /// the pages given back.
    pub(crate) fn purge_to(&mut self, target: u32) -> u32 {
        self.merge();
        let before = self.units.resident();
        for whole in [true, false] {
            let mut number = 0;
            while self.units.resident() > target && number < self.extents.last() {
                number += 1;
                let extent = self.extents.get(number);
                if extent.resident() > 0 {
                    self.purge_extent(&extent, target, whole);
                    self.extents.update(number, self.survey(extent.start, extent.end()));
                }
            }
        }
        before - self.units.resident()
    }

    /// Purges a free extent's pages from the highest down.
    fn purge_extent(&mut self, extent: &Extent, target: u32, whole: bool) {
        let grain = if whole { UNIT } else { (self.os.page_size() / PAGE) as u32 };
        let low = extent.start.next_multiple_of(grain);
        let mut high = self.accessible(extent) / grain * grain;
        while high > low && self.units.resident() > target {
            // A part of a unit at a time: what is fresh anyway is skipped.
            let mut from = low.max((high - 1) / UNIT * UNIT);
            if !whole {
                let needed = (self.units.resident() - target).next_multiple_of(grain);
                from = from.max(high.saturating_sub(needed));
            }
            if self.units.extent(from, high).resident() > 0 {
                let bytes = (high - from) as usize * PAGE;
                // SAFETY: the pages are free and committed.
                if unsafe { self.os.purge(self.address(from), bytes) } {
                    self.units.purge(from, high);
                }
            }
            high = from;
        }
    }

    /// So many pages were given back for others to take their place. Where no more than before is in use, steps repeat whose gaps
    /// need more than the budget.
    fn learn(&mut self, evicted: usize) {
        let peak = self.retention.peak();
        if peak > self.settled + self.settled / 64 {
            self.settled = peak;
        } else {
            self.evicted += evicted;
            self.slack += evicted / 4;
            self.limit_slack();
        }
    }

    fn limit_slack(&mut self) {
        let peak = self.retention.peak();
        self.slack = self.slack.min(peak / 24 + peak / 64 * self.proven);
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self) {
        self.idle += 1;
        if self.is_at_rest() {
            self.proven = 0;
        } else if self.evicted > self.retention.peak() / 64 {
            self.proven = (self.proven + 1).min(PROOF);
        }
        self.evicted = 0;
        self.retention.tick(self.in_use as usize);
        self.settled = self.settled.min(self.retention.peak());
        self.limit_slack();
    }

    /// Gives some of that back which the last ticks did not need, or of everything free if they needed nothing. Returns
    /// whether there is more of it.
    pub(crate) fn decay(&mut self) -> bool {
        let target = if self.is_at_rest() { self.in_use } else { self.budget() };
        let step = target.max(self.units.resident().saturating_sub(DECAY_STEP));
        self.purge_to(step) > 0 && self.units.resident() > target
    }

    /// Puts a unit that grew full by small pages onto a huge one. Returns whether there may be more of these.
    pub(crate) fn promote(&mut self) -> bool {
        let Some(mut from) = self.promoted.filter(|_| !self.is_at_rest()) else { return false };
        let [small, large] = self.committed.map(|end| end / UNIT);
        let border = self.extents.border() / UNIT;
        if (small..border).contains(&from) {
            from = border;
        }
        let end = (from + PROMOTE_STEP).min(if from < border { small } else { large });
        let unit = self.units.next_small(from, end);
        if let Some(unit) = unit {
            // SAFETY: the unit is committed.
            let whole = unsafe { self.os.collapse(self.address(unit * UNIT)) };
            self.units.set_whole(unit, whole);
        }
        let next = unit.map_or(end, |unit| unit + 1);
        self.promoted = Some(if next < large { next } else { 0 });
        next < large
    }

    /// The process is a fork's child: a huge page would be a copy of what it shares with its parent.
    pub(crate) fn keep_shared(&mut self) {
        self.promoted = None;
    }

    /// Whether there were no requests for some ticks.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.idle > TICKS
    }

    /// Whether it is worth a thread to give free memory back in time.
    pub(crate) fn is_idle(&self) -> bool {
        self.units.resident() - self.in_use > (self.in_use / 16).max(UNIT / 8)
    }

    /// Gives all free memory back.
    pub(crate) fn trim(&mut self) -> u32 {
        self.purge_to(self.in_use)
    }
}

#[cfg(test)]
impl<O: Os> PageHeap<O> {
    /// Compares everything that is kept twice.
    pub(crate) fn check(&self) {
        let mut free: Vec<Extent> = (1..=self.extents.last())
            .map(|number| self.extents.get(number))
            .filter(|extent| extent.pages > 0)
            .collect();
        let idle: u32 = free.iter().map(Extent::resident).sum();
        let last = self.last.map_or(0, |last| last.pages);
        assert_eq!(self.in_use + idle + last, self.units.resident());
        free.sort_by_key(|extent| extent.start);
        for pair in free.windows(2) {
            let apart = pair[0].end() < pair[1].start;
            let at_border = pair[0].end() == pair[1].start && pair[1].start == self.extents.border();
            assert!(apart || at_border, "extents overlap or touch: {pair:?}");
        }
        for extent in &free {
            let known = self.survey(extent.start, extent.end());
            assert_eq!(extent.fresh, known.fresh, "{extent:?}");
            assert!(extent.zero >= known.zero, "{extent:?}");
            self.extents.check(extent);
        }
        let pages: u32 = free.iter().map(|extent| extent.pages).sum();
        assert_eq!(pages + self.in_use + last, self.pages);
        assert!(self.units.resident() <= self.budget().max(self.in_use));
        let peak = self.retention.peak();
        assert!(self.slack <= peak / 24 + peak / 64 * self.proven, "{} pages of slack", self.slack);
        let border = self.extents.border();
        assert!(free.iter().all(|extent| extent.end() <= border || extent.start >= border), "across the border");
    }

    pub(crate) fn whole(&self) -> usize {
        self.units.whole()
    }

    /// Unmaps everything.
    pub(crate) fn release(&mut self) {
        if let Some(base) = self.base {
            // SAFETY: the whole reservation; the test uses nothing of it any more.
            unsafe { self.os.release(base, self.reserved) };
        }
    }
}
