//! What only one thread at a time can do, in a build that measures it (`--cfg tenzor_serial`): how long locks are held, and calls take that
//! change the process's mappings.
#![allow(unsafe_code)]

use crate::os;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Processor cycles where they can be counted, nanoseconds elsewhere.
pub(crate) fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every such processor has it.
    return unsafe { std::arch::x86_64::_rdtsc() };
    #[cfg(not(target_arch = "x86_64"))]
    return os::clock();
}

/// The nanoseconds of a tick.
pub(crate) fn tick() -> f64 {
    let (start, clock) = (ticks(), os::clock());
    while os::clock() - clock < 10_000_000 {}
    (os::clock() - clock) as f64 / (ticks() - start) as f64
}

/// How often something was held, and for how many ticks.
#[derive(Debug)]
pub(crate) struct Meter {
    since: AtomicU64,
    times: AtomicU64,
    ticks: AtomicU64,
}

impl Meter {
    pub(crate) const fn new() -> Self {
        Self { since: AtomicU64::new(0), times: AtomicU64::new(0), ticks: AtomicU64::new(0) }
    }

    /// For who holds it.
    pub(crate) fn begin(&self) {
        self.since.store(ticks(), Relaxed);
    }

    pub(crate) fn end(&self) {
        self.add(ticks().wrapping_sub(self.since.load(Relaxed)));
    }

    fn add(&self, ticks: u64) {
        self.times.fetch_add(1, Relaxed);
        self.ticks.fetch_add(ticks, Relaxed);
    }

    pub(crate) fn so_far(&self) -> (u64, u64) {
        (self.times.load(Relaxed), self.ticks.load(Relaxed))
    }
}

/// Calls that change the process's mappings: each holds the system's lock for at most as long as it takes.
pub(crate) static MAPPINGS: Meter = Meter::new();

/// Measures such a call.
pub(crate) fn call<T>(call: impl FnOnce() -> T) -> T {
    let start = ticks();
    let result = call();
    MAPPINGS.add(ticks().wrapping_sub(start));
    result
}
