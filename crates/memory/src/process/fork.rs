//! Forks: the child finds the heap whole, whatever other threads were doing.
//!
//! The heap's lock is held while the process forks. The thread that forks passes it, so that handlers of other libraries, which run
//! before ours or after them, can allocate. Other threads wait; but not for long, as the fork may wait for what one of them has:
//! see [`aside`]. What lay in the caches of other threads stays where it is, lost to
//! the child: its copy of a stack may be of another instant than its copy of the stack's top.
#![allow(unsafe_code)]

use super::threads::{CURRENT, HOMELESS};
use super::{SHARED, Shared, aside, leave_work, lock};
use crate::os;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::{BREATH, Hold};

/// How often others are waited for that have requests under way.
const TRIES: u32 = 20_000;

/// From now on.
pub(super) fn survive() {
    os::at_fork(Some(before), Some(in_parent), Some(in_child));
}

extern "C" fn before() {
    // What is under way ends soon, and is whole in the child then. If it does not, another thread stands still in the midst of it, or
    // this one does, where a signal's handler forks.
    for _ in 0..TRIES {
        let hold = SHARED.hold_for_fork();
        if hold != Hold::First {
            return;
        }
        let shared = lock();
        if shared.under_way == 0 || !shared.caches.are_many() {
            return;
        }
        drop(shared);
        SHARED.release_after_fork();
        os::sleep(BREATH);
    }
    SHARED.hold_for_fork();
}

extern "C" fn in_parent() {
    SHARED.release_after_fork();
}

extern "C" fn in_child() {
    // Not if the handlers were registered between the one and the other.
    if SHARED.is_held_for_fork() {
        lock().close();
        SHARED.release_after_fork();
    } else if SHARED.is_mine() {
        BEREFT.store(true, Relaxed);
        leave_work();
    }
}

/// This is a child, and not closed yet: its thread has the lock.
static BEREFT: AtomicBool = AtomicBool::new(false);

/// Whether who has the lock next is to close the child.
pub(super) fn is_bereft() -> bool {
    BEREFT.load(Relaxed)
}

impl Shared {
    /// The calling thread is the only one now: what the others counted is taken over, and the memory of their caches.
    pub(super) fn close(&mut self) {
        BEREFT.store(false, Relaxed);
        self.heap.keep_shared();
        self.under_way = 0;
        // Caches that were left are among those of the others.
        while aside::work_off(self) {}
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
