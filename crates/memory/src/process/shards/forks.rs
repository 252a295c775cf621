//! All locks, for a fork.

use super::common::COMMON;
use super::opening::OPENING;
use super::{Shard, all, mark};
use crate::os;
use crate::process::cache::Cache;
use crate::process::tuning::FORK_TRIES;
use crate::process::{CENTRAL, purger, threads};
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::{BREATH, Hold};

/// Threads that try to have all locks, for a fork: nobody begins more than is under way.
static FORKS_WANTED: AtomicU32 = AtomicU32::new(0);

/// Whether the process is about to fork.
#[inline]
pub(in crate::process) fn is_fork_wanted() -> bool {
    FORKS_WANTED.load(Relaxed) > 0
}

/// Holds all locks for a fork, until [`release_all`] was called as often. Where the calling thread stands in the midst of a request, as a
/// signal's handler forks, the lock that it has is left to it.
pub(in crate::process) fn hold_all() {
    FORKS_WANTED.fetch_add(1, Relaxed);
    // What is under way ends soon, and is whole in the child then. If it does not, another thread stands still in the midst of it.
    let is_held = (0..FORK_TRIES).any(|_| {
        match try_hold_all() {
            Some(Hold::First) if is_anything_under_way() => release_all(),
            Some(_) => return true,
            None => {}
        }
        os::sleep(BREATH);
        false
    });
    if !is_held {
        // The child will wait in vain for who has one of them and stands still.
        CENTRAL.hold_for_fork_soon();
        all().for_each(|shard| _ = shard.state.hold_for_fork_soon());
        COMMON.hold_for_fork_soon();
    }
    FORKS_WANTED.fetch_sub(1, Relaxed);
}

/// As [`hold_all`], once. `None` if one of them cannot be had soon: who has it may wait for one of the others.
fn try_hold_all() -> Option<Hold> {
    let hold = CENTRAL.hold_for_fork_soon()?;
    for (number, shard) in all().enumerate() {
        if shard.state.hold_for_fork_soon().is_none() {
            all().take(number).for_each(|shard| shard.state.release_after_fork());
            CENTRAL.release_after_fork();
            return None;
        }
    }
    COMMON.hold_for_fork();
    Some(hold)
}

/// Whether other threads have requests under way, as far as is known.
fn is_anything_under_way() -> bool {
    let is_under_way =
        |shard: &'static Shard| shard.state.is_held_for_fork() && shard.state.lock().is_anything_under_way();
    threads::are_many() && all().any(is_under_way)
}

/// The end of a fork, in the parent or in the child.
pub(in crate::process) fn release_all() {
    COMMON.release_after_fork();
    all().for_each(|shard| shard.state.release_after_fork());
    CENTRAL.release_after_fork();
}

/// What a thread has of the locks, at the end of a fork.
pub(in crate::process) enum ForkHold {
    All,
    /// All but one, with which it stands in the midst of a request.
    AllButMine,
    None,
}

pub(in crate::process) fn fork_hold() -> ForkHold {
    let is_mine = |shard: &'static Shard| shard.state.is_mine() && !shard.state.is_held_for_fork();
    if (CENTRAL.is_mine() && !CENTRAL.is_held_for_fork()) || all().any(is_mine) {
        ForkHold::AllButMine
    } else if CENTRAL.is_held_for_fork() {
        ForkHold::All
    } else {
        ForkHold::None
    }
}

/// This is a fork's child.
pub(in crate::process) fn only_one_thread_is_left() {
    OPENING.store(false, Relaxed);
    FORKS_WANTED.store(0, Relaxed);
    for shard in all() {
        let mut state = shard.state.lock();
        state.heap.keep_shared();
        state.under_way = 0;
    }
}

/// The parcels of all others than this one are nobody's. What is free in them is lost to a fork's child.
pub(in crate::process) fn abandon_others(cache: &Cache) {
    for shard in all() {
        let mut inside = shard.lock();
        inside.heap.abandon_others(mark(cache).as_ptr());
        purger::keep_within_idle_limit(inside);
    }
}
