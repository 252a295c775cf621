//! Pages on their way to who asked for them: supplied with memory, touched and lent, a piece at a time.

use std::ops::Range;

use super::{Goal, PageHeap};
use crate::heap::space::{Advice, UNIT, pages_of, parts};
use crate::heap_config::HugePages;
use crate::os::{Move, Os};

/// Pages on their way to who asked for them.
#[derive(Debug)]
pub(crate) struct Transit {
    pub(super) pages: Range<u32>,
    /// The next unit that may have to be supplied with memory; all were if it is beyond the end. And the pages of those before that
    /// will take memory from the system.
    pub(super) next: u32,
    expected: u32,
    /// A unit to promote once the pages are lent.
    pub(super) promotion: Option<u32>,
    /// Memory was taken from the system for them.
    missed: bool,
    dirty: Range<u32>,
    pub(super) stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Supply,
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
    /// Pages that are set aside.
    pub(super) fn begun(pages: Range<u32>) -> Self {
        Self {
            next: pages.start / UNIT,
            expected: 0,
            promotion: None,
            missed: false,
            dirty: 0..0,
            stage: Stage::Supply,
            pages,
        }
    }

    /// Pages that need nothing done.
    pub(super) fn ready(pages: Range<u32>) -> Self {
        Self { next: 0, expected: 0, promotion: None, missed: false, dirty: pages.clone(), stage: Stage::Ready, pages }
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

impl<O: Os> PageHeap<O> {
    /// Goes on with pages in transit, by a piece of work.
    pub(crate) fn proceed(&mut self, transit: &mut Transit) -> Progress {
        match transit.stage {
            Stage::Ready => Progress::Ready,
            Stage::Supply => match self.supply(transit) {
                Progress::More => Progress::More,
                // Another's move may have lost a unit that we have a part of.
                Progress::Ready if !self.space.is_lent(transit.pages.clone()) => {
                    self.hand_over(transit);
                    Progress::Ready
                }
                Progress::Ready | Progress::Lost => {
                    self.cancel(transit);
                    Progress::Lost
                }
            },
        }
    }

    /// What was taken from the system was kept within the budget, for a goal.
    pub(crate) fn settled(&mut self, goal: &Goal) {
        self.budget.learn(goal.gone());
        self.peak_resident = self.peak_resident.max(self.staying());
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
            // Nothing is moved to where only a part is the heap's, or an errand is.
            let part = !self.space.is_intact(unit);
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
        while let Some(part) = self.next_free(&mut pages) {
            *beside.iter_mut().find(|place| place.is_none())? = Some(part);
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
        while let Some((number, part)) = self.next_free(&mut pages) {
            let known = self.units.extent(part.clone());
            let all = known.pages as i32;
            self.extents.adjust(number, &part, -all, known.zero as i32 - all);
            self.partly.insert(unit);
        }
    }

    /// Pages in transit are their requester's.
    fn hand_over(&mut self, transit: &mut Transit) {
        let pages = transit.pages.clone();
        let fresh = self.units.extent(pages.clone()).fresh;
        transit.dirty = self.units.dirty_within(pages.clone());
        transit.missed = fresh > 0;
        if fresh > 0 {
            self.misses += 1;
            self.filling.begin(pages.clone());
        }
        transit.promotion = self.touch(pages.clone(), fresh);
        self.space.lend_aside(pages);
        transit.stage = Stage::Ready;
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
            let is_intact = self.space.is_intact(unit);
            let whole = expected && is_fresh && rest <= spare && is_intact;
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
                (true, _, Advice::Huge) | (false, HugePages::Auto | HugePages::Always, Advice::None) => None,
                (true, ..) => Some(true),
                (false, _, Advice::Small) => None,
                (false, ..) => is_intact.then_some(false),
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
    pub(super) fn cancel(&mut self, transit: &Transit) {
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
}
