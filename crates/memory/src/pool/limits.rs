//! What a pool may hold and what it may keep. Every limit and cap is checked here and nowhere else.

use std::alloc::Layout;

use super::central::CentralList;
use crate::layout::SMALL;
use crate::pool_config::PoolConfig;
use crate::stats::Counters;

#[derive(Debug)]
pub(super) struct Limits {
    max_pool_size: usize,
    max_buffers_per_bucket: usize,
    limit: usize,
    adaptive: bool,
    /// The backing is a pool itself.
    is_above_pool: bool,
}

impl Limits {
    pub(super) fn new(config: &PoolConfig, is_above_pool: bool) -> Self {
        Self {
            max_pool_size: config.max_pool_size,
            max_buffers_per_bucket: config.max_buffers_per_bucket,
            limit: config.limit.unwrap_or(usize::MAX),
            adaptive: config.adaptive,
            is_above_pool,
        }
    }

    /// Whether a request is served by a block of just its size, of which one is kept at most: what the backing finds as fast, in less memory.
    #[inline]
    pub(super) fn passes_on(&self, request: Layout) -> bool {
        self.is_above_pool && request.size() > SMALL
    }

    /// Whether `more` bytes may be held beside those `held` already, in use and pooled.
    pub(super) fn allow(&self, held: usize, more: usize) -> bool {
        more <= self.limit.saturating_sub(held)
    }

    /// How much of what is held stands in the way of `more` bytes.
    pub(super) fn lacking(&self, held: usize, more: usize) -> usize {
        held.saturating_add(more).saturating_sub(self.limit)
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

    /// Whether `capacity` bytes more would be more than was in use at once of late: then nothing large is kept beside them.
    pub(super) fn exceeds_recent_peak(&self, central: &CentralList, counters: &Counters, capacity: usize) -> bool {
        central.bytes() + counters.in_use_or_stocked() + capacity > counters.recent_peak()
    }
}
