//! How much memory the recent working set needed at its peak.
//!
//! Time is cut into ticks, of a clock or of a counter. Each remembers the peak of what was in use; the largest of the last few
//! is what is worth keeping. So a step that repeats finds its memory where it left it, and what the program no longer
//! reaches for is given back some ticks later.

/// How many ticks are remembered.
pub(crate) const TICKS: usize = 4;

#[derive(Clone, Debug)]
pub(crate) struct Retention {
    peaks: [usize; TICKS],
    now: usize,
}

impl Retention {
    pub(crate) const fn new() -> Self {
        Self { peaks: [0; TICKS], now: 0 }
    }

    /// So much is in use now.
    #[inline]
    pub(crate) fn in_use(&mut self, amount: usize) {
        if amount > self.peaks[self.now] {
            self.peaks[self.now] = amount;
        }
    }

    /// Time has passed, and so much is in use.
    pub(crate) fn tick(&mut self, in_use: usize) {
        self.now = (self.now + 1) % TICKS;
        self.peaks[self.now] = in_use;
    }

    /// The recent peak.
    #[inline]
    pub(crate) fn peak(&self) -> usize {
        self.peaks.iter().copied().fold(0, usize::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_forgotten_after_so_many_ticks() {
        let mut retention = Retention::new();
        retention.in_use(100);
        retention.in_use(40);
        for _ in 1..TICKS {
            retention.tick(40);
            assert_eq!(retention.peak(), 100);
        }
        retention.tick(40);
        assert_eq!(retention.peak(), 40);
    }
}
