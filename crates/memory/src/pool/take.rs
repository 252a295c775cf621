//! A request: the thread's own buffers, then the pool's, then the backing.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;

use super::BufferPool;
use super::state::{Evicted, Held};
use crate::backing::{Backing, OneRequest};
use crate::error::{AllocError, AllocErrorKind};
use crate::layout::{BUCKETS, Fit, dangling};
use crate::pressure::is_tried_only;

/// A buffer that was found for a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) ptr: NonNull<u8>,
    /// It is known to be all zero.
    pub(super) is_zero: bool,
    pub(crate) is_hit: bool,
}

/// How a buffer came to another size, for who counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resized {
    /// It is the same one.
    InPlace,
    /// By the backing: it counts as another one, that was a miss, but was never beside the first.
    Below,
    /// It is another one, and the first is free.
    Moved { is_hit: bool },
}

impl<B: Backing> BufferPool<B> {
    /// A buffer. If it has to come from the backing, it is asked for as `zeroed`.
    #[inline]
    pub(super) fn find(&self, request: Layout, zeroed: bool) -> Result<Found, AllocError> {
        match self.pop(request) {
            Some(ptr) => Ok(self.reused(ptr)),
            None => self.find_shared(request, zeroed),
        }
    }

    #[inline]
    fn reused(&self, ptr: NonNull<u8>) -> Found {
        Found { ptr, is_zero: self.config.zero_on_free, is_hit: true }
    }

    #[inline(never)]
    pub(super) fn get_shared(&self, request: Layout) -> Result<NonNull<u8>, AllocError> {
        self.find_shared(request, false).map(|found| found.ptr)
    }

    #[inline(never)]
    fn find_shared(&self, request: Layout, zeroed: bool) -> Result<Found, AllocError> {
        if request.size() == 0 {
            return Ok(Found { ptr: dangling(request), is_zero: true, is_hit: false });
        }
        let Some(fit) = self.fit(request) else {
            return Err(self.never_fits(request.size(), request.align()));
        };
        let mut state = self.lock();
        match state.hit(request, &fit) {
            Some(ptr) => Ok(self.reused(ptr)),
            None => self.miss(state, request, &fit, zeroed),
        }
    }

    /// Asks the backing, within the limit. What is pooled, or on its way to the backing in any thread, never stands in the way
    /// of a request: it is given back, or waited for, and the backing is asked once more.
    #[cold]
    fn miss<'a>(&'a self, mut state: Held<'a>, request: Layout, fit: &Fit, zeroed: bool) -> Result<Found, AllocError> {
        let Some(block) = fit.block() else {
            drop(state);
            return Err(self.never_fits(request.size(), request.align()));
        };
        let _one = OneRequest::begin();
        if !self.limits.allow(0, fit.capacity) {
            return Err(self.refuse(state, AllocErrorKind::NeverFits, request, fit));
        }
        if state.adopt()
            && let Some(ptr) = state.hit(request, fit)
        {
            return Ok(self.reused(ptr));
        }
        state = self.shrink_to_working_set(state, fit.capacity);
        if self.limits.exceeds_recent_peak(&state.central, &state.counters, fit.capacity) {
            state = self.empty_hand(state);
        }
        let mut refusals = 0;
        loop {
            if refusals > 0 {
                state = self.reclaim(state, 1).0;
                state = self.release(state, 0).0;
            }
            if self.limits.allow(state.counters.reserved(), fit.capacity) {
                let slack = state.slack();
                let granted;
                (state, granted) = self.ask_backing(state, block, fit.capacity, zeroed);
                let below = match granted {
                    Ok(ptr) => {
                        let pooled = state.central.bytes();
                        state.counters.miss_served(fit.bucket, request.size(), fit.capacity, pooled);
                        return Ok(Found { ptr, is_zero: zeroed, is_hit: false });
                    }
                    Err(below) => below,
                };
                state.counters.miss_failed(fit.capacity);
                // Nothing is emptied for what cannot be had, or need not be.
                if below.kind() == AllocErrorKind::NeverFits || is_tried_only() {
                    return Err(self.refuse(state, AllocErrorKind::BackingRefused, request, fit).because_of(below));
                }
                refusals += 1;
                state.close_all();
                // A last word only if nothing was free all the while.
                if refusals > 1 && slack.free == 0 && slack == state.slack() {
                    return Err(self.refuse(state, AllocErrorKind::BackingRefused, request, fit).because_of(below));
                }
            } else {
                if is_tried_only() {
                    return Err(self.refuse(state, AllocErrorKind::OverLimit, request, fit));
                }
                state.close_all();
                if let Some(ptr) = state.hit(request, fit) {
                    return Ok(self.reused(ptr));
                }
                if !self.limits.allow(state.standing(), fit.capacity) {
                    let need = self.limits.lacking(state.standing(), fit.capacity);
                    let gained;
                    (state, gained) = self.reclaim(state, need);
                    if !gained {
                        return Err(self.refuse(state, AllocErrorKind::OverLimit, request, fit));
                    }
                } else {
                    state = self.make_room(state, fit.capacity);
                }
            }
            // Meanwhile another thread may have freed just what is asked for.
            if let Some(ptr) = state.hit(request, fit) {
                return Ok(self.reused(ptr));
            }
        }
    }

    /// Evicts what the recent working set does not need beside so many bytes more, as far as it is not leased to others.
    pub(super) fn shrink_to_working_set<'a>(&'a self, mut state: Held<'a>, capacity: usize) -> Held<'a> {
        while self.limits.exceeds_working_set(&state.central, &state.counters, capacity) {
            state.close_own(0..BUCKETS);
            let evicted = Evicted::gather(&mut state, |state| {
                let exceeds = self.limits.exceeds_working_set(&state.central, &state.counters, capacity);
                if exceeds { state.central.take_oldest() } else { None }
            });
            if evicted.is_empty() {
                break;
            }
            state = self.give_back(state, evicted, None);
        }
        state
    }

    /// Gives the buffer in the hand back to the backing, if there is one.
    fn empty_hand<'a>(&'a self, mut state: Held<'a>) -> Held<'a> {
        let mut hand = state.central.empty_hand();
        let evicted = Evicted::gather(&mut state, |_| hand.take());
        if evicted.is_empty() { state } else { self.give_back(state, evicted, None) }
    }

    /// Has those whose memory comes from here give up what they keep, if it is so much. Returns whether it was.
    fn reclaim<'a>(&'a self, state: Held<'a>, need: usize) -> (Held<'a>, bool) {
        drop(state);
        let has = self.ground.kept().all() >= need || self.ground.settled().all() >= need;
        let gained = has && self.ground.reclaim(need) > 0;
        (self.lock(), gained)
    }

    /// Evicts what stands between so many bytes more and the limit; without any to evict, waits for what is on its way.
    fn make_room<'a>(&'a self, mut state: Held<'a>, capacity: usize) -> Held<'a> {
        let evicted = Evicted::gather(&mut state, |state| {
            let staying = state.counters.reserved() - state.coming();
            if self.limits.allow(staying, capacity) { None } else { state.central.take_oldest() }
        });
        self.give_back(state, evicted, None)
    }

    /// Asks for a block, with the lock released. It counts as reserved from before until its fate is told.
    fn ask_backing<'a>(
        &'a self,
        mut state: Held<'a>,
        block: Layout,
        capacity: usize,
        zeroed: bool,
    ) -> (Held<'a>, Result<NonNull<u8>, AllocError>) {
        state.counters.miss_begins(capacity);
        let forks = state.forks();
        drop(state);
        if let Some(keeper) = self.keeper() {
            keeper.is_used_anew();
        }
        let ask = || if zeroed { self.backing.obtain_zeroed(block) } else { self.backing.obtain(block) };
        let granted = AllocError::asking(block, ask);
        debug_assert!(granted.is_err() || granted.is_ok_and(|ptr| ptr.addr().get().is_multiple_of(block.align())));
        let mut state = self.lock();
        if state.forks() != forks {
            state.counters.miss_begins(capacity);
        }
        (state, granted)
    }

    /// Has the backing make a block fit another size, where both are of no class and the limit allows it; `None` if it does not.
    ///
    /// # Safety
    /// As for [`resize`](Self::resize).
    pub(super) unsafe fn resize_below(
        &self,
        ptr: NonNull<u8>,
        old: Layout,
        new: Layout,
        zeroed: bool,
    ) -> Option<(NonNull<u8>, Resized)> {
        if !self.limits.passes_on(old) || !self.limits.passes_on(new) || self.config.zero_on_free {
            return None;
        }
        let (before, after) = (self.fit(old)?, self.fit(new)?);
        let (from, to) = (before.block()?, after.block()?);
        let more = to.size().saturating_sub(from.size());
        if from.align() != to.align() {
            return None;
        }
        let mut state = self.lock();
        // What is pooled is in nobody's way.
        while !self.limits.allow(state.counters.reserved(), more) {
            state.close_all();
            if !self.limits.allow(state.standing(), more) {
                return None;
            }
            state = self.make_room(state, more);
        }
        let mut state = self.empty_hand(state);
        state.counters.miss_begins(more);
        let forks = state.forks();
        drop(state);
        // SAFETY: the block came from there with this layout, and is the caller's.
        let resized = unsafe { self.backing.refit(ptr, from, to, zeroed) };
        let mut state = self.lock();
        if state.forks() != forks {
            state.counters.miss_begins(more);
        }
        state.counters.miss_failed(more);
        let resized = resized?;
        let pooled = state.central.bytes();
        state.counters.resized_below(
            (before.bucket, old.size(), from.size()),
            (after.bucket, new.size(), to.size()),
            pooled,
        );
        drop(state);
        // What lies beyond the old block, the backing has seen to.
        let end = new.size().min(from.size());
        if zeroed && end > old.size() {
            // SAFETY: the block has so many bytes, and is the caller's.
            unsafe { resized.add(old.size()).write_bytes(0, end - old.size()) };
        }
        Some((resized, if before.bucket == after.bucket { Resized::InPlace } else { Resized::Below }))
    }

    /// A block of exactly this layout from the backing, as a request of its own class: never pooled, but counted, and within the limit.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[cfg(feature = "plan")]
    pub(crate) fn get_apart(&self, block: Layout) -> Result<NonNull<u8>, AllocError> {
        self.miss(self.lock(), block, &Fit::apart(block), false).map(|found| found.ptr)
    }

    /// Counts and explains a request that no layout or no class can express.
    #[cold]
    pub(crate) fn never_fits(&self, requested: usize, alignment: usize) -> AllocError {
        self.explain(self.lock(), AllocError::never_fits(requested, alignment))
    }

    fn refuse(&self, state: Held<'_>, kind: AllocErrorKind, request: Layout, fit: &Fit) -> AllocError {
        self.explain(state, AllocError::refused(request).of_kind(kind).rounded_to(fit.capacity))
    }

    fn explain(&self, mut state: Held<'_>, error: AllocError) -> AllocError {
        if is_tried_only() {
            return error;
        }
        state.counters.refused();
        if error.rounded().is_none() {
            return error;
        }
        state.visit(|_, _| ());
        let held = state.counters.in_use_or_stocked();
        let in_use = state.counters.in_use_rounded().min(held);
        let pooled = state.central.bytes() + held - in_use;
        error.with_account(in_use, pooled, self.config.limit)
    }
}
