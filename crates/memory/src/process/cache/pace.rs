//! When a cache's thread looks at the clock.

use std::cell::Cell;

use super::super::tuning::{CLOCK_STRIDE, CLOCK_STRIDE_AFTER_LOCK, CLOCK_STRIDE_AT_REST};
use super::Cache;

/// When a thread is to look at the clock next, counted in its requests: a clock is read in the time of several of these.
///
/// Where something is due, and visits find that it is not yet time, they become rarer; where they come late, they become more frequent.
/// The bounds are the most requests that a thread makes at a slower pace than before until it notices that time has passed.
#[derive(Debug)]
pub(super) struct Patience {
    left: Cell<i32>,
    stride: Cell<i32>,
}

impl Patience {
    /// The next request looks.
    pub(super) const fn none() -> Self {
        Self { left: Cell::new(0), stride: Cell::new(0) }
    }
}

impl Cache {
    /// One more request; returns whether its thread is to look at the clock.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        let left = self.patience.left.get() - 1;
        self.patience.left.set(left);
        left < 0
    }

    /// Nothing is due.
    pub(crate) fn rest(&self) {
        self.patience.left.set(CLOCK_STRIDE_AT_REST);
    }

    /// Something will be due: the next request looks.
    pub(crate) fn attend(&self) {
        self.patience.left.set(0);
        self.patience.stride.set(1);
    }

    /// Something is due, and more may be.
    #[inline]
    pub(crate) fn hasten(&self) {
        self.patience.left.set(self.patience.left.get().min(CLOCK_STRIDE_AFTER_LOCK));
        self.patience.stride.set(CLOCK_STRIDE_AFTER_LOCK / 4);
    }

    /// Something is due, and this visit was early for it, or late.
    pub(crate) fn pace(&self, early: bool) {
        let stride = self.patience.stride.get();
        let stride = if early { stride * 4 } else { stride / 4 }.clamp(1, CLOCK_STRIDE);
        self.patience.stride.set(stride);
        self.patience.left.set(stride);
    }
}
