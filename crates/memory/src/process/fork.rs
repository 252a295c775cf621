//! Forks: the child finds the heap whole, whatever other threads were doing.
//!
//! The heap's lock is held while the process forks. What lay in the caches of other threads stays where it is, lost to
//! the child: its copy of a stack may be of another instant than its copy of the stack's top.
#![allow(unsafe_code)]

use crate::sync::atomic::Ordering::Relaxed;
use std::cell::UnsafeCell;

use super::purger::Purger;
use super::{CURRENT, SHARED, Shared};
use crate::os;
use crate::sync::LockGuard;

/// From now on.
pub(super) fn survive() {
    os::at_fork(Some(before), Some(in_parent), Some(in_child));
}

struct Held(UnsafeCell<Option<LockGuard<'static, Shared>>>);

// SAFETY: only the thread that forks uses it, between the handlers, and it holds the lock meanwhile.
unsafe impl Sync for Held {}

static HELD: Held = Held(UnsafeCell::new(None));

extern "C" fn before() {
    let guard = SHARED.lock();
    // SAFETY: we hold the lock, so no other thread is between the handlers.
    unsafe { *HELD.0.get() = Some(guard) };
}

extern "C" fn in_parent() {
    // SAFETY: this thread put the guard there.
    drop(unsafe { (*HELD.0.get()).take() });
}

extern "C" fn in_child() {
    // SAFETY: as above; the child's only thread is a copy of the one that put it there.
    let Some(mut shared) = (unsafe { (*HELD.0.get()).take() }) else { return };
    shared.purger = Purger::Asleep;
    shared.heap.keep_shared();
    let mine = CURRENT.get();
    for cache in shared.caches() {
        if !std::ptr::eq(cache, mine) && cache.taken.load(Relaxed) {
            shared.tallies.retire(cache);
            cache.taken.store(false, Relaxed);
        }
    }
}
