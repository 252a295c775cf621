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

use std::ops::Deref;
use std::sync::Once;

use super::state::PoolState;
use super::threads;
use crate::listed::{self, List};
use crate::os;
use crate::process;
use crate::sync::{Hold, Lock};

/// A pool's state at its place in the list.
#[derive(Debug)]
pub(super) struct Listed(listed::Listed<Lock<PoolState>>);

type Pools = List<Lock<PoolState>>;

static POOLS: Lock<Pools> = Lock::new(List::new());

/// From now on.
pub(crate) extern "C" fn survive() {
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
        Self(listed::Listed::new(&POOLS, Lock::new(state), |state, pools| {
            if pools.passed() {
                begin_fork(state);
            }
        }))
    }
}

impl Deref for Listed {
    type Target = Lock<PoolState>;

    #[inline]
    fn deref(&self) -> &Lock<PoolState> {
        &self.0
    }
}

fn begin_fork(pool: &Lock<PoolState>) {
    if pool.hold_for_fork() != Hold::Interrupted {
        pool.lock().begin_fork();
    }
}

/// Every pool, as far as the calling thread holds it for the fork.
fn each(pools: &Pools, mut body: impl FnMut(&mut PoolState)) {
    pools.iter().filter(|pool| pool.is_held_for_fork()).for_each(|pool| body(&mut pool.lock()));
}

extern "C" fn before() {
    if POOLS.hold_for_fork() != Hold::First {
        return;
    }
    let pools = POOLS.lock();
    pools.iter().for_each(|pool| begin_fork(pool));
    let mut others = false;
    each(&pools, |state| {
        state.members.of_others().for_each(|member| {
            member.stock.shut();
            others = true;
        })
    });
    let fenced = !others || os::fence_threads();
    if !fenced {
        threads::give_up();
    }
    each(&pools, |state| {
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
            each(&POOLS.lock(), PoolState::end_fork);
        }
        release();
    }
}

extern "C" fn in_child() {
    if POOLS.is_held_for_fork() {
        each(&POOLS.lock(), PoolState::close_in_child);
        release();
    }
}

/// The end of a fork in either process.
fn release() {
    if POOLS.forks() == 1 {
        POOLS.lock().iter().for_each(|pool| pool.release_after_fork());
    }
    POOLS.release_after_fork();
}
