//! Random calls against a naive model: the list of live blocks, and what was written to each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::GLOBAL;
use crate::block::{Block, any_layout};
use crate::common::{layout, ops};
use crate::process::alone;
use crate::traffic::{self, Exchange, new_size};

const THREADS: usize = 8;
const LARGEST: usize = 8 << 20;

/// The most that a thread keeps alive.
const LIVE_BLOCKS: usize = 500;
const LIVE_BYTES: usize = 24 << 20;

#[test]
fn blocks_are_disjoint_aligned_zeroed_and_left_alone() {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut live: BTreeMap<usize, Block> = BTreeMap::new();
    let mut bytes = 0;
    let insert = |live: &mut BTreeMap<usize, Block>, block: Block| {
        let before = live.range(..block.range().end).next_back();
        assert!(
            before.is_none_or(|(_, other)| other.range().end <= block.range().start),
            "{block:?} overlaps {before:?}"
        );
        live.insert(block.range().start, block);
    };
    for stamp in 0..ops(150_000) as u64 {
        let any = live.range(rng.usize(..)..).next().or(live.first_key_value()).map(|(&start, _)| start);
        match (rng.u32(0..100), any) {
            (0..50, _) | (_, None) => {
                let layout = any_layout(&mut rng, LARGEST);
                let block = if rng.bool() { Block::new(layout, stamp) } else { Block::zeroed(layout, stamp) };
                bytes += block.size();
                insert(&mut live, block);
            }
            (50..65, Some(start)) => {
                let mut block = live.remove(&start).expect("it is there");
                bytes -= block.size();
                block.resize(new_size(&mut rng, block.size(), LARGEST));
                bytes += block.size();
                insert(&mut live, block);
            }
            (99, _) if rng.u32(0..100) == 0 => _ = GLOBAL.trim(),
            (_, Some(start)) => bytes -= live.remove(&start).expect("it is there").size(),
        }
        while live.len() > LIVE_BLOCKS || bytes > LIVE_BYTES {
            let (_, oldest) = live.pop_first().expect("there are some");
            bytes -= oldest.size();
        }
    }
}

#[test]
fn a_large_block_grows_and_shrinks_by_any_size() {
    let mut rng = fastrand::Rng::with_seed(1);
    for align in [1, 64, 8192] {
        let mut blocks: Vec<_> = (0..3).map(|i| Block::new(layout(20 << 20, align), i)).collect();
        for _ in 0..20 {
            // One grows in place, or by moving its pages, or copied; the others stand in its way.
            blocks[rng.usize(0..3)].resize(rng.usize(1 << 20..64 << 20));
            assert!(blocks.iter().all(Block::is_intact));
        }
    }
}

#[test]
fn a_resized_block_is_in_the_bucket_of_its_new_size() {
    alone(|| {
        let mut block = Block::new(layout(70 << 20, 8), 1);
        block.resize(60 << 20); // In place, and in a bucket that has served no request.
        let stats = GLOBAL.stats();
        let rows: u64 = stats.buckets.iter().map(|row| row.buffers_in_use).sum();
        assert_eq!(rows, stats.allocations - stats.deallocations, "{stats}");
    });
}

#[test]
fn a_moved_block_is_counted_with_its_new_size() {
    const MIB: usize = 1 << 20;
    alone(|| {
        let before = GLOBAL.stats();
        let mut blocks: Vec<_> = (0..2).map(|i| Block::new(layout(20 * MIB, 64), i)).collect();
        // The other one stands in its way.
        blocks[0].resize(40 * MIB);
        let stats = GLOBAL.stats();
        assert_eq!((stats.bytes_in_use_rounded - before.bytes_in_use_rounded) / MIB, 60, "{stats}");
        assert_eq!((stats.bytes_in_use - before.bytes_in_use) / MIB, 60, "{stats}");
        let rows: u64 = stats.buckets.iter().map(|row| row.buffers_in_use).sum();
        assert_eq!(rows, stats.allocations - stats.deallocations, "{stats}");
        drop(blocks);
        assert!(GLOBAL.stats().bytes_in_use_rounded < before.bytes_in_use_rounded + MIB);
    });
}

#[test]
fn eight_threads_free_each_others_blocks_while_memory_is_given_back() {
    let exchange = Exchange::new();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let work = |seed| traffic::work(seed, ops(400_000) / THREADS, LARGEST, &exchange);
        let workers: Vec<_> = (0..THREADS).map(|id| scope.spawn(move || work(id as u64))).collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                GLOBAL.trim();
                let stats = GLOBAL.stats();
                let sum = stats.bytes_in_use_rounded + stats.pooled_bytes + stats.overhead_bytes;
                assert_eq!(sum, stats.reserved_bytes);
                thread::yield_now();
            }
        });
        workers.into_iter().for_each(|worker| worker.join().expect("no panic"));
        done.store(true, Ordering::Relaxed);
    });
}
