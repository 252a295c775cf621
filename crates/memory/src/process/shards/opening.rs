//! Where a thread moves that had to wait too often, and how a shard comes to be.
#![allow(unsafe_code)]

use std::ptr::{self, NonNull};

use super::{COUNT, FIRST, HOMELESS, Inside, ORIGIN, OTHERS, ROOM, Shard};
use crate::heap::classes::PAGE;
use crate::heap_config::HugePages;
use crate::os::{self, Linux, Os};
use crate::process::cache::Cache;
use crate::process::tuning::{SHARD_LEAST_ADDRESSES, SHARDS};
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicUsize};

/// The homes given away so far, from the second one on; no more, once a shard could not be had.
static HOMES: AtomicUsize = AtomicUsize::new(1);
static IS_FULL: AtomicBool = AtomicBool::new(false);

/// Somebody opens one, or changes what all share.
pub(super) static OPENING: AtomicBool = AtomicBool::new(false);

/// The next home in turn is the calling thread's.
#[cold]
pub(super) fn move_house(cache: &Cache) {
    let most = if IS_FULL.load(Relaxed) { COUNT.load(Acquire) } else { os::processors().min(SHARDS) };
    let home = HOMES.fetch_add(1, Relaxed) % most.max(1);
    if home < COUNT.load(Acquire) || open(home) {
        cache.set_home(home);
    }
}

/// Opens the next shard, if it is this one; returns whether it is open.
fn open(number: usize) -> bool {
    // Others stay where they are meanwhile.
    if OPENING.swap(true, Acquire) {
        return false;
    }
    // Where the process forks, who asks now stays where it is, too.
    if let Some(first) = FIRST.enter() {
        open_next(first);
    }
    OPENING.store(false, Release);
    number < COUNT.load(Acquire)
}

/// Opens one more, or notes that there can be no more.
fn open_next(mut first: Inside) {
    let (neighbourhood, policy) = (first.heap.neighbourhood(), first.heap.policy());
    drop(first);
    let count = COUNT.load(Acquire);
    let made = neighbourhood.zip(OTHERS.get(count - 1)).and_then(|((wish, bytes), place)| {
        if count == 1 {
            let (origin, bytes) = Linux::addresses(wish, bytes, (SHARDS - 1) * SHARD_LEAST_ADDRESSES)?;
            ORIGIN.store(origin, Relaxed);
            ROOM.store((bytes / (SHARDS - 1)).ilog2(), Relaxed);
        }
        let room = 1 << ROOM.load(Relaxed);
        let shard = Shard::make(ORIGIN.load(Relaxed) + (count - 1) * room, room, policy)?;
        place.store(shard.as_ptr(), Release);
        Some(())
    });
    match made {
        Some(()) => COUNT.store(count + 1, Release),
        None => IS_FULL.store(true, Relaxed),
    }
}

impl Shard {
    /// What is mapped for a shard, and for the cache of those who have none.
    const BYTES: usize = size_of::<Self>().next_multiple_of(PAGE) + size_of::<Cache>().next_multiple_of(PAGE);

    /// What was mapped for it, if it was.
    pub(in crate::process) fn mapping(&'static self) -> Option<(NonNull<u8>, usize)> {
        (!ptr::eq(self, &FIRST)).then(|| (NonNull::from(self).cast(), Self::BYTES))
    }

    /// A new one with addresses of its own; `None` if there is no memory, or others have them.
    fn make(origin: usize, room: usize, policy: HugePages) -> Option<NonNull<Self>> {
        const { assert!(align_of::<Self>() <= PAGE && align_of::<Cache>() <= PAGE) };
        // What a new shard looks like: it is larger than the stack that a thread may have.
        static PATTERN: Shard = Shard::new(&HOMELESS);
        let bytes = Self::BYTES;
        let shard = Linux.map_anywhere(bytes, PAGE)?.cast::<Self>();
        // SAFETY: it was just mapped, large enough for both, and is nobody else's; nobody ever uses the pattern, so it is as it was
        // made; and all zero bytes are a barren cache.
        let made = unsafe {
            ptr::copy_nonoverlapping(&raw const PATTERN, shard.as_ptr(), 1);
            let homeless = shard.byte_add(size_of::<Self>().next_multiple_of(PAGE)).cast::<Cache>();
            (&raw mut (*shard.as_ptr()).homeless).write(homeless.as_ref());
            shard.as_ref()
        };
        // Nobody knows of it yet.
        let mut state = made.state.lock();
        state.heap.set_policy(policy);
        let opened = state.heap.open_at(origin, room, os::processors());
        drop(state);
        if opened.is_none() {
            // SAFETY: nobody ever will.
            unsafe { Linux.unmap(shard.cast(), bytes) };
        }
        opened.map(|()| shard)
    }
}
