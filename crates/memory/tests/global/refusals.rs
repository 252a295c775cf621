//! A system that refuses: requests are refused in turn, and nothing else happens.

use std::thread;

use tenzor_memory::HeapConfig;

use crate::GLOBAL;
use crate::block::Block;
use crate::common::layout;
use crate::lives::use_the_allocator;
use crate::process::{alone, alone_within};

const MIB: usize = 1 << 20;

/// Takes all there is, in ever smaller blocks.
fn take_everything(taken: &mut Vec<Block>) -> usize {
    for size in [16 * MIB, MIB, 100 << 10, 20_000, 1000] {
        while let Some(block) = Block::try_new(layout(size, 8), taken.len() as u64) {
            assert!(taken.len() < taken.capacity(), "no end of it");
            taken.push(block);
        }
    }
    taken.iter().map(Block::size).sum()
}

fn lives_within(limit: usize) {
    use_the_allocator(1);
    assert!(Vec::<u8>::new().try_reserve_exact(limit).is_err());
    assert!(Vec::<u8>::new().try_reserve_exact(isize::MAX as usize).is_err());
    let failures = GLOBAL.stats().failures;
    let mut taken = Vec::with_capacity(100_000);
    let all = take_everything(&mut taken);
    assert!(all >= limit / 4, "{all} bytes are all there is");
    assert_eq!(GLOBAL.stats().failures - failures, 5);
    let mut number = 0;
    taken.retain(|_| (number += 1, number % 2 == 0).1);
    use_the_allocator(2);
    taken.clear();
    let again = take_everything(&mut taken);
    assert!(again >= all / 100 * 99, "{all} bytes could be had, now only {again}");
}

#[test]
fn no_more_address_space() {
    for limit in [300 * MIB, 2048 * MIB] {
        alone_within(libc::RLIMIT_AS, limit as u64, || lives_within(limit));
    }
}

#[test]
fn no_more_memory() {
    for limit in [100 * MIB, 300 * MIB] {
        alone_within(libc::RLIMIT_DATA, limit as u64, || lives_within(limit));
    }
}

#[test]
fn large_blocks_grow_where_every_page_was_used_before() {
    alone_within(libc::RLIMIT_AS, 300 << 20, || {
        assert!(take_everything(&mut Vec::with_capacity(100_000)) > 100 * MIB);
        let mut blocks: Vec<_> = (0..3).map(|i| Block::new(layout(9 * MIB, 64), i)).collect();
        blocks.iter_mut().for_each(|block| block.resize(11 * MIB));
    });
}

#[test]
fn there_is_address_space_left_for_others() {
    for limit in [150, 280, 300, 530, 1045, 2048] {
        alone_within(libc::RLIMIT_AS, limit << 20, || {
            use_the_allocator(1);
            thread::spawn(|| use_the_allocator(2)).join().expect("no panic");
        });
    }
}

/// What the thread has free goes back under a lock; then it asks once more.
#[test]
fn a_request_under_pressure_waits_for_no_lock_that_it_has() {
    alone(|| {
        let mut taken = Vec::with_capacity(10_000);
        GLOBAL.configure(&HeapConfig::new().with_limit(Some(GLOBAL.stats().reserved_bytes + 2 * MIB)));
        while let Some(block) = Block::try_new(layout(8000, 8), 1) {
            taken.push(block);
        }
        assert!(taken.len() > 100);
        // Each of the first two has a parcel of its own, in which the next one has no room.
        drop(taken.drain(..2));
        let block = Block::try_new(layout(12_000, 8), 2);
        GLOBAL.configure(&HeapConfig::new().with_limit(None));
        assert!(block.is_none_or(|block| block.is_intact()) && taken.iter().all(Block::is_intact));
    });
}
