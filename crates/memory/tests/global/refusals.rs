//! A system that refuses: requests are refused in turn, and nothing else happens.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use tenzor_memory::allocator_api2::alloc::Global;
use tenzor_memory::{AllocError, AllocErrorKind, Buffer, HeapConfig, Pages, PoolConfig, System, TensorAllocator};

use crate::GLOBAL;
use crate::block::Block;
use crate::common::layout;
use crate::lives::use_the_allocator;
use crate::process::{alone, alone_with, alone_within, in_child, told};

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

/// Fills the heap below its limit, so that not even a small block is left.
fn fill() -> Vec<Block> {
    let mut blocks = Vec::with_capacity(10_000);
    for size in [MIB, 64 << 10, 16 << 10] {
        blocks.extend((0..1000).map_while(|i| Block::try_new(layout(size, 8), i)));
    }
    blocks
}

#[test]
fn law_14_a_limit_that_refuses_is_named_at_most_once_a_second() {
    let refused = || {
        assert!(Vec::<u8>::new().try_reserve_exact(30 * MIB).is_err());
        AllocError::last().expect("a reason")
    };
    let end = in_child(
        0,
        |command| _ = command.env("TENZOR_LIMIT", "40MiB"),
        || {
            let held = Block::try_new(layout(20 * MIB, 8), 1).expect("below the limit");
            for _ in 0..2 {
                for _ in 0..5 {
                    let reason = refused();
                    assert_eq!((reason.kind(), reason.limit()), (AllocErrorKind::OverLimit, Some(40 * MIB)));
                    assert!(reason.in_use() >= 20 * MIB && reason.in_use() < 22 * MIB, "{reason}");
                }
                thread::sleep(Duration::from_millis(1100));
            }
            assert!(held.is_intact());
            let reason = Buffer::<u8, _>::zeroed_in(50 * MIB, Global).expect_err("above the limit");
            assert_eq!((reason.kind(), reason.limit()), (AllocErrorKind::NeverFits, Some(40 * MIB)));
        },
    );
    if let Some(end) = end {
        assert!(end.status.success(), "{}", told(&end));
        let text = String::from_utf8_lossy(&end.stderr).into_owned();
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("tenzor: ")).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(
            lines[0]
                .starts_with("tenzor: the limit of 40 MiB of the process's heap refuses a request of 30 MiB, with 2"),
            "{text}"
        );
    }
}

#[test]
fn law_13_pools_over_pages_give_way_to_everybody_else() {
    alone_with("TENZOR_LIMIT", "40M", || {
        let config = PoolConfig::default().with_max_pool_size(usize::MAX);
        let pool = TensorAllocator::with_config_in(config, Pages);
        drop(pool.alloc_filled(30 * MIB, 1_u8).expect("below the limit"));
        assert!(pool.stats().pooled_bytes >= 30 * MIB);
        let failures = GLOBAL.stats().failures;
        let tensor = Block::try_new(layout(30 * MIB, 8), 1).expect("the pool gives way");
        assert_eq!((pool.stats().pooled_bytes, GLOBAL.stats().failures), (0, failures));
        // Nothing is emptied for what cannot be had.
        drop(pool.alloc::<u8>(4 * MIB).expect("below the limit"));
        assert!(Block::try_new(layout(50 * MIB, 8), 1).is_none());
        assert!(pool.stats().pooled_bytes >= 4 * MIB && tensor.is_intact());
    });
}

static CACHE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
static ASKED: AtomicUsize = AtomicUsize::new(0);

fn spill(reason: &AllocError) -> bool {
    ASKED.fetch_add(1, Relaxed);
    assert_eq!(reason.limit(), Some(40 * MIB));
    // What it requests itself is refused without asking it.
    assert!(Vec::<u8>::new().try_reserve_exact(39 * MIB).is_err());
    CACHE.try_lock().is_ok_and(|mut cache| cache.pop().is_some())
}

#[test]
fn a_handler_may_free_memory_before_a_request_is_refused() {
    alone_with("TENZOR_LIMIT", "40M", || {
        GLOBAL.on_refusal(Some(spill));
        CACHE.lock().unwrap().extend((0..6).map(|_| vec![1; 5 * MIB]));
        let tensor = Block::try_new(layout(18 * MIB, 8), 1).expect("the cache gives way");
        assert_eq!((ASKED.load(Relaxed), CACHE.lock().unwrap().len()), (2, 4));
        assert!(Block::try_new(layout(30 * MIB, 8), 1).is_none());
        assert_eq!((ASKED.load(Relaxed), CACHE.lock().unwrap().len()), (7, 0), "asked until it has nothing more");
        assert!(tensor.is_intact());
        GLOBAL.on_refusal(None);
        assert!(Block::try_new(layout(30 * MIB, 8), 1).is_none());
        assert_eq!(ASKED.load(Relaxed), 7);
    });
}

/// A pool's books take memory under its lock, where nobody is asked to free any: who is may use the pool.
#[test]
fn a_handler_may_use_the_pool_that_ran_short() {
    static POOL: OnceLock<TensorAllocator<System>> = OnceLock::new();
    fn trim(_: &AllocError) -> bool {
        POOL.get().is_some_and(|pool| pool.trim(0) > 0)
    }
    alone_with("TENZOR_LIMIT", "40M", || {
        let pool = POOL.get_or_init(|| TensorAllocator::new_in(System));
        let mut taken = Vec::with_capacity(100_000);
        // Of as many classes as there are, each of which has a list of its own.
        let buffers: Vec<_> = (0..100).map(|i| pool.alloc::<u8>(100 + i * i * 20).expect("memory")).collect();
        GLOBAL.on_refusal(Some(trim));
        for size in [MIB, 20_000, 1000, 256, 128, 64, 32, 16] {
            while let Some(block) = Block::try_new(layout(size, 8), 1) {
                taken.push(block);
                if taken.len() == taken.capacity() {
                    break;
                }
            }
        }
        drop(buffers);
        drop(taken);
        assert_eq!(pool.stats().bytes_in_use, 0);
    });
}

#[test]
fn a_handler_that_panics_ends_the_process() {
    let end = in_child(
        0,
        |command| _ = command.env("TENZOR_LIMIT", "40M"),
        || {
            GLOBAL.on_refusal(Some(|_| panic!("no")));
            drop(Block::try_new(layout(39 * MIB, 8), 1));
            let _held = Block::try_new(layout(20 * MIB, 8), 1);
            drop(Block::try_new(layout(30 * MIB, 8), 1));
        },
    );
    if let Some(end) = end {
        assert!(
            !end.status.success() && told(&end).contains("tenzor: the handler of refusals panicked"),
            "{}",
            told(&end)
        );
    }
}

#[test]
fn at_the_limit_there_is_room_for_last_words() {
    alone_with("TENZOR_LIMIT", "40M", || {
        let held = fill();
        for round in 0..100 {
            // As an error path does: some strings, and what formats them.
            let words: Vec<_> =
                (0..5).map(|i| format!("round {round}: no memory for {i}, {}", "x".repeat(900))).collect();
            assert!(words.iter().all(|word| word.len() > 900));
        }
        let small: Vec<_> = (0..1000).map_while(|i| Block::try_new(layout(3000, 8), i)).collect();
        assert!(small.len() < 100, "the reserve has an end");
        assert!(held.iter().chain(&small).all(Block::is_intact));
        drop((small, held));
        assert!(Block::try_new(layout(35 * MIB, 8), 0).is_some());
    });
}
