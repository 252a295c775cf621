//! A thread's own stock of small blocks: a hit takes no lock and touches no cache line that another thread writes.
//!
//! A cache is written by its own thread alone; others read its counters for a snapshot. So all its fields are atomics
//! that are loaded and stored separately, which costs nothing over plain fields. Blocks lie in one stack a class, freed last on
//! top. How many a stack may hold is **leased** from the cache's total: a class starts with nothing, doubles its lease each time
//! it runs empty or full, and takes from the leases of other classes once the total is given out.
//!
//! It is not a pool's stock (`pool/stock`): a pool's caps on bytes and buffers are exact and its evictions in order, for which a stock is shut to its thread whenever
//! others look. Here the heap's budget is approximate by design, and a look, or a call for what lies here, never stops the thread.
//!
//! All zero bytes are a cache that holds nothing and never will, *barren*: so one begins its life in place, in memory that is zero.
//!
//! # What a thread that makes no requests keeps
//!
//! Others may **call it in**, at little cost for a hit. The thread claims a block first, by counting it, and then looks whether the
//! bottom is still what it was. Who calls in tells so (`CALLED`) and fences all threads: a thread that changes leases at
//! the moment (it is *inside*) is seen now, and one that begins to is told. Then the bottoms and limits are shut (`SHUT`: no stack has a
//! block or room), and a second fence shows each claim that was made before; whoever claims later sees that it is shut. What was not
//! claimed is taken out from below: the bottom rises. Of a claim and what was taken, the bottom tells which was first.
//!
//! *Filled*: from a stack's bottom to its top, its slots hold blocks of its class that are nobody else's; the top is never
//! above the limit, nor that above the next stack's bottom. *Gate*: bottoms, limits and leases are changed by the cache's thread while it is
//! inside and the gate open, or `MINE`; by others while the gate is `TAKEN`, under one lock for all.
#![allow(unsafe_code)]

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicIsize, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence};
use std::cell::Cell;
use std::ptr::{self, NonNull};

use super::aside::take_back;
use super::parcels::ThreadParcels;
use super::pot::{self, Answer};
use crate::heap::Heap;
use crate::heap::classes::{CLASSES, SLAB_CLASSES, class_capacity};
use crate::heap::parcel::Parcel;
use crate::os::{self, Os};
use crate::sync::{BREATH, store_load_fence};

/// The bytes that each cache may lease for blocks of slabs, besides its portions of the [pot]; and for blocks of pages, behind which are
/// parcels.
pub(crate) const CACHE_BYTES: usize = 256 << 10;
const PAGES_BYTES: usize = 128 << 10;

/// Whether blocks of a class are pages.
fn is_pages(class: usize) -> bool {
    class >= SLAB_CLASSES
}

/// The classes alike.
fn alike(class: usize) -> u64 {
    let slabs = (1 << SLAB_CLASSES) - 1;
    if is_pages(class) { !slabs } else { slabs }
}

/// The most blocks and about the most bytes in one stack.
const STACK_BLOCKS: usize = 64;
const STACK_BYTES: usize = 256 << 10;

/// The most blocks in the stack of a class.
const fn depth(class: usize) -> usize {
    let blocks = STACK_BYTES / class_capacity(class);
    if blocks > STACK_BLOCKS { STACK_BLOCKS } else { blocks }
}

/// Where each class's stack begins in a cache's slots, and the end of the last one.
const BOTTOMS: [u32; CLASSES + 1] = {
    let mut bottoms = [0; CLASSES + 1];
    let mut class = 0;
    while class < CLASSES {
        bottoms[class + 1] = bottoms[class] + depth(class) as u32;
        class += 1;
    }
    bottoms
};

/// So many other classes are asked for what of their leases is not filled, before what is filled goes back.
const LOOKS: usize = 4;

/// What is filled goes back for others' sake by such a part of all.
const AT_ONCE: usize = 8;

const SLOTS: usize = BOTTOMS[CLASSES] as usize;

/// One class's stack: the slots from `bottom` to the top are filled, and those up to `limit` leased.
///
/// The top is `pushed - popped`. With a counter for each way, a pair of an allocation and a free waits for one store to come back
/// from the store buffer, not for two: that is what its time consists of.
#[derive(Debug)]
struct Stack {
    /// Allocations.
    popped: AtomicUsize,
    /// Frees, and `base`.
    pushed: AtomicUsize,
    base: AtomicUsize,
    bottom: AtomicU32,
    limit: AtomicU32,
}

impl Stack {
    #[inline]
    fn top(&self) -> usize {
        self.pushed.load(Relaxed).wrapping_sub(self.popped.load(Relaxed))
    }

    fn set_top(&self, top: usize) {
        let by = top.wrapping_sub(self.top());
        add(&self.pushed, by);
        add(&self.base, by);
    }

    /// Where it begins, shut or not.
    fn bottom(&self) -> usize {
        self.bottom.load(Relaxed).min(self.limit.load(Relaxed)) as usize
    }

    fn limit(&self) -> usize {
        self.bottom.load(Relaxed).max(self.limit.load(Relaxed)) as usize
    }

    fn set_limit(&self, limit: usize) {
        self.limit.store(limit as u32, Relaxed);
    }

    fn lease(&self) -> usize {
        self.limit() - self.bottom()
    }

    /// Shut, the two are exchanged: wherever the top is, there is no block above the bottom, nor room below the limit.
    fn shut(&self) {
        self.set(self.limit(), self.bottom());
    }

    fn open(&self) {
        self.set(self.bottom(), self.limit());
    }

    /// As others do it.
    fn set(&self, bottom: usize, limit: usize) {
        self.limit.store(limit as u32, Release);
        self.bottom.store(bottom as u32, Release);
    }
}

/// Where a cache's gate stands, besides `OPEN`, which is zero: it was called in; no claim succeeds; its thread opens it again; another has it.
const OPEN: u32 = 0;
const CALLED: u32 = 1;
const SHUT: u32 = 2;
const MINE: u32 = 3;
const TAKEN: u32 = 4;

/// Adds to a counter that only this thread writes.
#[inline]
fn add(counter: &AtomicUsize, by: usize) -> usize {
    let sum = counter.load(Relaxed).wrapping_add(by);
    counter.store(sum, Relaxed);
    sum
}

/// The classes in a set of bits.
fn classes(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let class = (bits != 0).then(|| bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        class
    })
}

/// When a thread is to look at the clock next, counted in its requests: a clock is read in the time of several of these.
///
/// Where something is due, and visits find that it is not yet time, they become rarer; where they come late, they become more frequent.
/// The bounds are the most requests that a thread makes at a slower pace than before until it notices that time has passed.
#[derive(Debug)]
struct Patience {
    left: Cell<i32>,
    stride: Cell<i32>,
}

/// The most requests between two visits where nothing is due; where something is; and after a free that took the lock, which tells that
/// more may be due, and takes longer than a look at the clock.
const FAR: i32 = 1 << 10;
const NEAR: i32 = 1 << 6;
const NEAREST: i32 = 1 << 3;

/// The shard that is asked, and how often the lock was another's there: so many of so many visits are too many, twice as many after each
/// move.
#[derive(Debug)]
struct Home {
    number: AtomicUsize,
    visits: AtomicU32,
    waits: AtomicU32,
    since: AtomicU32,
    moves: AtomicU32,
}

const WAITS: u32 = 32;
const VISITS: u32 = 64 * WAITS;

/// In this order, the offset of a stack is that of its class, and what each request touches lies together.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Cache {
    stacks: [Stack; CLASSES],
    /// Requested bytes handed out so far; bytes freed so far, and `peak`.
    allocated: AtomicUsize,
    ceiling: AtomicUsize,
    /// The largest difference of bytes handed out and freed (of either sign) since it was settled last, and what it was then.
    peak: AtomicIsize,
    settled: AtomicIsize,
    /// The bytes of all leases of slabs' blocks, and of pages; and the class whose lease is next to be taken away.
    leased: [AtomicUsize; 2],
    hand: AtomicUsize,
    /// The classes that have leases, a bit each.
    leasing: AtomicU64,
    /// The most bytes that may be leased.
    allowance: AtomicUsize,
    /// See *Gate*; whether its thread is inside; and the classes whose bottoms may have risen since it was last.
    gate: AtomicU32,
    inside: AtomicBool,
    risen: AtomicU64,
    /// What it had counted when somebody looked last whether its thread makes requests.
    seen: AtomicUsize,
    patience: Patience,
    home: Home,
    /// A thread has this cache: it is in the list of all, whose neighbours these are.
    pub(crate) taken: AtomicBool,
    pub(crate) next: AtomicPtr<Cache>,
    pub(crate) before: AtomicPtr<Cache>,
    /// The later a cache came into the list, the larger.
    pub(crate) number: AtomicUsize,
    /// The one that was left before this one, where both wait to be retired.
    pub(crate) left: AtomicPtr<Cache>,
    pub(crate) parcels: ThreadParcels,
    slots: [AtomicPtr<u8>; SLOTS],
}

// SAFETY: all is atomic but the patience, which is the cache's own thread's, or is used under a lock where there is none.
unsafe impl Sync for Cache {}

/// What a thread kept.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kept {
    /// A block of a class.
    Block(usize, NonNull<u8>),
    /// Pages of a parcel.
    Pages(&'static Parcel, u64),
}

/// What was counted so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    pub(crate) allocated: usize,
    pub(crate) freed: usize,
    /// Allocations and frees of each class.
    pub(crate) allocations: [u64; CLASSES],
    pub(crate) frees: [u64; CLASSES],
}

impl Tally {
    pub(crate) const fn new() -> Self {
        Self { allocated: 0, freed: 0, allocations: [0; CLASSES], frees: [0; CLASSES] }
    }
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.allocated = self.allocated.wrapping_add(other.allocated);
        self.freed = self.freed.wrapping_add(other.freed);
        for (sums, more) in [(&mut self.allocations, &other.allocations), (&mut self.frees, &other.frees)] {
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
    }
}

impl Cache {
    /// One that holds nothing and never will: all its stacks are both empty and full.
    pub(crate) const fn barren() -> Self {
        Self {
            allocated: AtomicUsize::new(0),
            ceiling: AtomicUsize::new(0),
            settled: AtomicIsize::new(0),
            peak: AtomicIsize::new(0),
            leased: [const { AtomicUsize::new(0) }; 2],
            hand: AtomicUsize::new(0),
            leasing: AtomicU64::new(0),
            allowance: AtomicUsize::new(0),
            gate: AtomicU32::new(OPEN),
            inside: AtomicBool::new(false),
            risen: AtomicU64::new(0),
            seen: AtomicUsize::new(0),
            patience: Patience { left: Cell::new(0), stride: Cell::new(0) },
            home: Home {
                number: AtomicUsize::new(0),
                visits: AtomicU32::new(0),
                waits: AtomicU32::new(0),
                since: AtomicU32::new(0),
                moves: AtomicU32::new(0),
            },
            taken: AtomicBool::new(false),
            next: AtomicPtr::new(ptr::null_mut()),
            before: AtomicPtr::new(ptr::null_mut()),
            number: AtomicUsize::new(0),
            left: AtomicPtr::new(ptr::null_mut()),
            stacks: [const {
                Stack {
                    popped: AtomicUsize::new(0),
                    pushed: AtomicUsize::new(0),
                    base: AtomicUsize::new(0),
                    bottom: AtomicU32::new(0),
                    limit: AtomicU32::new(0),
                }
            }; CLASSES],
            parcels: ThreadParcels::none(),
            slots: [const { AtomicPtr::new(ptr::null_mut()) }; SLOTS],
        }
    }

    /// Makes a barren cache one that can hold blocks.
    pub(crate) fn begin(&self) {
        for (stack, bottom) in self.stacks.iter().zip(BOTTOMS) {
            stack.bottom.store(bottom, Relaxed);
            stack.set_limit(bottom as usize);
            stack.set_top(bottom as usize);
        }
        self.no_leases();
        self.gate.store(OPEN, Relaxed);
        self.inside.store(false, Relaxed);
        self.risen.store(0, Relaxed);
        self.begin_at_home();
    }

    /// Its thread is another one, or has another home.
    pub(crate) fn begin_at_home(&self) {
        let Home { number, visits, waits, since, moves } = &self.home;
        number.store(0, Relaxed);
        [visits, waits, since, moves].iter().for_each(|count| count.store(0, Relaxed));
    }

    /// A block of a class for a request of `size` bytes, if there is one.
    #[inline]
    pub(crate) fn pop(&self, class: usize, size: usize) -> Option<NonNull<u8>> {
        let stack = &self.stacks[class];
        let (top, bottom) = (stack.top(), stack.bottom.load(Relaxed));
        if top <= bottom as usize {
            return None;
        }
        add(&stack.popped, 1);
        store_load_fence();
        if stack.bottom.load(Relaxed) != bottom && !self.has_popped(class, top) {
            return None;
        }
        self.count_allocated(size);
        debug_assert!(bottom >= BOTTOMS[class] && top <= BOTTOMS[class + 1] as usize);
        // SAFETY: *Filled*: the slots from bottom to top hold blocks that were pushed.
        Some(unsafe { NonNull::new_unchecked(self.slots.get_unchecked(top - 1).load(Relaxed)) })
    }

    /// Takes a block back, if there is room.
    #[inline]
    pub(crate) fn push(&self, class: usize, size: usize, block: NonNull<u8>) -> bool {
        let stack = &self.stacks[class];
        let top = stack.top();
        if top >= stack.limit.load(Relaxed) as usize {
            return false;
        }
        debug_assert!(top >= BOTTOMS[class] as usize && top < BOTTOMS[class + 1] as usize);
        // SAFETY: *Filled*: the top lies below the limit here, and that within the slots.
        unsafe { self.slots.get_unchecked(top) }.store(block.as_ptr(), Relaxed);
        // Who sees that it is there sees the block. Who does not, as others empty the stack just now, leaves the slot alone: the block is
        // above the limit then, until the thread is inside.
        stack.pushed.store(stack.pushed.load(Relaxed).wrapping_add(1), Release);
        self.count_freed(size);
        true
    }

    /// Whether a claim of the block below the top was made before the stack was emptied. If not, it is given up.
    #[cold]
    fn has_popped(&self, class: usize, top: usize) -> bool {
        self.come_back();
        let stack = &self.stacks[class];
        let claimed = top > stack.bottom();
        if !claimed {
            add(&stack.popped, usize::MAX);
        }
        claimed
    }

    /// The cache's thread is back: the gate is open again.
    #[cold]
    fn come_back(&self) {
        // Who saw a bottom or a limit that others changed sees what they did before.
        fence(Acquire);
        loop {
            match self.gate.load(Acquire) {
                OPEN => return,
                TAKEN => os::sleep(BREATH),
                CALLED => _ = self.gate.compare_exchange(CALLED, OPEN, Acquire, Relaxed),
                _ => {
                    if self.gate.compare_exchange(SHUT, MINE, Acquire, Relaxed).is_ok() {
                        self.open();
                    }
                }
            }
        }
    }

    /// The classes that have leases. Of all others the stacks are both empty and full.
    fn leasing(&self) -> impl Iterator<Item = usize> + use<> {
        classes(self.leasing.load(Relaxed))
    }

    /// For who has the gate.
    fn open(&self) {
        self.leasing().for_each(|class| self.stacks[class].open());
        self.gate.store(OPEN, Release);
    }

    /// The cache's thread changes leases, and what its stacks hold, until the guard's end.
    pub(crate) fn enter(&self) -> AtLeases<'_> {
        let before = self.inside.load(Relaxed);
        self.inside.store(true, Relaxed);
        store_load_fence();
        // As for `come_back`.
        fence(Acquire);
        if self.gate.load(Acquire) != OPEN {
            self.come_back();
        }
        let risen = self.risen.load(Relaxed);
        if risen != 0 {
            self.lower(risen);
        }
        AtLeases { cache: self, before }
    }

    /// The bottoms of these classes are where they belong again.
    #[cold]
    fn lower(&self, risen: u64) {
        for class in classes(risen) {
            let stack = &self.stacks[class];
            let (bottom, top) = (stack.bottom(), stack.top());
            let lease = stack.lease().max(top - bottom);
            let lowest = BOTTOMS[class] as usize;
            for (to, from) in (bottom..top).enumerate() {
                self.slots[lowest + to].store(self.slots[from].load(Relaxed), Relaxed);
            }
            stack.set_top(lowest + (top - bottom));
            stack.bottom.store(lowest as u32, Relaxed);
            self.set_limit(class, lowest + lease);
        }
        self.leased.iter().for_each(|leased| leased.store(0, Relaxed));
        for class in self.leasing() {
            add(self.leased(class), self.stacks[class].lease() * class_capacity(class));
        }
        self.risen.store(0, Relaxed);
    }

    /// Calls it in, if it holds something and, where only the idle are wanted, its thread made no requests since the last such look, or none
    /// for what its parcels serve. Returns whether it was. For who holds the lock of all; as the next three.
    pub(crate) fn call_in(&self, only_idle: bool) -> bool {
        // Somebody gave up in the middle.
        self.call_off();
        let counted = self.allocated.load(Relaxed).wrapping_add(self.ceiling.load(Relaxed));
        let idle = self.parcels.rest() || self.seen.load(Relaxed) == counted;
        self.seen.store(counted, Relaxed);
        let holds = || self.leasing().any(|class| self.held(class) > 0) || self.parcels.hold_some();
        let wanted = (idle || !only_idle) && holds();
        wanted && self.gate.compare_exchange(OPEN, CALLED, Relaxed, Relaxed).is_ok()
    }

    /// A fence later, shuts what was called in, unless its thread is inside, or came by. Returns whether it is shut.
    pub(crate) fn shut(&self) -> bool {
        if self.gate.compare_exchange(CALLED, TAKEN, Acquire, Relaxed).is_err() {
            return false;
        }
        let shut = !self.inside.load(Acquire);
        if shut {
            // Its thread may not have been inside since others rose.
            self.risen.store(self.risen.load(Relaxed) | self.leasing.load(Relaxed), Relaxed);
            self.leasing().for_each(|class| self.stacks[class].shut());
        }
        self.gate.store(if shut { SHUT } else { OPEN }, Release);
        shut
    }

    /// A second fence later, takes out of what is shut, of a class at a time from this one on, and the parcels at last, as long as `take` has
    /// room for so many more. Returns the class to go on with; none if it is empty, or its thread came by.
    pub(crate) fn take_out(&self, first: usize, mut room: usize, mut take: impl FnMut(Kept)) -> Option<usize> {
        if self.gate.compare_exchange(SHUT, TAKEN, Acquire, Relaxed).is_err() {
            return None;
        }
        for class in self.leasing().filter(|&class| class >= first) {
            let stack = &self.stacks[class];
            let (bottom, top) = (stack.bottom(), stack.pushed.load(Acquire).wrapping_sub(stack.popped.load(Relaxed)));
            // A claim that is about to be given up may have let it sink below.
            if top <= bottom {
                continue;
            }
            if top - bottom > room {
                self.gate.store(SHUT, Release);
                return Some(class);
            }
            room -= top - bottom;
            for slot in &self.slots[bottom..top] {
                if let Some(block) = NonNull::new(slot.load(Relaxed)) {
                    take(Kept::Block(class, block));
                }
            }
            stack.set(top, top);
        }
        for parcel in self.parcels.with_free() {
            if room == 0 {
                self.gate.store(SHUT, Release);
                return Some(CLASSES);
            }
            room -= 1;
            take(Kept::Pages(parcel, self.parcels.take_out(parcel)));
        }
        self.parcels.tell_nothing();
        self.give_up_portions(usize::MAX);
        self.leasing().for_each(|class| self.stacks[class].open());
        self.no_leases();
        self.gate.store(OPEN, Release);
        None
    }

    /// It is not called in any more.
    pub(crate) fn call_off(&self) {
        let _ = self.gate.compare_exchange(CALLED, OPEN, Acquire, Relaxed);
        if self.gate.compare_exchange(SHUT, TAKEN, Acquire, Relaxed).is_ok() {
            self.open();
        }
    }

    /// Counts a block that changed its size in place.
    #[inline]
    pub(crate) fn resized(&self, old: usize, new: usize) {
        // Which of both it is may differ at random: no branch.
        self.count_freed(old.saturating_sub(new));
        self.count_allocated(new.saturating_sub(old));
    }

    /// One more request; returns whether its thread is to look at the clock.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        let left = self.patience.left.get() - 1;
        self.patience.left.set(left);
        left < 0
    }

    /// Nothing is due.
    pub(crate) fn rest(&self) {
        self.patience.left.set(FAR);
    }

    /// Something will be due: the next request looks.
    pub(crate) fn attend(&self) {
        self.patience.left.set(0);
        self.patience.stride.set(1);
    }

    /// Something is due, and more may be.
    #[inline]
    pub(crate) fn hasten(&self) {
        self.patience.left.set(self.patience.left.get().min(NEAREST));
        self.patience.stride.set(NEAREST / 4);
    }

    /// Something is due, and this visit was early for it, or late.
    pub(crate) fn pace(&self, early: bool) {
        let stride = self.patience.stride.get();
        let stride = if early { stride * 4 } else { stride / 4 }.clamp(1, NEAR);
        self.patience.stride.set(stride);
        self.patience.left.set(stride);
    }

    /// The number of its thread's home.
    #[inline]
    pub(crate) fn home(&self) -> usize {
        self.home.number.load(Relaxed)
    }

    /// Another home, from now on.
    pub(crate) fn set_home(&self, number: usize) {
        self.home.number.store(number, Relaxed);
        self.home.moves.store((self.home.moves.load(Relaxed) + 1).min(16), Relaxed);
    }

    /// One more visit to a shard, for a request or a free.
    #[inline]
    pub(crate) fn count_visit(&self) {
        self.home.visits.store(self.home.visits.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// The lock was another's there. Returns whether that is so too often.
    pub(crate) fn is_crowded(&self) -> bool {
        let Home { visits, waits, since, moves, .. } = &self.home;
        let (visits, moves) = (visits.load(Relaxed), moves.load(Relaxed));
        let waited =
            if visits.wrapping_sub(since.load(Relaxed)) > VISITS << moves { 0 } else { waits.load(Relaxed) } + 1;
        let is_crowded = waited > WAITS << moves;
        waits.store(if is_crowded { 0 } else { waited }, Relaxed);
        if waited == 1 || is_crowded {
            since.store(visits, Relaxed);
        }
        is_crowded && self.taken.load(Relaxed)
    }

    #[inline]
    fn count_allocated(&self, size: usize) {
        let allocated = add(&self.allocated, size);
        let above = allocated.wrapping_sub(self.ceiling.load(Relaxed)).cast_signed();
        if above > 0 {
            self.ceiling.store(allocated, Relaxed);
            self.peak.store(self.peak.load(Relaxed).wrapping_add(above), Relaxed);
        }
    }

    #[inline]
    fn count_freed(&self, size: usize) {
        add(&self.ceiling, size);
    }

    /// Counts a request that the stacks did not serve.
    pub(crate) fn served(&self, class: Option<usize>, size: usize) {
        if let Some(class) = class {
            let stack = &self.stacks[class];
            add(&stack.popped, 1);
            add(&stack.pushed, 1);
            add(&stack.base, 1);
        }
        self.count_allocated(size);
    }

    /// Counts a free that the stacks did not take.
    pub(crate) fn freed(&self, class: Option<usize>, size: usize) {
        if let Some(class) = class {
            add(&self.stacks[class].base, usize::MAX);
        }
        self.count_freed(size);
    }

    /// What came in use since this was called last, and at most in between.
    pub(crate) fn settle(&self) -> (isize, isize) {
        let (allocated, settled, peak) =
            (self.allocated.load(Relaxed), self.settled.load(Relaxed), self.peak.load(Relaxed));
        let in_use = peak.wrapping_sub(self.ceiling.load(Relaxed).wrapping_sub(allocated).cast_signed());
        self.settled.store(in_use, Relaxed);
        self.peak.store(in_use, Relaxed);
        self.ceiling.store(allocated, Relaxed);
        (in_use.wrapping_sub(settled), peak.wrapping_sub(settled))
    }

    /// Adds what was counted.
    pub(crate) fn add_to(&self, tally: &mut Tally) {
        // What was freed is read first: it was allocated before.
        let freed = self.ceiling.load(Relaxed).wrapping_sub(self.peak.load(Relaxed).cast_unsigned());
        tally.freed = tally.freed.wrapping_add(freed);
        tally.allocated = tally.allocated.wrapping_add(self.allocated.load(Relaxed));
        for (class, stack) in self.stacks.iter().enumerate() {
            tally.allocations[class] += stack.popped.load(Relaxed) as u64;
            tally.frees[class] += stack.pushed.load(Relaxed).wrapping_sub(stack.base.load(Relaxed)) as u64;
        }
    }

    /// Begins anew: what it held is not its own any more.
    pub(crate) fn begin_anew(&self) {
        for counter in [&self.allocated, &self.ceiling] {
            counter.store(0, Relaxed);
        }
        for counter in [&self.settled, &self.peak] {
            counter.store(0, Relaxed);
        }
        for stack in &self.stacks {
            for counter in [&stack.popped, &stack.pushed, &stack.base] {
                counter.store(0, Relaxed);
            }
        }
        self.parcels.begin();
        self.begin();
    }

    /// The blocks that lie in the stack of a class. Other threads' stacks may move meanwhile.
    pub(crate) fn held(&self, class: usize) -> usize {
        let stack = &self.stacks[class];
        stack.top().wrapping_sub(stack.bottom()).min(stack.limit().saturating_sub(stack.bottom()))
    }

    /// Fills the empty stack of a class; returns one block more. `obtain` is asked for so many blocks, and gives as many as there are.
    pub(crate) fn refill(
        &self,
        class: usize,
        obtain: impl FnOnce(usize, &mut dyn FnMut(NonNull<u8>)),
    ) -> Option<NonNull<u8>> {
        let stack = &self.stacks[class];
        // Runs of pages come one by one: to take them ahead would save no work.
        let ahead = if is_pages(class) { 0 } else { stack.lease() / 2 };
        let mut first = None;
        let mut top = stack.bottom();
        obtain(1 + ahead, &mut |block| {
            if first.is_none() {
                first = Some(block);
            } else {
                self.slots[top].store(block.as_ptr(), Relaxed);
                top += 1;
            }
        });
        debug_assert!(top <= stack.limit());
        stack.set_top(top);
        first
    }

    /// Takes a block back whose stack is full: widens it, or gives its older half back.
    pub(crate) fn overflow(&self, class: usize, block: NonNull<u8>, mut give: impl FnMut(usize, NonNull<u8>)) {
        self.widen(class, &mut give);
        let stack = &self.stacks[class];
        if stack.lease() == 0 {
            give(class, block);
            return;
        }
        if stack.top() == stack.limit() {
            self.give_back(class, stack.lease().div_ceil(2), &mut give);
        }
        let top = stack.top();
        debug_assert!(top < stack.limit());
        self.slots[top].store(block.as_ptr(), Relaxed);
        stack.set_top(top + 1);
    }

    /// Gives the oldest `count` blocks of a stack back.
    fn give_back(&self, class: usize, count: usize, give: &mut impl FnMut(usize, NonNull<u8>)) {
        let stack = &self.stacks[class];
        let (bottom, top) = (stack.bottom(), stack.top());
        debug_assert!(bottom + count <= top && top <= stack.limit());
        for slot in &self.slots[bottom..bottom + count] {
            if let Some(block) = NonNull::new(slot.load(Relaxed)) {
                give(class, block);
            }
        }
        for slot in bottom + count..top {
            self.slots[slot - count].store(self.slots[slot].load(Relaxed), Relaxed);
        }
        stack.set_top(top - count);
    }

    /// A wider lease for a class whose stack ran full or empty: twice as many blocks of slabs, or one that is pages of its own. Where all is
    /// leased, others give theirs up: what is not filled of them, if that is enough.
    pub(crate) fn widen(&self, class: usize, give: &mut impl FnMut(usize, NonNull<u8>)) {
        let stack = &self.stacks[class];
        let lease = stack.lease();
        let more = if is_pages(class) { 1 } else { lease.max(1) }.min(depth(class) - lease);
        let bytes = more * class_capacity(class);
        // A barren cache has no leases to give.
        if more == 0 || !self.taken.load(Relaxed) {
            return;
        }
        if !self.may_lease(class, bytes) && !self.ask_for(class, bytes) {
            // Classes with leases, this one left out, from the hand on.
            for look in 0..2 * CLASSES {
                let Some(other) = self.next_leasing(class) else { break };
                self.cut(other, look >= LOOKS, give);
                let more = if look < LOOKS { 0 } else { self.total(class) / AT_ONCE };
                if self.may_lease(class, bytes + more) {
                    break;
                }
            }
        }
        if self.may_lease(class, bytes) {
            add(self.leased(class), bytes);
            self.set_limit(class, stack.limit() + more);
        }
    }

    /// The next class in turn that has a lease, and is like this one, but another.
    fn next_leasing(&self, class: usize) -> Option<usize> {
        let others = self.leasing.load(Relaxed) & alike(class) & !(1 << class);
        let hand = self.hand.load(Relaxed) as u32;
        let turned = others.rotate_right(hand + 1);
        if turned == 0 {
            return None;
        }
        let next = (hand + 1 + turned.trailing_zeros()) % u64::BITS;
        self.hand.store(next as usize, Relaxed);
        Some(next as usize)
    }

    fn set_limit(&self, class: usize, limit: usize) {
        let stack = &self.stacks[class];
        debug_assert!(stack.bottom() <= limit && limit <= BOTTOMS[class + 1] as usize);
        stack.set_limit(limit);
        let others = self.leasing.load(Relaxed) & !(1 << class);
        self.leasing.store(others | u64::from(limit > stack.bottom()) << class, Relaxed);
    }

    /// The bytes leased for classes like this one.
    fn leased(&self, class: usize) -> &AtomicUsize {
        &self.leased[usize::from(is_pages(class))]
    }

    fn no_leases(&self) {
        self.leased.iter().for_each(|leased| leased.store(0, Relaxed));
        self.leasing.store(0, Relaxed);
    }

    /// Whether there are parcels behind blocks of this class, with room for more.
    #[inline]
    pub(crate) fn is_of_parcels(&self, class: usize) -> bool {
        is_pages(class) && !self.parcels.is_full()
    }

    /// The most bytes that may be leased for classes like this one.
    fn total(&self, class: usize) -> usize {
        if self.is_of_parcels(class) { PAGES_BYTES } else { CACHE_BYTES + self.allowance.load(Relaxed) }
    }

    fn may_lease(&self, class: usize, bytes: usize) -> bool {
        self.leased(class).load(Relaxed) + bytes <= self.total(class)
    }

    /// Takes a portion of the pot, if there is one, and there are no parcels behind these blocks; or gives its own back, if they are too much by now.
    fn ask_for(&self, class: usize, bytes: usize) -> bool {
        if self.is_of_parcels(class) {
            return false;
        }
        match pot::ask() {
            Answer::Portion(bytes) => _ = add(&self.allowance, bytes),
            Answer::Overdrawn(bytes) => self.give_up_portions(bytes),
            Answer::Empty => {}
        }
        self.may_lease(class, bytes)
    }

    /// Ends the part of a lease that is not filled, with half of what is if `filled`.
    fn cut(&self, class: usize, filled: bool, give: &mut impl FnMut(usize, NonNull<u8>)) {
        let stack = &self.stacks[class];
        if filled {
            self.give_back(class, self.held(class).div_ceil(2), give);
        }
        let unused = (stack.limit() - stack.top()) * class_capacity(class);
        if unused > 0 {
            add(self.leased(class), 0_usize.wrapping_sub(unused));
            self.set_limit(class, stack.top());
        }
    }

    /// Ends the lease of a class like this one, in turn, but not of itself.
    pub(crate) fn end_a_lease(&self, class: usize, mut give: impl FnMut(usize, NonNull<u8>)) {
        if let Some(other) = self.next_leasing(class) {
            self.give_up(other, &mut give);
        }
    }

    /// Ends the lease of a class.
    fn give_up(&self, class: usize, give: &mut impl FnMut(usize, NonNull<u8>)) {
        self.give_back(class, self.held(class), give);
        let stack = &self.stacks[class];
        let bytes = stack.lease() * class_capacity(class);
        add(self.leased(class), 0_usize.wrapping_sub(bytes));
        self.set_limit(class, stack.bottom());
    }

    /// So many bytes of what it took of the pot are others' to take.
    pub(crate) fn give_up_portions(&self, most: usize) {
        let allowance = self.allowance.load(Relaxed);
        let back = allowance.min(most);
        pot::give_back(back);
        self.allowance.store(allowance - back, Relaxed);
    }

    /// Gives everything back.
    pub(crate) fn drain(&self, mut give: impl FnMut(usize, NonNull<u8>)) {
        for class in 0..CLASSES {
            self.give_up(class, &mut give);
        }
        self.give_up_portions(usize::MAX);
    }

    /// Gives a part of it back, some 64 blocks; returns whether there may be more.
    pub(crate) fn drain_some(&self, mut give: impl FnMut(usize, NonNull<u8>)) -> bool {
        let mut given = 0;
        for class in 0..CLASSES {
            if given >= STACK_BLOCKS {
                return true;
            }
            given += self.held(class);
            self.give_up(class, &mut give);
        }
        false
    }
}

/// While it lives, a cache's thread is inside.
#[derive(Debug)]
pub(crate) struct AtLeases<'a> {
    cache: &'a Cache,
    before: bool,
}

impl Drop for AtLeases<'_> {
    fn drop(&mut self) {
        // A signal's handler may have been inside while its thread was.
        self.cache.inside.store(self.before, Release);
    }
}

/// Gives a block of a class to its heap.
pub(super) fn give_back<O: Os>(heap: &mut Heap<O>, class: usize, block: NonNull<u8>) {
    // SAFETY: *Filled*: the block is nobody else's.
    if !unsafe { heap.give_back_block(class, block) || take_back(block) } {
        misuse(heap, block);
    }
}

/// Ends the process: what was freed, or resized, is no block in use of the size that it was said to have.
#[cold]
pub(super) fn misuse<O: Os>(heap: &mut Heap<O>, block: NonNull<u8>) -> ! {
    os::die(format_args!("{block:p} was freed or resized, where there is {}", heap.holding(block)))
}
