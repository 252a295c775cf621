//! The thread that gives idle memory back. It is there only while there is something to give back.

use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{Shared, lock};
use crate::config::DEFAULT_DECAY;
use crate::os;
use crate::retention::TICKS;
use crate::sync::LockGuard;

/// How long free memory stays idle before it is given back, in milliseconds; `NEVER` for ever.
pub(super) static DECAY: AtomicU64 = AtomicU64::new(DEFAULT_DECAY.as_millis() as u64);
pub(super) const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purger {
    /// There is none, as there was nothing to do.
    Asleep,
    Awake,
    /// There shall be none.
    Off,
    /// The system refused one: it is asked again after so many frees.
    Refused(u32),
}

const PATIENCE: u32 = 16;

/// Starts the thread if there is something to do and nobody does it.
#[inline]
pub(super) fn wake_if_needed(shared: LockGuard<'_, Shared>) {
    if matches!(shared.purger, Purger::Asleep | Purger::Refused(_)) && shared.heap.is_idle() {
        wake(shared);
    }
}

#[cold]
fn wake(mut shared: LockGuard<'_, Shared>) {
    if let Purger::Refused(more @ 1..) = shared.purger {
        shared.purger = Purger::Refused(more - 1);
        return;
    }
    if DECAY.load(Relaxed) == NEVER {
        shared.purger = Purger::Off;
        return;
    }
    shared.purger = Purger::Awake;
    // A new thread takes memory.
    drop(shared);
    if !os::spawn(purge) {
        lock().purger = Purger::Refused(PATIENCE);
    }
}

fn purge() {
    loop {
        let decay = DECAY.load(Relaxed);
        if decay != NEVER {
            std::thread::sleep(Duration::from_millis((decay / TICKS as u64).max(1)));
            lock().heap.tick();
            // Whoever waits for the lock gets it in between.
            while lock().heap.decay() {}
            while super::promote() {}
        }
        let mut shared = lock();
        if decay == NEVER || shared.heap.is_at_rest() {
            shared.purger = Purger::Asleep;
            return;
        }
    }
}
