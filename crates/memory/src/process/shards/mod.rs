//! The process's heaps: one that serves all threads, and others once threads get into each other's way.
//!
//! A **shard** is a heap with a lock and addresses of its own. A block is given back to the shard that its address belongs to. A thread
//! asks its *home*: the first shard, until it has to wait for others there too often; then it moves to another, the next in turn,
//! and a new one is opened as long as there are fewer than processors. So one thread has one shard, and so have threads that
//! compute between their requests.
//!
//! Memory is common to them: what all have in use tells how much may be resident, and whoever takes more from the system has
//! the one give back that has most to spare ([`balance`]). Where a limit is set, there is one home for all.
//!
//! *One at a time*: nobody waits for one of these locks while it has another, but who takes all of them ([`hold_all`], [`sum`]), and gives them
//! up where one cannot be had soon. *Open*: a shard that was opened stays for ever.
#![allow(unsafe_code)]

mod common;
mod forks;
mod limits;
mod opening;
mod visit;

use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

#[cfg(tenzor_serial)]
pub(super) use self::common::common_held;
pub(super) use self::common::{balance, in_use, tick};
pub(super) use self::forks::{
    ForkHold, abandon_others, fork_hold, hold_all, is_fork_wanted, only_one_thread_is_left, release_all,
};
use self::limits::IS_LIMITED;
pub(super) use self::limits::{begin, heed, is_beyond, is_limited, limit, renew_limits, with_limits_renewed};
use self::opening::move_house;
pub(super) use self::visit::{Visit, mark, take_back_own, work_off_noted};
use super::cache::Cache;
use super::tally::{Sums, Tallies};
use super::tuning::{SHARDS, UNPUBLISHED_PAGES};
use super::{central_lock, prepare, threads};
use crate::heap::classes::{Place, Run};
use crate::heap::parcel::Parcel;
use crate::heap::{Heap, Holding, View};
use crate::os::Linux;
use crate::sync::atomic::Ordering::{Acquire, Relaxed};
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize};
use crate::sync::{Lock, LockGuard, this_thread};

/// What a shard guards.
#[derive(Debug)]
pub(super) struct ShardState {
    pub(super) heap: Heap<Linux>,
    pub(super) tallies: Tallies,
    /// Requests that have left the lock to others for a moment, and the thread of the last of them as long as it has.
    under_way: u32,
    last: usize,
}

impl ShardState {
    /// A request leaves the lock to others.
    pub(super) fn begin(&mut self) {
        self.under_way += 1;
        self.last = this_thread();
    }

    /// It is back. A fork's child knows of none.
    pub(super) fn end(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
        if self.last == this_thread() {
            self.last = 0;
        }
    }

    /// Whether other threads' requests have left the lock, as far as is known.
    pub(super) fn is_anything_under_way(&self) -> bool {
        self.under_way > 1 || (self.under_way == 1 && self.last != this_thread())
    }
}

/// A heap, and what is known of it without its lock. Neighbours share no cache line.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard {
    state: Lock<ShardState>,
    /// Where requests count that have no cache of their thread's; used under the lock only.
    homeless: &'static Cache,
    /// For who does not have the lock, once something was granted.
    view: OnceLock<View>,
    /// The cache of the thread that took something last.
    taker: AtomicPtr<Cache>,
    /// Pages in use and resident, as of the last request that took memory from the system or gave some back.
    in_use: AtomicU32,
    resident: AtomicU32,
}

impl Shard {
    const fn new(homeless: &'static Cache) -> Self {
        Self {
            state: Lock::new(ShardState { heap: Heap::new(Linux), tallies: Tallies::new(), under_way: 0, last: 0 }),
            homeless,
            view: OnceLock::new(),
            taker: AtomicPtr::new(ptr::null_mut()),
            in_use: AtomicU32::new(0),
            resident: AtomicU32::new(0),
        }
    }

    /// The counters for requests of a thread: its cache's, if it has one.
    pub(super) fn counts<'a>(&'static self, cache: &'a Cache) -> &'a Cache {
        if cache.taken.load(Relaxed) { cache } else { self.homeless }
    }

    pub(super) fn homeless(&self) -> &'static Cache {
        self.homeless
    }

    /// The parcel that a block lies in, and its first page there. The block is the caller's.
    #[inline]
    pub(super) fn parcel(&'static self, block: NonNull<u8>) -> Option<(&'static Parcel, u32)> {
        self.view.get()?.parcel(block)
    }

    /// The class of the block that starts at an address, which is the caller's, if it is a slab's or a parcel's.
    #[inline(always)]
    pub(super) fn cut_block(&'static self, at: NonNull<u8>) -> Option<usize> {
        self.view.get()?.cut_block(at)
    }

    /// The run whose block starts at an address, which is the caller's.
    #[inline]
    pub(super) fn run(&'static self, at: NonNull<u8>) -> Option<Run> {
        self.view.get()?.run(at)
    }

    /// See [`View::keep`].
    #[inline(always)]
    pub(super) fn keep(
        &'static self,
        start: NonNull<u8>,
        wanted: impl FnOnce(usize, Run) -> bool,
    ) -> Option<(usize, Run)> {
        self.view.get()?.keep(start, wanted)
    }

    /// A run that was kept, and is nobody's any more, counts as in use. Returns what it is.
    pub(super) fn end_keeping(&'static self, start: NonNull<u8>) -> Option<Run> {
        let view = self.view.get()?;
        let run = view.kept(start)?;
        view.use_kept(start, run);
        Some(run)
    }

    /// See [`View::use_kept`].
    #[inline(always)]
    pub(super) fn use_kept(&'static self, start: NonNull<u8>, run: Run) {
        if let Some(view) = self.view.get() {
            view.use_kept(start, run);
        }
    }

    /// The place of the block that starts at an address, which is the caller's; or what lies there instead.
    pub(super) fn block(&'static self, at: NonNull<u8>) -> Result<Place, Holding> {
        self.view.get().map_or(Err(Holding::Nothing), |view| view.block(at))
    }

    /// Its lock.
    pub(super) fn lock(&'static self) -> Inside {
        prepare();
        Inside { shard: self, state: self.state.lock() }
    }

    /// As [`lock`](Self::lock), for who may have what the process's fork waits for: `None` if that does not come about. See [`aside`](super::aside).
    #[inline]
    pub(super) fn enter(&'static self) -> Option<Inside> {
        prepare();
        self.state.lock_unless_forking().map(|state| Inside { shard: self, state })
    }
}

/// The right to what a shard guards.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) shard: &'static Shard,
    state: LockGuard<'static, ShardState>,
}

impl Inside {
    /// Unlocks, and leaves the lock to whoever waits for it.
    pub(super) fn let_others(self) {
        self.state.let_others();
    }

    /// See [`LockGuard::passed`].
    pub(super) fn passed(&self) -> bool {
        self.state.passed()
    }

    /// Where blocks are is others' to know: something was granted.
    pub(super) fn show(&mut self) {
        let heap = &mut self.state.heap;
        self.shard.view.get_or_init(|| heap.view());
    }

    /// What the shard has in use is others' to know, more or less.
    #[inline]
    pub(super) fn note(&self) {
        if self.heap.pages_in_use().abs_diff(self.shard.in_use.load(Relaxed)) > UNPUBLISHED_PAGES {
            self.publish();
        }
    }

    /// What the shard has in use and resident is others' to know.
    pub(super) fn publish(&self) {
        self.shard.in_use.store(self.heap.pages_in_use(), Relaxed);
        self.shard.resident.store(self.heap.staying_pages(), Relaxed);
    }
}

impl Deref for Inside {
    type Target = ShardState;

    #[inline]
    fn deref(&self) -> &ShardState {
        &self.state
    }
}

impl DerefMut for Inside {
    #[inline]
    fn deref_mut(&mut self) -> &mut ShardState {
        &mut self.state
    }
}

static HOMELESS: Cache = Cache::barren();
static FIRST: Shard = Shard::new(&HOMELESS);
static OTHERS: [AtomicPtr<Shard>; SHARDS - 1] = [const { AtomicPtr::new(ptr::null_mut()) }; SHARDS - 1];

/// How many are open: those of the least numbers. It never decreases.
static COUNT: AtomicUsize = AtomicUsize::new(1);

/// Where the addresses of all shards but the first begin, and how many bytes of them each has.
static ORIGIN: AtomicUsize = AtomicUsize::new(0);
/// A power of two, by its logarithm.
static ROOM: AtomicU32 = AtomicU32::new(0);

/// Whether there are more than one.
#[inline]
pub(super) fn are_many() -> bool {
    COUNT.load(Relaxed) > 1
}

#[inline]
fn shard(number: usize) -> &'static Shard {
    // SAFETY: *Open*: what is there is a shard, and stays for ever.
    let other = number.checked_sub(1).and_then(|other| unsafe { OTHERS.get(other)?.load(Acquire).as_ref() });
    other.unwrap_or(&FIRST)
}

/// All that are open.
pub(super) fn all() -> impl Iterator<Item = &'static Shard> {
    (0..COUNT.load(Acquire)).map(shard)
}

/// The shard that a block's address belongs to, whoever's it is.
#[inline]
pub(super) fn owner(block: NonNull<u8>) -> &'static Shard {
    if are_many() { owner_of_many(block) } else { &FIRST }
}

fn owner_of_many(block: NonNull<u8>) -> &'static Shard {
    // What was stored before the second was open is seen.
    COUNT.load(Acquire);
    let number = block.addr().get().wrapping_sub(ORIGIN.load(Relaxed)) >> ROOM.load(Relaxed);
    if number < SHARDS - 1 { shard(number + 1) } else { &FIRST }
}

/// A thread's home.
#[inline]
pub(super) fn home(cache: &Cache) -> &'static Shard {
    if are_many() && !IS_LIMITED.load(Relaxed) { shard(cache.home()) } else { &FIRST }
}

/// As [`Shard::enter`], the calling thread's home, to take something.
#[inline]
pub(super) fn enter_home(cache: &Cache) -> Option<Inside> {
    let inside = home(cache).enter_for(cache)?;
    let taker = ptr::from_ref(cache).cast_mut();
    if inside.shard.taker.load(Relaxed) != taker {
        inside.shard.taker.store(taker, Relaxed);
    }
    Some(inside)
}

impl Shard {
    /// As [`enter`](Self::enter), for a thread with this cache, which notices how often it waits.
    #[inline]
    pub(super) fn enter_for(&'static self, cache: &Cache) -> Option<Inside> {
        prepare();
        cache.count_visit();
        match self.state.try_lock() {
            Some(state) => Some(Inside { shard: self, state }),
            None => self.enter_crowded(cache),
        }
    }

    #[cold]
    fn enter_crowded(&'static self, cache: &Cache) -> Option<Inside> {
        // Who waits for others that only give back what it took had better stay: they would follow.
        let is_shared = ptr::eq(self, home(cache)) && !ptr::eq(self.taker.load(Relaxed), cache);
        if is_shared && cache.is_crowded() && !IS_LIMITED.load(Relaxed) {
            // From the next request on.
            move_house(cache);
        }
        self.enter()
    }
}

#[cfg(tenzor_serial)]
pub(super) fn held() -> impl Iterator<Item = (u64, u64)> {
    all().map(|shard| shard.state.held())
}

/// The shard that has most addresses.
pub(super) fn first() -> &'static Shard {
    &FIRST
}

/// The sums of all counters, with the calling thread's cache settled. Each lock is taken by itself: what threads do meanwhile may be counted or
/// not.
pub(super) fn sum(cache: &Cache) -> Sums {
    let mut mine = home(cache).lock();
    let counts = mine.shard.counts(cache);
    mine.tallies.settle(counts);
    drop(mine);
    let mut sums = Sums::new();
    let left = threads::see_all(|| Some(central_lock()), |cache| sums.add_cache(cache));
    left.iter().for_each(|left| sums.add(left));
    for shard in all() {
        let mut inside = shard.lock();
        let ShardState { tallies, heap, .. } = &mut *inside;
        sums.add_shard(tallies, heap);
        sums.add_cache(shard.homeless);
    }
    sums
}
