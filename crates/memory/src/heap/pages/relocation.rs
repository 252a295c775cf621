//! Live runs that grow: where they stand, or by a move of their memory to where there is room.

use std::ops::Range;

use super::PageHeap;
use super::transit::{Progress, Stage, Transit};
use crate::heap::extents::Side;
use crate::heap::space::{UNIT, pages_of, parts};
use crate::os::{Move, Os};

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

impl<O: Os> PageHeap<O> {
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
}
