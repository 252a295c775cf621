//! The statistics of a scope.

use std::fmt;

use super::hit_rate;
use crate::bytes::Bytes;

/// What was requested through a [scope](crate::Scoped), counted as in [`Stats`](crate::Stats) of the pool: if all requests go through one scope, the numbers of both are
/// equal. A scope keeps nothing and reserves nothing of its own, so it has no fields for that, and no buckets.
///
/// ```
/// use tenzor_memory::TensorAllocator;
///
/// let scope = TensorAllocator::new().scope("layer 3");
/// let kept = scope.alloc::<f32>(1024)?;
/// drop(scope.alloc::<f32>(256)?);
/// assert_eq!(
///     scope.stats().to_string(),
///     "scope            layer 3\n\
///      requests               2  0.0 % hits (0 hits, 2 misses, 0 refused)\n\
///      in use             4 KiB  1 buffers; peak 5 KiB\n\
///      allocated          5 KiB  so far\n"
/// );
/// # drop(kept);
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct ScopeStats {
    /// The scope's name.
    pub name: String,
    /// Requests served: `pool_hits + pool_misses`.
    pub allocations: u64,
    /// Buffers freed.
    pub deallocations: u64,
    /// Requests served from the pool, whoever had freed what served them.
    pub pool_hits: u64,
    /// Requests for which the pool went to its backing.
    pub pool_misses: u64,
    /// Requests refused.
    pub failures: u64,
    /// All bytes ever handed out; wraps around at `usize::MAX`.
    pub bytes_allocated: usize,
    /// Bytes handed out and not yet freed.
    pub bytes_in_use: usize,
    /// The largest `bytes_in_use` so far, or since the peaks were taken last.
    pub peak_bytes_in_use: usize,
}

impl ScopeStats {
    /// hits / (hits + misses), 0 before the first request.
    pub fn pool_hit_rate(&self) -> f64 {
        hit_rate(self.pool_hits, self.pool_misses)
    }
}

impl fmt::Display for ScopeStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "scope     {:>14}", self.name)?;
        writeln!(
            f,
            "requests  {:>14}  {:.1} % hits ({} hits, {} misses, {} refused)",
            self.allocations,
            100.0 * self.pool_hit_rate(),
            self.pool_hits,
            self.pool_misses,
            self.failures,
        )?;
        let bytes = [self.bytes_in_use, self.bytes_allocated].map(|bytes| Bytes(bytes).to_string());
        let [in_use, allocated] = bytes;
        let (buffers, peak) = (self.allocations.saturating_sub(self.deallocations), Bytes(self.peak_bytes_in_use));
        writeln!(f, "in use    {in_use:>14}  {buffers} buffers; peak {peak}")?;
        writeln!(f, "allocated {allocated:>14}  so far")
    }
}
