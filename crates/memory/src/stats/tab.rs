//! What a thread's stock counts by itself, and how it is settled: bytes on their ways.

/// Bytes on their ways out and back. With a sum for each, a pair of a request and a free waits for one store to come back from the
/// store buffer, not for two.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    pub(super) out: usize,
    pub(super) back: usize,
    /// The most that was out at once.
    pub(super) peak: isize,
}

impl Flow {
    #[inline]
    pub(super) fn handed_out(&mut self, bytes: usize) {
        self.out = self.out.wrapping_add(bytes);
        // A branch, as it is hardly ever taken and spares the store.
        if self.in_use() > self.peak {
            self.peak = self.in_use();
        }
    }

    #[inline]
    pub(super) fn taken_back(&mut self, bytes: usize) {
        self.back = self.back.wrapping_add(bytes);
    }

    /// Takes over what went out and back since, in another place.
    pub(super) fn add(&mut self, later: &Self) {
        self.peak = self.peak.max(self.in_use() + later.peak);
        self.out = self.out.wrapping_add(later.out);
        self.back = self.back.wrapping_add(later.back);
    }

    /// Negative if more came back than was handed out here.
    #[inline]
    pub(super) fn in_use(&self) -> isize {
        self.out.wrapping_sub(self.back).cast_signed()
    }
}

/// What a thread's stock counts by itself, until it is [settled](super::Counters::settle).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tab {
    pub(super) requested: Flow,
    pub(super) rounded: Flow,
    /// The number of the pool's frees, without those of other threads since it was settled.
    pub(super) clock: u64,
    pub(super) start: u64,
    /// The free after this one makes a tick.
    pub(super) due: u64,
}

impl Tab {
    #[inline]
    pub(crate) fn handed_out(&mut self, requested: usize, capacity: usize) {
        self.requested.handed_out(requested);
        self.rounded.handed_out(capacity);
    }

    /// Counts a free, and returns its number.
    #[inline]
    pub(crate) fn taken_back(&mut self, requested: usize, capacity: usize) -> u64 {
        self.requested.taken_back(requested);
        self.rounded.taken_back(capacity);
        self.clock += 1;
        self.clock
    }

    /// Whether the next free makes a tick, for which the stock is to be settled.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.clock >= self.due
    }
}
