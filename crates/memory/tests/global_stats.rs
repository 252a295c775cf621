//! The global allocator's statistics against a ledger that stands before it and sees each request of the whole program, from
//! before `main` on. A program by itself, without a test harness, so that it has one thread until it wants more.
#![allow(unsafe_code, missing_docs, clippy::expect_used, clippy::panic)]

#[path = "global/block.rs"]
mod block;
mod common;
#[path = "global/traffic.rs"]
mod traffic;

use std::alloc::{GlobalAlloc, Layout};
use std::sync::Barrier;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::thread;

use block::{Block, any_layout};
use common::{layout, ops};
use tenzor_memory::{Backing, Pages, Stats, TenzorAlloc};
use traffic::Exchange;

/// Writes down what was requested, and passes it on.
struct Ledger {
    alloc: TenzorAlloc,
    allocations: AtomicU64,
    deallocations: AtomicU64,
    refused: AtomicU64,
    /// Bytes in the order of requests, never less than 0; modulo 2^64, as statistics are.
    allocated: AtomicUsize,
    in_use: AtomicUsize,
    peak: AtomicUsize,
    rounded: AtomicUsize,
}

#[global_allocator]
static LEDGER: Ledger = Ledger {
    alloc: TenzorAlloc::new(),
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
fn compare() -> Stats {
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

fn main() {
    one_thread_is_counted_exactly();
    a_refusal_is_counted_once();
    threads_are_counted_exactly_once_they_have_ended();
    the_peak_of_many_threads_is_no_further_off_than_what_they_cache();
    users_of_pages_count_as_well(); // The ledger does not see them.
}

fn one_thread_is_counted_exactly() {
    const LARGEST: usize = 4 << 20;
    let mut rng = fastrand::Rng::with_seed(1);
    let mut live: Vec<Block> = Vec::new();
    for stamp in 0..ops(100_000) as u64 {
        match (rng.u32(0..8), live.len()) {
            (0..4, ..300) | (_, 0) => live.push(Block::new(any_layout(&mut rng, LARGEST), stamp)),
            (4, len) => {
                let block = &mut live[rng.usize(0..len)];
                block.resize(traffic::new_size(&mut rng, block.size(), LARGEST).min(LARGEST));
            }
            (5, _) if rng.u8(..) == 0 => _ = LEDGER.alloc.trim(),
            (6, _) if rng.u8(..) < 16 => {
                let peak = LEDGER.peak.load(Relaxed);
                assert_eq!(compare().peak_bytes_in_use, peak, "the peak");
            }
            (_, len) => drop(live.swap_remove(rng.usize(0..len))),
        }
    }
    drop(live);
    compare();
}

fn a_refusal_is_counted_once() {
    let failures = compare().failures;
    for request in [layout(1 << 46, 8), layout(isize::MAX as usize - (1 << 20), 1), layout(100, 1 << 46)] {
        assert!(Block::try_new(request, 0).is_none());
    }
    let mut block = Block::new(layout(5000, 8), 1);
    assert!(block.try_resize(1 << 46).is_err() && block.is_intact());
    drop(block);
    assert_eq!(compare().failures, failures + 4);
}

const THREADS: usize = 8;

fn threads_are_counted_exactly_once_they_have_ended() {
    let exchange = Exchange::new();
    for round in 0..4 {
        let work = |id| traffic::work(round * 10 + id, ops(100_000) / THREADS, 1 << 20, &exchange);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS as u64).map(|id| scope.spawn(move || work(id))).collect();
            // The end of a scope alone does not wait for the destructors of thread-locals.
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        });
        compare();
    }
    exchange.clear();
    compare();
}

fn the_peak_of_many_threads_is_no_further_off_than_what_they_cache() {
    const EACH: usize = 20 << 20;
    let before = compare().bytes_in_use;
    let (all_there, go_on) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    thread::scope(|scope| {
        for id in 0..THREADS as u64 {
            let (all_there, go_on) = (&all_there, &go_on);
            scope.spawn(move || {
                let blocks: Vec<_> = (0..EACH / 2000).map(|_| Block::new(layout(2000, 8), id)).collect();
                all_there.wait();
                go_on.wait();
                drop(blocks);
            });
        }
        all_there.wait();
        // Nobody moves, so what is in use is exact though all threads live.
        let in_use = LEDGER.in_use.load(Relaxed);
        assert_eq!(LEDGER.alloc.stats().bytes_in_use, in_use);
        assert!(in_use > before + THREADS * EACH / 2000 * 2000);
        go_on.wait();
    });
    let (peak, true_peak) = (LEDGER.alloc.stats().peak_bytes_in_use, LEDGER.peak.load(Relaxed));
    assert!(peak.abs_diff(true_peak) <= THREADS * (512 << 10), "the peak is {true_peak}, not {peak}");
}

fn users_of_pages_count_as_well() {
    let before = compare().bytes_in_use;
    let request = layout(100_000, 64);
    let block = Pages.obtain(request).expect("memory");
    assert_eq!(LEDGER.alloc.stats().bytes_in_use, before + request.size());
    assert_eq!(Pages.stats().bytes_in_use, before + request.size());
    // SAFETY: obtained for this request.
    unsafe { Pages.give_back(block, request) };
    assert_eq!(Pages.stats().bytes_in_use, before);
}
