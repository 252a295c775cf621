//! What forks do to pools: the child finds each of them whole, whatever other threads were doing.
//!
//! All pools are in one list. The thread that forks holds the list's lock and then each pool's, and shuts the owners of all stocks
//! out, with one fence for all of them: so in the child nobody is in the midst of anything.
//!
//! - *Nobody waits in a circle.* A pool is made and dropped under the list's lock alone, and under a pool's lock no other pool's
//!   is taken, nor is its backing called. Memory for its books may come from the process's heap: the heap's lock is always the
//!   inner one, so its handler around forks is registered first, to be called after ours.
//! - *The forking thread passes.* Others' handlers around forks run in it while it holds the locks, in the parent before and after the fork and
//!   in the child. They find their way through [`Lock`], with all that is written here done or to be done; what they have to wait
//!   for they do not get, as other threads wait for them. A pool that they make is held from the start.
//! - *Others wait.* What a handler that was registered before ours waits for, of a thread that waits for a pool, does not come. There
//!   is no way around a pool, as there is around the [heap](crate::process), since its limit has to hold; but as ours are registered
//!   when the process starts, only those of libraries that start before it can be in that place.
//! - *What is known to be whole stays.* In the child a stock of a thread that it does not have is as one of a thread that ended.
//!   What is lost is what other threads had in their hands: buffers that the backing was about to take or to grant. The books
//!   forget them, and the limit has room for as much.
//! - *What is not known to be free counts as in use.* Where the system refuses the fence, an owner may be in the midst of
//!   something. Such a stock is forgotten in the child with what lies there.
//! - *What the forking thread itself has on its way* (its backing forks) is forgotten with the rest and entered again when it
//!   arrives: each process has a number, by which a thread sees that it came through a fork.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::iter;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Once;

use super::state::PoolState;
use super::threads;
use crate::os;
use crate::process;
use crate::sync::{Hold, Lock};

/// A pool's state at its place in the list. *Listed*: what is in the list lives, as it leaves before it is dropped.
#[derive(Debug)]
pub(super) struct Listed(NonNull<Entry>);

struct Entry {
    state: Lock<PoolState>,
    /// Its neighbours, under the list's lock.
    before: Cell<Option<NonNull<Entry>>>,
    after: Cell<Option<NonNull<Entry>>>,
}

// SAFETY: it owns the entry, of which others use the state, which is `Send`, under its lock, and the neighbours under the list's.
unsafe impl Send for Listed {}
// SAFETY: as above.
unsafe impl Sync for Listed {}

#[derive(Debug)]
struct Pools {
    first: Option<NonNull<Entry>>,
}

// SAFETY: entries are reached under the lock, from any thread.
unsafe impl Send for Pools {}

static POOLS: Lock<Pools> = Lock::new(Pools { first: None });

/// From now on.
extern "C" fn survive() {
    static HANDLERS: Once = Once::new();
    HANDLERS.call_once(|| {
        process::at_fork(Some(before), Some(in_parent), Some(in_child));
    });
}

/// When the process starts, so that others' handlers come by before ours have the locks.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array")]
static EARLY: extern "C" fn() = survive;

impl Listed {
    pub(super) fn new(state: PoolState) -> Self {
        survive();
        let entry = Entry { state: Lock::new(state), before: Cell::new(None), after: Cell::new(None) };
        let home = Self(NonNull::from(Box::leak(Box::new(entry))));
        let mut pools = POOLS.lock();
        if pools.passed() {
            home.entry().begin_fork();
        }
        home.entry().after.set(pools.first);
        if let Some(second) = pools.first {
            // SAFETY: *Listed*: what is in the list lives.
            unsafe { second.as_ref() }.before.set(Some(home.0));
        }
        pools.first = Some(home.0);
        drop(pools);
        home
    }

    fn entry(&self) -> &Entry {
        // SAFETY: it is ours until we are dropped.
        unsafe { self.0.as_ref() }
    }
}

impl Deref for Listed {
    type Target = Lock<PoolState>;

    #[inline]
    fn deref(&self) -> &Lock<PoolState> {
        &self.entry().state
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut pools = POOLS.lock();
        let (before, after) = (self.entry().before.get(), self.entry().after.get());
        match before {
            // SAFETY: *Listed*.
            Some(before) => unsafe { before.as_ref() }.after.set(after),
            None => pools.first = after,
        }
        if let Some(after) = after {
            // SAFETY: *Listed*.
            unsafe { after.as_ref() }.before.set(before);
        }
        drop(pools);
        // SAFETY: it came from a box, is in no list any more, and this was the last to know of it.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl Entry {
    fn begin_fork(&self) {
        if self.state.hold_for_fork() != Hold::Interrupted {
            self.state.lock().begin_fork();
        }
    }
}

impl Pools {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        // SAFETY: *Listed*.
        let entry = |entry: NonNull<Entry>| unsafe { entry.as_ref() };
        iter::successors(self.first.map(entry), move |before| before.after.get().map(entry))
    }

    /// Every pool, as far as the calling thread holds it for the fork.
    fn each(&self, mut body: impl FnMut(&mut PoolState)) {
        self.entries().filter(|entry| entry.state.is_held_for_fork()).for_each(|entry| body(&mut entry.state.lock()));
    }
}

extern "C" fn before() {
    if POOLS.hold_for_fork() != Hold::First {
        return;
    }
    let pools = POOLS.lock();
    pools.entries().for_each(Entry::begin_fork);
    let mut others = false;
    pools.each(|state| {
        state.members.of_others().for_each(|member| {
            member.stock.shut();
            others = true;
        })
    });
    let fenced = !others || os::fence_threads();
    if !fenced {
        threads::give_up();
    }
    pools.each(|state| {
        state.still = fenced;
        if fenced {
            state.members.of_others().for_each(|member| member.stock.wait());
        }
    });
}

extern "C" fn in_parent() {
    // Not if the handlers were registered between the one and the other.
    if POOLS.is_held_for_fork() {
        if POOLS.forks() == 1 {
            POOLS.lock().each(PoolState::end_fork);
        }
        release();
    }
}

extern "C" fn in_child() {
    if POOLS.is_held_for_fork() {
        POOLS.lock().each(PoolState::close_in_child);
        release();
    }
}

/// The end of a fork in either process.
fn release() {
    if POOLS.forks() == 1 {
        POOLS.lock().entries().for_each(|entry| entry.state.release_after_fork());
    }
    POOLS.release_after_fork();
}
