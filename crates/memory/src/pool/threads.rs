//! Which stock is whose: each thread has one of its own in every pool to which it gave a small buffer.
//!
//! A stock has two owners: the pool, and the thread, which leaves it behind when it ends. A pool that is dropped empties
//! its stocks; their threads forget them when they next come by. After a fork, the stocks of threads that the child does not
//! have are lost to it: one of them may have been in the middle of something.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::sync::Arc;

use super::stock::Stock;
use crate::biased::Biased;
use crate::os;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

#[derive(Debug)]
pub(super) struct Member {
    /// Its owner is the thread that enlisted it.
    pub(super) stock: Biased<Stock>,
    /// The thread ended.
    gone: AtomicBool,
    /// The process whose thread it is, by the number of forks that led to it.
    process: AtomicU32,
}

impl Member {
    pub(super) fn new(stock: Stock) -> Self {
        Self { stock: Biased::new(stock), gone: AtomicBool::new(false), process: AtomicU32::new(FORKS.load(Relaxed)) }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Acquire)
    }

    /// Whether its thread is one of this process.
    pub(super) fn is_here(&self) -> bool {
        self.process.load(Relaxed) == FORKS.load(Relaxed)
    }
}

static FORKS: AtomicU32 = AtomicU32::new(0);

/// A pool's identity, never used twice. No thread can have stocks where the system has no fence for all threads.
pub(super) fn new_pool() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    if os::can_fence_threads() { NEXT.fetch_add(1, Relaxed) } else { NO_POOL }
}

const NO_POOL: u64 = u64::MAX;
/// Of no pool.
const NOTHING: (u64, Option<NonNull<Member>>) = (0, None);

/// How many pools a thread can use alternately without the registry.
const NEAR: usize = 4;

thread_local! {
    /// The stocks of the pools used last, or that there is none.
    static NEARBY: [Cell<(u64, Option<NonNull<Member>>)>; NEAR] = const { [const { Cell::new(NOTHING) }; NEAR] };
    static REGISTRY: Registry = const { Registry(RefCell::new(Vec::new())) };
}

/// All stocks of a thread. Its destructor is the thread's end.
struct Registry(RefCell<Vec<(u64, Arc<Member>)>>);

impl Drop for Registry {
    fn drop(&mut self) {
        NEARBY.with(|nearby| nearby.iter().for_each(|near| near.set(NOTHING)));
        self.0.get_mut().iter().for_each(|(_, member)| member.gone.store(true, Release));
    }
}

/// The calling thread's stock of a pool, if it is one of those used last.
///
/// It is valid as long as the pool, which keeps the stocks of all threads that did not end.
#[inline]
pub(super) fn nearby(pool: u64) -> Option<NonNull<Member>> {
    known(pool).flatten()
}

/// The calling thread's stock of a pool, valid as that of [`nearby`].
#[inline]
pub(super) fn mine(pool: u64) -> Option<NonNull<Member>> {
    known(pool).unwrap_or_else(|| find(pool))
}

/// What is at hand about the calling thread's stock of a pool.
#[inline]
fn known(pool: u64) -> Option<Option<NonNull<Member>>> {
    NEARBY.with(|nearby| {
        let (near, member) = nearby[pool as usize % NEAR].get();
        (near == pool).then_some(member)
    })
}

#[cold]
fn find(pool: u64) -> Option<NonNull<Member>> {
    let find = |registry: &Registry| {
        let registry = registry.0.borrow();
        registry.iter().find(|(other, _)| *other == pool).map(|(_, member)| NonNull::from(&**member))
    };
    // A thread that left its stocks has none.
    let member = REGISTRY.try_with(find).ok()?;
    remember(pool, member);
    member
}

/// Gives the calling thread a stock of a pool; `false` if it cannot have one.
pub(super) fn enlist(pool: u64, member: &Arc<Member>) -> bool {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if pool == NO_POOL {
        return false;
    }
    if !REGISTERED.swap(true, Relaxed) {
        os::at_fork(None, None, Some(in_child));
    }
    let add = |registry: &Registry| {
        let mut registry = registry.0.borrow_mut();
        // Those of pools that are no more.
        registry.retain(|(_, member)| Arc::strong_count(member) > 1);
        let room = registry.try_reserve(1).is_ok();
        if room {
            registry.push((pool, Arc::clone(member)));
        }
        room
    };
    let enlisted = REGISTRY.try_with(add).unwrap_or(false);
    if enlisted {
        remember(pool, Some(NonNull::from(&**member)));
    }
    enlisted
}

fn remember(pool: u64, member: Option<NonNull<Member>>) {
    NEARBY.with(|nearby| nearby[pool as usize % NEAR].set((pool, member)));
}

/// The thread that forked is the one that goes on.
extern "C" fn in_child() {
    let process = FORKS.load(Relaxed).wrapping_add(1);
    FORKS.store(process, Relaxed);
    let keep = |registry: &Registry| {
        if let Ok(registry) = registry.0.try_borrow() {
            registry.iter().for_each(|(_, member)| member.process.store(process, Relaxed));
        }
    };
    // A thread that forks at its very end has left its stocks.
    let _ = REGISTRY.try_with(keep);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::layout::SizeClasses;

    #[test]
    fn stocks_of_pools_that_are_no_more_are_forgotten() {
        let stock = || Stock::new(&Config::default(), SizeClasses::new(8, 64)).unwrap();
        let kept = Arc::new(Member::new(stock()));
        assert!(enlist(new_pool(), &kept));
        for _ in 0..100 {
            let pool = new_pool();
            assert!(enlist(pool, &Arc::new(Member::new(stock()))));
            assert!(mine(pool).is_some());
        }
        assert_eq!(REGISTRY.with(|registry| registry.0.borrow().len()), 2);
    }
}
