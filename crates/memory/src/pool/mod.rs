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

use crate::backing::{Backing, System};
use crate::error::AllocError;
use crate::layout::SizeClasses;
use crate::pool_config::PoolConfig;
use crate::stats::Stats;

use central::CentralList;
use forks::Listed;
use limits::Limits;
use state::{Held, PoolState};
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

    /// The calling thread's stock, and the class of a request for which it may serve.
    #[inline]
    fn nearby(&self, request: Layout) -> Option<(&Member, (usize, usize))> {
        let class = self.classes.small(request)?;
        // SAFETY: valid as long as the pool.
        let member = unsafe { threads::nearby(self.identity)?.as_ref() };
        debug_assert!(member.is_mine(), "another thread's stock, or one that its thread left");
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
        debug_assert!(ptr.addr().get().is_multiple_of(request.align().max(self.config.alignment)));
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

    /// Gives the buffers that have been idle longest back to the backing until at most `keep_bytes` (rounded) are pooled.
    /// Returns how many bytes were released.
    pub fn trim(&self, keep_bytes: usize) -> usize {
        self.release(self.lock(), keep_bytes).1
    }

    /// Gives everything pooled back to the backing.
    pub fn clear(&self) {
        self.trim(0);
    }

    /// The statistics of this instant.
    pub fn stats(&self) -> Stats {
        let mut state = self.lock();
        let mut kept = *state.central.kept();
        let mut untold = *state.central.leased();
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
        debug_assert!(ptr.addr().get().is_multiple_of(old.align()));
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
