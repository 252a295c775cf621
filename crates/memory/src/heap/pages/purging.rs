//! What is free goes back to the system, a piece at a time.

use std::ops::Range;

use super::PageHeap;
use crate::heap::space::{UNIT, pages_of, units, whole_units};
use crate::os::{Os, Purge};

/// Pages that are purged in one piece, but for a unit more: 16 MiB.
pub(super) const PIECE: u32 = 7 * UNIT;

/// Units that are looked at under one hold of the lock, and free ranges of which some are resident if any is.
const LOOKS: u32 = 64;
const SAMPLE: u32 = 16;

/// Units side by side that are worth a mapping: where they hold nothing, their addresses go back in time.
pub(super) const UNMAPPED: u32 = 16;

impl<O: Os> PageHeap<O> {
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
        self.purge_to(target, PIECE, Some(UNMAPPED)).1
    }

    /// Gives a piece of all free memory back, and addresses; returns how many pages, and whether there are more.
    pub(crate) fn trim(&mut self) -> (u32, bool) {
        let in_use = self.budget.in_use();
        let (pages, more) = self.purge_to(in_use, PIECE, Some(1));
        // The rest under holds of its own, unless the system takes nothing back.
        (pages, more || pages > 0 || (self.units.resident() == in_use && self.sweep()))
    }

    /// Looks at some of what is mapped and free, and holds nothing as far as is known. Units' addresses go back; and what is resident all
    /// the same, as `mlockall` touches whatever is mapped, is purged. Returns whether there may be more.
    fn sweep(&mut self) -> bool {
        let (mut units, mut looks, mut purged) = (0, 0, 0);
        let grain = self.space.page_size();
        while let Some(unit) = self.space.next_mapped(self.swept) {
            if units == LOOKS || purged >= PIECE {
                return true;
            }
            units += 1;
            self.swept = unit + 1;
            if let Some(number) = self.around(unit * UNIT) {
                self.unmap_around(number, unit, 1);
            }
            let mut pages = unit * UNIT..unit * UNIT + self.space.mapped(unit);
            while (looks < SAMPLE || purged > 0)
                && let Some((number, part)) = self.next_free(&mut pages)
            {
                looks += 1;
                let part = part.start.next_multiple_of(grain)..part.end / grain * grain;
                if part.is_empty() || self.space.resident(part.clone()).is_none_or(|resident| resident == 0) {
                    continue;
                }
                match self.purge(number, part.clone()) {
                    Purge::Zero => purged += part.end - part.start,
                    // The extents are others now, or no memory goes back.
                    Purge::Lost | Purge::Kept => break,
                }
            }
        }
        self.swept = 0;
        false
    }

    /// Gives a piece of that back which is more than may be free. Returns whether there is more of it.
    pub(crate) fn keep_within_idle_limit(&mut self) -> bool {
        self.exceeds_idle_limit() && self.purge_to(self.budget.pages(), PIECE, None).1
    }

    /// Gives so many free pages back, or a piece of them, for others to take their place; returns how many.
    pub(crate) fn evict(&mut self, pages: u32) -> u32 {
        self.purge_to(self.units.resident().saturating_sub(pages), PIECE, None).0
    }

    /// Gives free memory back until at most `target` pages are resident, or `most` were looked at: first whole units, then what breaks huge
    /// pages. The addresses of as many units side by side as `unmap` go back as well. Returns the pages
    /// given back, and whether there are more.
    pub(super) fn purge_to(&mut self, target: u32, most: u32, unmap: Option<u32>) -> (u32, bool) {
        self.merge();
        let before = self.units.resident();
        let mut left = most;
        while self.units.resident() > target && left > 0 {
            let done = if let Some(unit) = self.spare.last() {
                self.purge_units(unit, target.max(self.units.resident().saturating_sub(left)), unmap)
            } else if let Some(unit) = self.partly.last() {
                self.purge_part(unit, target, unmap)
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
    fn purge_units(&mut self, unit: u32, target: u32, unmap: Option<u32>) -> Option<u32> {
        let number = self.around(unit * UNIT)?;
        let most = (self.units.resident() - target).div_ceil(UNIT);
        let least = self.extents.get(number).start.div_ceil(UNIT).max((unit + 1).saturating_sub(most));
        let first = (least..unit).rev().take_while(|&unit| self.spare.contains(unit)).last().unwrap_or(unit);
        let pages = first * UNIT..(unit + 1) * UNIT;
        match self.purge(number, pages.clone()) {
            Purge::Kept => return None,
            Purge::Lost => {}
            Purge::Zero => unmap.into_iter().for_each(|least| self.unmap_around(number, unit, least)),
        }
        Some(pages.end - pages.start)
    }

    /// Purges the free pages of a unit that is not spare, from the highest down; returns as [`purge_units`](Self::purge_units).
    fn purge_part(&mut self, unit: u32, target: u32, unmap: Option<u32>) -> Option<u32> {
        let grain = self.space.page_size();
        let mut pages = pages_of(unit);
        while let Some((number, part)) = self.next_free(&mut pages) {
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
        // What was purged before, with others between, may hold nothing side by side now.
        if let (Some(least), Some(number)) = (unmap, self.around(unit * UNIT)) {
            self.unmap_around(number, unit, least);
        }
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

    /// Where units side by side in an extent hold nothing, their addresses go back, if they are so many.
    fn unmap_around(&mut self, number: u32, unit: u32, least: u32) {
        let extent = self.extents.get(number);
        let inside = whole_units(&(extent.start..extent.end()));
        let holds_nothing = |&unit: &u32| self.space.is_mapped(unit) && self.units.is_fresh(unit);
        if !inside.contains(&unit) {
            return;
        }
        let first = (inside.start..unit).rev().take_while(holds_nothing).last().unwrap_or(unit);
        let last = (unit..inside.end).take_while(holds_nothing).last();
        let Some(empty) = last.map(|last| first..last + 1).filter(|empty| empty.len() >= least as usize) else {
            return;
        };
        let pages = empty.start * UNIT..empty.end * UNIT;
        match self.space.unmap(empty.clone()) {
            Some(true) => {
                self.mapped -= empty.len() as u32;
                if self.space.is_closed() {
                    self.forget(number, pages);
                }
            }
            Some(false) => {}
            None => self.leave_out(number, pages),
        }
    }
}
