//! How blocks come back from the caches of threads that do not come by: under pressure from all, in time from those that make no requests.
//!
//! See [`Cache`]: a cache is called in, and, one fence of all threads later each, shut and emptied. Its thread may come by at any moment, and
//! has it back then. Where the system refuses the fence, what threads have stays theirs.

use super::cache::{Cache, Kept};
use super::shards::Visit;
use super::tuning::{BLOCKS_TAKEN_OUT, CALL_IN_TRIES};
use super::{CENTRAL, central, fork, pot, threads};
use crate::os;
use crate::sync::BREATH;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicU8};

/// Somebody does this.
static BUSY: AtomicBool = AtomicBool::new(false);

/// Whether the system fences threads.
static FENCE: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const GRANTED: u8 = 1;
const REFUSED: u8 = 2;

/// Whether caches can be called in, as far as is known.
pub(super) fn is_possible() -> bool {
    FENCE.load(Relaxed) != REFUSED
}

/// Whether it is so. The first to ask may have to wait for the system some milliseconds.
fn can_fence() -> bool {
    if FENCE.load(Relaxed) == UNKNOWN {
        FENCE.store(if os::can_fence_threads() { GRANTED } else { REFUSED }, Relaxed);
    }
    is_possible()
}

/// This is a fork's child.
pub(super) fn only_one_thread_is_left() {
    BUSY.store(false, Relaxed);
}

/// Calls in what lies in the caches of other threads; of those only that made no requests since this was asked last, if `only_idle`.
#[cold]
pub(super) fn call_in(only_idle: bool) {
    // The copy of a stack that a fork's child has may be of another instant than that of its top.
    if CENTRAL.is_held_for_fork() || fork::is_bereft() || !can_fence() {
        return;
    }
    let mut tries = if only_idle { 0 } else { CALL_IN_TRIES };
    while BUSY.swap(true, Acquire) {
        if tries == 0 {
            return;
        }
        tries -= 1;
        os::sleep(BREATH);
    }
    pot::noted_is_seen();
    if visit_all(|cache| cache.call_in(only_idle)) && fence() && visit_all(Cache::shut) && fence() {
        take_out_all();
    }
    BUSY.store(false, Release);
}

/// Whether it was done; if not, nothing is called in any more.
fn fence() -> bool {
    let fenced = os::fence_threads();
    if !fenced {
        FENCE.store(REFUSED, Relaxed);
        visit_all(|cache| {
            cache.call_off();
            false
        });
    }
    fenced
}

/// Returns whether any answered so.
fn visit_all(visit: impl Fn(&Cache) -> bool) -> bool {
    let mut any = false;
    threads::see_all(central, |cache| any |= visit(cache)).is_some() && any
}

fn take_out_all() {
    let Some(mut central) = central() else { return };
    let Some(walk) = central.caches.begin_walk() else { return };
    while let Some(cache) = central.caches.walk_on(walk) {
        let mut class = Some(0);
        while let Some(from) = class
            && central.caches.walk_at(walk).is_some()
        {
            let mut kept: [Option<Kept>; BLOCKS_TAKEN_OUT] = [None; BLOCKS_TAKEN_OUT];
            let mut count = 0;
            class = cache.take_out(from, BLOCKS_TAKEN_OUT, |one| {
                kept[count] = Some(one);
                count += 1;
            });
            if count == 0 {
                continue;
            }
            // Whoever waits for a lock gets it in between.
            central.let_others();
            let mut visit = Visit::default();
            kept.into_iter().flatten().for_each(|one| match one {
                Kept::Block(class, block) => visit.give(class, block),
                Kept::Pages(parcel, these) => visit.give_taken(parcel, these),
            });
            drop(visit);
            let Some(again) = self::central() else { return threads::abandon_walk(walk) };
            central = again;
        }
    }
    central.caches.end_walk(walk);
}
