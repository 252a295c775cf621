//! A free: the buffer is kept, by the thread or by the pool, or goes back to the backing, or others do in its place.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::hint::black_box;
use std::ptr::NonNull;

use super::central::{Free, Idle};
use super::state::{Evicted, Held, PoolState};
use super::stock::Stock;
use super::tuning::{FREES_A_LOOK, FREES_WITHOUT_ROOM};
use super::{BufferPool, threads};
use crate::backing::Backing;
use crate::layout::{BUCKETS, Fit, SMALL};
use crate::pressure::{hushed, pass_time};
use crate::sync::atomic::Ordering::Relaxed;

impl<B: Backing> BufferPool<B> {
    #[cold]
    pub(super) fn put_wiped(&self, ptr: NonNull<u8>, request: Layout) {
        self.wipe(ptr, request);
        self.put_as_it_is(ptr, request);
    }

    fn wipe(&self, ptr: NonNull<u8>, request: Layout) {
        let Some(fit) = self.fit_of(ptr, request).filter(|_| request.size() > 0) else { return };
        debug_assert!(fit.capacity >= request.size());
        // SAFETY: the block has that many writable bytes, and the caller of `put` gives up all of them.
        unsafe { ptr.write_bytes(0, fit.capacity) };
        // Keeps the writes from being seen as dead where the memory goes straight back to the backing.
        black_box(ptr);
    }

    #[inline(never)]
    pub(super) fn put_shared(&self, ptr: NonNull<u8>, request: Layout) {
        if request.size() != 0 && self.put_locked(ptr, request).is_multiple_of(FREES_A_LOOK) {
            pass_time();
        }
    }

    /// Returns the number of the free.
    #[inline]
    fn put_locked(&self, ptr: NonNull<u8>, request: Layout) -> u64 {
        let Some(fit) = self.fit(request) else { return 1 };
        let mut state = self.lock();
        let roomy = state.roomy.take(ptr);
        if roomy.is_some() {
            self.roomy.store(state.roomy.len(), Relaxed);
        }
        let fit = &roomy.unwrap_or(fit);
        state.counters.freed(fit.bucket, request.size(), fit.capacity);
        if let Some((state, stock)) = state.own() {
            state.counters.set_clock(&mut stock.tab);
        }
        if let Some(keeper) = self.keeper() {
            keeper.is_used();
        }
        let idle = Idle { ptr, since: state.counters.frees() };
        if fit.is_apart() {
            self.put_in_hand(state, idle, fit);
            return idle.since;
        }
        // A tick may have passed: what the stock takes is within the working set only as long as that does not shrink.
        if fit.capacity <= SMALL
            && !self.limits.exceeds_working_set(&state.central, &state.counters, fit.capacity)
            && state.lay(fit, idle)
        {
            return idle.since;
        }
        let keeps = (!self.is_full(&state, fit) || self.find_room(&mut state, fit))
            && (self.stow(&mut state, fit, idle) || state.central.insert(fit, idle).is_ok());
        if !keeps {
            self.put_when_full(state, idle, fit);
        }
        idle.since
    }

    /// Takes back the room of a full pool that is leased. Returns whether it is enough for a buffer more.
    #[cold]
    pub(super) fn find_room(&self, held: &mut Held<'_>, fit: &Fit) -> bool {
        held.adopt();
        for buckets in [fit.bucket..fit.bucket + 1, 0..BUCKETS] {
            held.close_own(buckets);
            if !self.is_full(held, fit) {
                return true;
            }
        }
        // The rest is leased to other threads, which may not use it.
        if held.central.bytes_leased() > 0 {
            held.crowded += 1;
            if held.crowded.is_multiple_of(FREES_WITHOUT_ROOM) {
                held.close_all();
            }
        }
        !self.is_full(held, fit)
    }

    /// Whether a buffer of this class more, kept or in a stock, would be too many.
    pub(super) fn is_full(&self, state: &PoolState, fit: &Fit) -> bool {
        self.limits.is_bucket_full(&state.central, fit.bucket)
            || self.limits.is_pool_full(&state.central, &state.counters, fit.capacity)
    }

    /// Puts a buffer into the calling thread's stock, on a new lease or in the place of older ones of its class, while the pool is not
    /// full. Returns whether it is there.
    pub(super) fn stow<'a>(&'a self, held: &mut Held<'a>, fit: &Fit, idle: Idle) -> bool {
        if fit.capacity > SMALL || held.roomy.bars(fit.bucket) || (!held.has_stock() && !hushed(|| self.enlist(held))) {
            return false;
        }
        if let Some((state, stock)) = held.own()
            && !stock.widen(&mut state.central, &mut state.counters, fit)
        {
            for _ in 0..stock.len(fit).div_ceil(2) {
                if self.is_full(state, fit) || !stock.send_home(&mut state.central, &mut state.counters, fit) {
                    break;
                }
            }
        }
        held.lay(fit, idle)
    }

    /// Gives the calling thread a stock, if there is memory for it.
    #[cold]
    pub(super) fn enlist<'a>(&'a self, held: &mut Held<'a>) -> bool {
        if !threads::can_enlist(self.identity) {
            return false;
        }
        held.adopt();
        let Some(mut stock) = Stock::new(&self.config, self.classes) else { return false };
        held.counters.settle(&mut stock.tab);
        let Some(member) = held.members.make(stock) else { return false };
        if !threads::enlist(self.identity, &member) {
            return false;
        }
        held.members.keep(member);
        // SAFETY: valid as long as the pool; and *Owned*, as it was given to the calling thread.
        unsafe { held.receive(threads::mine(self.identity).map(|mine| mine.as_ref())) };
        true
    }

    /// Keeps a buffer that is of no class, in the place of the one that was freed before it, if it may be kept.
    fn put_in_hand(&self, mut state: Held<'_>, idle: Idle, fit: &Fit) {
        let Some(block) = fit.block() else { return };
        let before = state.central.empty_hand();
        let mine = Free { ptr: idle.ptr, block, bucket: fit.bucket };
        let keeps = self.limits.allow_keeping(fit.capacity)
            && !self.is_full(&state, fit)
            && !self.limits.exceeds_recent_peak(&state.central, &state.counters, fit.capacity);
        if keeps {
            state.central.take_in_hand(mine, idle.since);
        }
        let mut others = [before, (!keeps).then_some(mine)].into_iter().flatten();
        let evicted = Evicted::gather(&mut state, |_| others.next());
        if !evicted.is_empty() {
            drop(self.give_back(state, evicted, None));
        }
    }

    #[cold]
    pub(super) fn put_when_full<'a>(&'a self, mut state: Held<'a>, idle: Idle, fit: &Fit) {
        // A buffer that was granted has a block; see `miss`.
        let Some(block) = fit.block() else { return };
        let mine = Free { ptr: idle.ptr, block, bucket: fit.bucket };
        let keepable = self.limits.allow_keeping(fit.capacity);
        let mut pending = Some(mine);
        while pending.is_some() {
            let evicted = Evicted::gather(&mut state, |state| {
                if keepable && pending.is_some() {
                    // Without any to evict, the room is leased to other threads.
                    if self.limits.is_bucket_full(&state.central, fit.bucket) {
                        return state.central.take_oldest_of(fit.bucket).or_else(|| pending.take());
                    }
                    if self.limits.is_pool_full(&state.central, &state.counters, fit.capacity) {
                        return state.central.take_oldest().or_else(|| pending.take());
                    }
                    if state.central.insert(fit, idle).is_ok() {
                        pending = None;
                    }
                }
                pending.take()
            });
            state = self.give_back(state, evicted, pending);
        }
    }

    /// Gives back what is pooled now beyond `keep` bytes; what other threads free meanwhile is not waited for.
    pub(super) fn release<'a>(&'a self, mut state: Held<'a>, keep: usize) -> (Held<'a>, usize) {
        state.close_all();
        let goal = state.central.bytes().saturating_sub(keep);
        let mut released = 0;
        loop {
            let evicted = Evicted::gather(&mut state, |state| {
                if released < goal && state.central.bytes() > keep {
                    state.central.take_oldest().inspect(|free| released += free.block.size())
                } else {
                    None
                }
            });
            let done = evicted.is_empty();
            state = self.give_back(state, evicted, None);
            if done {
                return (state, released);
            }
        }
    }

    /// Gives such a block back.
    ///
    /// # Safety
    /// `ptr` came from [`get_apart`](Self::get_apart) with the layout `block`, was not given back since, and is not used afterwards.
    #[cfg(feature = "plan")]
    pub(crate) unsafe fn put_apart(&self, ptr: NonNull<u8>, block: Layout) {
        debug_assert!(ptr.addr().get().is_multiple_of(block.align()));
        let fit = Fit::apart(block);
        let mut state = self.lock();
        state.counters.freed(fit.bucket, block.size(), fit.capacity);
        let mut free = Some(Free { ptr, block, bucket: fit.bucket });
        let evicted = Evicted::gather(&mut state, |_| free.take());
        drop(self.give_back(state, evicted, None));
    }

    /// Hands evicted buffers to the backing, with the lock released, and accounts for them when they are gone; one that waits for their
    /// room counts as on its way back meanwhile. Without any, lets other threads go on, so that a loop around this waits for what is on
    /// its way.
    pub(super) fn give_back<'a>(&'a self, mut state: Held<'a>, evicted: Evicted, waiting: Option<Free>) -> Held<'a> {
        if let Some(free) = waiting {
            state.counters.return_begins(free.bucket, free.block.size());
        }
        let others_are_busy = state.counters.asked() + state.leaving() > 0;
        let forks = state.forks();
        drop(state);
        for free in evicted.buffers[..evicted.len].iter().flatten() {
            // SAFETY: the block came from the backing with this layout (`miss` is the only source, and the central list keeps
            // the layout of each alignment apart), and the list, their only owner, gave it up.
            unsafe { self.backing.give_back(free.ptr, free.block) };
        }
        if evicted.is_empty() && others_are_busy {
            std::thread::yield_now();
        }
        let mut state = self.lock();
        if state.forks() != forks {
            state.counters.reopen_return(evicted.bytes + waiting.map_or(0, |free| free.block.size()));
        }
        state.counters.returned(evicted.bytes);
        if let Some(free) = waiting {
            state.counters.return_ends(free.bucket, free.block.size());
        }
        state
    }
}
