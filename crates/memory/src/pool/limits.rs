//! What a pool may hold and what it may keep. Every limit and cap is checked here and nowhere else.

use super::central::CentralList;
use crate::pool_config::PoolConfig;
use crate::stats::Counters;

#[derive(Debug)]
pub(super) struct Limits {
    max_pool_size: usize,
    max_buffers_per_bucket: usize,
    limit: usize,
    adaptive: bool,
}

impl Limits {
    pub(super) fn new(config: &PoolConfig) -> Self {
        Self {
            max_pool_size: config.max_pool_size,
            max_buffers_per_bucket: config.max_buffers_per_bucket,
            limit: config.limit.unwrap_or(usize::MAX),
            adaptive: config.adaptive,
        }
    }

    /// Whether `more` bytes may be held beside those `held` already, in use and pooled.
    pub(super) fn allow(&self, held: usize, more: usize) -> bool {
        more <= self.limit.saturating_sub(held)
    }

    /// Whether a buffer may be kept at all.
    pub(super) fn allow_keeping(&self, capacity: usize) -> bool {
        capacity <= self.max_pool_size && self.max_buffers_per_bucket > 0
    }

    /// Whether one more buffer in this bucket would be too many.
    #[inline]
    pub(super) fn is_bucket_full(&self, central: &CentralList, bucket: usize) -> bool {
        central.buffers_kept_or_leased(bucket) >= self.max_buffers_per_bucket
    }

    /// Whether `capacity` bytes more would be too many to keep.
    #[inline]
    pub(super) fn is_pool_full(&self, central: &CentralList, counters: &Counters, capacity: usize) -> bool {
        capacity > self.max_pool_size - central.bytes_kept_or_leased()
            || self.exceeds_working_set(central, counters, capacity)
    }

    /// Whether `capacity` bytes more, in use or pooled, would be more than the recent working set had in use at once, and a
    /// sixteenth. Never unless the pool is adaptive.
    #[inline]
    pub(super) fn exceeds_working_set(&self, central: &CentralList, counters: &Counters, capacity: usize) -> bool {
        self.adaptive && {
            let peak = counters.recent_peak().max(counters.in_use_rounded());
            central.bytes() + counters.in_use_or_stocked() + capacity > peak + peak / 16
        }
    }
}
