//! What a thread's stock counts by itself, and how it is settled: bytes on their ways.

/// Bytes that are out, counted down from the most that were at once: a request that stays below it costs one subtraction.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Level {
    pub(super) peak: isize,
    /// How far what is out lies below the peak.
    below: usize,
}

impl Level {
    #[inline]
    pub(super) fn handed_out(&mut self, bytes: usize) {
        let (below, is_above) = self.below.overflowing_sub(bytes);
        self.below = below;
        if is_above {
            self.rise();
        }
    }

    #[cold]
    fn rise(&mut self) {
        self.forget_peak();
    }

    pub(super) fn forget_peak(&mut self) {
        self.peak = self.in_use();
        self.below = 0;
    }

    #[inline]
    pub(super) fn taken_back(&mut self, bytes: usize) {
        self.below = self.below.wrapping_add(bytes);
    }

    /// Takes over what went out and back since, in another place.
    pub(super) fn add(&mut self, later: &Self) {
        let in_use = self.in_use() + later.in_use();
        self.peak = self.peak.max(self.in_use() + later.peak);
        self.below = (self.peak - in_use).cast_unsigned();
    }

    /// Negative if more came back than was handed out here.
    #[inline]
    pub(super) fn in_use(&self) -> isize {
        self.peak.wrapping_sub_unsigned(self.below)
    }
}

/// Bytes on their ways out and back. In this order, as two sums side by side would be changed at once, by an instruction that waits for the single stores before it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Flow {
    /// All that came back.
    pub(super) back: usize,
    pub(super) out: Level,
}

impl Flow {
    #[inline]
    pub(super) fn handed_out(&mut self, bytes: usize) {
        self.out.handed_out(bytes);
    }

    #[inline]
    pub(super) fn taken_back(&mut self, bytes: usize) {
        self.out.taken_back(bytes);
        self.back = self.back.wrapping_add(bytes);
    }

    /// As [`Level::add`].
    pub(super) fn add(&mut self, later: &Self) {
        self.out.add(&later.out);
        self.back = self.back.wrapping_add(later.back);
    }
}

/// What a thread's stock counts by itself, until it is [settled](super::Counters::settle).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tab {
    pub(super) requested: Flow,
    pub(super) rounded: Level,
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

    /// Whether nothing was handed out or taken back: each has a size.
    #[inline]
    pub(super) fn is_blank(&self) -> bool {
        self.requested.out.peak == 0 && self.requested.back == 0
    }

    /// Whether the next free makes a tick, for which the stock is to be settled.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.clock >= self.due
    }
}
