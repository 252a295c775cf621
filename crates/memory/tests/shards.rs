//! Threads that get into each other's way have shards of their own: nothing is lost between these, every number is exact at rest, limits hold
//! over all of them, and forks find them whole. A program by itself, so that its requests are all there are.
#![allow(unsafe_code, missing_docs, clippy::expect_used, clippy::panic)]

#[path = "global/block.rs"]
mod block;
mod common;
#[path = "global/ledger.rs"]
mod ledger;
#[path = "global/process.rs"]
#[allow(dead_code)]
mod process;

use std::alloc;
use std::num::NonZero;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use block::Block;
use common::layout;
use ledger::{LEDGER, compare};
use process::within;
use tenzor_memory::HeapConfig;

const THREADS: usize = 4;

/// The first shard has so many bytes of addresses at least: blocks that are farther apart are of two shards.
const FAR: usize = 4 << 40;

/// Blocks that are passed around, and those kept.
#[derive(Default)]
struct Market {
    stalls: Mutex<Vec<Block>>,
    parted: AtomicBool,
}

impl Market {
    /// Requests as fast as they go; some blocks are freed by others.
    fn crowd(&self, id: u64, until: impl Fn() -> bool) {
        let mut rng = fastrand::Rng::with_seed(id);
        let mut own: Vec<Block> = Vec::new();
        while !until() {
            // Who writes is seldom in others' way.
            for _ in 0..20_000 {
                let request = layout(rng.usize(64 << 10..400 << 10), 64);
                // SAFETY: the request is not empty; what was granted for it is given back.
                unsafe { alloc::dealloc(alloc::alloc(request), request) };
            }
            for _ in 0..100 {
                let size = match rng.u32(0..4) {
                    0 => rng.usize(1..4096),
                    1 => rng.usize(4 << 10..64 << 10),
                    _ => rng.usize(64 << 10..400 << 10),
                };
                if own.len() < 40 {
                    own.push(Block::new(layout(size, 64), id));
                } else {
                    own.swap_remove(rng.usize(0..40));
                }
            }
            let mut stalls = self.stalls.lock().expect("no panic");
            stalls.extend(own.drain(..10));
            if stalls.len() > 60 {
                let given = rng.usize(0..60);
                own.push(stalls.swap_remove(given));
                stalls.drain(..20);
            }
            let addresses = || stalls.iter().map(|block| block.range().start);
            let (low, high) = (addresses().min().unwrap_or(0), addresses().max().unwrap_or(0));
            if high - low > FAR {
                self.parted.store(true, Relaxed);
            }
        }
    }

    fn crowd_all(&self, until: impl Fn() -> bool + Sync) {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS as u64)
                .map(|id| {
                    scope.spawn({
                        let until = &until;
                        move || self.crowd(id, until)
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        });
    }
}

fn main() {
    if thread::available_parallelism().map_or(1, NonZero::get) < 2 {
        eprintln!("skipped: with one processor there is one shard");
        return;
    }
    let market = Market::default();
    one_thread_has_one_shard();
    crowded_threads_part(&market);
    forks_find_all_shards_whole(&market);
    a_limit_holds_over_all_shards(&market);
    trimmed_shards_hold_nothing(&market);
}

fn one_thread_has_one_shard() {
    let blocks: Vec<Block> = (0..200_000).map(|number| Block::new(layout(1 + number % 5000, 8), 1)).collect();
    let addresses = || blocks.iter().map(|block| block.range().start);
    assert!(addresses().max().expect("some") - addresses().min().expect("some") < FAR);
}

fn crowded_threads_part(market: &Market) {
    let begun = Instant::now();
    let is_time = &|| market.parted.load(Relaxed) || begun.elapsed() > Duration::from_secs(60);
    market.crowd_all(is_time);
    assert!(market.parted.load(Relaxed), "they never parted");
    compare();
    for _ in 0..3 {
        let begun = Instant::now();
        let is_time = &|| begun.elapsed() > Duration::from_millis(300);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_time() {
                    let stats = LEDGER.alloc.stats();
                    assert!(stats.bytes_in_use <= stats.bytes_in_use_rounded, "{stats}");
                    assert!(stats.bytes_in_use <= stats.peak_bytes_in_use, "{stats}");
                    assert_eq!(stats.bytes_in_use_rounded + stats.pooled_bytes, stats.reserved_bytes, "{stats}");
                    // What lies with the others is taken away while they use it.
                    LEDGER.alloc.trim();
                }
            });
            market.crowd_all(is_time);
        });
        compare();
    }
}

fn forks_find_all_shards_whole(market: &Market) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = &stop;
        let threads = (0..THREADS as u64).map(|id| scope.spawn(move || market.crowd(id, || stop.load(Relaxed))));
        let threads: Vec<_> = threads.collect();
        for _ in 0..40 {
            // SAFETY: the child makes requests only, and ends.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: a plain call.
                unsafe { libc::alarm(20) };
                let blocks: Vec<Block> =
                    (0..500).map(|number| Block::new(layout(1 + number * 997 % 300_000, 8), 7)).collect();
                let stats = LEDGER.alloc.stats();
                assert!(stats.bytes_in_use <= stats.bytes_in_use_rounded, "{stats}");
                assert_eq!(stats.bytes_in_use_rounded + stats.pooled_bytes, stats.reserved_bytes, "{stats}");
                drop(blocks);
                let fine = LEDGER.alloc.stats().bytes_in_use < stats.bytes_in_use;
                // SAFETY: a plain call.
                unsafe { libc::_exit(i32::from(!fine)) };
            }
            let mut status = 0;
            // SAFETY: it is our child.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0, "the child's end");
        }
        stop.store(true, Relaxed);
        // The end of a scope alone does not wait for the destructors of thread-locals.
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

fn a_limit_holds_over_all_shards(market: &Market) {
    let in_use = compare().bytes_in_use_rounded;
    let limit = in_use + (64 << 20);
    LEDGER.alloc.configure(&HeapConfig::new().with_limit(limit));
    let request = layout(300 << 10, 64);
    let barrier = Barrier::new(THREADS);
    let fill = || {
        let fill_one = |id| {
            let mut blocks = Vec::with_capacity(1000);
            // While nothing is left, nothing else is asked for.
            barrier.wait();
            blocks.extend(std::iter::from_fn(|| Block::try_new(request, id)));
            blocks.truncate(blocks.len().saturating_sub(2));
            barrier.wait();
            blocks
        };
        let blocks: Vec<Block> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS as u64)
                .map(|id| {
                    scope.spawn({
                        let fill_one = &fill_one;
                        move || fill_one(id)
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
        });
        let all = LEDGER.alloc.stats().bytes_in_use_rounded;
        assert!(all <= limit, "{all} of {limit} bytes");
        blocks
    };
    let blocks = fill();
    assert!(blocks.len() > (53 << 20) / request.size(), "{} blocks", blocks.len());
    drop(blocks);
    // What is freed, in whichever shard, can be had again.
    let freed = market.stalls.lock().expect("no panic").drain(..).map(|block| block.size()).sum::<usize>();
    let blocks = fill();
    assert!(blocks.len() > ((53 << 20) + freed) / request.size(), "{} blocks, {freed} bytes freed", blocks.len());
    drop(blocks);
    LEDGER.alloc.configure(&HeapConfig::new().with_limit(None));
    market.crowd_all({
        let begun = Instant::now();
        move || begun.elapsed() > Duration::from_millis(300)
    });
    compare();
}

fn trimmed_shards_hold_nothing(market: &Market) {
    market.stalls.lock().expect("no panic").clear();
    LEDGER.alloc.trim();
    let stats = compare();
    assert!(stats.pooled_bytes < 1 << 20, "{stats}");
    // Most of it is the sanitizer's own under one.
    if std::env::var_os("TSAN_OPTIONS").is_some() {
        return;
    }
    // What all have for themselves, the program's own included.
    assert!(within(Duration::from_secs(30), || process::resident() < stats.bytes_in_use_rounded + (24 << 20)));
}
