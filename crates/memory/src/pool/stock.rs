//! A thread's own stock of a pool's small buffers: a hit takes no lock and touches no cache line that another thread writes.
//!
//! Each small class has a stack here, freed last on top. How many buffers it may hold is **leased** from the pool's caps, one by
//! one as there is need, so that the caps hold without a look at other threads. Under pressure, and where the caps are reached,
//! the buffers go **home** to the pool's central list, each with the time of its free: with one thread, everything is as if there were
//! no stock.
//!
//! It is not the heap's thread cache (`process/cache`): that one promises no cap on single buffers and no order of eviction, so its leases are bytes alone, and it
//! can be read and called in at any instant without a lock. Here every buffer counts against caps that hold exactly, so others reach it by shutting its thread out.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ops::Range;
use std::ptr::NonNull;

use super::central::{CentralList, Free, Idle};
use super::tuning::{STACK_BUFFERS, STACKS_AT_FIRST, STOCK_BUFFERS_PART, STOCK_BYTES, STOCK_BYTES_PART};
use crate::layout::{BUCKETS, Fit, SMALL_BUCKETS, SizeClasses, Small, bucket_of};
use crate::pool_config::PoolConfig;
use crate::stats::{Counters, FreeBuffers, Tab};

/// One class's stack.
#[derive(Debug)]
struct Stack {
    len: usize,
    /// The most buffers that may lie here: those leased.
    limit: usize,
    /// That of each buffer.
    capacity: usize,
    /// Hits served from here.
    popped: u64,
    /// What would lie here without those hits, and the frees that came here.
    laid: i64,
    /// What lies here; beyond that, anything.
    slots: [Idle; STACK_BUFFERS],
}

impl Stack {
    fn new(capacity: usize) -> Self {
        Self {
            len: 0,
            limit: 0,
            capacity,
            popped: 0,
            laid: 0,
            slots: [Idle { ptr: NonNull::dangling(), since: 0 }; STACK_BUFFERS],
        }
    }

    #[inline]
    fn pop(&mut self) -> Option<Idle> {
        debug_assert!(self.len <= self.limit && self.limit <= STACK_BUFFERS);
        let top = self.len.checked_sub(1)?;
        let idle = self.slots[top % STACK_BUFFERS];
        self.len = top;
        self.popped += 1;
        Some(idle)
    }

    /// Puts a buffer on top, for which there is room.
    #[inline]
    fn push(&mut self, idle: Idle) {
        debug_assert!(self.len < self.limit && self.limit <= STACK_BUFFERS);
        self.slots[self.len % STACK_BUFFERS] = idle;
        self.len += 1;
    }

    /// Puts a buffer on top whose free is counted elsewhere.
    fn lay(&mut self, idle: Idle) {
        self.push(idle);
        self.laid += 1;
    }

    /// The buffer that was freed first.
    fn first(&self) -> Option<Idle> {
        (self.len > 0).then(|| self.slots[0])
    }

    /// Forgets that one, for nobody's request.
    fn remove_first(&mut self) {
        self.slots.rotate_left(1);
        self.len -= 1;
        self.laid -= 1;
    }

    /// The hits and frees since this was called last.
    fn counted(&mut self) -> (u64, u64) {
        let len = self.len as i64;
        let counted = (self.popped, self.popped.wrapping_add_signed(len - self.laid));
        (self.popped, self.laid) = (0, len);
        counted
    }
}

/// The stacks of the small classes that had a lease, for buffers of the pool's own alignment. So a pool of which a thread uses a size or two
/// costs it a KiB.
#[derive(Debug)]
struct Stacks {
    /// *Numbered*: the numbers of the classes are those of their stacks. The first stack never has room: it is that of all that have none.
    small: Small,
    all: Vec<Stack>,
    alignment: usize,
}

impl Stacks {
    /// `None` if there is no memory for it.
    fn new(classes: SizeClasses, alignment: usize) -> Option<Self> {
        let mut all = Vec::new();
        all.try_reserve(STACKS_AT_FIRST).ok()?;
        all.push(Stack::new(0));
        Some(Self { small: Small::new(classes)?, all, alignment })
    }

    #[inline]
    fn serving(&mut self, request: Layout) -> &mut Stack {
        let number = self.small.number_of(request);
        debug_assert!(number < self.all.len());
        // SAFETY: *Numbered*, and none is ever taken out.
        unsafe { self.all.get_unchecked_mut(number) }
    }

    fn of(&mut self, fit: &Fit) -> Option<&mut Stack> {
        match self.small.number_of_fit(fit) {
            0 => None,
            number => self.all.get_mut(number),
        }
    }

    /// As [`of`](Self::of), and makes it where there is none yet, if there is memory for it, and a number.
    fn make(&mut self, fit: &Fit) -> Option<&mut Stack> {
        if self.small.number_of_fit(fit) == 0 {
            let number = u8::try_from(self.all.len()).ok()?;
            self.all.try_reserve(1).ok()?;
            if self.small.give(fit, number) {
                self.all.push(Stack::new(fit.capacity));
            }
        }
        self.of(fit)
    }
}

#[derive(Debug)]
pub(super) struct Stock {
    classes: SizeClasses,
    stacks: Stacks,
    /// What is leased: bytes in all, and buffers of each bucket.
    bytes: usize,
    buffers: [usize; SMALL_BUCKETS],
    most_bytes: usize,
    most_buffers: usize,
    pub(super) tab: Tab,
}

// SAFETY: as for the pool's state.
unsafe impl Send for Stock {}

impl Stock {
    /// An empty one; `None` if there is no memory for it.
    pub(super) fn new(config: &PoolConfig, classes: SizeClasses) -> Option<Self> {
        Some(Self {
            classes,
            stacks: Stacks::new(classes, config.alignment)?,
            bytes: 0,
            buffers: [0; SMALL_BUCKETS],
            most_bytes: STOCK_BYTES.min(config.max_pool_size / STOCK_BYTES_PART),
            most_buffers: (config.max_buffers_per_bucket / STOCK_BUFFERS_PART).max(1),
            tab: Tab::default(),
        })
    }

    /// The buffer freed last that serves a request.
    #[inline]
    pub(super) fn pop(&mut self, request: Layout) -> Option<NonNull<u8>> {
        let stack = self.stacks.serving(request);
        let idle = stack.pop()?;
        self.tab.handed_out(request.size(), stack.capacity);
        Some(idle.ptr)
    }

    /// Takes a freed buffer of a request, if there is room.
    #[inline]
    pub(super) fn push(&mut self, ptr: NonNull<u8>, request: Layout) -> Option<()> {
        let stack = self.stacks.serving(request);
        if stack.len == stack.limit || self.tab.is_due() {
            return None;
        }
        let since = self.tab.taken_back(request.size(), stack.capacity);
        stack.push(Idle { ptr, since });
        Some(())
    }

    pub(super) fn len(&mut self, fit: &Fit) -> usize {
        self.stacks.of(fit).map_or(0, |stack| stack.len)
    }

    /// Leases a buffer more of this class, which the pool's caps allow, unless that is too many for one stock. A class without any
    /// takes over from others.
    pub(super) fn widen(&mut self, central: &mut CentralList, counters: &mut Counters, fit: &Fit) -> bool {
        let Some(limit) = self.stacks.make(fit).map(|stack| stack.limit) else { return false };
        if limit == 0 && self.buffers[fit.bucket] == self.most_buffers {
            self.close(central, counters, fit.bucket..fit.bucket + 1);
        }
        if limit == 0 && fit.capacity > self.most_bytes - self.bytes {
            self.close(central, counters, 0..BUCKETS);
        }
        let allowed = limit < STACK_BUFFERS
            && self.buffers[fit.bucket] < self.most_buffers
            && fit.capacity <= self.most_bytes - self.bytes;
        let Some(stack) = self.stacks.of(fit).filter(|_| allowed) else { return false };
        stack.limit += 1;
        self.bytes += fit.capacity;
        self.buffers[fit.bucket] += 1;
        central.lease(fit.bucket, fit.capacity);
        true
    }

    /// Takes a buffer whose free was counted, if there is room. Returns whether there was.
    pub(super) fn lay(&mut self, counters: &mut Counters, fit: &Fit, idle: Idle) -> bool {
        let stack = self.stacks.of(fit).filter(|stack| stack.len < stack.limit);
        let Some(stack) = stack else { return false };
        stack.lay(idle);
        counters.stock(fit.capacity);
        true
    }

    /// Sends the buffer of this class home that was freed first. Returns whether there was one, and memory to account for it.
    pub(super) fn send_home(&mut self, central: &mut CentralList, counters: &mut Counters, fit: &Fit) -> bool {
        let Some(stack) = self.stacks.of(fit) else { return false };
        let sent = stack.first().is_some_and(|idle| central.insert(fit, idle).is_ok());
        if sent {
            stack.remove_first();
            counters.unstock(fit.capacity);
        }
        sent
    }

    /// Moves buffers of this class here from the central list, for requests to come: half as many as there is room for.
    pub(super) fn refill(&mut self, central: &mut CentralList, counters: &mut Counters, fit: &Fit) {
        let Some(stack) = self.stacks.of(fit) else { return };
        let ahead = stack.limit / 2;
        let mut newest = [None; STACK_BUFFERS];
        for slot in newest.iter_mut().take(ahead) {
            *slot = central.take_newest(fit);
        }
        for idle in newest.into_iter().rev().flatten() {
            stack.lay(idle);
            counters.stock(fit.capacity);
        }
    }

    /// Sends everything of some buckets home, and ends their leases.
    pub(super) fn close(&mut self, central: &mut CentralList, counters: &mut Counters, buckets: Range<usize>) {
        for bucket in buckets.start..buckets.end.min(SMALL_BUCKETS) {
            if self.buffers[bucket] == 0 {
                continue;
            }
            for class in self.classes.of_bucket(bucket) {
                let capacity = self.classes.capacity_of(bucket, class);
                let fit = Fit { capacity, alignment: self.stacks.alignment, class, bucket };
                while self.send_home(central, counters, &fit) {}
                // What found no memory to be accounted for stays.
                let Some(stack) = self.stacks.of(&fit) else { continue };
                let ended = stack.limit - stack.len;
                stack.limit -= ended;
                self.bytes -= ended * capacity;
                self.buffers[bucket] -= ended;
                central.end_leases(bucket, capacity, ended);
            }
        }
    }

    /// The buffers of each bucket that may lie here.
    pub(super) fn leases(&self) -> &[usize; SMALL_BUCKETS] {
        &self.buffers
    }

    /// Takes what is leased to it from the caps again, when the central list has forgotten all leases.
    pub(super) fn renew_leases(&self, central: &mut CentralList) {
        for stack in &self.stacks.all {
            (0..stack.limit).for_each(|_| central.lease(bucket_of(stack.capacity), stack.capacity));
        }
    }

    /// Hands over what was counted by class, and adds what lies here.
    pub(super) fn report(&mut self, counters: &mut Counters, kept: &mut [FreeBuffers; BUCKETS]) {
        for stack in &mut self.stacks.all {
            let bucket = bucket_of(stack.capacity);
            let (hits, frees) = stack.counted();
            counters.add(bucket, hits, frees);
            kept[bucket].buffers += stack.len;
            kept[bucket].bytes += stack.len * stack.capacity;
        }
    }

    /// Hands over what was counted by class. Returns whether nothing lies here any more.
    pub(super) fn retire(&mut self, counters: &mut Counters) -> bool {
        let mut kept = [FreeBuffers::default(); BUCKETS];
        self.report(counters, &mut kept);
        kept.iter().all(|kept| kept.buffers == 0)
    }

    /// Takes any buffer that lies here, to be given back to the backing.
    pub(super) fn take_any(&mut self) -> Option<Free> {
        let stack = self.stacks.all.iter_mut().find(|stack| stack.len > 0)?;
        let block = Layout::from_size_align(stack.capacity, self.stacks.alignment).ok()?;
        let bucket = bucket_of(stack.capacity);
        let ptr = stack.first()?.ptr;
        stack.remove_first();
        Some(Free { ptr, block, bucket })
    }
}
