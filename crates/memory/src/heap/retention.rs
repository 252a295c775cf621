//! How much physical memory the heap may hold: what the recent working set used at its peak, and a little more.
//!
//! Time is cut into ticks. Each remembers its peak of pages in use; the budget follows the largest of the last few. So a step
//! that repeats finds its memory where it left it, fragmentation beyond the slack is given back before new memory is
//! taken, and what the program no longer reaches for is given back some ticks later.

/// How many ticks are remembered. A tick is the decay time divided by this.
pub(crate) const TICKS: usize = 4;

#[derive(Debug)]
pub(crate) struct Retention {
    peaks: [u32; TICKS],
    now: usize,
}

impl Retention {
    pub(crate) const fn new() -> Self {
        Self { peaks: [0; TICKS], now: 0 }
    }

    #[inline]
    pub(crate) fn in_use(&mut self, pages: u32) {
        if pages > self.peaks[self.now] {
            self.peaks[self.now] = pages;
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, in_use: u32) {
        self.now = (self.now + 1) % TICKS;
        self.peaks[self.now] = in_use;
    }

    /// The most pages that may be resident, as far as it takes whole units to keep to it: a peak is seldom packed without
    /// any gaps, nor does it end with a unit.
    pub(crate) fn budget(&self) -> u32 {
        let peak = self.peak();
        peak.saturating_add(peak / 48).saturating_add(super::units::UNIT)
    }

    /// The most pages that may be resident at the price of breaking huge pages.
    pub(crate) fn limit(&self) -> u32 {
        self.budget().saturating_add(self.peak() / 16)
    }

    fn peak(&self) -> u32 {
        self.peaks.iter().copied().fold(0, u32::max)
    }
}
