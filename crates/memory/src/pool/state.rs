//! What a pool's lock guards, and how the calling thread gets at it: with the thread's own stock, and through a fork.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::mem;
use std::ops::{Deref, DerefMut, Range};
use std::process;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::central::{CentralList, Free, Idle};
use super::roomy::RoomyList;
use super::stock::Stock;
use super::threads::{self, Member, Members};
use super::tuning::BUFFERS_EVICTED;
use crate::biased::shut_out;
use crate::layout::{BUCKETS, Fit, SMALL};
use crate::stats::Counters;
use crate::sync::LockGuard;

#[derive(Debug)]
pub(super) struct PoolState {
    pub(super) central: CentralList,
    pub(super) counters: Counters,
    pub(super) members: Members,
    /// Buffers in use that are more than their layouts say.
    pub(super) roomy: RoomyList,
    /// How often there was no room for a buffer beside the leases of other threads.
    pub(super) crowded: u32,
    /// The process whose books these are. Who comes by in another one is the thread that forked, in the child.
    process: u32,
    /// How many forks led to it.
    forks: u32,
    /// The thread that forks has shut the owners of all stocks out.
    pub(super) still: bool,
}

// SAFETY: the pointers in `central` and in stocks are the only ones to their blocks (the invariant of `put`), and memory has no
// home thread; where the backing needs one, `B` is not `Send`, and so neither is the pool.
unsafe impl Send for PoolState {}

/// What may be free at one instant and is not at another.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Slack {
    /// Bytes pooled, in stocks as well, or on their way back to the backing.
    pub(super) free: usize,
    /// How often something has come back there.
    returns: u64,
}

impl PoolState {
    pub(super) fn new(central: CentralList) -> Self {
        Self {
            central,
            counters: Counters::new(),
            members: Members::new(),
            roomy: RoomyList::new(),
            crowded: 0,
            process: process::id(),
            forks: 0,
            still: false,
        }
    }

    /// The peaks are taken anew from now on. For who visited all stocks.
    pub(super) fn forget_peaks(&mut self) {
        let pooled = self.central.bytes();
        self.counters.forget_peaks(pooled);
    }

    /// How many forks led to this process: what was on its way before is forgotten.
    pub(super) fn forks(&self) -> u32 {
        self.forks
    }

    /// Bytes on their way back to the backing: held, but neither in use, nor asked for, nor pooled.
    pub(super) fn leaving(&self) -> usize {
        let counters = &self.counters;
        counters.reserved() - counters.in_use_or_stocked() - counters.asked() - self.central.bytes()
    }

    /// The process is about to fork, and the calling thread holds the lock meanwhile.
    pub(super) fn begin_fork(&mut self) {
        self.process = process::id();
        // As long as nobody was shut out.
        self.still = self.members.of_others().next().is_none();
    }

    /// The fork is over, and this is the parent.
    pub(super) fn end_fork(&mut self) {
        if self.still && !threads::given_up() {
            // SAFETY: *Locked*: whoever has the state has the lock.
            self.members.of_others().for_each(|member| unsafe { member.stock.let_in() });
        }
        self.still = false;
    }

    /// This is the child: what the other threads had under way does not come any more.
    pub(super) fn close_in_child(&mut self) {
        self.process = process::id();
        self.forks = self.forks.wrapping_add(1);
        let Self { central, counters, members, .. } = self;
        let torn = members.stay_behind(self.still);
        if torn {
            central.forget_leases();
            let mut kept = *central.kept();
            for member in &members.all {
                // SAFETY: *Owned* and *Locked*: it is our own, or one of a thread that is no more.
                let stock = unsafe { member.stock.locked() };
                counters.settle(&mut stock.tab);
                stock.report(counters, &mut kept);
                stock.renew_leases(central);
            }
            let stocked = kept.iter().map(|kept| kept.bytes).sum::<usize>() - central.bytes();
            counters.keep_only(&kept, stocked);
        }
        counters.close_journeys(central.bytes());
        self.still = true;
    }
}

/// The pool's state, locked, and the calling thread's stock.
pub(super) struct Held<'a> {
    state: LockGuard<'a, PoolState>,
    mine: Option<&'a Member>,
}

impl Deref for Held<'_> {
    type Target = PoolState;

    #[inline]
    fn deref(&self) -> &PoolState {
        &self.state
    }
}

impl DerefMut for Held<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut PoolState {
        &mut self.state
    }
}

impl<'a> Held<'a> {
    /// With the calling thread's stock, which is settled now.
    ///
    /// # Safety
    /// *Owned*: the stock is the calling thread's, and of this pool.
    #[inline]
    pub(super) unsafe fn new(state: LockGuard<'a, PoolState>, mine: Option<&'a Member>) -> Self {
        debug_assert!(mine.is_none_or(Member::is_mine));
        let mut held = Self { state, mine };
        if held.passed() || threads::given_up() {
            held.come_through();
        }
        held.settle_own();
        held
    }

    /// What else there is to be done by who comes through a fork, or when stocks are given up: others cannot get at them while they
    /// are in use.
    #[cold]
    #[inline(never)]
    fn come_through(&mut self) {
        if self.passed() && self.process != process::id() {
            self.close_in_child();
        }
        if threads::given_up()
            && let Some(mine) = self.mine
        {
            if !mine.stock.has_left() {
                self.settle_own();
                self.close_own(0..BUCKETS);
                // SAFETY: *Owned* and *Locked*, as in `own`.
                unsafe { mine.stock.leave() };
            }
            self.mine = None;
        }
    }

    /// Whether the calling thread forks: it passed the lock, and others do not before that is over.
    #[inline]
    pub(super) fn passed(&self) -> bool {
        self.state.passed()
    }

    pub(super) fn has_stock(&self) -> bool {
        self.mine.is_some()
    }

    /// Gives the calling thread a stock.
    ///
    /// # Safety
    /// As for [`new`](Self::new).
    pub(super) unsafe fn receive(&mut self, mine: Option<&'a Member>) {
        debug_assert!(mine.is_none_or(Member::is_mine));
        self.mine = mine;
    }

    /// The calling thread's stock, and what goes with it.
    #[inline]
    pub(super) fn own(&mut self) -> Option<(&mut PoolState, &mut Stock)> {
        // SAFETY: *Owned* and *Locked*: the stock is the calling thread's, which holds the lock meanwhile.
        self.mine.map(|mine| (&mut *self.state, unsafe { mine.stock.locked() }))
    }

    #[inline]
    fn settle_own(&mut self) {
        if let Some((state, stock)) = self.own() {
            state.counters.settle(&mut stock.tab);
        }
    }

    /// Bytes kept for reuse here, and in stocks. Who has one still when all are to be given up does not come by for a request.
    pub(super) fn pooled(&self) -> usize {
        self.central.bytes() + if threads::given_up() { 0 } else { self.counters.stocked() }
    }

    pub(super) fn slack(&self) -> Slack {
        Slack { free: self.pooled() + self.coming(), returns: self.counters.returns() }
    }

    /// Bytes on their way back to the backing that will get there while the calling thread waits.
    pub(super) fn coming(&self) -> usize {
        if self.passed() { 0 } else { self.leaving() }
    }

    /// Bytes that stand in the way of a request when all stocks were closed, whatever it evicts or waits for.
    pub(super) fn standing(&self) -> usize {
        if self.passed() { self.counters.reserved() - self.central.bytes() } else { self.counters.in_use_or_stocked() }
    }

    /// Serves a request from what is pooled here.
    #[inline]
    pub(super) fn hit(&mut self, request: Layout, fit: &Fit) -> Option<NonNull<u8>> {
        if fit.is_apart() {
            let ptr = self.central.take_from_hand(fit)?;
            self.counters.hit(fit.bucket, request.size(), fit.capacity);
            return Some(ptr);
        }
        // The stock was shut when we came.
        if fit.capacity <= SMALL
            && let Some((_, stock)) = self.own()
            && stock.len(fit) > 0
        {
            return stock.pop(request);
        }
        let ptr = self.central.take_newest(fit)?.ptr;
        self.counters.hit(fit.bucket, request.size(), fit.capacity);
        if fit.capacity <= SMALL
            && let Some((state, stock)) = self.own()
        {
            stock.refill(&mut state.central, &mut state.counters, fit);
        }
        Some(ptr)
    }

    /// Puts a buffer into the calling thread's stock, if there is room. Returns whether there was.
    pub(super) fn lay(&mut self, fit: &Fit, idle: Idle) -> bool {
        self.own().is_some_and(|(state, stock)| stock.lay(&mut state.counters, fit, idle))
    }

    /// Sends what lies in the calling thread's stock home.
    pub(super) fn close_own(&mut self, buckets: Range<usize>) {
        if let Some((state, stock)) = self.own() {
            stock.close(&mut state.central, &mut state.counters, buckets);
        }
    }

    /// Sends what lies in all stocks home.
    pub(super) fn close_all(&mut self) {
        // Without leases nothing lies there, and nothing was counted since the last one ended.
        if self.central.bytes_leased() > 0 {
            self.visit(|state, stock| stock.close(&mut state.central, &mut state.counters, 0..BUCKETS));
        }
    }

    /// Has all stocks counted as they are.
    pub(super) fn settle_all(&mut self) {
        if self.central.bytes_leased() > 0 {
            self.visit(|_, _| ());
        }
    }

    /// Visits all stocks, settled, but those whose owners cannot be shut out.
    pub(super) fn visit(&mut self, mut visit: impl FnMut(&mut PoolState, &mut Stock)) {
        let members = mem::take(&mut self.members.all);
        let mine = self.mine.map(ptr::from_ref);
        let others = members.iter().map(|member| &**member).filter(|member| mine != Some(ptr::from_ref(*member)));
        let owned = others.clone().filter(|member| !member.is_at_rest()).map(|member| &member.stock);
        let passed = self.passed();
        // SAFETY: *Locked*: we hold the lock, and our own is not among them.
        let out = if passed { self.still } else { unsafe { shut_out(owned) } };
        if !out && !passed {
            threads::give_up();
        }
        for member in others.filter(|member| out || member.is_at_rest()) {
            // SAFETY: *Owned* and *Locked*: we hold the lock, and the owner is out or there is none.
            let stock = unsafe { member.stock.locked() };
            self.state.counters.settle(&mut stock.tab);
            visit(&mut self.state, stock);
            if !passed && !threads::given_up() {
                // SAFETY: *Locked*, and the reference is not used any more.
                unsafe { member.stock.let_in() };
            }
        }
        self.settle_own();
        if let Some((state, stock)) = self.own() {
            visit(state, stock);
        }
        self.members.all = members;
    }

    /// All stocks, for who is the only one to know of the pool. One that is not known to be whole stays behind.
    pub(super) fn part_with_members(&mut self) -> Vec<Arc<Member>> {
        let reached = !self.passed() || self.still;
        let mut members = mem::take(&mut self.members.all);
        members.retain(|member| reached || member.is_mine() || member.is_at_rest());
        members
    }

    /// Sends what threads that ended left behind home. Returns whether there were any.
    pub(super) fn adopt(&mut self) -> bool {
        let PoolState { central, counters, members, .. } = &mut *self.state;
        members.adopt(|stock| {
            counters.settle(&mut stock.tab);
            stock.close(central, counters, 0..BUCKETS);
            stock.retire(counters)
        })
    }
}

/// A handful of buffers between the central list and the backing: in neither, so that the lock can be let go meanwhile.
pub(super) struct Evicted {
    pub(super) buffers: [Option<Free>; BUFFERS_EVICTED],
    pub(super) len: usize,
    pub(super) bytes: usize,
}

impl Evicted {
    /// Takes from `next` until it has no more or the hands are full.
    pub(super) fn gather<'a>(held: &mut Held<'a>, mut next: impl FnMut(&mut Held<'a>) -> Option<Free>) -> Self {
        let mut evicted = Self { buffers: [None; BUFFERS_EVICTED], len: 0, bytes: 0 };
        while evicted.len < evicted.buffers.len()
            && let Some(free) = next(held)
        {
            held.counters.return_begins(free.bucket, free.block.size());
            evicted.buffers[evicted.len] = Some(free);
            evicted.len += 1;
            evicted.bytes += free.block.size();
        }
        evicted
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}
