//! What threads have of their own, under loom: every interleaving of what they share. `ci/loom` runs it.
//!
//! The files are compiled here once more, over atomics that loom watches and a heap behind loom's lock.
#![cfg(loom)]
#![allow(missing_docs, unsafe_code, unreachable_pub, dead_code, clippy::expect_used)]

#[path = "../../src/biased.rs"]
mod biased;

#[path = "../../src/process/cache/mod.rs"]
mod cache;

#[path = "../../src/process/parcels.rs"]
mod parcels;

#[path = "../../src/process/tuning.rs"]
mod tuning;

#[path = "../../src/heap/parcel.rs"]
mod parcel;

#[path = "../../src/heap/classes.rs"]
mod classes;

/// Nobody has more than a share of its own.
mod pot {
    pub(crate) enum Answer {
        Portion(usize),
        Empty,
        Overdrawn(usize),
    }

    pub(crate) fn ask() -> Answer {
        Answer::Empty
    }

    pub(crate) fn give_back(_: usize) {}

    pub(crate) fn has_room_for_runs(_: usize) -> bool {
        true
    }

    pub(crate) fn lease_runs(_: usize) {}

    pub(crate) fn tell(_: usize) {}

    pub(crate) fn tell_less(_: usize) {}
}

/// Nothing is served aside.
mod aside {
    /// # Safety
    /// None is needed.
    pub(crate) unsafe fn take_back(_: std::ptr::NonNull<u8>) -> bool {
        false
    }
}

mod errors;
mod heap;
mod os;
mod sync;

/// As in the crate.
mod error {
    pub(crate) use crate::errors::{AllocError, AllocErrorKind};
}
use errors::Refused;

mod cells;
#[macro_use]
mod per_thread;

#[path = "../../src/listed.rs"]
mod listed;

#[path = "../../src/pressure.rs"]
mod pressure;

#[path = "../../src/retention.rs"]
mod retention;

#[path = "../../src/backing/limit.rs"]
mod limit;

mod budgets;
mod caches;
mod leaving;
mod owners;
