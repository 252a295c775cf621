//! A ledger that stands before the global allocator and sees each request of the whole program, from before `main` on.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use tenzor_memory::{Stats, TenzorMalloc};

use super::common::layout;

/// Writes down what was requested, and passes it on.
pub(crate) struct Ledger {
    pub(crate) alloc: TenzorMalloc,
    pub(crate) allocations: AtomicU64,
    pub(crate) deallocations: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// Bytes in the order of requests, never less than 0; modulo 2^64, as statistics are.
    pub(crate) allocated: AtomicUsize,
    pub(crate) in_use: AtomicUsize,
    pub(crate) peak: AtomicUsize,
    pub(crate) rounded: AtomicUsize,
}

#[global_allocator]
pub(crate) static LEDGER: Ledger = Ledger {
    alloc: TenzorMalloc::new(),
    allocations: AtomicU64::new(0),
    deallocations: AtomicU64::new(0),
    refused: AtomicU64::new(0),
    allocated: AtomicUsize::new(0),
    in_use: AtomicUsize::new(0),
    peak: AtomicUsize::new(0),
    rounded: AtomicUsize::new(0),
};

impl Ledger {
    fn granted(&self, layout: Layout) {
        self.allocated.fetch_add(layout.size(), Relaxed);
        self.rounded.fetch_add(rounded(layout), Relaxed);
        let in_use = self.in_use.fetch_add(layout.size(), Relaxed) + layout.size();
        self.peak.fetch_max(in_use, Relaxed);
    }

    fn gone(&self, layout: Layout) {
        self.in_use.fetch_sub(layout.size(), Relaxed);
        self.rounded.fetch_sub(rounded(layout), Relaxed);
    }

    fn answered(&self, block: *mut u8, layout: Layout) -> *mut u8 {
        if block.is_null() {
            self.refused.fetch_add(1, Relaxed);
        } else {
            self.allocations.fetch_add(1, Relaxed);
            self.granted(layout);
        }
        block
    }
}

/// The capacity of a request by counting up, as the documentation of the heap says.
fn rounded(request: Layout) -> usize {
    let size = request.size().next_multiple_of(request.align());
    if size > 7 << 10 {
        // Whole pages. Large blocks of no particular alignment start at any cache line of their first page.
        let coloured = request.size() >= 1 << 20 && request.align() <= 64;
        return (request.size() + if coloured { 4096 - 64 } else { 0 }).next_multiple_of(4096);
    }
    let mut capacity = 16;
    while capacity < size {
        capacity += if capacity < 128 { 16 } else { (1 << capacity.ilog2()) / 4 };
    }
    capacity
}

// SAFETY: all is passed on.
unsafe impl GlobalAlloc for Ledger {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's word, passed on.
        self.answered(unsafe { self.alloc.alloc(layout) }, layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's word, passed on.
        self.answered(unsafe { self.alloc.alloc_zeroed(layout) }, layout)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.deallocations.fetch_add(1, Relaxed);
        self.gone(layout);
        // SAFETY: the caller's word, passed on.
        unsafe { self.alloc.dealloc(block, layout) };
    }

    unsafe fn realloc(&self, block: *mut u8, old: Layout, size: usize) -> *mut u8 {
        let new = layout(size, old.align());
        // SAFETY: the caller's word, passed on.
        let moved = unsafe { self.alloc.realloc(block, old, size) };
        if moved == block {
            // In place: no allocation, only its bytes.
            self.gone(old);
            self.granted(new);
            self.allocated.fetch_sub(old.size().min(size), Relaxed);
        } else if !self.answered(moved, new).is_null() {
            self.deallocations.fetch_add(1, Relaxed);
            self.gone(old);
        }
        moved
    }
}

/// What a quiet program's statistics are: exact.
pub(crate) fn compare() -> Stats {
    let all = || {
        let counts = [&LEDGER.allocations, &LEDGER.deallocations, &LEDGER.refused].map(|count| count.load(Relaxed));
        let bytes = [&LEDGER.allocated, &LEDGER.in_use, &LEDGER.rounded].map(|bytes| bytes.load(Relaxed));
        (counts, bytes)
    };
    let (expected, stats) = (all(), LEDGER.alloc.stats());
    let counts = [stats.allocations, stats.deallocations, stats.failures];
    let bytes = [stats.bytes_allocated, stats.bytes_in_use, stats.bytes_in_use_rounded];
    assert_eq!((counts, bytes), expected, "allocations, deallocations, failures; bytes allocated, in use, rounded");
    assert_eq!(stats.bytes_allocated.wrapping_sub(stats.bytes_freed), stats.bytes_in_use);
    assert!(stats.bytes_in_use <= stats.bytes_in_use_rounded && stats.bytes_in_use_rounded <= stats.reserved_bytes);
    assert_eq!(stats.bytes_in_use_rounded + stats.pooled_bytes + stats.overhead_bytes, stats.reserved_bytes);
    assert_eq!(stats.pool_hits + stats.pool_misses, stats.allocations);
    assert!(stats.peak_bytes_in_use >= stats.bytes_in_use && stats.peak_reserved_bytes >= stats.reserved_bytes);
    let rows: u64 = stats.buckets.iter().map(|row| row.buffers_in_use).sum();
    assert_eq!(rows, stats.allocations - stats.deallocations, "buffers in use in all buckets");
    stats
}
