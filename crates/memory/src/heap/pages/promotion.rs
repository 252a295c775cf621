//! Small pages come onto huge ones.

use std::ptr::NonNull;

use super::PageHeap;
use super::transit::Transit;
use crate::heap::classes::PAGE;
use crate::heap::space::{UNIT, UNITS};
use crate::heap::tuning::UNITS_A_PROMOTION;
use crate::os::{HUGE, Os};

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

impl<O: Os> PageHeap<O> {
    /// Whether a good part of what is in use grew by small pages, and may pay on huge ones.
    #[inline]
    pub(crate) fn is_promising(&self) -> bool {
        let promising = self.units.promising() * UNIT;
        promising > self.budget.in_use() / 16 && self.promoted.is_some() && self.filling.least().is_some()
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
        let end = (from + UNITS_A_PROMOTION).min(UNITS as u32);
        let unit = self.units.next_small(from..end, self.round);
        self.promoted = Some(unit.map_or(end, |unit| unit + 1));
        // What an errand is about is on its way to the system.
        let unit = unit.filter(|&unit| self.space.is_intact(unit));
        (unit.map(|unit| self.begin_promotion(unit, least)), true)
    }

    /// A unit to promote once, as the pages in transit came to fill it.
    pub(crate) fn promotion_of(&mut self, transit: &mut Transit) -> Option<Promotion<O>> {
        let unit = transit.promotion.take().filter(|&unit| self.space.is_intact(unit))?;
        Some(self.begin_promotion(unit, 0))
    }

    fn begin_promotion(&mut self, unit: u32, least: u32) -> Promotion<O> {
        self.units.try_whole(unit);
        Promotion { os: self.space.os().clone(), unit, at: self.space.address(unit * UNIT), least }
    }

    /// A promotion was run, with this result.
    pub(crate) fn promoted(&mut self, promotion: &Promotion<O>, whole: bool) {
        self.units.set_whole(promotion.unit, whole);
    }

    /// The process is a fork's child: a huge page would be a copy of what it shares with its parent.
    pub(crate) fn keep_shared(&mut self) {
        self.promoted = None;
    }
}
