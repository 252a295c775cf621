//! What is free goes back to the system, by calls that are made without the heap's lock.
//!
//! A **goal** says how much shall stay. Who pursues it asks for the next [errand](Errand), runs it, and tells what it came back with, until
//! there is none. Meanwhile the errand's pages are out of the extents, as a run's would be.

use std::ops::Range;

use super::PageHeap;
use crate::heap::extents::Extent;
use crate::heap::space::{Came, Errand, Return, UNIT, pages_of, whole_units};
use crate::heap::tuning::{FREE_RANGES_LOOKED_AT, PURGED_UNITS, UNITS_LOOKED_AT, UNITS_WORTH_A_MAPPING};
use crate::os::Os;

/// Pages that are purged in one call, but for a unit more.
const PURGED_PAGES: u32 = PURGED_UNITS * UNIT;

/// How many pages stay resident: what others have in use meanwhile counts.
#[derive(Clone, Copy, Debug)]
enum Stay {
    InUse,
    Budget,
    Decayed,
    /// So many.
    Pages(u32),
}

/// What shall go back to the system, as far as it is free: first whole units, then what breaks huge pages.
#[derive(Debug)]
pub(crate) struct Goal {
    stay: Stay,
    /// So many are looked at.
    left: u32,
    /// Addresses of so many units side by side go back as well.
    unmap: Option<u32>,
    /// A unit that holds nothing any more.
    emptied: Option<u32>,
    /// Then all that is mapped is looked at, so many units of it, and some of their pages.
    sweeps: bool,
    units: u32,
    looks: u32,
    /// Pages that went back.
    gone: u32,
    /// Some of what is free was resident.
    finds: bool,
    /// The system takes nothing back.
    is_refused: bool,
    is_paused: bool,
    is_over: bool,
}

impl Goal {
    fn new(stay: Stay, left: u32, unmap: Option<u32>) -> Self {
        Self {
            stay,
            left,
            unmap,
            emptied: None,
            sweeps: false,
            units: 0,
            looks: 0,
            gone: 0,
            finds: false,
            is_refused: false,
            is_paused: false,
            is_over: false,
        }
    }

    /// The pages that went back for it so far.
    pub(crate) fn gone(&self) -> u32 {
        self.gone
    }

    /// Whether there is more to do under another one like it, once no errand is left.
    pub(crate) fn is_unmet(&self) -> bool {
        // Where all shall go back, what was refused is tried again as long as other memory goes.
        !self.is_over && (!self.is_refused || (self.sweeps && self.gone > 0))
    }

    /// Whether much was looked at in vain under one hold of the lock.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }
}

impl<O: Os> PageHeap<O> {
    /// Time has passed.
    pub(crate) fn tick(&mut self) {
        self.budget.tick();
        self.filling.look_again();
    }

    /// What the last ticks did not need goes back, or everything free if they needed nothing: a piece of it.
    pub(crate) fn decay(&self) -> Goal {
        Goal::new(Stay::Decayed, PURGED_PAGES, Some(UNITS_WORTH_A_MAPPING))
    }

    /// All free memory goes back, and addresses: a piece of it.
    pub(crate) fn trim(&self) -> Goal {
        Goal { sweeps: true, ..Goal::new(Stay::InUse, PURGED_PAGES, Some(1)) }
    }

    /// What is more than may be resident goes back.
    pub(crate) fn keep_budget(&self) -> Goal {
        Goal::new(Stay::Budget, u32::MAX, None)
    }

    /// So many free pages go back, for others to take their place, or a piece of them.
    pub(crate) fn evict(&self, pages: u32) -> Goal {
        Goal::new(Stay::Pages(self.staying().saturating_sub(pages)), PURGED_PAGES, None)
    }

    /// The pages that are resident beyond what shall stay.
    fn excess(&self, goal: &Goal) -> u32 {
        let stay = match goal.stay {
            Stay::InUse => self.budget.in_use(),
            Stay::Budget => self.budget.pages(),
            Stay::Decayed => self.budget.decayed(),
            Stay::Pages(pages) => pages,
        };
        self.staying().saturating_sub(stay)
    }

    /// Resident pages that no errand is about.
    pub(crate) fn staying(&self) -> u32 {
        self.units.resident() - self.away
    }

    /// The next call to the system for a goal. If there is none, others may be [let in](Goal::is_paused) before it is asked for again.
    pub(crate) fn errand(&mut self, goal: &mut Goal) -> Option<Errand<O>> {
        self.merge();
        let mut barren = 0;
        goal.is_paused = false;
        loop {
            if let (Some(unit), Some(least)) = (goal.emptied.take(), goal.unmap)
                && let Some(errand) = self.unmap_around(unit, least)
            {
                return Some(errand);
            }
            let excess = self.excess(goal);
            if goal.is_refused || excess == 0 {
                break;
            }
            if goal.left == 0 {
                return None;
            }
            if let Some(unit) = self.spare.last() {
                let errand = self.purge_units(unit, goal, excess);
                goal.is_refused = errand.is_none();
                return errand;
            }
            let Some(unit) = self.partly.last() else { break };
            let errand = self.purge_part(unit, goal, excess);
            if errand.is_some() || goal.is_refused {
                return errand;
            }
            // What was purged before, with others between, may hold nothing side by side now.
            self.partly.remove(unit);
            goal.emptied = Some(unit);
            goal.left = goal.left.saturating_sub(UNIT);
            barren += 1;
            if barren == UNITS_LOOKED_AT {
                goal.is_paused = true;
                return None;
            }
        }
        if goal.sweeps && self.staying() == self.budget.in_use() {
            return self.sweep(goal);
        }
        goal.is_over = !goal.is_refused;
        None
    }

    /// A spare unit, with those before it.
    fn purge_units(&mut self, unit: u32, goal: &mut Goal, excess: u32) -> Option<Errand<O>> {
        let number = self.around(unit * UNIT)?;
        let most = excess.min(goal.left).min(PURGED_PAGES).div_ceil(UNIT);
        let least = self.extents.get(number).start.div_ceil(UNIT).max((unit + 1).saturating_sub(most));
        let first = (least..unit).rev().take_while(|&unit| self.spare.contains(unit)).last().unwrap_or(unit);
        goal.left = goal.left.saturating_sub((unit + 1 - first) * UNIT);
        self.purge(number, first * UNIT..(unit + 1) * UNIT, false)
    }

    /// Some free pages of a unit that is not spare, the highest of those side by side. `None` if none of them is resident, or the system
    /// takes nothing back.
    fn purge_part(&mut self, unit: u32, goal: &mut Goal, excess: u32) -> Option<Errand<O>> {
        let grain = self.space.page_size();
        let needed = excess.next_multiple_of(grain);
        let mut pages = pages_of(unit);
        while let Some((number, part)) = self.next_free(&mut pages) {
            let low = part.start.next_multiple_of(grain);
            let mut high = part.end.min(unit * UNIT + self.space.mapped(unit)) / grain * grain;
            while high > low {
                let from = low.max(high.saturating_sub(needed));
                if self.units.extent(from..high).resident() > 0 {
                    let errand = self.purge(number, from..high, false);
                    goal.is_refused = errand.is_none();
                    return errand;
                }
                high = from;
            }
        }
        None
    }

    /// Looks at what is mapped and free, and holds nothing as far as is known. Units' addresses go back; and what is resident all
    /// the same, as `mlockall` touches whatever is mapped, is purged.
    fn sweep(&mut self, goal: &mut Goal) -> Option<Errand<O>> {
        let grain = self.space.page_size();
        while let Some(unit) = self.space.next_mapped(self.swept / UNIT) {
            if goal.units == UNITS_LOOKED_AT || goal.left == 0 {
                return None;
            }
            let mut pages = self.swept.max(unit * UNIT)..unit * UNIT + self.space.mapped(unit);
            if pages.start == unit * UNIT
                && let Some(errand) = self.unmap_around(unit, 1)
            {
                return Some(errand);
            }
            while (goal.looks < FREE_RANGES_LOOKED_AT || goal.finds)
                && !goal.is_refused
                && let Some((number, part)) = self.next_free(&mut pages)
            {
                goal.looks += 1;
                self.swept = part.end;
                let part = part.start.next_multiple_of(grain)..part.end / grain * grain;
                if !part.is_empty() {
                    let errand = self.purge(number, part.clone(), true);
                    goal.is_refused = errand.is_none();
                    goal.left = goal.left.saturating_sub(part.end - part.start);
                    return errand;
                }
            }
            goal.units += 1;
            self.swept = (unit + 1) * UNIT;
        }
        self.swept = 0;
        goal.is_over = true;
        None
    }

    /// Free pages of an extent, all mapped.
    fn purge(&mut self, number: u32, pages: Range<u32>, only_resident: bool) -> Option<Errand<O>> {
        self.prepare()?;
        let resident = self.units.extent(pages.clone()).resident();
        let errand = self.space.purge(pages.clone(), resident, only_resident)?;
        self.away += resident;
        self.send(number, pages);
        Some(errand)
    }

    /// Where units side by side in an extent hold nothing, their addresses, if they are so many.
    fn unmap_around(&mut self, unit: u32, least: u32) -> Option<Errand<O>> {
        let number = self.around(unit * UNIT)?;
        let extent = self.extents.get(number);
        let inside = whole_units(&(extent.start..extent.end()));
        let holds_nothing = |&unit: &u32| self.space.is_mapped(unit) && self.units.is_fresh(unit);
        if !inside.contains(&unit) {
            return None;
        }
        let first = (inside.start..unit).rev().take_while(holds_nothing).last().unwrap_or(unit);
        let last = (unit..inside.end).take_while(holds_nothing).last()?;
        let empty = first..last + 1;
        if empty.len() < least as usize {
            return None;
        }
        self.prepare()?;
        let errand = self.space.unmap(empty.clone())?;
        self.mapped -= empty.len() as u32;
        self.send(number, empty.start * UNIT..empty.end * UNIT);
        Some(errand)
    }

    /// Pages of an extent are an errand's.
    fn send(&mut self, number: u32, pages: Range<u32>) {
        self.runs += 1;
        self.cut_from(number, &pages);
    }

    /// An errand is back.
    pub(crate) fn returned(&mut self, goal: &mut Goal, with: Return) {
        let pages = with.pages();
        self.runs -= 1;
        self.away -= with.resident();
        match self.space.returned(&with) {
            Came::Refused => {
                goal.is_refused = true;
                self.note(pages, Self::put_back);
            }
            Came::Untouched => self.note(pages, Self::put_back),
            Came::Purged => {
                self.released += 1;
                goal.finds = true;
                self.filling.forget(&pages);
                if pages.len() >= UNIT as usize {
                    goal.emptied = Some(pages.start / UNIT);
                }
                goal.gone += self.units.purge(pages.clone());
                self.note(pages, Self::put_back);
            }
            Came::Unmapped => {
                self.released += 1;
                self.note(pages, Self::put_back);
            }
            Came::Lost => self.lost(pages),
            Came::Gone => {}
        }
    }

    /// An errand's pages are free again. Where they hold nothing, no unit has more to purge than before.
    fn put_back(&mut self, range: Extent) {
        if range.resident() == 0 {
            self.extents.give(range);
        } else {
            self.free(range);
        }
    }
}
