//! When a search has to end although it could go on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A deadline, and a flag that somebody else may set. Without either, a search depends on nothing but what it is given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock<'a> {
    pub(crate) deadline: Option<Instant>,
    pub(crate) stop: Option<&'a AtomicBool>,
}

impl Clock<'_> {
    pub(crate) fn has_run_out(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}
