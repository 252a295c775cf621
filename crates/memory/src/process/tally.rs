//! What was requested and freed, by all threads.

use super::cache::{Cache, Tally};
use super::threads::HOMELESS;
use crate::heap::Heap;
use crate::layout::blocks::{CLASSES, class_capacity};
use crate::layout::{BUCKETS, bucket_of};
use crate::os::Os;
use crate::stats::{BucketStats, Stats};

#[derive(Clone, Copy, Debug)]
struct Bucket {
    allocations: u64,
    frees: u64,
    misses: u64,
    /// How many more blocks came here than left by resizes in place.
    resized: i64,
}

/// The counters under the lock: of runs, and of threads that ended.
#[derive(Debug)]
pub(super) struct Tallies {
    retired: Tally,
    /// By bucket: the runs, and the misses of all requests.
    buckets: [Bucket; BUCKETS],
    /// Bytes in the pages of all runs in use.
    runs_rounded: usize,
    /// Requested bytes in use as far as they were settled, and their peak.
    in_use: isize,
    peak: isize,
    failures: u64,
}

impl Tallies {
    pub(super) const fn new() -> Self {
        Self {
            retired: Tally::new(),
            buckets: [Bucket { allocations: 0, frees: 0, misses: 0, resized: 0 }; BUCKETS],
            runs_rounded: 0,
            in_use: 0,
            peak: 0,
            failures: 0,
        }
    }

    pub(super) fn settle(&mut self, cache: &Cache) {
        let (in_use, peak) = cache.settle();
        self.peak = self.peak.max(self.in_use.wrapping_add(peak));
        self.in_use = self.in_use.wrapping_add(in_use);
    }

    /// A request of a class, or for a run, was served under the lock; by a miss if memory was taken from the system.
    pub(super) fn served(&mut self, cache: &Cache, class: Option<usize>, capacity: usize, size: usize, miss: bool) {
        let bucket = &mut self.buckets[bucket_of(capacity)];
        bucket.misses += u64::from(miss);
        if class.is_none() {
            bucket.allocations += 1;
            self.runs_rounded += capacity;
        }
        cache.served(class, size);
        self.settle(cache);
    }

    pub(super) fn refused(&mut self) {
        self.failures += 1;
    }

    pub(super) fn freed(&mut self, cache: &Cache, class: Option<usize>, capacity: usize, size: usize) {
        if class.is_none() {
            self.buckets[bucket_of(capacity)].frees += 1;
            self.runs_rounded -= capacity;
        }
        cache.freed(class, size);
        self.settle(cache);
    }

    /// A request changed its size in place.
    pub(super) fn resized(&mut self, cache: &Cache, old: usize, new: usize) {
        cache.resized(old, new);
        self.settle(cache);
    }

    /// A run changed its size in place: it may be in another bucket.
    pub(super) fn run_resized(&mut self, old: usize, new: usize) {
        self.runs_rounded = self.runs_rounded - old + new;
        let (old, new) = (bucket_of(old), bucket_of(new));
        self.buckets[old].resized -= 1;
        self.buckets[new].resized += 1;
    }

    /// Takes over what a cache counted.
    pub(super) fn retire(&mut self, cache: &Cache) {
        self.settle(cache);
        cache.add_to(&mut self.retired);
        cache.clear_counts();
    }

    /// All counts, with those of the caches in use.
    pub(super) fn snapshot<O: Os>(&self, caches: impl Iterator<Item = &'static Cache>, heap: &Heap<O>) -> Snapshot {
        let mut sum = self.retired;
        let mut in_use = self.in_use;
        let mut held = [0; CLASSES];
        for cache in caches.chain([&HOMELESS]) {
            cache.add_to(&mut sum);
            in_use = in_use.wrapping_add(cache.unsettled());
            for (class, held) in held.iter_mut().enumerate() {
                *held += cache.held(class);
            }
        }
        Snapshot {
            sum,
            held,
            in_use: usize::try_from(in_use).unwrap_or(0),
            peak: usize::try_from(self.peak.max(in_use)).unwrap_or(0),
            buckets: self.buckets,
            runs_rounded: self.runs_rounded,
            failures: self.failures,
            reserved: heap.resident(),
            peak_reserved: heap.peak_resident(),
        }
    }
}

/// The counters at one instant.
#[derive(Debug)]
pub(super) struct Snapshot {
    sum: Tally,
    held: [usize; CLASSES],
    in_use: usize,
    peak: usize,
    buckets: [Bucket; BUCKETS],
    runs_rounded: usize,
    failures: u64,
    reserved: usize,
    peak_reserved: usize,
}

impl From<Snapshot> for Stats {
    fn from(counted: Snapshot) -> Self {
        let mut rows: [(Bucket, usize, usize); BUCKETS] = counted.buckets.map(|bucket| (bucket, 0, 0));
        let mut in_use_rounded = counted.runs_rounded;
        for class in 0..CLASSES {
            let capacity = class_capacity(class);
            let (allocations, frees) = (counted.sum.allocations[class], counted.sum.frees[class]);
            let (bucket, kept, bytes) = &mut rows[bucket_of(capacity)];
            bucket.allocations += allocations;
            bucket.frees += frees;
            *kept += counted.held[class];
            *bytes += counted.held[class] * capacity;
            // A block may have been freed by a thread whose counters were read before those of the one that took it.
            in_use_rounded += allocations.saturating_sub(frees) as usize * capacity;
        }
        let buckets: Vec<BucketStats> = rows
            .iter()
            .enumerate()
            .filter(|(_, (counted, ..))| counted.allocations > 0 || counted.resized != 0)
            .map(|(bucket, &(counted, pooled_buffers, pooled_bytes))| BucketStats {
                bucket,
                hits: counted.allocations.saturating_sub(counted.misses),
                misses: counted.misses,
                buffers_in_use: counted
                    .allocations
                    .saturating_add_signed(counted.resized)
                    .saturating_sub(counted.frees),
                pooled_buffers,
                pooled_bytes,
                released: 0,
            })
            .collect();
        let pool_hits = buckets.iter().map(|row| row.hits).sum();
        let pool_misses = buckets.iter().map(|row| row.misses).sum();
        let reserved = counted.reserved.max(in_use_rounded);
        Stats {
            allocations: pool_hits + pool_misses,
            deallocations: rows.iter().map(|(counted, ..)| counted.frees).sum(),
            bytes_allocated: counted.sum.allocated,
            bytes_freed: counted.sum.allocated.wrapping_sub(counted.in_use),
            bytes_in_use: counted.in_use,
            peak_bytes_in_use: counted.peak,
            bytes_in_use_rounded: in_use_rounded,
            pool_hits,
            pool_misses,
            pooled_bytes: reserved - in_use_rounded,
            pooled_buffers: buckets.iter().map(|row| row.pooled_buffers).sum(),
            overhead_bytes: 0,
            reserved_bytes: reserved,
            peak_reserved_bytes: counted.peak_reserved.max(reserved),
            released: 0,
            failures: counted.failures,
            buckets,
        }
    }
}
