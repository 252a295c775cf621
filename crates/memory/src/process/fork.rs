//! Forks: the child finds the heap whole, whatever other threads were doing.
//!
//! The heap's lock is held while the process forks. The thread that forks passes it, so that handlers of other libraries, which run
//! before ours or after them, can allocate. Other threads wait; but not for long, as the fork may wait for what one of them has:
//! see [`aside`](super::aside). What lay in the caches of other threads stays where it is, lost to
//! the child: its copy of a stack may be of another instant than its copy of the stack's top.
#![allow(unsafe_code)]

use super::threads::{CURRENT, HOMELESS};
use super::{SHARED, Shared, aside, lock};
use crate::os;
use crate::sync::BREATH;
use crate::sync::atomic::Ordering::Relaxed;

/// How often others are waited for that have requests under way.
const TRIES: u32 = 20_000;

/// From now on.
pub(super) fn survive() {
    os::at_fork(Some(before), Some(in_parent), Some(in_child));
}

extern "C" fn before() {
    // What is under way ends soon, and is whole in the child then. If it does not, another thread stands still in the midst of it.
    for _ in 0..TRIES {
        if !SHARED.hold_for_fork() {
            // A handler around a fork forks.
            return;
        }
        if lock().under_way == 0 {
            return;
        }
        SHARED.release_after_fork();
        os::sleep(BREATH);
    }
    SHARED.hold_for_fork();
}

extern "C" fn in_parent() {
    release(|_| ());
}

extern "C" fn in_child() {
    release(Shared::close);
}

fn release(close: impl FnOnce(&mut Shared)) {
    // Not if the handlers were registered between the one and the other.
    if !SHARED.is_held_for_fork() {
        return;
    }
    close(&mut lock());
    SHARED.release_after_fork();
}

impl Shared {
    /// The calling thread is the only one now: what the others counted is taken over, and the memory of their caches.
    fn close(&mut self) {
        self.heap.keep_shared();
        self.under_way = 0;
        // Caches that were left are among those of the others.
        while aside::is_left() {
            aside::work_off(self);
        }
        let mine = CURRENT.get();
        for cache in self.caches.iter() {
            if !std::ptr::eq(cache, mine) {
                self.part_with(cache);
            }
        }
        self.caches.only_one_is_left();
        // The thread that gave memory back is none of the child's.
        self.begin_again(if mine.taken.load(Relaxed) { mine } else { &HOMELESS });
    }
}
