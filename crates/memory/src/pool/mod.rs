//! `BufferPool`: the mechanism of pooling by itself, over any backing.
//!
//! One lock guards the free buffers and the counters. It is held for the list operations only, never while the backing
//! is called: bytes on their way from or to the backing are accounted as reserved meanwhile, so a limit and a cap hold at
//! every moment.
//!
//! Forks go through the middle of all this: `forks` tells what the child finds.
#![allow(unsafe_code)]

mod central;
mod forks;
mod limits;
mod state;
mod stock;
mod threads;

use std::alloc::Layout;
use std::fmt;
use std::hint::black_box;
use std::ptr::{self, NonNull};

use crate::backing::{Backing, Refused, System};
use crate::error::{AllocError, AllocErrorKind};
use crate::layout::{BUCKETS, Fit, SMALL, SizeClasses, dangling};
use crate::pool_config::PoolConfig;
use crate::stats::Stats;

use central::{CentralList, Free, Idle};
use forks::Listed;
use limits::Limits;
use state::{Evicted, Held, PoolState};
use stock::Stock;
use threads::Member;

/// A pool of buffers by size class, over a backing. Thread-safe.
///
/// This is the mechanism below [`TensorAllocator`](crate::TensorAllocator), for those who manage raw memory themselves.
///
/// ```
/// use std::alloc::Layout;
/// use tenzor_memory::BufferPool;
///
/// let pool = BufferPool::new();
/// let layout = Layout::from_size_align(4096, 64)?;
/// let first = pool.get(layout)?;
/// // SAFETY: `first` came from `get` with this layout and is not used afterwards.
/// unsafe { pool.put(first, layout) };
/// let second = pool.get(layout)?;
/// assert_eq!(first, second); // last in, first out
/// // SAFETY: as above.
/// unsafe { pool.put(second, layout) };
/// assert_eq!(pool.stats().pool_hits, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BufferPool<B: Backing = System> {
    config: PoolConfig,
    classes: SizeClasses,
    limits: Limits,
    identity: u64,
    state: Listed,
    backing: B,
}

/// All leases are called in every so many times: it costs as much as a hundred hits.
const PATIENCE: u32 = 32;

impl BufferPool {
    /// A pool with the default configuration over the process's malloc.
    pub fn new() -> Self {
        Self::with_config(PoolConfig::default())
    }

    /// A pool over the process's malloc.
    pub fn with_config(config: PoolConfig) -> Self {
        Self::with_config_in(config, System)
    }
}

impl Default for BufferPool {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Backing> BufferPool<B> {
    /// A pool with the default configuration over `backing`.
    pub fn new_in(backing: B) -> Self {
        Self::with_config_in(PoolConfig::default(), backing)
    }

    /// An empty pool; nothing is taken from the backing before the first request. The configuration is normalised as
    /// [`PoolConfig`] tells.
    pub fn with_config_in(config: PoolConfig, backing: B) -> Self {
        let config = config.normalised();
        let classes = SizeClasses::new(config.classes_per_bucket, config.alignment);
        let limits = Limits::new(&config);
        let state = Listed::new(PoolState::new(CentralList::new(classes)));
        Self { config, classes, limits, identity: threads::new_pool(), state, backing }
    }

    /// The configuration in force.
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// Where misses go.
    pub fn backing(&self) -> &B {
        &self.backing
    }

    /// Memory for `request`: the buffer of its class freed last, or else one from the backing. Its contents are
    /// undefined, its address a multiple of both `request.align()` and the configured alignment. A zero-sized request
    /// takes no memory. Constant time on a hit.
    ///
    /// # Errors
    /// [`AllocError`] when no buffer can be that large, when the limit is reached, or when the backing refuses even after
    /// everything pooled was given back to it.
    #[inline]
    pub fn get(&self, request: Layout) -> Result<NonNull<u8>, AllocError> {
        self.serve(request, false)
    }

    /// As [`get`](Self::get), with all `request.size()` bytes zero. Memory that is known to be zero is not written.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[inline]
    pub fn get_zeroed(&self, request: Layout) -> Result<NonNull<u8>, AllocError> {
        self.serve(request, true)
    }

    #[inline]
    fn serve(&self, request: Layout, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        let (ptr, is_zero) = self.find(request, zeroed)?;
        if zeroed && !is_zero {
            // SAFETY: the block has at least `request.size()` bytes and belongs to the caller alone.
            unsafe { ptr.write_bytes(0, request.size()) };
        }
        Ok(ptr)
    }

    /// A buffer, and whether it is known to be all zero. If it has to come from the backing, it is asked for as `zeroed`.
    #[inline]
    fn find(&self, request: Layout, zeroed: bool) -> Result<(NonNull<u8>, bool), AllocError> {
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
    fn find_shared(&self, request: Layout, zeroed: bool) -> Result<(NonNull<u8>, bool), AllocError> {
        let Some(fit) = self.classes.fit(request) else {
            return Err(self.never_fits(request.size(), request.align()));
        };
        let mut state = self.lock();
        match state.hit(request, &fit) {
            Some(ptr) => Ok((ptr, self.config.zero_on_free)),
            None => self.miss(state, request, &fit, zeroed),
        }
    }

    /// The calling thread's stock, and the class of a request for which it may serve.
    #[inline]
    fn nearby(&self, request: Layout) -> Option<(&Member, (usize, usize))> {
        let class = self.classes.small(request)?;
        // SAFETY: valid as long as the pool.
        let member = unsafe { threads::nearby(self.identity)?.as_ref() };
        debug_assert!(!member.is_gone(), "a stock that its thread left");
        Some((member, class))
    }

    /// Takes the lock, and settles what the calling thread's stock counted.
    #[inline(always)]
    fn lock(&self) -> Held<'_> {
        // SAFETY: valid as long as the pool.
        let mine = threads::mine(self.identity).map(|mine| unsafe { mine.as_ref() });
        // SAFETY: *Owned*: the stock is the calling thread's.
        unsafe { Held::new(self.state.lock(), mine) }
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
        let capacity = fit.capacity;
        let Some(block) = fit.block() else {
            drop(state);
            return Err(self.never_fits(request.size(), request.align()));
        };
        if !self.limits.allow(0, capacity) {
            return Err(self.refuse(state, AllocErrorKind::NeverFits, request, fit));
        }
        if state.adopt()
            && let Some(ptr) = state.hit(request, fit)
        {
            return Ok((ptr, self.config.zero_on_free));
        }
        while self.limits.exceeds_working_set(&state.cache, &state.counters, capacity) {
            state.close_own(0..BUCKETS);
            let evicted = Evicted::gather(&mut state, |state| {
                let exceeds = self.limits.exceeds_working_set(&state.cache, &state.counters, capacity);
                if exceeds { state.cache.take_oldest() } else { None }
            });
            if evicted.is_empty() {
                break;
            }
            state = self.give_back(state, evicted, None);
        }
        let mut refusals = 0;
        loop {
            if refusals > 0 {
                state = self.release(state, 0).0;
            }
            if self.limits.allow(state.counters.reserved(), capacity) {
                state.counters.miss_begins(capacity);
                let (slack, forks) = (state.slack(), state.forks());
                drop(state);
                let granted = self.ask_backing(block, zeroed);
                state = self.lock();
                if state.forks() != forks {
                    state.counters.miss_begins(capacity);
                }
                if let Ok(ptr) = granted {
                    let pooled = state.cache.bytes();
                    state.counters.miss_served(fit.bucket, request.size(), capacity, pooled);
                    return Ok((ptr, zeroed));
                }
                state.counters.miss_failed(capacity);
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
                if !self.limits.allow(state.standing(), capacity) {
                    return Err(self.refuse(state, AllocErrorKind::OverLimit, request, fit));
                }
                let evicted = Evicted::gather(&mut state, |state| {
                    let staying = state.counters.reserved() - state.coming();
                    if self.limits.allow(staying, capacity) { None } else { state.cache.take_oldest() }
                });
                state = self.give_back(state, evicted, None);
            }
            // Meanwhile another thread may have freed just what is asked for.
            if let Some(ptr) = state.hit(request, fit) {
                return Ok((ptr, self.config.zero_on_free));
            }
        }
    }

    fn ask_backing(&self, block: Layout, zeroed: bool) -> Result<NonNull<u8>, Refused> {
        if zeroed { self.backing.obtain_zeroed(block) } else { self.backing.obtain(block) }
    }

    /// A block of exactly this layout from the backing, as a request of its own class: never pooled, but counted, and within the limit.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[cfg(feature = "plan")]
    pub(crate) fn get_apart(&self, block: Layout) -> Result<NonNull<u8>, AllocError> {
        self.miss(self.lock(), block, &Fit::apart(block), false).map(|(ptr, _)| ptr)
    }

    /// Gives such a block back.
    ///
    /// # Safety
    /// `ptr` came from [`get_apart`](Self::get_apart) with the layout `block`, was not given back since, and is not used afterwards.
    #[cfg(feature = "plan")]
    pub(crate) unsafe fn put_apart(&self, ptr: NonNull<u8>, block: Layout) {
        let fit = Fit::apart(block);
        let mut state = self.lock();
        state.counters.freed(fit.bucket, block.size(), fit.capacity);
        let mut free = Some(Free { ptr, block, bucket: fit.bucket });
        let evicted = Evicted::gather(&mut state, |_| free.take());
        drop(self.give_back(state, evicted, None));
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
        let pooled = state.cache.bytes() + held - in_use;
        AllocError { in_use, pooled, limit: self.config.limit, ..error }
    }

    /// Takes a buffer back: it is kept for reuse if it may be, and what has been idle longest makes room for it.
    /// Constant time, but for evictions.
    ///
    /// # Safety
    /// `ptr` came from this pool for a request of the layout `request` (see [`resize`](Self::resize) for how that may
    /// change), was not put back since, and is not used afterwards.
    #[inline]
    pub unsafe fn put(&self, ptr: NonNull<u8>, request: Layout) {
        if request.size() == 0 {
            return;
        }
        if self.config.zero_on_free {
            self.wipe(ptr, request);
        }
        if let Some((member, class)) = self.nearby(request)
            // SAFETY: *Owned*: the stock is the calling thread's.
            && unsafe { member.stock.enter(|stock| stock.push(ptr, class, request.size())) }.is_some()
        {
            return;
        }
        self.put_shared(ptr, request);
    }

    #[cold]
    fn wipe(&self, ptr: NonNull<u8>, request: Layout) {
        let Some(capacity) = self.classes.capacity_for(request.size()) else { return };
        // SAFETY: the block has that many writable bytes, and the caller of `put` gives up all of them.
        unsafe { ptr.write_bytes(0, capacity) };
        // Keeps the writes from being seen as dead where the memory goes straight back to the backing.
        black_box(ptr);
    }

    #[inline(never)]
    fn put_shared(&self, ptr: NonNull<u8>, request: Layout) {
        let Some(fit) = self.classes.fit(request) else { return };
        let fit = &fit;
        let mut state = self.lock();
        state.counters.freed(fit.bucket, request.size(), fit.capacity);
        if let Some((state, stock)) = state.own() {
            state.counters.set_clock(&mut stock.tab);
        }
        let idle = Idle { ptr, since: state.counters.frees() };
        // A tick may have passed: what the stock takes is within the working set only as long as that does not shrink.
        if fit.capacity <= SMALL
            && !self.limits.exceeds_working_set(&state.cache, &state.counters, fit.capacity)
            && state.lay(fit, idle)
        {
            return;
        }
        let keeps = (!self.is_full(&state, fit) || self.find_room(&mut state, fit))
            && (self.stow(&mut state, fit, idle) || state.cache.insert(fit, idle).is_ok());
        if !keeps {
            self.put_when_full(state, idle, fit);
        }
    }

    /// Takes back the room of a full pool that is leased. Returns whether it is enough for a buffer more.
    #[cold]
    fn find_room(&self, held: &mut Held<'_>, fit: &Fit) -> bool {
        held.adopt();
        for buckets in [fit.bucket..fit.bucket + 1, 0..BUCKETS] {
            held.close_own(buckets);
            if !self.is_full(held, fit) {
                return true;
            }
        }
        // The rest is leased to other threads, which may not use it.
        if held.cache.bytes_leased() > 0 {
            held.crowded += 1;
            if held.crowded.is_multiple_of(PATIENCE) {
                held.close_all();
            }
        }
        !self.is_full(held, fit)
    }

    /// Whether a buffer of this class more, kept or in a stock, would be too many.
    fn is_full(&self, state: &PoolState, fit: &Fit) -> bool {
        self.limits.is_bucket_full(&state.cache, fit.bucket)
            || self.limits.is_pool_full(&state.cache, &state.counters, fit.capacity)
    }

    /// Puts a buffer into the calling thread's stock, on a new lease or in the place of older ones of its class, while the pool is not
    /// full. Returns whether it is there.
    fn stow<'a>(&'a self, held: &mut Held<'a>, fit: &Fit, idle: Idle) -> bool {
        if fit.capacity > SMALL || (!held.has_stock() && !self.enlist(held)) {
            return false;
        }
        if let Some((state, stock)) = held.own()
            && !stock.widen(&mut state.cache, &mut state.counters, fit)
        {
            for _ in 0..stock.len(fit).div_ceil(2) {
                if self.is_full(state, fit) || !stock.send_home(&mut state.cache, &mut state.counters, fit) {
                    break;
                }
            }
        }
        held.lay(fit, idle)
    }

    /// Gives the calling thread a stock, if there is memory for it.
    #[cold]
    fn enlist<'a>(&'a self, held: &mut Held<'a>) -> bool {
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

    #[cold]
    fn put_when_full<'a>(&'a self, mut state: Held<'a>, idle: Idle, fit: &Fit) {
        // A buffer that was granted has a block; see `miss`.
        let Some(block) = fit.block() else { return };
        let mine = Free { ptr: idle.ptr, block, bucket: fit.bucket };
        let keepable = self.limits.allow_keeping(fit.capacity);
        let mut pending = Some(mine);
        while pending.is_some() {
            let evicted = Evicted::gather(&mut state, |state| {
                if keepable && pending.is_some() {
                    // Without any to evict, the room is leased to other threads.
                    if self.limits.is_bucket_full(&state.cache, fit.bucket) {
                        return state.cache.take_oldest_of(fit.bucket).or_else(|| pending.take());
                    }
                    if self.limits.is_pool_full(&state.cache, &state.counters, fit.capacity) {
                        return state.cache.take_oldest().or_else(|| pending.take());
                    }
                    if state.cache.insert(fit, idle).is_ok() {
                        pending = None;
                    }
                }
                pending.take()
            });
            state = self.give_back(state, evicted, pending);
        }
    }

    /// Gives the buffers that have been idle longest back to the backing until at most `keep_bytes` (rounded) are pooled.
    /// Returns how many bytes were released.
    pub fn trim(&self, keep_bytes: usize) -> usize {
        self.release(self.lock(), keep_bytes).1
    }

    /// Gives back what is pooled now beyond `keep` bytes; what other threads free meanwhile is not waited for.
    fn release<'a>(&'a self, mut state: Held<'a>, keep: usize) -> (Held<'a>, usize) {
        state.close_all();
        let goal = state.cache.bytes().saturating_sub(keep);
        let mut released = 0;
        loop {
            let evicted = Evicted::gather(&mut state, |state| {
                if released < goal && state.cache.bytes() > keep {
                    state.cache.take_oldest().inspect(|free| released += free.block.size())
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

    /// Gives everything pooled back to the backing.
    pub fn clear(&self) {
        self.trim(0);
    }

    /// The statistics of this instant.
    pub fn stats(&self) -> Stats {
        let mut state = self.lock();
        let mut kept = *state.cache.kept();
        let mut untold = *state.cache.leased();
        state.visit(|state, stock| {
            stock.report(&mut state.counters, &mut kept);
            stock.leases().iter().zip(&mut untold).for_each(|(leased, untold)| *untold -= leased);
        });
        let counters = state.counters.clone();
        drop(state);
        counters.snapshot(&kept, &untold)
    }

    /// Changes the size or alignment of a buffer, in place while its class allows, else by moving its contents. The
    /// result holds the first `min(old.size(), new.size())` bytes; with `zeroed`, all bytes beyond `old.size()` are zero.
    ///
    /// # Errors
    /// As [`get`](Self::get); the old buffer is then untouched and still the caller's.
    ///
    /// # Safety
    /// `ptr` came from this pool for a request of the layout `old` and was not put back since. After success the buffer
    /// is that of the result, with the layout `new`, and `ptr` is not used.
    pub unsafe fn resize(
        &self,
        ptr: NonNull<u8>,
        old: Layout,
        new: Layout,
        zeroed: bool,
    ) -> Result<NonNull<u8>, AllocError> {
        // What was granted has a fit, so that two of them are not equal for want of one.
        let in_place = old.size() != 0 && new.size() != 0 && self.classes.fit(old) == self.classes.fit(new);
        let (result, is_zero) = if in_place {
            self.lock().counters.resized(old.size(), new.size());
            (ptr, false)
        } else {
            let (moved, is_zero) = self.find(new, zeroed)?;
            // SAFETY: both are live blocks of at least that many bytes, and distinct, as `ptr` was not put back; `put`
            // gets the caller's word for `ptr` and `old`.
            unsafe {
                ptr::copy_nonoverlapping(ptr.as_ptr(), moved.as_ptr(), old.size().min(new.size()));
                self.put(ptr, old);
            }
            (moved, is_zero)
        };
        if zeroed && !is_zero && new.size() > old.size() {
            // SAFETY: the block of `result` has at least `new.size()` bytes and belongs to the caller alone.
            unsafe { result.add(old.size()).write_bytes(0, new.size() - old.size()) };
        }
        Ok(result)
    }

    /// Hands evicted buffers to the backing, with the lock released, and accounts for them when they are gone; one that waits for their
    /// room counts as on its way back meanwhile. Without any, lets other threads go on, so that a loop around this waits for what is on
    /// its way.
    fn give_back<'a>(&'a self, mut state: Held<'a>, evicted: Evicted, waiting: Option<Free>) -> Held<'a> {
        if let Some(free) = waiting {
            state.counters.return_begins(free.bucket, free.block.size());
        }
        let others_are_busy = state.counters.asked() + state.leaving() > 0;
        let forks = state.forks();
        drop(state);
        for free in evicted.buffers[..evicted.len].iter().flatten() {
            // SAFETY: the block came from the backing with this layout (`miss` is the only source, and the cache keeps
            // the layout of each alignment apart), and the cache, its only owner, gave it up.
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

impl<B: Backing> Drop for BufferPool<B> {
    fn drop(&mut self) {
        // Nobody else can use the pool or its stocks any more: no owner has to be shut out.
        for member in self.lock().part_with_members() {
            // SAFETY: *Owned* and *Locked*: it is nobody's but ours.
            let stock = unsafe { member.stock.locked() };
            while let Some(free) = stock.take_any() {
                // SAFETY: as in `give_back`.
                unsafe { self.backing.give_back(free.ptr, free.block) };
            }
        }
        self.clear();
    }
}

impl<B: Backing> fmt::Debug for BufferPool<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool").field("config", &self.config).field("stats", &self.stats()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    /// Gets so many buffers, puts them back, and returns how many of them lie in the thread's stock then.
    fn stocked(pool: &BufferPool, size: usize, count: usize) -> usize {
        let layout = Layout::from_size_align(size, 64).unwrap();
        let buffers: Vec<_> = (0..count).map(|_| pool.get(layout).unwrap()).collect();
        // SAFETY: just got with this layout.
        buffers.into_iter().for_each(|ptr| unsafe { pool.put(ptr, layout) });
        let fit = pool.classes.fit(layout).unwrap();
        pool.lock().own().map_or(0, |(_, stock)| stock.len(&fit))
    }

    #[test]
    fn what_is_used_now_takes_over_the_room_of_what_was_used_before() {
        let pool = BufferPool::new();
        for size in [520, 600, 700, 520] {
            assert_eq!(stocked(&pool, size, 1), 1, "{size} bytes");
        }
        assert_eq!(stocked(&pool, 65 << 10, 1), 0);
        let pool = BufferPool::with_config(PoolConfig::default().with_max_buffers_per_bucket(1000));
        assert_eq!(stocked(&pool, 60 << 10, 8), 4);
        assert_eq!(stocked(&pool, 40 << 10, 1), 1);
        assert_eq!(stocked(&pool, 1000, 8), 8);
    }

    #[test]
    fn a_stock_that_ran_empty_is_filled_ahead() {
        let pool = BufferPool::with_config(PoolConfig::adaptive());
        let at_hand = stocked(&pool, 1000, 30);
        let layout = Layout::from_size_align(1000, 64).unwrap();
        let buffers: Vec<_> = (0..=at_hand).map(|_| pool.get(layout).unwrap()).collect();
        let member = threads::nearby(pool.identity).unwrap();
        // SAFETY: the stock is this thread's, and the pool lives.
        let next = unsafe { member.as_ref().stock.enter(|stock| stock.pop(pool.classes.small(layout).unwrap(), 1000)) };
        assert!(next.is_some(), "the next request takes the lock");
        // SAFETY: just got with this layout.
        buffers.into_iter().chain(next).for_each(|ptr| unsafe { pool.put(ptr, layout) });
    }

    #[test]
    fn stocks_of_threads_that_ended_do_not_pile_up() {
        let pool = Arc::new(BufferPool::with_config(PoolConfig::adaptive()));
        // Enough for all, so that nobody misses.
        assert!(stocked(&pool, 320, 1100) > 0);
        let layout = Layout::from_size_align(320, 64).unwrap();
        for _ in 0..1000 {
            let pool_there = Arc::clone(&pool);
            let thread = thread::spawn(move || {
                let ptr = pool_there.get(layout).unwrap();
                // SAFETY: just got with this layout.
                unsafe { pool_there.put(ptr, layout) };
            });
            thread.join().unwrap();
            assert!(pool.state.lock().members.all.len() <= 3);
        }
        let stats = pool.stats();
        assert_eq!((stats.pool_misses, stats.pool_hits, stats.deallocations), (1100, 1000, 2100));
    }
}
