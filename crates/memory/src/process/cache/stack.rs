//! One class's stack in a cache: where its slots are, and how many of them are filled and leased.

use super::super::tuning::{STACK_BLOCKS, STACK_BYTES};
use super::add;
use crate::heap::classes::{CLASSES, KEPT_CLASSES, class_capacity};
use crate::sync::atomic::Ordering::{Relaxed, Release};
use crate::sync::atomic::{AtomicU32, AtomicUsize};

/// The most blocks in the stack of a class; of a kind of runs there is one.
pub(super) const fn depth(class: usize) -> usize {
    if class >= CLASSES {
        return 1;
    }
    let blocks = STACK_BYTES / class_capacity(class);
    if blocks > STACK_BLOCKS { STACK_BLOCKS } else { blocks }
}

/// Where each class's stack begins in a cache's slots, and the end of the last one.
pub(super) const BOTTOMS: [u32; KEPT_CLASSES + 1] = {
    let mut bottoms = [0; KEPT_CLASSES + 1];
    let mut class = 0;
    while class < KEPT_CLASSES {
        bottoms[class + 1] = bottoms[class] + depth(class) as u32;
        class += 1;
    }
    bottoms
};

/// All slots.
pub(super) const SLOTS: usize = BOTTOMS[KEPT_CLASSES] as usize;

/// One class's stack: the slots from `bottom` to the top are filled, and those up to `limit` leased.
///
/// The top is `pushed - popped`. With a counter for each way, a pair of an allocation and a free waits for one store to come back
/// from the store buffer, not for two: that is what its time consists of.
#[derive(Debug)]
pub(super) struct Stack {
    /// Allocations.
    pub(super) popped: AtomicUsize,
    /// Frees, and `base`.
    pub(super) pushed: AtomicUsize,
    pub(super) base: AtomicUsize,
    pub(super) bottom: AtomicU32,
    pub(super) limit: AtomicU32,
}

impl Stack {
    /// One that holds nothing and never will: it is both empty and full.
    pub(super) const fn none() -> Self {
        Self {
            popped: AtomicUsize::new(0),
            pushed: AtomicUsize::new(0),
            base: AtomicUsize::new(0),
            bottom: AtomicU32::new(0),
            limit: AtomicU32::new(0),
        }
    }

    #[inline]
    pub(super) fn top(&self) -> usize {
        self.pushed.load(Relaxed).wrapping_sub(self.popped.load(Relaxed))
    }

    pub(super) fn set_top(&self, top: usize) {
        let by = top.wrapping_sub(self.top());
        add(&self.pushed, by);
        add(&self.base, by);
    }

    /// Where it begins, shut or not.
    pub(super) fn bottom(&self) -> usize {
        self.bottom.load(Relaxed).min(self.limit.load(Relaxed)) as usize
    }

    pub(super) fn limit(&self) -> usize {
        self.bottom.load(Relaxed).max(self.limit.load(Relaxed)) as usize
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit as u32, Relaxed);
    }

    pub(super) fn lease(&self) -> usize {
        self.limit() - self.bottom()
    }

    /// Shut, the two are exchanged: wherever the top is, there is no block above the bottom, nor room below the limit.
    pub(super) fn shut(&self) {
        self.set(self.limit(), self.bottom());
    }

    pub(super) fn open(&self) {
        self.set(self.bottom(), self.limit());
    }

    /// As others do it.
    pub(super) fn set(&self, bottom: usize, limit: usize) {
        self.limit.store(limit as u32, Release);
        self.bottom.store(bottom as u32, Release);
    }
}
