//! Which stock is whose: each thread has one of its own in every pool to which it gave a small buffer.
//!
//! A stock has two owners: the pool, and the thread, which leaves it behind when it ends. A pool that is dropped empties
//! its stocks; their threads forget them when they next come by. In the child of a fork, the other threads ended (see `forks`).
//!
//! A thread finds its stock of a pool by the pool's identity in a table of its own, which grows with its stocks. Identities are never used
//! twice: what is left in a table of a pool that is no more is never found, and nobody has to be told that it is gone.
//!
//! Threads have stocks only where the system has a fence for all threads. Where it refuses one later, they give their stocks up.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::cell::{Cell, RefCell};
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::stock::Stock;
use super::tuning::SLOTS_A_STOCK;
use crate::biased::Biased;
use crate::layout::is_small;
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
    if !given_up() && os::can_fence_threads() { identity(NEXT.fetch_add(1, Relaxed)) } else { NO_POOL }
}

/// Mixes a number, so that pools lie apart in a thread's [`Table`], whichever of them it uses. Each step can be undone: no two are equal.
fn identity(number: u64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    (0..2).fold(number, |mixed, _| {
        let product = mixed.wrapping_mul(GOLDEN);
        product ^ product >> 32
    })
}

/// In no table.
const NO_POOL: u64 = u64::MAX;
/// Of no pool.
const NOTHING: u64 = 0;

#[derive(Clone, Copy)]
struct Slot {
    pool: u64,
    member: NonNull<Member>,
}

const SLOT: usize = size_of::<Slot>();

/// Where a thread's stocks are: a hash table of a power of two of slots, at least three in four of them empty. A pool's stock is in the first
/// slot, from where its identity points to, that was empty when it came.
///
/// *Table*: the slots are there as long as the thread has the table, and only it writes to them.
#[derive(Clone, Copy)]
struct Table {
    slots: NonNull<Slot>,
    /// The bits of an identity that point to a slot: its place in bytes.
    mask: usize,
}

/// That of who has none.
struct Bare(Slot);

// SAFETY: nobody writes to it, or follows its pointer.
unsafe impl Sync for Bare {}

static BARE: Bare = Bare(Slot { pool: NOTHING, member: NonNull::dangling() });

impl Table {
    const NONE: Self = Self { slots: NonNull::from_ref(&BARE.0), mask: 0 };

    /// Some slots, of which a power of two is there, all of them empty.
    fn of(slots: &mut [Slot]) -> Self {
        debug_assert!(slots.len().is_power_of_two());
        Self { slots: NonNull::from_mut(slots).cast(), mask: (slots.len() - 1) * SLOT }
    }

    #[inline]
    fn slot(&self, place: u64) -> NonNull<Slot> {
        // SAFETY: *Table*: within the slots, by the mask.
        unsafe { self.slots.byte_add(place as usize & self.mask) }
    }

    #[inline]
    fn at(&self, place: u64) -> Slot {
        // SAFETY: *Table*.
        unsafe { self.slot(place).read() }
    }

    /// The place of a pool's slot, or of the empty one in which it would be.
    fn find(&self, pool: u64) -> u64 {
        let mut place = pool;
        while self.at(place).pool != pool && self.at(place).pool != NOTHING {
            place = place.wrapping_add(SLOT as u64);
        }
        place
    }

    fn get(&self, pool: u64) -> Option<NonNull<Member>> {
        let slot = self.at(self.find(pool));
        (slot.pool == pool).then_some(slot.member)
    }

    fn put(&self, pool: u64, member: &Arc<Member>) {
        let slot = Slot { pool, member: NonNull::from(&**member) };
        // SAFETY: *Table*: it is the thread's, which does nothing else meanwhile.
        unsafe { self.slot(self.find(pool)).write(slot) };
    }
}

thread_local! {
    /// Of what is in the registry: without a destructor, it is there at once.
    static TABLE: Cell<Table> = const { Cell::new(Table::NONE) };
    static REGISTRY: Registry = const { Registry(RefCell::new(Stocks { all: Vec::new(), slots: Vec::new() })) };
}

/// All stocks of a thread, by their pools. Its destructor is the thread's end.
struct Registry(RefCell<Stocks>);

struct Stocks {
    all: Vec<(u64, Arc<Member>)>,
    slots: Vec<Slot>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        TABLE.set(Table::NONE);
        self.0.get_mut().all.iter().for_each(|(_, member)| member.end());
    }
}

impl Stocks {
    fn add(&mut self, pool: u64, member: &Arc<Member>) -> Option<()> {
        if self.all.len() >= self.slots.len() / SLOTS_A_STOCK {
            self.grow()?;
        }
        self.all.push((pool, Arc::clone(member)));
        TABLE.get().put(pool, member);
        Some(())
    }

    /// Makes room for as many again as there are; first of all, those of pools that are no more make room.
    fn grow(&mut self) -> Option<()> {
        let lives = |(_, member): &(u64, Arc<Member>)| Arc::strong_count(member) > 1;
        let most = (2 * self.all.iter().filter(|one| lives(one)).count()).next_power_of_two().max(2);
        self.all.try_reserve(most.saturating_sub(self.all.len())).ok()?;
        let mut slots = Vec::new();
        slots.try_reserve_exact(SLOTS_A_STOCK * most).ok()?;
        slots.resize(SLOTS_A_STOCK * most, BARE.0);
        self.all.retain(lives);
        let table = Table::of(&mut slots);
        self.all.iter().for_each(|(pool, member)| table.put(*pool, member));
        TABLE.set(table);
        // Not before the thread has the other ones: its allocator may come by here.
        drop(mem::replace(&mut self.slots, slots));
        Some(())
    }
}

/// The calling thread's stock of a pool.
///
/// It is valid as long as the pool, which keeps the stocks of all threads that did not end.
#[inline]
pub(super) fn mine(pool: u64) -> Option<NonNull<Member>> {
    let table = TABLE.get();
    let slot = table.at(pool);
    if slot.pool == pool {
        Some(slot.member)
    } else if slot.pool == NOTHING {
        None
    } else {
        table.get(pool)
    }
}

/// A buffer from the calling thread's stock of a pool, for a request.
///
/// # Safety
/// The pool lives.
#[inline]
pub(super) unsafe fn pop(pool: u64, request: Layout) -> Option<NonNull<u8>> {
    if !is_small(request) {
        return None;
    }
    let slot = TABLE.get().at(pool);
    if slot.pool == pool {
        // SAFETY: the caller's word.
        unsafe { pop_from(slot.member, request) }
    } else if slot.pool == NOTHING {
        None
    } else {
        // SAFETY: the caller's word.
        unsafe { pop_from_afar(pool, request) }
    }
}

/// As [`pop`]; apart, so that the way through it that is taken most has nothing to keep for later.
#[cold]
#[inline(never)]
unsafe fn pop_from_afar(pool: u64, request: Layout) -> Option<NonNull<u8>> {
    // SAFETY: the caller's word.
    unsafe { pop_from(TABLE.get().get(pool)?, request) }
}

/// # Safety
/// It is the calling thread's stock of a pool that lives.
#[inline(always)]
unsafe fn pop_from(member: NonNull<Member>, request: Layout) -> Option<NonNull<u8>> {
    // SAFETY: valid as long as the pool.
    let member = unsafe { member.as_ref() };
    debug_assert!(member.is_mine(), "another thread's stock, or one that its thread left");
    // SAFETY: *Owned*: the stock is the calling thread's.
    unsafe { member.stock.enter(|stock| stock.pop(request)) }
}

/// Gives the calling thread's stock of a pool a buffer that was freed, if it has room.
///
/// # Safety
/// The pool lives.
#[inline]
pub(super) unsafe fn push(pool: u64, ptr: NonNull<u8>, request: Layout) -> Option<()> {
    if !is_small(request) {
        return None;
    }
    let slot = TABLE.get().at(pool);
    if slot.pool == pool {
        // SAFETY: the caller's word.
        unsafe { push_to(slot.member, ptr, request) }
    } else if slot.pool == NOTHING {
        None
    } else {
        // SAFETY: the caller's word.
        unsafe { push_afar(pool, ptr, request) }
    }
}

/// As [`push`], and apart as [`pop_from_afar`].
#[cold]
#[inline(never)]
unsafe fn push_afar(pool: u64, ptr: NonNull<u8>, request: Layout) -> Option<()> {
    // SAFETY: the caller's word.
    unsafe { push_to(TABLE.get().get(pool)?, ptr, request) }
}

/// # Safety
/// As for [`pop_from`].
#[inline(always)]
unsafe fn push_to(member: NonNull<Member>, ptr: NonNull<u8>, request: Layout) -> Option<()> {
    // SAFETY: valid as long as the pool.
    let member = unsafe { member.as_ref() };
    debug_assert!(member.is_mine(), "another thread's stock, or one that its thread left");
    // SAFETY: *Owned*: the stock is the calling thread's.
    unsafe { member.stock.enter(|stock| stock.push(ptr, request)) }
}

/// Whether threads can have stocks of a pool.
pub(super) fn can_enlist(pool: u64) -> bool {
    pool != NO_POOL && !given_up()
}

/// Gives the calling thread a stock of a pool, of which it has none; `false` if it cannot have one: it left its stocks, or is about to get
/// another, whose memory comes from an allocator that uses pools itself.
pub(super) fn enlist(pool: u64, member: &Arc<Member>) -> bool {
    let add = |registry: &Registry| registry.0.try_borrow_mut().ok()?.add(pool, member);
    REGISTRY.try_with(add).ok().flatten().is_some()
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
        assert!(REGISTRY.with(|registry| registry.0.borrow().all.len()) <= 2);
        assert_eq!(mine(first), Some(NonNull::from(&*kept)));
    }

    /// Where there are stocks.
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    #[test]
    fn pools_of_any_numbers_lie_apart() {
        let there = member(&mut Members::new());
        for apart in (1..=100).chain([128, 1000, 1024, 4096, 1 << 20]) {
            for count in [2, 10, 100, 1000] {
                let mut slots = vec![BARE.0; SLOTS_A_STOCK * (count as usize).next_power_of_two()];
                let table = Table::of(&mut slots);
                let pools = || (0..count).map(|i| identity(7 + i * apart));
                pools().for_each(|pool| table.put(pool, &there));
                // How many slots are looked at beyond the first one.
                let beyond = |pool: u64| table.find(pool).wrapping_sub(pool) / SLOT as u64;
                assert!(pools().all(|pool| table.get(pool).is_some()));
                assert!(pools().map(beyond).sum::<u64>() <= count / 3 + 4, "{count} pools, {apart} apart");
                assert!(table.get(identity(3)).is_none() && table.get(NO_POOL).is_none());
            }
        }
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
