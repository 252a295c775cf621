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
//! *Filled*: from a stack's bottom to its top, its slots hold blocks of its class that are nobody else's; the top is never
//! above the limit, nor that above the next stack's bottom. *Gate*: bottoms, limits and leases are changed by the cache's thread while it is
//! inside and the gate open, or `MINE`; by others while the gate is `TAKEN`, under one lock for all.
#![allow(unsafe_code)]

mod counts;
mod gate;
mod home;
mod leases;
mod pace;
mod runs;
mod stack;

use std::ptr::{self, NonNull};

pub(crate) use self::counts::Tally;
use self::gate::OPEN;
use self::home::Home;
#[cfg_attr(loom, allow(unused_imports))]
pub(crate) use self::leases::{are_leases_given, give_leases};
use self::pace::Patience;
use self::runs::Runs;
use self::stack::{BOTTOMS, SLOTS, Stack};
use super::aside::take_back;
use super::parcels::ThreadParcels;
use crate::heap::Heap;
use crate::heap::classes::{CLASSES, KEPT_CLASSES};
use crate::heap::parcel::Parcel;
use crate::os::{self, Os};
use crate::sync::atomic::Ordering::{Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicIsize, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
use crate::sync::store_load_fence;

/// Adds to a counter that only this thread writes.
#[inline]
fn add(counter: &AtomicUsize, by: usize) -> usize {
    let sum = counter.load(Relaxed).wrapping_add(by);
    counter.store(sum, Relaxed);
    sum
}

/// In this order, the offset of a stack is that of its class, and what each request touches lies together.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Cache {
    stacks: [Stack; KEPT_CLASSES],
    /// Requested bytes handed out so far; bytes freed so far, and `peak`.
    allocated: AtomicUsize,
    ceiling: AtomicUsize,
    /// The largest difference of bytes handed out and freed (of either sign) since it was settled last, and what it was then.
    peak: AtomicIsize,
    settled: AtomicIsize,
    runs: Runs,
    /// The bytes of all leases of slabs' blocks, of pages, and of runs; and the class whose lease is next to be taken away.
    leased: [AtomicUsize; 3],
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

impl Cache {
    /// One that holds nothing and never will: all its stacks are both empty and full.
    pub(crate) const fn barren() -> Self {
        Self {
            allocated: AtomicUsize::new(0),
            ceiling: AtomicUsize::new(0),
            settled: AtomicIsize::new(0),
            peak: AtomicIsize::new(0),
            runs: Runs::none(),
            leased: [const { AtomicUsize::new(0) }; 3],
            hand: AtomicUsize::new(0),
            leasing: AtomicU64::new(0),
            allowance: AtomicUsize::new(0),
            gate: AtomicU32::new(OPEN),
            inside: AtomicBool::new(false),
            risen: AtomicU64::new(0),
            seen: AtomicUsize::new(0),
            patience: Patience::none(),
            home: Home::first(),
            taken: AtomicBool::new(false),
            next: AtomicPtr::new(ptr::null_mut()),
            before: AtomicPtr::new(ptr::null_mut()),
            number: AtomicUsize::new(0),
            left: AtomicPtr::new(ptr::null_mut()),
            stacks: [const { Stack::none() }; KEPT_CLASSES],
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
        self.push_noting(class, size, block, || ())
    }

    /// As [`push`](Self::push), with something noted before, if there is room.
    #[inline(always)]
    fn push_noting(&self, class: usize, size: usize, block: NonNull<u8>, note: impl FnOnce()) -> bool {
        let stack = &self.stacks[class];
        let top = stack.top();
        if top >= stack.limit.load(Relaxed) as usize {
            return false;
        }
        note();
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
        self.runs.begin();
        self.parcels.begin();
        self.begin();
    }

    /// The blocks that lie in the stack of a class. Other threads' stacks may move meanwhile.
    pub(crate) fn held(&self, class: usize) -> usize {
        let stack = &self.stacks[class];
        stack.top().wrapping_sub(stack.bottom()).min(stack.limit().saturating_sub(stack.bottom()))
    }
}

/// Gives a block of a class, or a run of a kind, to its heap.
pub(super) fn give_back<O: Os>(heap: &mut Heap<O>, class: usize, block: NonNull<u8>) {
    let given = match class {
        CLASSES.. => heap.give_back_kept(block),
        // SAFETY: *Filled*: the block is nobody else's.
        _ => unsafe { heap.give_back_block(class, block) || take_back(block) },
    };
    if !given {
        misuse(heap, block);
    }
}

/// Ends the process: what was freed, or resized, is no block in use of the size that it was said to have.
#[cold]
pub(super) fn misuse<O: Os>(heap: &mut Heap<O>, block: NonNull<u8>) -> ! {
    os::die(format_args!("{block:p} was freed or resized, where there is {}", heap.holding(block)))
}
