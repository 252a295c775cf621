//! What the caches of all threads together may hold beyond a share of their own: portions, taken and given back.

use super::shards;
use super::tuning::{POT_PORTION, SMALL_POT, SMALL_POT_OF_RUNS};
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicUsize};

static TAKEN: Taken = Taken(AtomicUsize::new(0));

/// In a cache line that is read more often than written.
#[repr(align(128))]
struct Taken(AtomicUsize);

/// What caches hold of a small program is not much, whatever part of it; what they spare a large one does not grow with it.
fn size() -> usize {
    let in_use = shards::in_use();
    SMALL_POT.saturating_sub(in_use / 16).max(in_use / 128)
}

/// So many bytes are the caller's from now on; or there are none; or it is to give so many back.
pub(super) enum Answer {
    Portion(usize),
    Empty,
    Overdrawn(usize),
}

/// Asks for a portion.
pub(super) fn ask() -> Answer {
    let size = size();
    // Mostly all is taken: a look alone disturbs nobody.
    let taken = TAKEN.0.load(Relaxed);
    if taken > size {
        return Answer::Overdrawn(POT_PORTION);
    }
    if taken + POT_PORTION > size {
        return Answer::Empty;
    }
    if TAKEN.0.fetch_add(POT_PORTION, Relaxed) + POT_PORTION > size {
        give_back(POT_PORTION);
        return Answer::Empty;
    }
    Answer::Portion(POT_PORTION)
}

pub(super) fn give_back(bytes: usize) {
    TAKEN.0.fetch_sub(bytes, Relaxed);
}

/// What all caches have leased for runs.
static RUNS: Taken = Taken(AtomicUsize::new(0));

/// Whether so many bytes more may be leased for runs, more or less.
pub(super) fn has_room_for_runs(bytes: usize) -> bool {
    let in_use = shards::in_use();
    RUNS.0.load(Relaxed).saturating_add(bytes) <= SMALL_POT_OF_RUNS.saturating_sub(in_use / 32).max(in_use / 64)
}

/// So many bytes are leased for runs, or, as a difference below zero, that many fewer.
pub(super) fn lease_runs(bytes: usize) {
    if bytes != 0 {
        RUNS.0.fetch_add(bytes, Relaxed);
    }
}

/// What parcels have free beyond a little, in pages. It is their owners' to bound, and told here so that somebody looks after it.
static TOLD: Taken = Taken(AtomicUsize::new(0));

pub(super) fn tell(pages: usize) {
    TOLD.0.fetch_add(pages, Relaxed);
}

pub(super) fn tell_less(pages: usize) {
    TOLD.0.fetch_sub(pages, Relaxed);
}

/// Others noted much in some parcel whose owner has not seen it.
static MUCH_IS_NOTED: AtomicBool = AtomicBool::new(false);

#[inline]
pub(super) fn tell_of_noted() {
    if !MUCH_IS_NOTED.load(Relaxed) {
        MUCH_IS_NOTED.store(true, Relaxed);
    }
}

/// What others noted so far is looked after.
pub(super) fn noted_is_seen() {
    MUCH_IS_NOTED.store(false, Relaxed);
}

/// Whether threads keep more than a little.
#[inline]
pub(super) fn is_in_use() -> bool {
    TAKEN.0.load(Relaxed) > 0 || TOLD.0.load(Relaxed) > 0 || MUCH_IS_NOTED.load(Relaxed)
}
