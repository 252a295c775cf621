//! The global allocator's statistics against a ledger. A program by itself, without a test harness, so that it has one thread until it wants more.
#![allow(unsafe_code, missing_docs, clippy::expect_used, clippy::panic)]

#[path = "global/block.rs"]
mod block;
mod common;
#[path = "global/ledger.rs"]
mod ledger;
#[path = "global/traffic.rs"]
mod traffic;

use std::sync::Barrier;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use block::{Block, any_layout};
use common::{layout, ops};
use ledger::{LEDGER, compare};
use tenzor_memory::{Backing, Pages};
use traffic::Exchange;

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
        let threads = (0..THREADS as u64).map(|id| {
            let (all_there, go_on) = (&all_there, &go_on);
            scope.spawn(move || {
                let blocks: Vec<_> = (0..EACH / 2000).map(|_| Block::new(layout(2000, 8), id)).collect();
                all_there.wait();
                go_on.wait();
                drop(blocks);
            })
        });
        let threads: Vec<_> = threads.collect();
        all_there.wait();
        // Nobody moves, so what is in use is exact though all threads live.
        let in_use = LEDGER.in_use.load(Relaxed);
        assert_eq!(LEDGER.alloc.stats().bytes_in_use, in_use);
        assert!(in_use > before + THREADS * EACH / 2000 * 2000);
        go_on.wait();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
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
