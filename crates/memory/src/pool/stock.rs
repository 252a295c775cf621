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

use std::ops::Range;
use std::ptr::NonNull;

use super::central::{CentralList, Free, Idle};
use super::tuning::{STACK_BUFFERS, STOCK_BUFFERS_PART, STOCK_BYTES, STOCK_BYTES_PART};
use crate::layout::{BUCKETS, Fit, SizeClasses};
use crate::pool_config::PoolConfig;
use crate::stats::{Counters, FreeBuffers, Tab};

/// One class's stack. With a counter for each way, a pair of a request and a free waits for one store to come back from the store
/// buffer, not for two.
#[derive(Clone, Copy, Debug)]
struct ClassStock {
    /// Hits served from here.
    popped: u64,
    /// Frees that came here, and `base`: what `pushed` is above `popped` lies here.
    pushed: u64,
    base: u64,
    /// The most buffers that may lie here: those leased.
    limit: usize,
    slots: [Option<Idle>; STACK_BUFFERS],
}

impl ClassStock {
    const EMPTY: Self = Self { popped: 0, pushed: 0, base: 0, limit: 0, slots: [None; STACK_BUFFERS] };

    #[inline]
    fn len(&self) -> usize {
        self.pushed.wrapping_sub(self.popped) as usize
    }

    /// Puts a buffer on top whose free is counted elsewhere.
    fn lay(&mut self, idle: Idle) {
        debug_assert!(self.len() < STACK_BUFFERS);
        self.slots[self.len() % STACK_BUFFERS] = Some(idle);
        self.pushed = self.pushed.wrapping_add(1);
        self.base = self.base.wrapping_add(1);
    }

    /// The buffer that was freed first.
    fn first(&self) -> Option<Idle> {
        if self.len() == 0 { None } else { self.slots[0] }
    }

    /// Forgets that one, for nobody's request.
    fn remove_first(&mut self) {
        self.slots.rotate_left(1);
        self.pushed = self.pushed.wrapping_sub(1);
        self.base = self.base.wrapping_sub(1);
    }
}

/// The stacks of the small classes, for buffers of the pool's own alignment.
#[derive(Debug)]
struct Stacks {
    alignment: usize,
    by_class: Vec<ClassStock>,
}

impl Stacks {
    #[inline]
    fn of(&mut self, fit: &Fit) -> Option<&mut ClassStock> {
        if fit.alignment == self.alignment { self.by_class.get_mut(fit.class) } else { None }
    }
}

#[derive(Debug)]
pub(super) struct Stock {
    classes: SizeClasses,
    stacks: Stacks,
    /// What is leased: bytes in all, and buffers of each bucket.
    bytes: usize,
    buffers: [usize; BUCKETS],
    most_bytes: usize,
    most_buffers: usize,
    pub(super) tab: Tab,
}

// SAFETY: as for the pool's state.
unsafe impl Send for Stock {}

impl Stock {
    /// An empty one; `None` if there is no memory for it.
    pub(super) fn new(config: &PoolConfig, classes: SizeClasses) -> Option<Self> {
        let count = classes.small_count();
        let mut by_class = Vec::new();
        by_class.try_reserve_exact(count).ok()?;
        by_class.resize(count, ClassStock::EMPTY);
        Some(Self {
            classes,
            stacks: Stacks { alignment: config.alignment, by_class },
            bytes: 0,
            buffers: [0; BUCKETS],
            most_bytes: STOCK_BYTES.min(config.max_pool_size / STOCK_BYTES_PART),
            most_buffers: (config.max_buffers_per_bucket / STOCK_BUFFERS_PART).max(1),
            tab: Tab::default(),
        })
    }

    /// The buffer of a class and its capacity that was freed last, for a small request of `requested` bytes.
    #[inline]
    pub(super) fn pop(&mut self, (class, capacity): (usize, usize), requested: usize) -> Option<NonNull<u8>> {
        let stack = self.stacks.by_class.get_mut(class)?;
        let len = stack.len();
        if len == 0 {
            return None;
        }
        debug_assert!(len <= stack.limit && stack.limit <= STACK_BUFFERS);
        let idle = stack.slots[(len - 1) % STACK_BUFFERS]?;
        stack.popped += 1;
        self.tab.handed_out(requested, capacity);
        Some(idle.ptr)
    }

    /// Takes a freed buffer of a small request, if there is room.
    #[inline]
    pub(super) fn push(&mut self, ptr: NonNull<u8>, (class, capacity): (usize, usize), requested: usize) -> Option<()> {
        let stack = self.stacks.by_class.get_mut(class)?;
        let len = stack.len();
        debug_assert!(len <= stack.limit && stack.limit <= STACK_BUFFERS);
        if len == stack.limit || self.tab.is_due() {
            return None;
        }
        let since = self.tab.taken_back(requested, capacity);
        stack.slots[len % STACK_BUFFERS] = Some(Idle { ptr, since });
        stack.pushed += 1;
        Some(())
    }

    pub(super) fn len(&mut self, fit: &Fit) -> usize {
        self.stacks.of(fit).map_or(0, |stack| stack.len())
    }

    /// Leases a buffer more of this class, which the pool's caps allow, unless that is too many for one stock. A class without any
    /// takes over from others.
    pub(super) fn widen(&mut self, central: &mut CentralList, counters: &mut Counters, fit: &Fit) -> bool {
        let Some(limit) = self.stacks.of(fit).map(|stack| stack.limit) else { return false };
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
        let stack = self.stacks.of(fit).filter(|stack| stack.len() < stack.limit);
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
        for bucket in buckets {
            if self.buffers[bucket] == 0 {
                continue;
            }
            for class in self.classes.of_bucket(bucket) {
                let (_, capacity) = self.classes.capacity_of(class);
                let fit = Fit { capacity, alignment: self.stacks.alignment, class, bucket };
                while self.send_home(central, counters, &fit) {}
                // What found no memory to be accounted for stays.
                let Some(stack) = self.stacks.of(&fit) else { continue };
                let ended = stack.limit - stack.len();
                stack.limit -= ended;
                self.bytes -= ended * capacity;
                self.buffers[bucket] -= ended;
                central.end_leases(bucket, capacity, ended);
            }
        }
    }

    /// The buffers of each bucket that may lie here.
    pub(super) fn leases(&self) -> &[usize; BUCKETS] {
        &self.buffers
    }

    /// Takes what is leased to it from the caps again, when the central list has forgotten all leases.
    pub(super) fn renew_leases(&self, central: &mut CentralList) {
        for (class, stack) in self.stacks.by_class.iter().enumerate() {
            let (bucket, capacity) = self.classes.capacity_of(class);
            (0..stack.limit).for_each(|_| central.lease(bucket, capacity));
        }
    }

    /// Hands over what was counted by class, and adds what lies here.
    pub(super) fn report(&mut self, counters: &mut Counters, kept: &mut [FreeBuffers; BUCKETS]) {
        for (class, stack) in self.stacks.by_class.iter_mut().enumerate() {
            let (bucket, capacity) = self.classes.capacity_of(class);
            let len = stack.len();
            counters.add(bucket, stack.popped, stack.pushed.wrapping_sub(stack.base));
            (stack.popped, stack.pushed, stack.base) = (0, len as u64, len as u64);
            kept[bucket].buffers += len;
            kept[bucket].bytes += len * capacity;
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
        let (class, stack) = self.stacks.by_class.iter_mut().enumerate().find(|(_, stack)| stack.len() > 0)?;
        let (bucket, capacity) = self.classes.capacity_of(class);
        let block = Fit { capacity, alignment: self.stacks.alignment, class, bucket }.block()?;
        let ptr = stack.first()?.ptr;
        stack.remove_first();
        Some(Free { ptr, block, bucket })
    }
}
