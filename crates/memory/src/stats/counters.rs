//! Where each thing is counted that a pool tells: the running counters, and the snapshot that is taken of them.

use super::tab::{Flow, Tab};
use super::{BucketStats, Stats};
use crate::layout::BUCKETS;
use crate::retention::Retention;

/// The running counters of a pool: what cannot be derived. Each is counted here and nowhere else.
///
/// Sums over the whole life of a pool wrap around, as their differences stay right.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    /// As far as the stocks of threads were settled.
    requested: Flow,
    /// Negative while a thread's stock has not told yet what another thread gave back.
    in_use_rounded: isize,
    /// Rounded bytes in the stocks of threads. What was not settled moved between these two: their sum is always right.
    stocked: isize,
    /// Held from the backing, or asked of it, or on the way back to it.
    reserved: usize,
    /// The part of `reserved` that the backing has been asked for and has not granted yet.
    asked: usize,
    /// How often something came back to the backing.
    returns: u64,
    peak_reserved: usize,
    failures: u64,
    /// Of `in_use_rounded`; a tick is so many frees.
    recent: Retention,
    frees: u64,
    buckets: [BucketCounters; BUCKETS],
}

/// Frees in a tick: several steps of most programs.
const TICK: u64 = 4096;

#[derive(Clone, Copy, Debug, Default)]
struct BucketCounters {
    hits: u64,
    misses: u64,
    frees: u64,
    released: u64,
    /// Bytes that are in use or pooled.
    held: usize,
}

/// What a pool knows of the free buffers of one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FreeBuffers {
    pub(crate) buffers: usize,
    pub(crate) bytes: usize,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            requested: Flow::default(),
            in_use_rounded: 0,
            stocked: 0,
            reserved: 0,
            asked: 0,
            returns: 0,
            peak_reserved: 0,
            failures: 0,
            recent: Retention::new(),
            frees: 0,
            buckets: [BucketCounters::default(); BUCKETS],
        }
    }

    /// All that is held from the backing, requests and returns under way included: what a limit is checked against.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved
    }

    /// As far as the stocks of threads were settled.
    pub(crate) fn in_use_rounded(&self) -> usize {
        usize::try_from(self.in_use_rounded).unwrap_or(0)
    }

    /// Rounded bytes in use, or in the stocks of threads.
    pub(crate) fn in_use_or_stocked(&self) -> usize {
        usize::try_from(self.in_use_rounded + self.stocked).unwrap_or(0)
    }

    pub(crate) fn stocked(&self) -> usize {
        usize::try_from(self.stocked).unwrap_or(0)
    }

    /// How often a buffer was freed.
    #[inline]
    pub(crate) fn frees(&self) -> u64 {
        self.frees
    }

    /// The largest [`in_use_rounded`](Self::in_use_rounded) of late.
    pub(crate) fn recent_peak(&self) -> usize {
        self.recent.peak()
    }

    /// Bytes that the backing was asked for.
    pub(crate) fn asked(&self) -> usize {
        self.asked
    }

    #[inline]
    pub(crate) fn hit(&mut self, bucket: usize, requested: usize, capacity: usize) {
        self.buckets[bucket].hits += 1;
        self.handed_out(requested, capacity);
    }

    /// A request is about to go to the backing.
    pub(crate) fn miss_begins(&mut self, capacity: usize) {
        self.reserved += capacity;
        self.asked += capacity;
    }

    pub(crate) fn miss_failed(&mut self, capacity: usize) {
        self.reserved -= capacity;
        self.asked -= capacity;
    }

    pub(crate) fn miss_served(&mut self, bucket: usize, requested: usize, capacity: usize, pooled: usize) {
        self.asked -= capacity;
        self.buckets[bucket].misses += 1;
        self.buckets[bucket].held += capacity;
        self.handed_out(requested, capacity);
        self.peak_reserved = self.peak_reserved.max(self.in_use_or_stocked() + pooled);
    }

    #[inline]
    fn handed_out(&mut self, requested: usize, capacity: usize) {
        self.in_use_rounded += capacity.cast_signed();
        self.recent.in_use(self.in_use_rounded());
        self.requested.handed_out(requested);
    }

    #[inline]
    pub(crate) fn freed(&mut self, bucket: usize, requested: usize, capacity: usize) {
        self.buckets[bucket].frees += 1;
        self.requested.taken_back(requested);
        self.in_use_rounded -= capacity.cast_signed();
        self.count_frees(1);
    }

    #[inline]
    fn count_frees(&mut self, frees: u64) {
        let tick = self.frees / TICK;
        self.frees += frees;
        if self.frees / TICK != tick {
            self.recent.tick(self.in_use_rounded());
        }
    }

    /// The peaks are taken anew from now on, with so much pooled.
    pub(crate) fn forget_peaks(&mut self, pooled: usize) {
        self.requested.out.forget_peak();
        self.peak_reserved = self.in_use_or_stocked() + pooled;
    }

    /// A tick of the clock has passed.
    pub(crate) fn pass_time(&mut self) {
        self.recent.tick(self.in_use_rounded());
    }

    /// Takes over what a thread's stock counted since this was called last.
    #[inline]
    pub(crate) fn settle(&mut self, tab: &mut Tab) {
        if !tab.is_blank() {
            self.take_over(tab);
        }
        self.set_clock(tab);
    }

    #[cold]
    fn take_over(&mut self, tab: &mut Tab) {
        self.requested.add(&tab.requested);
        let came_in_use = tab.rounded.in_use();
        self.recent.in_use(usize::try_from(self.in_use_rounded + tab.rounded.peak).unwrap_or(0));
        self.in_use_rounded += came_in_use;
        self.stocked -= came_in_use;
        self.count_frees(tab.clock - tab.start);
        *tab = Tab::default();
    }

    /// The next free of a thread's stock, which was settled, is a later one than those counted here.
    #[inline]
    pub(crate) fn set_clock(&self, tab: &mut Tab) {
        (tab.start, tab.clock) = (self.frees, self.frees);
        tab.due = (self.frees / TICK + 1) * TICK - 1;
    }

    /// A free buffer goes to a thread's stock.
    pub(crate) fn stock(&mut self, capacity: usize) {
        self.stocked += capacity.cast_signed();
    }

    /// A free buffer goes home from a thread's stock.
    pub(crate) fn unstock(&mut self, capacity: usize) {
        self.stocked -= capacity.cast_signed();
    }

    /// Adds what a thread's stock counted by class.
    pub(crate) fn add(&mut self, bucket: usize, hits: u64, frees: u64) {
        self.buckets[bucket].hits += hits;
        self.buckets[bucket].frees += frees;
    }

    /// A buffer changed its requested size within its class.
    pub(crate) fn resized(&mut self, old: usize, new: usize) {
        if new >= old {
            self.requested.handed_out(new - old);
        } else {
            self.requested.taken_back(old - new);
        }
    }

    /// The backing changed the size of a block: its bucket, its requested and its rounded size. In another bucket it counts as another one.
    pub(crate) fn resized_below(&mut self, old: (usize, usize, usize), new: (usize, usize, usize), pooled: usize) {
        let ((from, old, old_rounded), (to, new, new_rounded)) = (old, new);
        self.buckets[from].held -= old_rounded;
        self.buckets[to].held += new_rounded;
        if from != to {
            self.buckets[from].frees += 1;
            self.buckets[from].released += 1;
            self.buckets[to].misses += 1;
        }
        self.resized(old, new);
        self.reserved = self.reserved + new_rounded - old_rounded;
        self.in_use_rounded += new_rounded.cast_signed() - old_rounded.cast_signed();
        self.recent.in_use(self.in_use_rounded());
        self.peak_reserved = self.peak_reserved.max(self.in_use_or_stocked() + pooled);
    }

    /// A buffer, neither in use nor pooled any more, is about to go back to the backing.
    pub(crate) fn return_begins(&mut self, bucket: usize, capacity: usize) {
        self.buckets[bucket].released += 1;
        self.buckets[bucket].held -= capacity;
    }

    /// There may be room for it now.
    pub(crate) fn return_ends(&mut self, bucket: usize, capacity: usize) {
        self.buckets[bucket].released -= 1;
        self.buckets[bucket].held += capacity;
    }

    pub(crate) fn returned(&mut self, capacity: usize) {
        self.reserved -= capacity;
        self.returns += u64::from(capacity > 0);
    }

    /// Forgets what is on its way from or to the backing, beside so many bytes that are pooled.
    pub(crate) fn close_journeys(&mut self, pooled: usize) {
        self.reserved = self.in_use_or_stocked() + pooled;
        self.asked = 0;
    }

    /// So many bytes are still on their way back after all.
    pub(crate) fn reopen_return(&mut self, capacity: usize) {
        self.reserved += capacity;
    }

    /// What is not known to be kept, of it so many bytes in stocks, counts as in use from now on.
    pub(crate) fn keep_only(&mut self, kept: &[FreeBuffers; BUCKETS], stocked: usize) {
        for (counted, kept) in self.buckets.iter_mut().zip(kept) {
            counted.hits = counted.held_beside(kept) + counted.frees - counted.misses;
        }
        self.in_use_rounded += self.stocked - stocked.cast_signed();
        self.stocked = stocked.cast_signed();
    }

    pub(crate) fn returns(&self) -> u64 {
        self.returns
    }

    pub(crate) fn refused(&mut self) {
        self.failures += 1;
    }

    /// What was refused last was not needed.
    pub(crate) fn refused_for_nothing(&mut self) {
        self.failures = self.failures.saturating_sub(1);
    }

    /// The statistics, with what is known to be kept; in each bucket, so many buffers more may lie in stocks that did not tell.
    pub(crate) fn snapshot(&self, kept: &[FreeBuffers; BUCKETS], untold: &[usize; BUCKETS]) -> Stats {
        let rows = self.buckets.iter().zip(kept).zip(untold).enumerate();
        let buckets: Vec<BucketStats> = rows
            .map(|(bucket, ((counted, kept), &untold))| counted.row(bucket, kept, untold))
            .filter(|row| row.hits + row.misses > 0)
            .collect();
        let pool_hits = buckets.iter().map(|row| row.hits).sum();
        let pool_misses = buckets.iter().map(|row| row.misses).sum();
        let pooled_bytes = buckets.iter().map(|row| row.pooled_bytes).sum();
        let held: usize = self.buckets.iter().map(|counted| counted.held).sum();
        let in_use_rounded = held - pooled_bytes;
        let bytes_in_use = usize::try_from(self.requested.out.in_use()).unwrap_or(0).min(in_use_rounded);
        Stats {
            allocations: pool_hits + pool_misses,
            deallocations: self.buckets.iter().map(|counted| counted.frees).sum(),
            bytes_allocated: self.requested.back.wrapping_add(bytes_in_use),
            bytes_freed: self.requested.back,
            bytes_in_use,
            peak_bytes_in_use: usize::try_from(self.requested.out.peak).unwrap_or(0).max(bytes_in_use),
            bytes_in_use_rounded: in_use_rounded,
            pool_hits,
            pool_misses,
            pooled_bytes,
            kept_above_bytes: 0,
            pooled_buffers: buckets.iter().map(|row| row.pooled_buffers).sum(),
            overhead_bytes: self.reserved - held,
            reserved_bytes: self.reserved,
            peak_reserved_bytes: self.peak_reserved,
            released: buckets.iter().map(|row| row.released).sum(),
            failures: self.failures,
            buckets,
        }
    }
}

impl BucketCounters {
    /// Buffers in use, or free where nobody looked.
    fn held_beside(&self, kept: &FreeBuffers) -> u64 {
        self.misses - self.released - kept.buffers as u64
    }

    fn row(&self, bucket: usize, kept: &FreeBuffers, untold: usize) -> BucketStats {
        let held = self.held_beside(kept);
        // Where all told, this is what is held. Else a buffer may have been handed out and only its free be told.
        let told = self.hits.wrapping_add(self.misses).wrapping_sub(self.frees).cast_signed();
        let in_use = told.clamp(held.saturating_sub(untold as u64).cast_signed(), held.cast_signed()).cast_unsigned();
        let elsewhere = held - in_use;
        let bytes = (self.held - kept.bytes) as u128 * u128::from(elsewhere) / u128::from(held.max(1));
        BucketStats {
            bucket,
            hits: in_use + self.frees - self.misses,
            misses: self.misses,
            buffers_in_use: in_use,
            pooled_buffers: kept.buffers + elsewhere as usize,
            pooled_bytes: kept.bytes + bytes as usize,
            released: self.released,
        }
    }
}
