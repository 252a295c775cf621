//! A thread's own stock of small blocks: a hit takes no lock and touches no cache line that another thread writes.
//!
//! A cache is written by its own thread alone; others read its counters for a snapshot. So all its fields are atomics
//! that are loaded and stored separately, which costs nothing over plain fields. Blocks lie in one stack a class, freed last on
//! top. How many a stack may hold is **leased** from the cache's total: a class starts with nothing, doubles its lease each time
//! it runs empty or full, and takes from the leases of other classes once the total is given out.
//!
//! All zero bytes are a cache that holds nothing and never will, *barren*: so one begins its life in place, in memory that is zero.
//!
//! *Filled*: from a stack's bottom to its top, its slots hold blocks of its class that are nobody else's; the top is never
//! above the limit, nor that above the next stack's bottom.
#![allow(unsafe_code)]

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicIsize, AtomicPtr, AtomicU32, AtomicUsize};
use std::cell::Cell;
use std::ptr::{self, NonNull};

use super::aside::take_back;
use crate::heap::Heap;
use crate::layout::blocks::{CLASSES, SLAB_CLASSES, class_capacity};
use crate::os::{self, Os};

/// The most bytes that the blocks of one cache may have.
pub(crate) const CACHE_BYTES: usize = 256 << 10;

/// The most blocks and about the most bytes in one stack.
const STACK_BLOCKS: usize = 64;
const STACK_BYTES: usize = 64 << 10;

/// The most blocks in the stack of a class.
const fn depth(class: usize) -> usize {
    let blocks = STACK_BYTES / class_capacity(class);
    if blocks > STACK_BLOCKS {
        STACK_BLOCKS
    } else if blocks < 2 {
        2
    } else {
        blocks
    }
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

    #[inline]
    fn bottom(&self) -> usize {
        self.bottom.load(Relaxed) as usize
    }

    #[inline]
    fn limit(&self) -> usize {
        self.limit.load(Relaxed) as usize
    }

    fn lease(&self) -> usize {
        self.limit() - self.bottom()
    }
}

/// Adds to a counter that only this thread writes.
#[inline]
fn add(counter: &AtomicUsize, by: usize) -> usize {
    let sum = counter.load(Relaxed).wrapping_add(by);
    counter.store(sum, Relaxed);
    sum
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
    /// The bytes of all leases, and the class whose lease is next to be taken away.
    leased: AtomicUsize,
    hand: AtomicUsize,
    patience: Patience,
    /// A thread has this cache: it is in the list of all, whose neighbours these are.
    pub(crate) taken: AtomicBool,
    pub(crate) next: AtomicPtr<Cache>,
    pub(crate) before: AtomicPtr<Cache>,
    /// The one that was left before this one, where both wait to be retired.
    pub(crate) left: AtomicPtr<Cache>,
    slots: [AtomicPtr<u8>; SLOTS],
}

// SAFETY: all is atomic but the patience, which is the cache's own thread's, or is used under the lock where there is none.
unsafe impl Sync for Cache {}

/// What was counted so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    pub(crate) allocated: usize,
    /// Allocations and frees of each class.
    pub(crate) allocations: [u64; CLASSES],
    pub(crate) frees: [u64; CLASSES],
}

impl Tally {
    pub(crate) const fn new() -> Self {
        Self { allocated: 0, allocations: [0; CLASSES], frees: [0; CLASSES] }
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
            leased: AtomicUsize::new(0),
            hand: AtomicUsize::new(0),
            patience: Patience { left: Cell::new(0), stride: Cell::new(0) },
            taken: AtomicBool::new(false),
            next: AtomicPtr::new(ptr::null_mut()),
            before: AtomicPtr::new(ptr::null_mut()),
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
            slots: [const { AtomicPtr::new(ptr::null_mut()) }; SLOTS],
        }
    }

    /// Makes a barren cache one that can hold blocks.
    pub(crate) fn begin(&self) {
        for (stack, bottom) in self.stacks.iter().zip(BOTTOMS) {
            stack.bottom.store(bottom, Relaxed);
            stack.limit.store(bottom, Relaxed);
            stack.set_top(bottom as usize);
        }
        self.leased.store(0, Relaxed);
    }

    /// A block of a class for a request of `size` bytes, if there is one.
    #[inline]
    pub(crate) fn pop(&self, class: usize, size: usize) -> Option<NonNull<u8>> {
        let stack = &self.stacks[class];
        let top = stack.top();
        if top == stack.bottom() {
            return None;
        }
        add(&stack.popped, 1);
        self.count_allocated(size);
        // SAFETY: *Filled*: the slots from bottom to top hold blocks that were pushed.
        Some(unsafe { NonNull::new_unchecked(self.slots.get_unchecked(top - 1).load(Relaxed)) })
    }

    /// Takes a block back, if there is room.
    #[inline]
    pub(crate) fn push(&self, class: usize, size: usize, block: NonNull<u8>) -> bool {
        let stack = &self.stacks[class];
        let top = stack.top();
        if top == stack.limit() {
            return false;
        }
        // SAFETY: *Filled*: the top lies below the limit here, and that within the slots.
        unsafe { self.slots.get_unchecked(top) }.store(block.as_ptr(), Relaxed);
        add(&stack.pushed, 1);
        self.count_freed(size);
        true
    }

    /// Counts a block that changed its size in place.
    #[inline]
    pub(crate) fn resized(&self, old: usize, new: usize) {
        if new > old {
            self.count_allocated(new - old);
        } else {
            self.count_freed(old - new);
        }
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
            let top = stack.top();
            add(&stack.popped, 1);
            stack.set_top(top);
        }
        self.count_allocated(size);
    }

    /// Counts a free that the stacks did not take.
    pub(crate) fn freed(&self, class: Option<usize>, size: usize) {
        if let Some(class) = class {
            let stack = &self.stacks[class];
            let top = stack.top();
            add(&stack.pushed, 1);
            stack.set_top(top);
        }
        self.count_freed(size);
    }

    fn in_use(&self) -> isize {
        let below = self.ceiling.load(Relaxed).wrapping_sub(self.allocated.load(Relaxed)).cast_signed();
        self.peak.load(Relaxed).wrapping_sub(below)
    }

    /// What came in use since this was called last, and at most in between.
    pub(crate) fn settle(&self) -> (isize, isize) {
        let (in_use, settled, peak) = (self.in_use(), self.settled.load(Relaxed), self.peak.load(Relaxed));
        self.settled.store(in_use, Relaxed);
        self.peak.store(in_use, Relaxed);
        self.ceiling.store(self.allocated.load(Relaxed), Relaxed);
        (in_use.wrapping_sub(settled), peak.wrapping_sub(settled))
    }

    /// What came in use and was not settled.
    pub(crate) fn unsettled(&self) -> isize {
        self.in_use().wrapping_sub(self.settled.load(Relaxed))
    }

    /// Adds what was counted.
    pub(crate) fn add_to(&self, tally: &mut Tally) {
        tally.allocated = tally.allocated.wrapping_add(self.allocated.load(Relaxed));
        for (class, stack) in self.stacks.iter().enumerate() {
            tally.allocations[class] += stack.popped.load(Relaxed) as u64;
            tally.frees[class] += stack.pushed.load(Relaxed).wrapping_sub(stack.base.load(Relaxed)) as u64;
        }
    }

    /// Starts counting anew; the stacks are empty.
    pub(crate) fn clear_counts(&self) {
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
            stack.set_top(stack.bottom());
        }
    }

    /// The blocks that lie in the stack of a class. Other threads' stacks may move meanwhile.
    pub(crate) fn held(&self, class: usize) -> usize {
        let stack = &self.stacks[class];
        stack.top().wrapping_sub(stack.bottom()).min(stack.limit().saturating_sub(stack.bottom()))
    }

    /// A block of a class whose stack is empty, and some more for the stack.
    pub(crate) fn refill<O: Os>(&self, heap: &mut Heap<O>, class: usize) -> Option<NonNull<u8>> {
        self.widen(heap, class);
        let stack = &self.stacks[class];
        // Runs of pages come one by one: to take them ahead would save no work.
        let ahead = if class < SLAB_CLASSES { stack.lease() / 2 } else { 0 };
        let mut first = None;
        let mut top = stack.bottom();
        heap.obtain_blocks(class, 1 + ahead, |block| {
            if first.is_none() {
                first = Some(block);
            } else {
                self.slots[top].store(block.as_ptr(), Relaxed);
                top += 1;
            }
        });
        stack.set_top(top);
        first
    }

    /// Takes a block back whose stack is full: widens it, or gives its older half to the heap.
    pub(crate) fn overflow<O: Os>(&self, heap: &mut Heap<O>, class: usize, block: NonNull<u8>) {
        self.widen(heap, class);
        let stack = &self.stacks[class];
        if stack.lease() == 0 {
            give_back(heap, class, block);
            return;
        }
        if stack.top() == stack.limit() {
            self.give_back(heap, class, stack.lease().div_ceil(2));
        }
        let top = stack.top();
        self.slots[top].store(block.as_ptr(), Relaxed);
        stack.set_top(top + 1);
    }

    /// Gives the oldest `count` blocks of a stack to the heap.
    fn give_back<O: Os>(&self, heap: &mut Heap<O>, class: usize, count: usize) {
        let stack = &self.stacks[class];
        let (bottom, top) = (stack.bottom(), stack.top());
        for slot in &self.slots[bottom..bottom + count] {
            if let Some(block) = NonNull::new(slot.load(Relaxed)) {
                give_back(heap, class, block);
            }
        }
        for slot in bottom + count..top {
            self.slots[slot - count].store(self.slots[slot].load(Relaxed), Relaxed);
        }
        stack.set_top(top - count);
    }

    /// Doubles the lease of a class, at the expense of others if all is leased.
    fn widen<O: Os>(&self, heap: &mut Heap<O>, class: usize) {
        let stack = &self.stacks[class];
        let lease = stack.lease();
        let more = lease.max(1).min(depth(class) - lease);
        let bytes = more * class_capacity(class);
        // A barren cache has no leases to give.
        if more == 0 || !self.taken.load(Relaxed) {
            return;
        }
        for _ in 0..CLASSES {
            if self.leased.load(Relaxed) + bytes <= CACHE_BYTES {
                break;
            }
            let hand = self.hand.load(Relaxed);
            self.hand.store((hand + 1) % CLASSES, Relaxed);
            if hand != class {
                self.give_up(heap, hand);
            }
        }
        if self.leased.load(Relaxed) + bytes <= CACHE_BYTES {
            add(&self.leased, bytes);
            stack.limit.store((stack.limit() + more) as u32, Relaxed);
        }
    }

    /// Ends the lease of a class.
    fn give_up<O: Os>(&self, heap: &mut Heap<O>, class: usize) {
        self.give_back(heap, class, self.held(class));
        let stack = &self.stacks[class];
        let bytes = stack.lease() * class_capacity(class);
        self.leased.store(self.leased.load(Relaxed) - bytes, Relaxed);
        stack.limit.store(stack.bottom() as u32, Relaxed);
    }

    /// Gives everything to the heap.
    pub(crate) fn drain<O: Os>(&self, heap: &mut Heap<O>) {
        for class in 0..CLASSES {
            self.give_up(heap, class);
        }
    }

    /// Gives a part of it to the heap, some 64 blocks; returns whether there may be more.
    pub(crate) fn drain_some<O: Os>(&self, heap: &mut Heap<O>) -> bool {
        let mut given = 0;
        for class in 0..CLASSES {
            if given >= STACK_BLOCKS {
                return true;
            }
            given += self.held(class);
            self.give_up(heap, class);
        }
        false
    }
}

/// Gives a block to the heap.
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
