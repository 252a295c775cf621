//! Statistics: what is told (here), where each is counted, how they are shown.

mod counters;
mod scope;
mod tab;
mod table;

pub(crate) use self::counters::{Counters, FreeBuffers};
pub use self::scope::ScopeStats;
pub(crate) use self::tab::Tab;

/// A snapshot of an allocator's statistics, taken at one instant.
///
/// Fields named `bytes_*` count requested bytes unless their name says rounded; `pooled`, `reserved` and `overhead` count
/// rounded bytes. `reserved_bytes = bytes_in_use_rounded + pooled_bytes + overhead_bytes` always holds. Zero-sized
/// requests take no memory and are not counted. A resize in place counts no allocation, only its bytes.
///
/// ```
/// use tenzor_memory::TensorAllocator;
///
/// let alloc = TensorAllocator::new();
/// for _ in 0..4 {
///     alloc.alloc::<f32>(1000)?;
/// }
/// let stats = alloc.stats();
/// assert_eq!((stats.pool_hits, stats.pool_misses), (3, 1));
/// assert_eq!(stats.bytes_allocated, 16_000);
/// assert_eq!(stats.pooled_bytes, 4096);
/// println!("{stats}");
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct Stats {
    /// Requests served: `pool_hits + pool_misses`.
    pub allocations: u64,
    /// Buffers freed.
    pub deallocations: u64,
    /// All bytes ever handed out; wraps around at `usize::MAX`.
    pub bytes_allocated: usize,
    /// All bytes ever freed; wraps around likewise, so that `bytes_allocated - bytes_freed` stays right.
    pub bytes_freed: usize,
    /// Bytes handed out and not yet freed.
    pub bytes_in_use: usize,
    /// The largest `bytes_in_use` so far, or since the peaks were taken last.
    pub peak_bytes_in_use: usize,
    /// `bytes_in_use`, each buffer counted at its class's capacity.
    pub bytes_in_use_rounded: usize,
    /// Requests served from the pool.
    pub pool_hits: u64,
    /// Requests that went to the backing.
    pub pool_misses: u64,
    /// Bytes kept free for reuse. Where the system refused a fence for all threads after some of them had stocks, what lies
    /// there counts as they told last, until they use the pool again or end: the counts of hits and of what is in use may be wrong by
    /// that much, and the sums hold.
    pub pooled_bytes: usize,
    /// The part of `pooled_bytes` that those keep whose memory comes from here: other pools, arenas that were reset, planned allocators
    /// between two steps. Neither a cap nor a bucket's row counts it.
    pub kept_above_bytes: usize,
    /// Buffers kept free for reuse. Of the process's heap: free blocks in the caches of threads; what else is pooled there are no buffers, but free
    /// ranges, which serve any size.
    pub pooled_buffers: usize,
    /// Bytes on their way from or to the backing in other threads at this instant; 0 when no call is under way.
    pub overhead_bytes: usize,
    /// Bytes held from the backing.
    pub reserved_bytes: usize,
    /// The largest `reserved_bytes` so far, without what was on its way in other threads.
    pub peak_reserved_bytes: usize,
    /// Buffers given back to the backing: evicted from a full pool, under pressure or by a trim, or too large to keep. Of the process's heap: ranges
    /// of pages that went back to the system.
    pub released: u64,
    /// Requests refused.
    pub failures: u64,
    /// A row for each bucket that has ever served a request, in order of size.
    pub buckets: Vec<BucketStats>,
}

impl Stats {
    /// So much of what was handed out is kept for reuse.
    pub(crate) fn keep_above(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes_in_use);
        self.kept_above_bytes = bytes;
        self.pooled_bytes += bytes;
        self.bytes_in_use_rounded -= bytes;
        self.bytes_in_use -= bytes;
    }
}

/// The statistics of one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct BucketStats {
    /// The bucket's number: it holds capacities of 2^(6 + bucket) to 2^(7 + bucket) − 1 bytes.
    pub bucket: usize,
    /// Requests served from the pool.
    pub hits: u64,
    /// Requests that went to the backing.
    pub misses: u64,
    /// Buffers handed out and not yet freed.
    pub buffers_in_use: u64,
    /// Buffers kept free for reuse.
    pub pooled_buffers: usize,
    /// Bytes kept free for reuse.
    pub pooled_bytes: usize,
    /// Buffers given back to the backing: evicted from a full pool, under pressure or by a trim, or too large to keep.
    pub released: u64,
}

impl Stats {
    /// hits / (hits + misses), 0 before the first request.
    pub fn pool_hit_rate(&self) -> f64 {
        hit_rate(self.pool_hits, self.pool_misses)
    }
}

impl BucketStats {
    /// hits / (hits + misses), 0 before the first request.
    pub fn hit_rate(&self) -> f64 {
        hit_rate(self.hits, self.misses)
    }
}

fn hit_rate(hits: u64, misses: u64) -> f64 {
    let all = hits as f64 + misses as f64;
    if all == 0.0 { 0.0 } else { hits as f64 / all }
}
