//! What a cache counts.

use super::{Cache, add};
use crate::heap::classes::KEPT_CLASSES;
use crate::sync::atomic::Ordering::Relaxed;

/// What was counted so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    pub(crate) allocated: usize,
    pub(crate) freed: usize,
    /// Allocations and frees of each class and kind.
    pub(crate) allocations: [u64; KEPT_CLASSES],
    pub(crate) frees: [u64; KEPT_CLASSES],
    /// Bytes in the pages of runs that came in use without a lock, less those that went out of it so.
    pub(crate) runs_rounded: usize,
}

impl Tally {
    pub(crate) const fn new() -> Self {
        Self { allocated: 0, freed: 0, allocations: [0; KEPT_CLASSES], frees: [0; KEPT_CLASSES], runs_rounded: 0 }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.allocated = self.allocated.wrapping_add(other.allocated);
        self.freed = self.freed.wrapping_add(other.freed);
        self.runs_rounded = self.runs_rounded.wrapping_add(other.runs_rounded);
        for (sums, more) in [(&mut self.allocations, &other.allocations), (&mut self.frees, &other.frees)] {
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
    }
}

impl Cache {
    /// Counts a block that changed its size in place.
    #[inline]
    pub(crate) fn resized(&self, old: usize, new: usize) {
        // Which of both it is may differ at random: no branch.
        self.count_freed(old.saturating_sub(new));
        self.count_allocated(new.saturating_sub(old));
    }

    #[inline]
    pub(super) fn count_allocated(&self, size: usize) {
        let allocated = add(&self.allocated, size);
        let above = allocated.wrapping_sub(self.ceiling.load(Relaxed)).cast_signed();
        if above > 0 {
            self.ceiling.store(allocated, Relaxed);
            self.peak.store(self.peak.load(Relaxed).wrapping_add(above), Relaxed);
        }
    }

    #[inline]
    pub(super) fn count_freed(&self, size: usize) {
        add(&self.ceiling, size);
    }

    /// Counts a request that the stacks did not serve.
    pub(crate) fn served(&self, class: Option<usize>, size: usize) {
        if let Some(class) = class {
            let stack = &self.stacks[class];
            add(&stack.popped, 1);
            add(&stack.pushed, 1);
            add(&stack.base, 1);
        }
        self.count_allocated(size);
    }

    /// Counts a free that the stacks did not take.
    pub(crate) fn freed(&self, class: Option<usize>, size: usize) {
        if let Some(class) = class {
            add(&self.stacks[class].base, usize::MAX);
        }
        self.count_freed(size);
    }

    /// What came in use since this was called last, and at most in between.
    pub(crate) fn settle(&self) -> (isize, isize) {
        let (allocated, settled, peak) =
            (self.allocated.load(Relaxed), self.settled.load(Relaxed), self.peak.load(Relaxed));
        let in_use = peak.wrapping_sub(self.ceiling.load(Relaxed).wrapping_sub(allocated).cast_signed());
        self.settled.store(in_use, Relaxed);
        self.peak.store(in_use, Relaxed);
        self.ceiling.store(allocated, Relaxed);
        (in_use.wrapping_sub(settled), peak.wrapping_sub(settled))
    }

    /// Adds what was counted.
    pub(crate) fn add_to(&self, tally: &mut Tally) {
        // What was freed is read first: it was allocated before.
        let freed = self.ceiling.load(Relaxed).wrapping_sub(self.peak.load(Relaxed).cast_unsigned());
        tally.freed = tally.freed.wrapping_add(freed);
        tally.allocated = tally.allocated.wrapping_add(self.allocated.load(Relaxed));
        tally.runs_rounded = tally.runs_rounded.wrapping_add(self.runs.rounded());
        for (class, stack) in self.stacks.iter().enumerate() {
            tally.allocations[class] += stack.popped.load(Relaxed) as u64;
            tally.frees[class] += stack.pushed.load(Relaxed).wrapping_sub(stack.base.load(Relaxed)) as u64;
        }
    }
}
