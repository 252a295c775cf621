//! What was requested and freed, by all threads.

use super::cache::{Cache, Tally};
use super::shards;
use super::tuning::UNPUBLISHED_BYTES;
use crate::heap::Heap;
use crate::heap::classes::{CLASSES, KEPT_CLASSES, PAGE, class_capacity};
use crate::layout::{BUCKETS, bucket_of};
use crate::os::Os;
use crate::stats::{BucketStats, Stats};
use crate::sync::atomic::AtomicIsize;
use crate::sync::atomic::Ordering::Relaxed;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    allocations: u64,
    frees: u64,
    misses: u64,
    /// How many more blocks came here than left by resizes in place.
    resized: i64,
}

/// The counters under a shard's lock.
#[derive(Debug)]
pub(super) struct Tallies {
    /// By bucket: the runs, and the misses of all requests.
    buckets: [Bucket; BUCKETS],
    /// Bytes in the pages of all runs in use.
    runs_rounded: usize,
    /// Requested bytes in use that were settled here, what of them was published, and their peak since then.
    in_use: isize,
    published: isize,
    peak: isize,
    failures: u64,
}

/// Requested bytes in use, as far as they were published, and their peak.
static PUBLISHED: Published = Published { in_use: AtomicIsize::new(0), peak: AtomicIsize::new(0) };

/// Written by all: on cache lines of its own.
#[repr(align(128))]
struct Published {
    in_use: AtomicIsize,
    peak: AtomicIsize,
}

impl Tallies {
    pub(super) const fn new() -> Self {
        Self {
            buckets: [Bucket { allocations: 0, frees: 0, misses: 0, resized: 0 }; BUCKETS],
            runs_rounded: 0,
            in_use: 0,
            published: 0,
            peak: 0,
            failures: 0,
        }
    }

    pub(super) fn settle(&mut self, cache: &Cache) {
        let (in_use, peak) = cache.settle();
        self.peak = self.peak.max(self.in_use.wrapping_add(peak));
        self.in_use = self.in_use.wrapping_add(in_use);
        if shards::are_many() && self.in_use.abs_diff(self.published) > UNPUBLISHED_BYTES {
            self.publish();
        }
    }

    fn publish(&mut self) {
        let more = self.in_use.wrapping_sub(self.published);
        let all = PUBLISHED.in_use.fetch_add(more, Relaxed).wrapping_add(more);
        PUBLISHED.peak.fetch_max(all.wrapping_sub(self.in_use).wrapping_add(self.peak), Relaxed);
        (self.published, self.peak) = (self.in_use, self.in_use);
    }

    /// A request of a class, or for a run, was served under the lock; by a miss if memory was taken from the system.
    #[inline]
    pub(super) fn served(&mut self, cache: &Cache, class: Option<usize>, capacity: usize, size: usize, miss: bool) {
        let bucket = &mut self.buckets[bucket_of(capacity)];
        bucket.misses += u64::from(miss);
        if class.is_none() {
            bucket.allocations += 1;
            self.runs_rounded = self.runs_rounded.wrapping_add(capacity);
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
            // What was served aside may be freed before it is counted.
            self.runs_rounded = self.runs_rounded.wrapping_sub(capacity);
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
        self.runs_rounded = self.runs_rounded.wrapping_sub(old).wrapping_add(new);
        let (old, new) = (bucket_of(old), bucket_of(new));
        self.buckets[old].resized -= 1;
        self.buckets[new].resized += 1;
    }
}

/// The peak is taken anew from now on, where so much is in use.
pub(super) fn forget_peak(in_use: usize) {
    PUBLISHED.peak.store(in_use.cast_signed(), Relaxed);
}

/// What threads hold of a class or kind.
#[derive(Clone, Copy, Debug)]
struct Held {
    blocks: usize,
    bytes: usize,
}

/// The sums of all counters.
#[derive(Debug)]
pub(super) struct Sums {
    sum: Tally,
    held: [Held; KEPT_CLASSES],
    /// Pages that are free in the parcels of threads.
    parcel_pages: usize,
    buckets: [Bucket; BUCKETS],
    runs_rounded: usize,
    failures: u64,
    released: u64,
    reserved: usize,
    peak_reserved: usize,
}

impl Sums {
    pub(super) fn new() -> Self {
        Self {
            sum: Tally::new(),
            held: [Held { blocks: 0, bytes: 0 }; KEPT_CLASSES],
            parcel_pages: 0,
            buckets: Tallies::new().buckets,
            runs_rounded: 0,
            failures: 0,
            released: 0,
            reserved: 0,
            peak_reserved: 0,
        }
    }

    /// Adds what threads counted that ended.
    pub(super) fn add(&mut self, left: &Tally) {
        self.sum.add(left);
    }

    /// Adds what a cache counted, and holds.
    pub(super) fn add_cache(&mut self, cache: &Cache) {
        cache.add_to(&mut self.sum);
        for (class, held) in self.held.iter_mut().enumerate() {
            held.blocks += cache.held(class);
            held.bytes += cache.held_bytes(class);
        }
        self.parcel_pages += cache.parcels.free_pages();
    }

    /// Adds what was counted in a shard.
    pub(super) fn add_shard<O: Os>(&mut self, tallies: &mut Tallies, heap: &Heap<O>) {
        tallies.publish();
        for (sum, bucket) in self.buckets.iter_mut().zip(&tallies.buckets) {
            sum.allocations += bucket.allocations;
            sum.frees += bucket.frees;
            sum.misses += bucket.misses;
            sum.resized += bucket.resized;
        }
        self.runs_rounded = self.runs_rounded.wrapping_add(tallies.runs_rounded);
        self.failures += tallies.failures;
        self.released += heap.released();
        self.reserved += heap.resident();
        // Of several, the sum of their peaks is an upper bound.
        self.peak_reserved += heap.peak_resident();
    }

    /// Once all was added.
    pub(super) fn snapshot(self) -> Snapshot {
        let in_use = self.sum.allocated.wrapping_sub(self.sum.freed).cast_signed();
        Snapshot {
            in_use: usize::try_from(in_use).unwrap_or(0),
            peak: usize::try_from(PUBLISHED.peak.load(Relaxed).max(in_use)).unwrap_or(0),
            sum: self.sum,
            held: self.held,
            parcel_pages: self.parcel_pages,
            buckets: self.buckets,
            runs_rounded: usize::try_from(self.runs_rounded.wrapping_add(self.sum.runs_rounded).cast_signed())
                .unwrap_or(0),
            failures: self.failures,
            released: self.released,
            reserved: self.reserved,
            peak_reserved: self.peak_reserved,
        }
    }
}

/// The counters at one instant.
#[derive(Debug)]
pub(super) struct Snapshot {
    sum: Tally,
    held: [Held; KEPT_CLASSES],
    parcel_pages: usize,
    in_use: usize,
    peak: usize,
    buckets: [Bucket; BUCKETS],
    runs_rounded: usize,
    failures: u64,
    released: u64,
    reserved: usize,
    peak_reserved: usize,
}

impl Snapshot {
    /// Bytes of all blocks in use.
    pub(super) fn in_use_rounded(&self) -> usize {
        let bytes = |class: usize| {
            // A block may have been freed by a thread whose counters were read before those of the one that took it.
            let blocks = self.sum.allocations[class].saturating_sub(self.sum.frees[class]);
            blocks as usize * class_capacity(class)
        };
        self.runs_rounded + (0..CLASSES).map(bytes).sum::<usize>()
    }

    /// Bytes that threads have at hand: free blocks, and free pages of parcels.
    pub(super) fn held_by_threads(&self) -> usize {
        self.held.iter().map(|held| held.bytes).sum::<usize>() + self.parcel_pages * PAGE
    }

    /// Bytes that are counted as resident.
    pub(super) fn reserved(&self) -> usize {
        self.reserved.max(self.in_use_rounded())
    }
}

impl From<Snapshot> for Stats {
    fn from(counted: Snapshot) -> Self {
        let mut rows: [(Bucket, usize, usize); BUCKETS] = counted.buckets.map(|bucket| (bucket, 0, 0));
        for (class, held) in counted.held.iter().enumerate() {
            let capacity = class_capacity(class);
            let (allocations, frees) = (counted.sum.allocations[class], counted.sum.frees[class]);
            let (bucket, kept, bytes) = &mut rows[bucket_of(capacity)];
            bucket.allocations += allocations;
            bucket.frees += frees;
            *kept += held.blocks;
            *bytes += held.bytes;
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
        let (reserved, in_use_rounded) = (counted.reserved(), counted.in_use_rounded());
        // What was freed meanwhile may be missing in the one and not in the other.
        let in_use = counted.in_use.min(in_use_rounded);
        Stats {
            allocations: pool_hits + pool_misses,
            deallocations: rows.iter().map(|(counted, ..)| counted.frees).sum(),
            bytes_allocated: counted.sum.allocated,
            bytes_freed: counted.sum.allocated.wrapping_sub(in_use),
            bytes_in_use: in_use,
            peak_bytes_in_use: counted.peak,
            bytes_in_use_rounded: in_use_rounded,
            pool_hits,
            pool_misses,
            pooled_bytes: reserved - in_use_rounded,
            kept_above_bytes: 0,
            pooled_buffers: buckets.iter().map(|row| row.pooled_buffers).sum(),
            overhead_bytes: 0,
            reserved_bytes: reserved,
            peak_reserved_bytes: counted.peak_reserved.max(reserved),
            released: counted.released,
            failures: counted.failures,
            buckets,
        }
    }
}
