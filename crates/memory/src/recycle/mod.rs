//! Memory of `Vec`s that are done with, for those to come.
//!
//! A `Vec` has its memory from the global allocator, and gives it back with the layout it has there: no pool's buffer can become one. So what lies here
//! was a `Vec`'s and becomes a `Vec`'s, or goes back to the global allocator with exactly the layout it came with.
//!
//! A fork holds every shelf, so that the child finds it whole. Under a shelf's lock memory for its books may be requested of the global allocator, whose
//! locks are inner ones, and which asks nobody for it; nothing that others wrote is called.
#![allow(unsafe_code)]

mod place;
mod shelf;

use std::alloc::Layout;
use std::fmt;
use std::sync::Arc;

use crate::backing::{Backing, Budget, Count};
use crate::error::AllocError;
use crate::layout::{SizeClasses, bucket_of};
use crate::pool_config::PoolConfig;
use crate::pressure::hushed;
use crate::stats::{BucketStats, Stats};
use crate::sync::LockGuard;

use place::Place;
use shelf::{Kept, Memory, Shelf};

/// Keeps the memory of `Vec`s for reuse: for results of ndarray, candle, and whatever else is made of `Vec`s of the global allocator.
///
/// [`give`](Self::give) takes a `Vec` that is done with, [`take`](Self::take) hands out an empty one. Clones share what is kept; all of it may be used
/// from any thread at once.
///
/// ```
/// use tenzor_memory::recycle::Vecs;
///
/// let vecs = Vecs::new();
/// for round in 0..1000 {
///     let mut squares = vecs.take::<f32>(1 << 16)?;
///     squares.extend((0..1 << 16).map(|i| (i * round) as f32));
///     // … becomes an array, is computed with, comes back …
///     vecs.give(squares);
/// }
/// let stats = vecs.stats();
/// assert_eq!((stats.pool_misses, stats.pool_hits), (1, 999));
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
///
/// # What gives way
/// What is kept counts as kept, like what a pool keeps: before the global allocator is refused memory by the process's heap, or by malloc through
/// [`System`](crate::System), it is given back, if it came from there. In a [`Budget`] it counts as granted, beside what is taken from the budget, and gives
/// way to any request there. What is handed out is the caller's, and counts nowhere.
///
/// ```
/// use tenzor_memory::recycle::Vecs;
/// use tenzor_memory::{Budget, PoolConfig, TensorAllocator};
///
/// let budget = Budget::new("session", 1 << 20);
/// let vecs = Vecs::with_budget(PoolConfig::default(), budget.clone());
/// vecs.give(vec![0_u8; 600_000]);
/// assert_eq!((budget.usage().granted, budget.usage().kept), (600_000, 600_000));
///
/// let alloc = TensorAllocator::new_in(budget.clone());
/// let tensor = alloc.alloc::<u8>(600_000)?; // both have no room …
/// assert_eq!(vecs.stats().pooled_bytes, 0); // … and what is kept gives way.
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
///
/// # What is heeded of the configuration
/// [`max_pool_size`](PoolConfig::max_pool_size), [`max_buffers_per_bucket`](PoolConfig::max_buffers_per_bucket) and
/// [`zero_on_free`](PoolConfig::zero_on_free) hold for what is kept. What is handed out is the caller's, who may let it grow or never give it back, so
/// nobody knows what is in use: a [`limit`](PoolConfig::limit) holds for what is kept, like `max_pool_size`, and for want of a working set
/// [`adaptive`](PoolConfig::adaptive) comes down to caps no larger than the defaults. Requests that find nothing are rounded up to
/// [size classes](PoolConfig::classes_per_bucket), so that they serve others later. A `Vec` is aligned as its elements are.
///
/// # What is counted
/// Of the [`Stats`], `allocations` are `Vec`s that were handed out and `deallocations` those that were given, wherever they came from; `bytes_allocated` and
/// `bytes_freed` are their capacities. Nothing counts as in use, and what is reserved is what is kept. What has no bytes is not counted.
#[derive(Clone)]
pub struct Vecs {
    place: Arc<Place>,
    config: PoolConfig,
    classes: SizeClasses,
}

impl Vecs {
    /// With the default configuration.
    pub fn new() -> Self {
        Self::with_config(PoolConfig::default())
    }

    /// Keeps as much as `config` says; [`config`](Self::config) shows what is in force.
    pub fn with_config(config: PoolConfig) -> Self {
        Self::with(config, None)
    }

    /// As [`with_config`](Self::with_config); what is kept counts in `budget` as well, and gives way to any request there. Where it has no room for what is
    /// given, what has been idle longest here makes some, and nobody else is asked for any.
    pub fn with_budget<B: Backing + Send + Sync + 'static>(config: PoolConfig, budget: Budget<B>) -> Self {
        Self::with(config, Some(Box::new(budget)))
    }

    fn with(config: PoolConfig, budget: Option<Box<dyn Count>>) -> Self {
        let mut config = config.normalised();
        if config.adaptive {
            let default = PoolConfig::default();
            config.adaptive = false;
            config.max_pool_size = config.max_pool_size.min(default.max_pool_size);
            config.max_buffers_per_bucket = config.max_buffers_per_bucket.min(default.max_buffers_per_bucket);
        }
        let place = Arc::new(Place::new(budget));
        Self { place, config, classes: SizeClasses::new(config.classes_per_bucket, config.alignment) }
    }

    fn shelf(&self) -> LockGuard<'_, Shelf> {
        self.place.stored.shelf.lock()
    }

    /// An empty `Vec` that holds `capacity` elements, or more, before it has to grow: what is kept serves requests of at least half its size, rounded,
    /// if it is aligned as `T` is and its bytes are a whole number of `T`s. One lock; looks at what two buckets keep.
    ///
    /// ```
    /// use tenzor_memory::recycle::Vecs;
    ///
    /// let vecs = Vecs::new();
    /// vecs.give(vec![1.0_f32; 1000]);
    /// let integers = vecs.take::<i32>(900)?; // aligned alike, and as large
    /// assert_eq!((integers.len(), integers.capacity(), vecs.stats().pool_hits), (0, 1000, 1));
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    ///
    /// # Errors
    /// [`AllocError`] when the size overflows, or the global allocator refuses, also after it was given back what is kept.
    pub fn take<T>(&self, capacity: usize) -> Result<Vec<T>, AllocError> {
        let requested = capacity.saturating_mul(size_of::<T>());
        if requested == 0 {
            return Ok(Vec::new());
        }
        let layout = Layout::array::<T>(capacity).ok();
        let Some((layout, rounded)) =
            layout.and_then(|layout| Some((layout, self.classes.capacity_for(layout.size())?)))
        else {
            self.shelf().refused += 1;
            return Err(AllocError::never_fits(requested, align_of::<T>()));
        };
        if let Some(vec) = self.find(layout.size(), rounded) {
            return Ok(vec);
        }
        let mut vec = Vec::new();
        let granted = vec.try_reserve_exact(rounded / size_of::<T>()).or_else(|_| {
            self.clear();
            AllocError::asking(layout, || vec.try_reserve_exact(capacity))
        });
        if let Some(keeper) = self.place.keeper() {
            keeper.is_used_anew();
        }
        let mut shelf = self.shelf();
        if let Err(refusal) = granted {
            shelf.refused += 1;
            return Err(refusal);
        }
        let bytes = vec.capacity() * size_of::<T>();
        shelf.buckets[bucket_of(bytes)].misses += 1;
        shelf.handed_out = shelf.handed_out.wrapping_add(bytes);
        Ok(vec)
    }

    /// A `Vec` of what is kept.
    fn find<T>(&self, size: usize, rounded: usize) -> Option<Vec<T>> {
        let mut shelf = self.shelf();
        let memory = shelf.find::<T>(size, rounded)?;
        let bytes = memory.layout.size();
        shelf.buckets[bucket_of(bytes)].hits += 1;
        shelf.handed_out = shelf.handed_out.wrapping_add(bytes);
        drop(shelf);
        self.place.stored.uncount(bytes);
        // SAFETY: `find` looked that it fits.
        Some(unsafe { memory.into_vec() })
    }

    /// Takes a `Vec` that is done with: drops its elements, and keeps its memory as far as the caps allow. Where it is one too many, what has been idle
    /// longest goes back to the global allocator. One lock for each of these.
    ///
    /// ```
    /// let vecs = tenzor_memory::recycle::Vecs::new();
    /// vecs.give(vec![0_u8; 4096]);
    /// assert_eq!(vecs.stats().pooled_bytes, 4096);
    /// ```
    pub fn give<T>(&self, vec: Vec<T>) {
        let Some(mut memory) = Memory::of(vec) else { return };
        if self.config.zero_on_free {
            memory.wipe();
        }
        let bytes = memory.layout.size();
        self.place.answer_to_pressure(&memory);
        let mut shelf = self.shelf();
        shelf.given += 1;
        shelf.taken_back = shelf.taken_back.wrapping_add(bytes);
        if bytes > self.most_kept() || self.config.max_buffers_per_bucket == 0 {
            shelf.buckets[bucket_of(bytes)].released += 1;
            drop(shelf);
            return;
        }
        let stored = &self.place.stored;
        let mut is_counted = false;
        let not_kept = loop {
            let evicted = self.in_the_way(&mut shelf, bytes).or_else(|| {
                is_counted = is_counted || stored.count(bytes);
                if is_counted { None } else { shelf.oldest(None) }
            });
            let Some(evicted) = evicted else {
                if is_counted {
                    break shelf.keep(memory);
                }
                shelf.buckets[bucket_of(bytes)].released += 1;
                break Some(memory);
            };
            drop(shelf);
            stored.give_back(evicted);
            shelf = self.shelf();
        };
        drop(shelf);
        if not_kept.is_some() && is_counted {
            stored.uncount(bytes);
        }
        drop(not_kept);
    }

    /// Takes out what has to go before so many bytes can be kept.
    fn in_the_way(&self, shelf: &mut Shelf, bytes: usize) -> Option<Memory> {
        let bucket = bucket_of(bytes);
        if shelf.buckets[bucket].kept.len() >= self.config.max_buffers_per_bucket {
            shelf.oldest(Some(bucket))
        } else if bytes > self.most_kept() - shelf.kept_bytes {
            shelf.oldest(None)
        } else {
            None
        }
    }

    fn most_kept(&self) -> usize {
        self.config.max_pool_size.min(self.config.limit.unwrap_or(usize::MAX))
    }

    /// Gives what has been idle longest back to the global allocator until at most `keep_bytes` are kept. Returns how many bytes were released.
    ///
    /// ```
    /// let vecs = tenzor_memory::recycle::Vecs::new();
    /// vecs.give(vec![0_u8; 4096]);
    /// vecs.give(vec![0_u8; 1024]);
    /// assert_eq!(vecs.trim(2048), 4096);
    /// assert_eq!(vecs.stats().pooled_bytes, 1024);
    /// ```
    pub fn trim(&self, keep_bytes: usize) -> usize {
        self.place.stored.give_back_while(|kept, _| kept > keep_bytes)
    }

    /// Gives everything that is kept back to the global allocator. So does dropping the last clone.
    pub fn clear(&self) {
        self.trim(0);
    }

    /// The statistics of this instant.
    pub fn stats(&self) -> Stats {
        let shelf = self.shelf();
        let rows = shelf.buckets.iter().enumerate().map(|(bucket, counted)| BucketStats {
            bucket,
            hits: counted.hits,
            misses: counted.misses,
            buffers_in_use: 0,
            pooled_buffers: counted.kept.len(),
            pooled_bytes: counted.kept.iter().map(Kept::size).sum(),
            released: counted.released,
        });
        let used = |row: &BucketStats| row.hits + row.misses + row.released + row.pooled_buffers as u64 > 0;
        let buckets: Vec<BucketStats> = hushed(|| rows.filter(used).collect());
        let (pool_hits, pool_misses) =
            buckets.iter().fold((0, 0), |(hits, misses), row| (hits + row.hits, misses + row.misses));
        Stats {
            allocations: pool_hits + pool_misses,
            deallocations: shelf.given,
            bytes_allocated: shelf.handed_out,
            bytes_freed: shelf.taken_back,
            pool_hits,
            pool_misses,
            pooled_bytes: shelf.kept_bytes,
            pooled_buffers: buckets.iter().map(|row| row.pooled_buffers).sum(),
            reserved_bytes: shelf.kept_bytes,
            peak_reserved_bytes: shelf.peak_kept_bytes,
            released: buckets.iter().map(|row| row.released).sum(),
            failures: shelf.refused,
            buckets,
            ..Stats::default()
        }
    }

    /// The configuration in force.
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }
}

impl Default for Vecs {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Vecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept_bytes = self.shelf().kept_bytes;
        f.debug_struct("Vecs").field("kept_bytes", &kept_bytes).field("config", &self.config).finish_non_exhaustive()
    }
}
