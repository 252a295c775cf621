//! Forks: the child finds the heap whole, whatever other threads were doing.
//!
//! All locks are held while the process forks. The thread that forks passes them, so that handlers of other libraries, which run
//! before ours or after them, can allocate. Other threads wait; but not for long, as the fork may wait for what one of them has:
//! see [`aside`]. What lay in the caches of other threads stays where it is, lost to
//! the child: its copy of a stack may be of another instant than its copy of the stack's top.

use super::shards::{self, ForkHold};
use super::threads::{self, at_hand};
use super::{CENTRAL, aside, leave_work, reach};
use crate::os;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::Relaxed;

/// From now on.
pub(super) fn survive() {
    os::at_fork(Some(before), Some(in_parent), Some(in_child));
}

extern "C" fn before() {
    shards::hold_all();
}

extern "C" fn in_parent() {
    shards::release_all();
}

extern "C" fn in_child() {
    match shards::fork_hold() {
        ForkHold::All => close(),
        // A signal's handler forked in the midst of a request, which goes on.
        ForkHold::AllButMine => {
            BEREFT.store(true, Relaxed);
            leave_work();
        }
        // The handlers were registered between the one and the other.
        ForkHold::None => {}
    }
    shards::release_all();
}

/// This is a child, and not closed yet: its thread stands in the midst of a request.
static BEREFT: AtomicBool = AtomicBool::new(false);

/// Whether who comes next is to close the child.
pub(super) fn is_bereft() -> bool {
    BEREFT.load(Relaxed)
}

/// The calling thread is the only one now: what the others counted is taken over, and the memory of their caches.
pub(super) fn close() {
    BEREFT.store(false, Relaxed);
    shards::only_one_thread_is_left();
    reach::only_one_thread_is_left();
    // Caches that were left are among those of the others.
    while aside::work_off() {}
    let mine = at_hand();
    shards::abandon_others(mine);
    loop {
        let other = CENTRAL.lock().caches.iter().find(|cache| !std::ptr::eq(*cache, mine));
        let Some(other) = other else { break };
        threads::part_with(other);
    }
    let mut central = CENTRAL.lock();
    central.caches.only_one_is_left();
    // The thread that gave memory back is none of the child's.
    central.begin_again(mine);
}
