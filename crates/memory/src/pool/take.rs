//! A request: the thread's own buffers, then the pool's, then the backing.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;

use super::BufferPool;
use super::state::{Evicted, Held};
use crate::backing::{Backing, Refused};
use crate::error::{AllocError, AllocErrorKind};
use crate::layout::{BUCKETS, Fit, dangling};

impl<B: Backing> BufferPool<B> {
    #[inline]
    pub(super) fn serve(&self, request: Layout, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        let (ptr, is_zero) = self.find(request, zeroed)?;
        if zeroed && !is_zero {
            // SAFETY: the block has at least `request.size()` bytes and belongs to the caller alone.
            unsafe { ptr.write_bytes(0, request.size()) };
        }
        Ok(ptr)
    }

    /// A buffer, and whether it is known to be all zero. If it has to come from the backing, it is asked for as `zeroed`.
    #[inline]
    pub(super) fn find(&self, request: Layout, zeroed: bool) -> Result<(NonNull<u8>, bool), AllocError> {
        if request.size() == 0 {
            return Ok((dangling(request), true));
        }
        if let Some((member, class)) = self.nearby(request)
            // SAFETY: *Owned*: the stock is the calling thread's.
            && let Some(ptr) = unsafe { member.stock.enter(|stock| stock.pop(class, request.size())) }
        {
            return Ok((ptr, self.config.zero_on_free));
        }
        self.find_shared(request, zeroed)
    }

    #[inline(never)]
    pub(super) fn find_shared(&self, request: Layout, zeroed: bool) -> Result<(NonNull<u8>, bool), AllocError> {
        let Some(fit) = self.classes.fit(request) else {
            return Err(self.never_fits(request.size(), request.align()));
        };
        let mut state = self.lock();
        match state.hit(request, &fit) {
            Some(ptr) => Ok((ptr, self.config.zero_on_free)),
            None => self.miss(state, request, &fit, zeroed),
        }
    }

    /// Asks the backing, within the limit. What is pooled, or on its way to the backing in any thread, never stands in the way
    /// of a request: it is given back, or waited for, and the backing is asked once more.
    #[cold]
    fn miss<'a>(
        &'a self,
        mut state: Held<'a>,
        request: Layout,
        fit: &Fit,
        zeroed: bool,
    ) -> Result<(NonNull<u8>, bool), AllocError> {
        let Some(block) = fit.block() else {
            drop(state);
            return Err(self.never_fits(request.size(), request.align()));
        };
        if !self.limits.allow(0, fit.capacity) {
            return Err(self.refuse(state, AllocErrorKind::NeverFits, request, fit));
        }
        if state.adopt()
            && let Some(ptr) = state.hit(request, fit)
        {
            return Ok((ptr, self.config.zero_on_free));
        }
        state = self.shrink_to_working_set(state, fit.capacity);
        let mut refusals = 0;
        loop {
            if refusals > 0 {
                state = self.release(state, 0).0;
            }
            if self.limits.allow(state.counters.reserved(), fit.capacity) {
                let slack = state.slack();
                let granted;
                (state, granted) = self.ask_backing(state, block, fit.capacity, zeroed);
                if let Ok(ptr) = granted {
                    let pooled = state.central.bytes();
                    state.counters.miss_served(fit.bucket, request.size(), fit.capacity, pooled);
                    return Ok((ptr, zeroed));
                }
                state.counters.miss_failed(fit.capacity);
                refusals += 1;
                state.close_all();
                // A last word only if nothing was free all the while.
                if refusals > 1 && slack.free == 0 && slack == state.slack() {
                    return Err(self.refuse(state, AllocErrorKind::BackingRefused, request, fit));
                }
            } else {
                state.close_all();
                if let Some(ptr) = state.hit(request, fit) {
                    return Ok((ptr, self.config.zero_on_free));
                }
                if !self.limits.allow(state.standing(), fit.capacity) {
                    return Err(self.refuse(state, AllocErrorKind::OverLimit, request, fit));
                }
                state = self.make_room(state, fit.capacity);
            }
            // Meanwhile another thread may have freed just what is asked for.
            if let Some(ptr) = state.hit(request, fit) {
                return Ok((ptr, self.config.zero_on_free));
            }
        }
    }

    /// Evicts what the recent working set does not need beside so many bytes more, as far as it is not leased to others.
    fn shrink_to_working_set<'a>(&'a self, mut state: Held<'a>, capacity: usize) -> Held<'a> {
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
    ) -> (Held<'a>, Result<NonNull<u8>, Refused>) {
        state.counters.miss_begins(capacity);
        let forks = state.forks();
        drop(state);
        let granted = if zeroed { self.backing.obtain_zeroed(block) } else { self.backing.obtain(block) };
        debug_assert!(granted.is_err() || granted.is_ok_and(|ptr| ptr.addr().get().is_multiple_of(block.align())));
        let mut state = self.lock();
        if state.forks() != forks {
            state.counters.miss_begins(capacity);
        }
        (state, granted)
    }

    /// A block of exactly this layout from the backing, as a request of its own class: never pooled, but counted, and within the limit.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[cfg(feature = "plan")]
    pub(crate) fn get_apart(&self, block: Layout) -> Result<NonNull<u8>, AllocError> {
        self.miss(self.lock(), block, &Fit::apart(block), false).map(|(ptr, _)| ptr)
    }

    /// Counts and explains a request that no layout or no class can express.
    #[cold]
    pub(crate) fn never_fits(&self, requested: usize, alignment: usize) -> AllocError {
        self.explain(self.lock(), AllocError::never_fits(requested, alignment))
    }

    fn refuse(&self, state: Held<'_>, kind: AllocErrorKind, request: Layout, fit: &Fit) -> AllocError {
        let (requested, alignment) = (request.size(), request.align());
        let rounded = Some(fit.capacity);
        self.explain(state, AllocError { kind, rounded, ..AllocError::never_fits(requested, alignment) })
    }

    fn explain(&self, mut state: Held<'_>, error: AllocError) -> AllocError {
        state.counters.refused();
        state.visit(|_, _| ());
        let held = state.counters.in_use_or_stocked();
        let in_use = state.counters.in_use_rounded().min(held);
        let pooled = state.central.bytes() + held - in_use;
        AllocError { in_use, pooled, limit: self.config.limit, ..error }
    }
}
