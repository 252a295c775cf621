//! Which stock is whose: each thread has one of its own in every pool to which it gave a small buffer.
//!
//! A stock has two owners: the pool, and the thread, which leaves it behind when it ends. A pool that is dropped empties
//! its stocks; their threads forget them when they next come by. In the child of a fork, the other threads ended (see `forks`).
//!
//! Threads have stocks only where the system has a fence for all threads. Where it refuses one later, they give their stocks up.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::stock::Stock;
use super::tuning::POOLS_NEARBY;
use crate::biased::Biased;
use crate::os;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};
use crate::sync::this_thread;

#[derive(Debug)]
pub(super) struct Member {
    /// Its owner is the thread that enlisted it.
    pub(super) stock: Biased<Stock>,
    /// That thread, by [`this_thread`].
    thread: usize,
    /// It ended.
    gone: AtomicBool,
    /// The next of those whose threads ended.
    next: AtomicPtr<Member>,
    leavers: Arc<Leavers>,
    /// The index among the members of its pool.
    place: AtomicUsize,
}

impl Member {
    /// Whether its thread ended. All that it did is seen then.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Acquire)
    }

    /// Whether it is the calling thread's.
    pub(super) fn is_mine(&self) -> bool {
        self.thread == this_thread() && !self.is_gone()
    }

    /// Whether its thread does not come back to it: the pool's lock is enough to reach it.
    pub(super) fn is_at_rest(&self) -> bool {
        self.is_gone() || self.stock.has_left()
    }

    fn end(&self) {
        self.gone.store(true, Release);
        self.leavers.add(self);
    }
}

/// The members whose threads ended, until their pool looks: so it need not look at all. Who ends adds; who holds the pool's lock takes.
#[derive(Debug, Default)]
struct Leavers(AtomicPtr<Member>);

impl Leavers {
    fn add(&self, member: &Member) {
        let mut first = self.0.load(Relaxed);
        loop {
            member.next.store(first, Relaxed);
            match self.0.compare_exchange_weak(first, (&raw const *member).cast_mut(), Release, Relaxed) {
                Ok(_) => return,
                Err(other) => first = other,
            }
        }
    }
}

/// All stocks of a pool; of threads that ended, until what lies there went home.
#[derive(Debug)]
pub(super) struct Members {
    pub(super) all: Vec<Arc<Member>>,
    leavers: Arc<Leavers>,
}

impl Members {
    pub(super) fn new() -> Self {
        Self { all: Vec::new(), leavers: Arc::default() }
    }

    /// A member more, if there is memory to keep it.
    pub(super) fn make(&mut self, stock: Stock) -> Option<Arc<Member>> {
        self.all.try_reserve(1).ok()?;
        Some(Arc::new(Member {
            stock: Biased::new(stock),
            thread: this_thread(),
            gone: AtomicBool::new(false),
            next: AtomicPtr::default(),
            leavers: Arc::clone(&self.leavers),
            place: AtomicUsize::new(self.all.len()),
        }))
    }

    /// Keeps the member just made.
    pub(super) fn keep(&mut self, member: Arc<Member>) {
        self.all.push(member);
    }

    /// The stocks that the calling thread has no part in.
    pub(super) fn of_others(&self) -> impl Iterator<Item = &Member> {
        self.all.iter().map(|member| &**member).filter(|member| !member.is_mine() && !member.is_at_rest())
    }

    /// Passes those whose threads ended to `adopt`, once each; those of which it says so are forgotten, the others come again.
    pub(super) fn adopt(&mut self, mut adopt: impl FnMut(&mut Stock) -> bool) -> bool {
        let before = self.all.len();
        let mut next = self.leavers.0.swap(ptr::null_mut(), Acquire);
        // SAFETY: a member of ours: it is kept until it came by here.
        while let Some(member) = unsafe { next.as_ref() } {
            next = member.next.load(Relaxed);
            debug_assert!(member.is_gone());
            // SAFETY: *Owned* and *Locked*: there is no owner any more, and who has the members holds the pool's lock.
            if adopt(unsafe { member.stock.locked() }) {
                let place = member.place.load(Relaxed);
                debug_assert!(self.all.get(place).is_some_and(|at| ptr::eq(&raw const **at, member)));
                self.all.swap_remove(place);
                if let Some(moved) = self.all.get(place) {
                    moved.place.store(place, Relaxed);
                }
            } else {
                self.leavers.add(member);
            }
        }
        self.all.len() < before
    }

    /// In the child of a fork: the other threads are none of this process. With `whole`, their stocks are as those of threads that
    /// ended; else one may have been in the midst of something, and they are forgotten. Returns whether there were such.
    pub(super) fn stay_behind(&mut self, whole: bool) -> bool {
        // A thread may have been about to add itself.
        self.leavers.0.store(ptr::null_mut(), Relaxed);
        let before = self.all.len();
        self.all.retain(|member| member.is_mine() || member.is_at_rest() || whole);
        for (place, member) in self.all.iter().enumerate() {
            member.place.store(place, Relaxed);
            if !member.is_mine() {
                member.end();
            }
        }
        self.all.len() < before
    }
}

/// The system refused a fence.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// No thread gets a stock any more, and who has one is to leave it when it comes by.
pub(super) fn give_up() {
    GIVEN_UP.store(true, Relaxed);
}

#[inline]
pub(super) fn given_up() -> bool {
    GIVEN_UP.load(Relaxed)
}

/// A pool's identity, never used twice. No thread can have stocks where the system has no fence for all threads.
pub(super) fn new_pool() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    if !given_up() && os::can_fence_threads() { NEXT.fetch_add(1, Relaxed) } else { NO_POOL }
}

const NO_POOL: u64 = u64::MAX;
/// Of no pool.
const NOTHING: (u64, Option<NonNull<Member>>) = (0, None);

thread_local! {
    /// The stocks of the pools used last, or that there is none.
    static NEARBY: [Cell<(u64, Option<NonNull<Member>>)>; POOLS_NEARBY] =
        const { [const { Cell::new(NOTHING) }; POOLS_NEARBY] };
    static REGISTRY: Registry = const { Registry(RefCell::new(Vec::new())) };
}

/// All stocks of a thread, by their pools. Its destructor is the thread's end.
struct Registry(RefCell<Vec<(u64, Arc<Member>)>>);

impl Drop for Registry {
    fn drop(&mut self) {
        NEARBY.with(|nearby| nearby.iter().for_each(|near| near.set(NOTHING)));
        self.0.get_mut().iter().for_each(|(_, member)| member.end());
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
        let (near, member) = nearby[pool as usize % POOLS_NEARBY].get();
        (near == pool).then_some(member)
    })
}

#[cold]
fn find(pool: u64) -> Option<NonNull<Member>> {
    let find = |registry: &Registry| {
        let registry = registry.0.borrow();
        let at = registry.binary_search_by_key(&pool, |(other, _)| *other).ok()?;
        Some(NonNull::from(&*registry[at].1))
    };
    // A thread that left its stocks has none.
    let member = REGISTRY.try_with(find).ok()?;
    remember(pool, member);
    member
}

/// Whether threads can have stocks of a pool.
pub(super) fn can_enlist(pool: u64) -> bool {
    pool != NO_POOL && !given_up()
}

/// Gives the calling thread a stock of a pool; `false` if it cannot have one.
pub(super) fn enlist(pool: u64, member: &Arc<Member>) -> bool {
    let add = |registry: &Registry| {
        let mut registry = registry.0.borrow_mut();
        // When it would grow, those of pools that are no more make room.
        if registry.len() == registry.capacity() {
            registry.retain(|(_, member)| Arc::strong_count(member) > 1);
            let more = registry.len().max(POOLS_NEARBY);
            if registry.try_reserve(more).is_err() {
                return false;
            }
        }
        let Err(at) = registry.binary_search_by_key(&pool, |(other, _)| *other) else { return false };
        registry.insert(at, (pool, Arc::clone(member)));
        true
    };
    let enlisted = REGISTRY.try_with(add).unwrap_or(false);
    if enlisted {
        remember(pool, Some(NonNull::from(&**member)));
    }
    enlisted
}

fn remember(pool: u64, member: Option<NonNull<Member>>) {
    NEARBY.with(|nearby| nearby[pool as usize % POOLS_NEARBY].set((pool, member)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::SizeClasses;
    use crate::pool_config::PoolConfig;

    fn member(members: &mut Members) -> Arc<Member> {
        members.make(Stock::new(&PoolConfig::default(), SizeClasses::new(8, 64)).unwrap()).unwrap()
    }

    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    #[test]
    fn stocks_of_pools_that_are_no_more_are_forgotten() {
        let mut members = Members::new();
        let kept = member(&mut members);
        let first = new_pool();
        assert!(enlist(first, &kept));
        for _ in 0..100 {
            let pool = new_pool();
            assert!(enlist(pool, &member(&mut members)));
            assert!(mine(pool).is_some());
        }
        assert!(REGISTRY.with(|registry| registry.0.borrow().len()) <= 2 * POOLS_NEARBY);
        assert_eq!(mine(first), Some(NonNull::from(&*kept)));
    }

    #[test]
    fn members_whose_threads_ended_are_adopted_once_each() {
        let mut members = Members::new();
        let all = [(); 5].map(|()| {
            let member = member(&mut members);
            members.keep(Arc::clone(&member));
            member
        });
        let places =
            |members: &Members| members.all.iter().map(|member| member.place.load(Relaxed)).collect::<Vec<_>>();
        assert!(!members.adopt(|_| panic!("nobody ended")));
        [3, 0, 4].iter().for_each(|&ended: &usize| all[ended].end());
        let mut seen = 0;
        assert!(members.adopt(|_| {
            seen += 1;
            seen != 2
        }));
        assert_eq!((seen, places(&members)), (3, vec![0, 1, 2]));
        assert!(members.adopt(|_| true));
        assert_eq!(places(&members), [0, 1]);
        assert!(!members.adopt(|_| true));
    }
}
