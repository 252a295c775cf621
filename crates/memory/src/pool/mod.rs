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
mod put;
mod roomy;
mod state;
mod stock;
mod take;
#[cfg(test)]
mod tests;
mod threads;
mod tuning;

use std::alloc::Layout;
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::{Arc, OnceLock};

use crate::backing::{Backing, DefaultBacking};
use crate::error::AllocError;
use crate::layout::{Fit, SizeClasses};
use crate::pool_config::PoolConfig;
use crate::pressure::{Ground, Grounds, Keep, Keeper, Kept};
use crate::stats::Stats;
use crate::sync::atomic::AtomicUsize;

use central::CentralList;
use forks::Listed;
pub(crate) use forks::survive;
use limits::Limits;
use state::{Held, PoolState};
pub(crate) use take::{Found, Resized};

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
pub struct BufferPool<B: Backing = DefaultBacking> {
    config: PoolConfig,
    classes: SizeClasses,
    limits: Limits,
    identity: u64,
    state: Listed,
    backing: B,
    /// How many of its buffers are more than their layouts say.
    roomy: AtomicUsize,
    /// Of those whose memory comes from here.
    ground: Ground,
    /// Where it stays in its place, and others may ask it to give up what it keeps.
    keeper: OnceLock<Option<Keeper>>,
}

impl BufferPool {
    /// A pool with the default configuration over the process's heap, or malloc where there is none.
    pub fn new() -> Self {
        Self::with_config(PoolConfig::default())
    }

    /// A pool over the process's heap, or malloc where there is none.
    pub fn with_config(config: PoolConfig) -> Self {
        Self::with_config_in(config, DefaultBacking::default())
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
        let classes = config.limit.map_or(classes, |limit| classes.below(limit));
        let limits = Limits::new(&config, backing.is_pool());
        let state = Listed::new(PoolState::new(CentralList::new(classes)));
        let (ground, keeper) = (Ground::new(), OnceLock::new());
        let (identity, roomy) = (threads::new_pool(), AtomicUsize::new(0));
        Self { config, classes, limits, identity, state, backing, roomy, ground, keeper }
    }

    /// From now on it can be asked to give up what it keeps.
    pub(crate) fn answer_to_pressure(self: &Arc<Self>) {
        let mut grounds = Grounds::default();
        self.backing.grounds(&mut grounds);
        let keeps: NonNull<dyn Keep + '_> = NonNull::from(&**self);
        // SAFETY: it stays where it is, and has the keeper leave before anything else; what guards it are locks, and the backing bears any thread
        // if it names grounds.
        self.keeper.get_or_init(|| unsafe { Keeper::new(keeps, grounds) });
    }

    fn keeper(&self) -> Option<&Keeper> {
        self.keeper.get()?.as_ref()
    }

    /// Names the grounds of those whose memory comes from here.
    pub(crate) fn grounds(&self, grounds: &mut Grounds) {
        let mut below = Grounds::default();
        self.backing.grounds(&mut below);
        // Not of those below: there, this pool answers for what is kept above it.
        if !below.is_empty() {
            grounds.add(&self.ground);
        }
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
        match self.pop(request) {
            Some(ptr) => Ok(ptr),
            None => self.get_shared(request),
        }
    }

    /// As [`get`](Self::get), with all `request.size()` bytes zero. Memory that is known to be zero is not written.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[inline]
    pub fn get_zeroed(&self, request: Layout) -> Result<NonNull<u8>, AllocError> {
        self.serve(request, true).map(|found| found.ptr)
    }

    /// A buffer, all zero with `zeroed`, and whether it was a hit.
    #[inline]
    pub(crate) fn serve(&self, request: Layout, zeroed: bool) -> Result<Found, AllocError> {
        let found = self.find(request, zeroed)?;
        if zeroed && !found.is_zero {
            // SAFETY: the block has at least `request.size()` bytes and belongs to the caller alone.
            unsafe { found.ptr.write_bytes(0, request.size()) };
        }
        Ok(found)
    }

    /// Where a request belongs; `None` when no block can be that large.
    #[inline]
    fn fit(&self, request: Layout) -> Option<Fit> {
        if self.limits.passes_on(request) { self.classes.exact(request) } else { self.classes.fit(request) }
    }

    /// A buffer from the calling thread's stock. By itself: it needs no stack frame, and whoever makes a request has one.
    #[inline(never)]
    fn pop(&self, request: Layout) -> Option<NonNull<u8>> {
        // SAFETY: the pool is this one.
        unsafe { threads::pop(self.identity, request) }
    }

    /// Takes the lock, and settles what the calling thread's stock counted.
    #[inline(always)]
    fn lock(&self) -> Held<'_> {
        // SAFETY: valid as long as the pool.
        let mine = threads::mine(self.identity).map(|mine| unsafe { mine.as_ref() });
        // SAFETY: *Owned*: the stock is the calling thread's.
        unsafe { Held::new(self.state.lock(), mine) }
    }

    /// Takes a buffer back: it is kept for reuse if it may be, and what has been idle longest makes room for it.
    /// Constant time, but for evictions.
    ///
    /// # Safety
    /// `ptr` came from this pool for a request of the layout `request` (see [`resize`](Self::resize) for how that may
    /// change), was not put back since, and is not used afterwards.
    #[inline]
    pub unsafe fn put(&self, ptr: NonNull<u8>, request: Layout) {
        let alignment = request.align().max(self.config.alignment);
        debug_assert!(request.size() == 0 || ptr.addr().get().is_multiple_of(alignment));
        if self.config.zero_on_free {
            return self.put_wiped(ptr, request);
        }
        self.put_as_it_is(ptr, request);
    }

    #[inline]
    fn put_as_it_is(&self, ptr: NonNull<u8>, request: Layout) {
        // SAFETY: the pool is this one.
        if unsafe { threads::push(self.identity, ptr, request) }.is_none() {
            self.put_shared(ptr, request);
        }
    }

    /// Gives the buffers that have been idle longest back to the backing until at most `keep_bytes` (rounded) are pooled. What pools, arenas
    /// and planned allocators keep whose memory comes from here is given back as well, all of it. Returns how many bytes were released.
    pub fn trim(&self, keep_bytes: usize) -> usize {
        self.releasing(|| {
            self.ground.reclaim(usize::MAX);
            drop(self.release(self.lock(), keep_bytes));
        })
    }

    /// By how much less is held after this than before.
    fn releasing(&self, release: impl FnOnce()) -> usize {
        let before = self.lock().counters.reserved();
        release();
        before.saturating_sub(self.lock().counters.reserved())
    }

    /// Gives everything pooled back to the backing.
    pub fn clear(&self) {
        self.trim(0);
    }

    /// The statistics of this instant.
    pub fn stats(&self) -> Stats {
        self.snapshot(|_| ())
    }

    /// As [`stats`](Self::stats); the peaks are taken anew from now on.
    pub fn take_peaks(&self) -> Stats {
        self.snapshot(PoolState::forget_peaks)
    }

    fn snapshot(&self, then: impl FnOnce(&mut PoolState)) -> Stats {
        let mut state = self.lock();
        let mut kept = *state.central.kept();
        let mut untold = *state.central.leased();
        state.visit(|state, stock| {
            stock.report(&mut state.counters, &mut kept);
            stock.leases().iter().zip(&mut untold).for_each(|(leased, untold)| *untold -= leased);
        });
        let counters = state.counters.clone();
        then(&mut state);
        drop(state);
        let mut stats = counters.snapshot(&kept, &untold);
        stats.keep_above(self.ground.settled().all());
        stats
    }

    /// Changes the size or alignment of a buffer, in place while its class allows, else by moving its contents. The
    /// result holds the first `min(old.size(), new.size())` bytes; with `zeroed`, all bytes beyond `old.size()` are zero. Where there is no room for
    /// a smaller buffer beside the old one, that stays, with its old capacity.
    ///
    /// # Errors
    /// As [`get`](Self::get); the old buffer is then untouched and still the caller's. A buffer that shrinks is refused nothing, as long as its alignment does not grow and
    /// there is memory to note where it is.
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
        // SAFETY: the caller's word, passed on.
        unsafe { self.change(ptr, old, new, zeroed) }.map(|(resized, _)| resized)
    }

    /// As [`resize`](Self::resize), and how it came about.
    ///
    /// # Safety
    /// As there.
    pub(crate) unsafe fn change(
        &self,
        ptr: NonNull<u8>,
        old: Layout,
        new: Layout,
        zeroed: bool,
    ) -> Result<(NonNull<u8>, Resized), AllocError> {
        debug_assert!(ptr.addr().get().is_multiple_of(old.align()));
        // What was granted has a fit, so that two of them are not equal for want of one.
        let fit = self.fit_of(ptr, old);
        let is_roomy = fit != self.fit(old);
        let in_place = old.size() != 0 && new.size() != 0 && !is_roomy && fit == self.fit(new);
        if !in_place && !is_roomy {
            // SAFETY: the caller's word, passed on, for a buffer that is what its layout says.
            if let Some(resized) = unsafe { self.resize_below(ptr, old, new, zeroed) } {
                return Ok(resized);
            }
        }
        let (result, is_zero, how) = if in_place {
            self.lock().counters.resized(old.size(), new.size());
            (ptr, false, Resized::InPlace)
        } else {
            match self.find(new, zeroed) {
                Ok(Found { ptr: moved, is_zero, is_hit }) => {
                    // SAFETY: both are live blocks of at least that many bytes, and distinct, as `ptr` was not put back; `put`
                    // gets the caller's word for `ptr` and `old`.
                    unsafe {
                        ptr::copy_nonoverlapping(ptr.as_ptr(), moved.as_ptr(), old.size().min(new.size()));
                        self.put(ptr, old);
                    }
                    (moved, is_zero, Resized::Moved { is_hit })
                }
                // SAFETY: the caller's word, passed on.
                Err(_) if unsafe { self.stays(ptr, old, new) } => (ptr, false, Resized::InPlace),
                Err(refusal) => return Err(refusal),
            }
        };
        if zeroed && !is_zero && new.size() > old.size() {
            // SAFETY: the block of `result` has at least `new.size()` bytes and belongs to the caller alone.
            unsafe { result.add(old.size()).write_bytes(0, new.size() - old.size()) };
        }
        Ok((result, how))
    }
}

impl<B: Backing> Keep for BufferPool<B> {
    fn kept(&self) -> Kept {
        let mut kept = self.ground.kept();
        kept.pools += self.lock().pooled();
        kept
    }

    fn settle(&self) {
        self.lock().settle_all();
    }

    fn give_up(&self, least: usize) -> usize {
        let give = |least: usize| {
            let state = self.lock();
            let keep = state.pooled().saturating_sub(least);
            drop(self.release(state, keep));
        };
        let given = self.releasing(|| give(least));
        if given >= least {
            return given;
        }
        given
            + self.releasing(|| {
                self.ground.reclaim(least - given);
                give(least - given);
            })
    }

    fn coming(&self) -> usize {
        self.lock().coming()
    }

    fn decays(&self) -> bool {
        self.config.adaptive
    }

    fn rest(&self, _: usize) {
        let mut state = self.lock();
        state.counters.pass_time();
        drop(self.shrink_to_working_set(state, 0));
    }
}

impl<B: Backing> Drop for BufferPool<B> {
    fn drop(&mut self) {
        let keeper = self.keeper.take().flatten();
        let _giving = keeper.as_ref().map(Keeper::leave);
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
