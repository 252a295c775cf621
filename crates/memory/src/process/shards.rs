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

use std::alloc::Layout;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use super::cache::{Cache, give_back};
use super::errands::pursue;
use super::tally::{Sums, Tallies};
use super::threads::at_hand;
use super::{CENTRAL, aside, central_lock, leave_work, pot, prepare, purger, threads};
use crate::heap::classes::{PAGE, SLAB_CLASSES, class_capacity, class_pages};
use crate::heap::parcel::{Parcel, bits};
use crate::heap::{Budget, Heap, View};
use crate::heap_config::{HeapSettings, HugePages};
use crate::os::{self, Linux, Os};
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize};
use crate::sync::{BREATH, Hold, Lock, LockGuard, this_thread};

/// The most shards that there can be.
const SHARDS: usize = 64;

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

/// What a shard has in use may differ by so many pages from what others know.
const GRAIN: u32 = 64;

/// A heap, and what is known of it without its lock. Neighbours share no cache line.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard {
    state: Lock<ShardState>,
    /// Where requests count that have no cache of their thread's; used under the lock only.
    homeless: &'static Cache,
    /// For who does not have the lock, once there was a parcel.
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

    /// Its lock.
    pub(super) fn lock(&'static self) -> Inside {
        prepare();
        Inside { shard: self, state: self.state.lock() }
    }

    /// As [`lock`](Self::lock), for who may have what the process's fork waits for: `None` if that does not come about. See [`aside`].
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

    /// Where parcels are is others' to know: there is one.
    pub(super) fn show(&mut self) {
        let heap = &mut self.state.heap;
        self.shard.view.get_or_init(|| heap.view());
    }

    /// What the shard has in use is others' to know, more or less.
    #[inline]
    pub(super) fn note(&self) {
        if self.heap.pages_in_use().abs_diff(self.shard.in_use.load(Relaxed)) > GRAIN {
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

/// Where the addresses of all shards but the first begin; how many bytes of them each has, and what is the least.
static ORIGIN: AtomicUsize = AtomicUsize::new(0);
/// A power of two, by its logarithm.
static ROOM: AtomicU32 = AtomicU32::new(0);
const LEAST_ROOM: usize = 4 << 30;

/// There is one home for all: what is limited is counted in one place.
static IS_LIMITED: AtomicBool = AtomicBool::new(false);

/// The homes given away so far, from the second one on; no more, once a shard could not be had.
static HOMES: AtomicUsize = AtomicUsize::new(1);
static IS_FULL: AtomicBool = AtomicBool::new(false);

/// Somebody opens one, or changes what all share.
static OPENING: AtomicBool = AtomicBool::new(false);

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

/// The next home in turn is the calling thread's.
#[cold]
fn move_house(cache: &Cache) {
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
            let (origin, bytes) = Linux::addresses(wish, bytes, (SHARDS - 1) * LEAST_ROOM)?;
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
    /// A new one with addresses of its own; `None` if there is no memory, or others have them.
    fn make(origin: usize, room: usize, policy: HugePages) -> Option<NonNull<Self>> {
        const { assert!(align_of::<Self>() <= PAGE && align_of::<Cache>() <= PAGE) };
        // What a new shard looks like: it is larger than the stack that a thread may have.
        static PATTERN: Shard = Shard::new(&HOMELESS);
        let bytes = size_of::<Self>().next_multiple_of(PAGE) + size_of::<Cache>().next_multiple_of(PAGE);
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

/// The shard whose lock the calling thread has at the moment, if any, on its way from one to another.
#[derive(Debug, Default)]
pub(super) struct Visit {
    inside: Option<Inside>,
    /// One of them could not be entered: nor will others.
    is_refused: bool,
}

impl Visit {
    /// Goes to a shard; `None` as for [`Shard::enter`].
    pub(super) fn to(&mut self, shard: &'static Shard) -> Option<&mut Inside> {
        if self.inside.as_ref().is_none_or(|inside| !ptr::eq(inside.shard, shard)) && !self.is_refused {
            self.leave();
            self.inside = shard.enter_for(at_hand());
            self.is_refused = self.inside.is_none();
        }
        self.inside.as_mut()
    }

    /// Goes to the calling thread's home.
    pub(super) fn home(mut self, cache: &Cache) -> Option<Inside> {
        if self.inside.as_ref().is_some_and(|inside| ptr::eq(inside.shard, home(cache))) {
            return self.inside.take();
        }
        self.leave();
        if self.is_refused { None } else { enter_home(cache) }
    }

    /// Goes out, after something may have been given back.
    fn leave(&mut self) {
        self.inside.take().map(purger::keep_within_idle_limit);
    }

    /// Gives a block of a class back that was in a cache, or is just freed.
    pub(super) fn give(&mut self, class: usize, block: NonNull<u8>) {
        if class >= SLAB_CLASSES && self.give_to_parcel(class, block) {
            return;
        }
        match self.to(owner(block)) {
            Some(inside) => give_back(&mut inside.heap, class, block),
            None => {
                if let Ok(request) = Layout::from_size_align(class_capacity(class), 1) {
                    // SAFETY: *Filled*: it was in a cache: it is nobody else's.
                    unsafe { aside::leave_uncounted(block, request) }
                }
            }
        }
    }

    /// Gives a block back to the parcel that it lies in, without a lock; if it does, and was granted, and somebody has that.
    fn give_to_parcel(&mut self, class: usize, block: NonNull<u8>) -> bool {
        let Some((parcel, first)) = owner(block).parcel(block) else { return false };
        let cache = at_hand();
        if parcel.owner() == mark(cache).as_ptr() {
            return self.give_to_own(cache, parcel, first, class);
        }
        let these = bits(first, class_pages(class));
        let noted = !parcel.is_abandoned() && parcel.note(these);
        // Its owner left meanwhile, and may not have seen it.
        if noted && parcel.is_abandoned() && !self.give_pages(parcel, || 0) {
            leave_noted();
        }
        if noted && parcel.is_mostly_noted() {
            pot::tell_of_noted();
        }
        noted
    }

    /// Gives a block back to one of the parcels of the calling thread's cache; if it was granted.
    #[inline]
    fn give_to_own(&mut self, cache: &Cache, parcel: &Parcel, first: u32, class: usize) -> bool {
        let _at_leases = cache.enter();
        let taken = cache.parcels.take_back(parcel, first, class_pages(class));
        if cache.parcels.has_surplus() {
            self.give_surplus(cache);
        }
        taken
    }

    /// Gives back what of the parcels of a cache is free and need not be. For who is at its leases.
    pub(super) fn give_surplus(&mut self, cache: &Cache) {
        while let Some(parcel) = cache.parcels.surplus()
            && self.give_pages(parcel, || cache.parcels.take_out(parcel))
        {}
    }

    /// Gives pages of a parcel back, which are nobody's. Returns whether that could be done; if not, the pages were not asked for.
    pub(super) fn give_pages(&mut self, parcel: &Parcel, these: impl FnOnce() -> u64) -> bool {
        let Some(start) = NonNull::new(ptr::without_provenance_mut(parcel.address(0))) else { return false };
        let Some(inside) = self.to(owner(start)) else { return false };
        // SAFETY: the caller's word; the shard is the one that the address belongs to.
        unsafe { inside.heap.give_back_pages(parcel, these()) };
        true
    }

    /// As [`give_pages`](Self::give_pages), of what was taken out of the parcel of another thread.
    pub(super) fn give_taken(&mut self, parcel: &Parcel, these: u64) {
        if self.give_pages(parcel, || these) {
            return;
        }
        // Its owner finds them again, if it has it still.
        parcel.put_back(these);
        if parcel.is_abandoned() {
            leave_noted();
        }
    }

    /// Stays where it is.
    pub(super) fn end(mut self) -> Option<Inside> {
        self.inside.take()
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Of parcels that nobody has some pages are noted as free, and the heap does not know.
static NOTED: AtomicBool = AtomicBool::new(false);

fn leave_noted() {
    NOTED.store(true, Relaxed);
    leave_work();
}

/// Tells the heaps what could not be told before.
pub(super) fn work_off_noted() {
    if NOTED.swap(false, Relaxed) {
        for shard in all() {
            match shard.enter() {
                Some(mut inside) => {
                    inside.heap.give_noted();
                    purger::keep_within_idle_limit(inside);
                }
                None => leave_noted(),
            }
        }
    }
}

/// Takes a block back that lies in one of the parcels of the calling thread's cache; if it does, and was granted. For who has no lock.
#[inline]
pub(super) fn take_back_own(cache: &Cache, class: usize, block: NonNull<u8>) -> bool {
    let Some((parcel, first)) = owner(block).parcel(block) else { return false };
    parcel.owner() == mark(cache).as_ptr() && Visit::default().give_to_own(cache, parcel, first, class)
}

/// By which a parcel knows its owner.
pub(super) fn mark(cache: &Cache) -> NonNull<()> {
    NonNull::from(cache).cast()
}

/// How much may be resident in all shards.
static COMMON: Lock<Budget> = Lock::new(Budget::new());

/// A request took memory from the system. Where more is resident in all shards than shall be, the one that has most to spare gives some
/// back.
pub(super) fn balance(inside: Inside) {
    if !are_many() {
        return;
    }
    inside.publish();
    let mine = inside.shard;
    drop(inside);
    let (mut in_use, mut resident, mut richest) = (0, 0, (0, mine));
    for shard in all() {
        let (used, had) = (shard.in_use.load(Relaxed), shard.resident.load(Relaxed));
        (in_use, resident) = (in_use + used, resident + had);
        // Others wait while theirs goes back: they are to have much more.
        let idle = had.saturating_sub(used) / if ptr::eq(shard, mine) { 1 } else { 2 };
        if idle > richest.0 {
            richest = (idle, shard);
        }
    }
    let allowed = {
        let mut common = COMMON.lock();
        common.see(in_use);
        common.pages()
    };
    let excess = resident.saturating_sub(allowed);
    if excess == 0 {
        return;
    }
    let Some(rich) = richest.1.enter() else { return };
    let mut goal = rich.heap.evict(excess);
    pursue(rich, &mut goal).publish();
    COMMON.lock().learn(goal.gone());
}

/// Bytes in use in all shards, in whole pages, more or less.
pub(super) fn in_use() -> usize {
    all().map(|shard| shard.in_use.load(Relaxed) as usize).sum::<usize>() * PAGE
}

#[cfg(tenzor_serial)]
pub(super) fn held() -> impl Iterator<Item = (u64, u64)> {
    all().map(|shard| shard.state.held())
}

#[cfg(tenzor_serial)]
pub(super) fn common_held() -> (u64, u64) {
    COMMON.held()
}

/// Time has passed.
pub(super) fn tick() {
    if are_many() {
        COMMON.lock().tick();
    }
}

/// What may be in use and free in all shards, in bytes.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
static IDLE_LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Before the first request is served.
pub(super) fn begin(settings: &HeapSettings) {
    let [limit, idle] = limits(settings);
    remember_limits(limit, idle);
    let heap = &mut FIRST.state.lock().heap;
    heap.set_limits(limit, idle);
    heap.set_policy(settings.huge_pages.value);
}

/// Heeds other settings from now on.
pub(super) fn heed(settings: &HeapSettings) {
    let [limit, idle] = limits(settings);
    remember_limits(limit, idle);
    renew_limits();
    // Who opens one meanwhile would have the policy of before.
    while OPENING.swap(true, Acquire) {
        os::sleep(BREATH);
    }
    all().for_each(|shard| shard.lock().heap.set_policy(settings.huge_pages.value));
    OPENING.store(false, Release);
}

/// The most bytes that may be in use, and resident but free.
fn limits(settings: &HeapSettings) -> [usize; 2] {
    [settings.limit, settings.idle_limit].map(|limit| limit.value.unwrap_or(usize::MAX))
}

fn remember_limits(in_use: usize, idle: usize) {
    LIMIT.store(in_use, Relaxed);
    IDLE_LIMIT.store(idle, Relaxed);
    IS_LIMITED.store(in_use.min(idle) != usize::MAX, Relaxed);
}

/// What others have in use is not the first shard's to give.
pub(super) fn renew_limits() {
    let (mut in_use, idle) = (LIMIT.load(Relaxed), IDLE_LIMIT.load(Relaxed));
    let is_limited = IS_LIMITED.load(Relaxed);
    for shard in all().skip(1) {
        let Some(mut inside) = shard.enter() else { return };
        if is_limited {
            let used = inside.heap.pages_in_use() as usize * PAGE;
            inside.heap.set_limits(used, 0);
            in_use = in_use.saturating_sub(used);
        } else {
            inside.heap.set_limits(usize::MAX, usize::MAX);
        }
    }
    if let Some(mut inside) = FIRST.enter() {
        inside.heap.set_limits(in_use, idle);
    }
}

/// As [`renew_limits`], on the way, if there are any.
pub(super) fn with_limits_renewed(inside: Inside) -> Option<Inside> {
    if !are_many() || !IS_LIMITED.load(Relaxed) {
        return Some(inside);
    }
    let shard = inside.shard;
    drop(inside);
    renew_limits();
    shard.enter()
}

/// Whether so many bytes cannot be had, whatever is freed.
pub(super) fn is_beyond(bytes: usize) -> bool {
    bytes > LIMIT.load(Relaxed)
}

/// The shard that has most addresses.
pub(super) fn first() -> &'static Shard {
    &FIRST
}

/// Threads that try to have all locks, for a fork: nobody begins more than is under way.
static FORKS_WANTED: AtomicU32 = AtomicU32::new(0);

/// Whether the process is about to fork.
#[inline]
pub(super) fn is_fork_wanted() -> bool {
    FORKS_WANTED.load(Relaxed) > 0
}

/// How often it is tried to have all locks, before what cannot be had is done without.
const TRIES: u32 = 20_000;

/// Holds all locks for a fork, until [`release_all`] was called as often. Where the calling thread stands in the midst of a request, as a
/// signal's handler forks, the lock that it has is left to it.
pub(super) fn hold_all() {
    FORKS_WANTED.fetch_add(1, Relaxed);
    // What is under way ends soon, and is whole in the child then. If it does not, another thread stands still in the midst of it.
    let is_held = (0..TRIES).any(|_| {
        match try_hold_all() {
            Some(Hold::First) if is_anything_under_way() => release_all(),
            Some(_) => return true,
            None => {}
        }
        os::sleep(BREATH);
        false
    });
    if !is_held {
        // The child will wait in vain for who has one of them and stands still.
        CENTRAL.hold_for_fork_soon();
        all().for_each(|shard| _ = shard.state.hold_for_fork_soon());
        COMMON.hold_for_fork_soon();
    }
    FORKS_WANTED.fetch_sub(1, Relaxed);
}

/// As [`hold_all`], once. `None` if one of them cannot be had soon: who has it may wait for one of the others.
fn try_hold_all() -> Option<Hold> {
    let hold = CENTRAL.hold_for_fork_soon()?;
    for (number, shard) in all().enumerate() {
        if shard.state.hold_for_fork_soon().is_none() {
            all().take(number).for_each(|shard| shard.state.release_after_fork());
            CENTRAL.release_after_fork();
            return None;
        }
    }
    COMMON.hold_for_fork();
    Some(hold)
}

/// Whether other threads have requests under way, as far as is known.
fn is_anything_under_way() -> bool {
    let is_under_way =
        |shard: &'static Shard| shard.state.is_held_for_fork() && shard.state.lock().is_anything_under_way();
    threads::are_many() && all().any(is_under_way)
}

/// The end of a fork, in the parent or in the child.
pub(super) fn release_all() {
    COMMON.release_after_fork();
    all().for_each(|shard| shard.state.release_after_fork());
    CENTRAL.release_after_fork();
}

/// What a thread has of the locks, at the end of a fork.
pub(super) enum ForkHold {
    All,
    /// All but one, with which it stands in the midst of a request.
    AllButMine,
    None,
}

pub(super) fn fork_hold() -> ForkHold {
    let is_mine = |shard: &'static Shard| shard.state.is_mine() && !shard.state.is_held_for_fork();
    if (CENTRAL.is_mine() && !CENTRAL.is_held_for_fork()) || all().any(is_mine) {
        ForkHold::AllButMine
    } else if CENTRAL.is_held_for_fork() {
        ForkHold::All
    } else {
        ForkHold::None
    }
}

/// This is a fork's child.
pub(super) fn only_one_thread_is_left() {
    OPENING.store(false, Relaxed);
    FORKS_WANTED.store(0, Relaxed);
    for shard in all() {
        let mut state = shard.state.lock();
        state.heap.keep_shared();
        state.under_way = 0;
    }
}

/// The parcels of all others than this one are nobody's. What is free in them is lost to a fork's child.
pub(super) fn abandon_others(cache: &Cache) {
    for shard in all() {
        let mut inside = shard.lock();
        inside.heap.abandon_others(mark(cache).as_ptr());
        purger::keep_within_idle_limit(inside);
    }
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
