//! How many pages may be resident: plain arithmetic.
//!
//! The budget follows the recent peak of what was in use, with some hundredths for gaps. Where steps repeat whose gaps need more than
//! that, the same memory would be given back and taken again each time; so what is given back for others' sake, while no more than
//! before is in use, widens it: the **slack**, at once by a quarter of that, and further with each tick in which it goes on, or each time that
//! half of the peak went back so.

use super::space::UNIT;
use super::tuning::MOST_PROOFS;
use crate::retention::{Retention, TICKS};

#[derive(Debug)]
pub(crate) struct Budget {
    retention: Retention,
    in_use: u32,
    /// The peak at which the heap was last seen to grow, the pages that were given back for others to take their place since the
    /// last tick and since that peak, those since the last proof, and the ticks in which these were many.
    settled: usize,
    evicted: usize,
    churned: usize,
    proven: usize,
    slack: usize,
    /// The most pages that may be in use, and resident but free.
    limit: u32,
    idle_limit: u32,
    /// Ticks since the last request.
    idle: usize,
}

impl Budget {
    pub(crate) const fn new() -> Self {
        Self {
            retention: Retention::new(),
            in_use: 0,
            settled: 0,
            evicted: 0,
            churned: 0,
            proven: 0,
            slack: 0,
            limit: u32::MAX,
            idle_limit: u32::MAX,
            idle: 0,
        }
    }

    pub(crate) fn in_use(&self) -> u32 {
        self.in_use
    }

    /// So many pages more are in use.
    #[inline]
    pub(crate) fn take(&mut self, pages: u32) {
        self.idle = 0;
        self.in_use += pages;
        self.retention.in_use(self.in_use as usize);
    }

    /// So many pages are in use no more.
    #[inline]
    pub(crate) fn give(&mut self, pages: u32) {
        self.in_use -= pages;
    }

    /// So many pages are in use, all in all.
    pub(crate) fn see(&mut self, pages: u32) {
        self.in_use = 0;
        self.take(pages);
    }

    pub(crate) fn set_limits(&mut self, in_use: u32, idle: u32) {
        (self.limit, self.idle_limit) = (in_use, idle);
    }

    /// Whether so many pages more may be in use.
    #[inline]
    pub(crate) fn allows(&self, more: u32) -> bool {
        more <= self.limit.saturating_sub(self.in_use)
    }

    /// Whether more is free than shall be, of so many resident pages.
    #[inline]
    pub(crate) fn exceeds_idle_limit(&self, resident: u32) -> bool {
        resident.saturating_sub(self.in_use) > self.idle_limit
    }

    /// The most pages that may be resident: a peak is seldom packed without any gaps, and the fewer its blocks are, the larger
    /// are these.
    pub(crate) fn pages(&self) -> u32 {
        let peak = self.retention.peak();
        self.capped(peak + peak / 32 + (peak / 8).min(2 * UNIT as usize) + self.slack)
    }

    /// The most pages that may be resident when a huge page takes more than is asked for: nobody may come to use the rest.
    pub(crate) fn huge_pages(&self) -> u32 {
        let peak = self.retention.peak();
        self.capped(peak + peak / 48 + (peak / 16).min(UNIT as usize))
    }

    fn capped(&self, pages: usize) -> u32 {
        let pages = u32::try_from(pages).unwrap_or(u32::MAX);
        pages.min(self.limit).min(self.in_use.saturating_add(self.idle_limit))
    }

    /// So many pages were given back for others to take their place. Where no more than before is in use, steps repeat whose gaps
    /// need more than the budget.
    pub(crate) fn learn(&mut self, evicted: u32) {
        let peak = self.retention.peak();
        if peak > self.settled + self.settled / 64 {
            self.settled = peak;
            self.churned = 0;
        } else {
            self.evicted += evicted as usize;
            self.churned += evicted as usize;
            if self.churned > peak / 2 {
                self.prove();
            }
            self.slack += evicted as usize / 4;
            self.limit_slack();
        }
    }

    fn prove(&mut self) {
        self.proven = (self.proven + 1).min(MOST_PROOFS);
        self.churned = 0;
    }

    fn limit_slack(&mut self) {
        self.slack = self.slack.min(self.most_slack());
    }

    fn most_slack(&self) -> usize {
        let peak = self.retention.peak();
        peak / 24 + (peak / 64 + UNIT as usize / 8) * self.proven
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self) {
        self.idle += 1;
        if self.is_at_rest() {
            self.proven = 0;
        } else if self.evicted > self.retention.peak() / 64 {
            self.prove();
        }
        self.evicted = 0;
        self.retention.tick(self.in_use as usize);
        self.settled = self.settled.min(self.retention.peak());
        self.limit_slack();
    }

    /// What shall be resident now that some time has passed: nothing free, if there were no requests.
    pub(crate) fn decayed(&self) -> u32 {
        if self.is_at_rest() { self.in_use } else { self.pages() }
    }

    /// Whether there were no requests for some ticks.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.idle > TICKS
    }

    /// Whether so much is free, of so many resident pages, that it is worth some work to give it back in time.
    #[inline]
    pub(crate) fn is_idle(&self, resident: u32) -> bool {
        resident.saturating_sub(self.in_use) > (self.in_use / 16).max(UNIT / 8)
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn check(&self) {
        assert!(self.slack <= self.most_slack(), "{} pages of slack", self.slack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peak of a GiB, reached and left.
    fn grown() -> Budget {
        let mut budget = Budget::new();
        budget.take(1 << 18);
        budget.learn(0);
        budget.give(1 << 18);
        budget
    }

    #[test]
    fn it_follows_the_recent_peak_and_forgets_it() {
        let mut budget = grown();
        let peak = 1 << 18;
        assert_eq!(budget.pages(), peak + peak / 32 + 2 * UNIT);
        assert!(budget.huge_pages() < budget.pages());
        (0..TICKS).for_each(|_| budget.tick());
        assert_eq!(budget.pages(), 0);
    }

    #[test]
    fn limits_cap_it() {
        let mut budget = grown();
        budget.set_limits(1 << 17, u32::MAX);
        assert_eq!(budget.pages(), 1 << 17);
        assert!(budget.allows(1 << 17) && !budget.allows((1 << 17) + 1));
        budget.set_limits(u32::MAX, 100);
        assert_eq!(budget.pages(), 100);
        assert!(budget.exceeds_idle_limit(101) && !budget.exceeds_idle_limit(100));
        budget.take(50);
        assert_eq!((budget.pages(), budget.exceeds_idle_limit(150)), (150, false));
    }

    #[test]
    fn what_repeats_widens_it_and_no_more_than_it_may() {
        let (mut budget, peak) = (grown(), 1 << 18);
        let before = budget.pages();
        budget.take(peak);
        budget.learn(4000);
        assert_eq!(budget.pages(), before + 1000);
        // Little at a time: with each tick.
        for ticks in 0..20 {
            (0..14).for_each(|_| budget.learn(peak / 100));
            budget.take(0);
            budget.check();
            let slack = match ticks {
                0 => 1000 + 14 * (peak / 100 / 4),
                ticks => peak / 24 + (peak / 64 + UNIT / 8) * MOST_PROOFS.min(ticks) as u32,
            };
            assert_eq!(budget.pages(), before + slack);
            budget.tick();
        }
        // Growth proves nothing.
        budget.take(peak / 2);
        let grown = budget.pages();
        budget.learn(1 << 20);
        assert_eq!(budget.pages(), grown);
    }

    #[test]
    fn what_repeats_fast_widens_it_at_once() {
        let (mut budget, peak) = (grown(), 1 << 18);
        let before = budget.pages();
        budget.take(peak);
        for halves in 1..20 {
            budget.learn(peak / 2 + 1);
            budget.learn(peak / 8);
            assert_eq!(budget.pages(), before + peak / 24 + (peak / 64 + UNIT / 8) * MOST_PROOFS.min(halves) as u32);
        }
    }

    #[test]
    fn what_rests_needs_nothing() {
        let mut budget = grown();
        budget.take(1000);
        (0..=TICKS).for_each(|_| budget.tick());
        assert!(budget.is_at_rest());
        assert_eq!(budget.decayed(), 1000);
        budget.take(0);
        assert!(!budget.is_at_rest());
        assert!(budget.decayed() > 1000);
        assert!(!budget.is_idle(1000 + UNIT / 8) && budget.is_idle(1001 + UNIT / 8));
    }
}
