//! What threads keep of a pool for themselves: it counts, it stands in nobody's way, and nobody loses it.

#[path = "../common/pools.rs"]
mod pools;

use std::cell::RefCell;
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use crate::common::ops;
use pools::{at_work, check_at_rest, one_of, tracked};
use tenzor_memory::{BufferPool, Limited, OwnedBuffer, PoolConfig, System, TensorAllocator, Tracking};

/// What comes of `then` while another thread, which did `first` and keeps what came of it, is idle.
fn meanwhile<K, T>(first: impl FnOnce() -> K + Send, then: impl FnOnce() -> T) -> T {
    let (did, stay) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            let kept = first();
            did.wait();
            stay.wait();
            drop(kept);
        });
        did.wait();
        let result = then();
        stay.wait();
        result
    })
}

#[test]
fn what_lies_with_another_thread_counts() {
    let (ledger, alloc) = tracked(PoolConfig::default());
    meanwhile(
        || one_of(&alloc, 1000),
        || {
            let stats = alloc.stats();
            assert_eq!((stats.allocations, stats.deallocations, stats.bytes_in_use), (1, 1, 0));
            assert_eq!((stats.pooled_buffers, stats.pooled_bytes, stats.reserved_bytes), (1, 1024, 1024));
            assert_eq!((stats.buckets[0].pooled_buffers, ledger.live_bytes()), (1, 1024));
        },
    );
}

#[test]
fn what_a_thread_that_ended_left_serves_the_others() {
    let (_, alloc) = tracked(PoolConfig::default());
    let sizes = [64, 100, 1000, 5000, 60_000];
    let there = alloc.clone();
    thread::spawn(move || sizes.iter().for_each(|&size| one_of(&there, size))).join().expect("no panic");
    sizes.iter().for_each(|&size| one_of(&alloc, size));
    assert_eq!((alloc.stats().pool_misses, alloc.stats().pool_hits), (5, 5));
}

#[test]
fn threads_that_ended_keep_no_room() {
    let (_, alloc) = tracked(PoolConfig::default());
    let kept = alloc.alloc::<u8>(1000).expect("memory");
    let address = kept.as_ptr().addr();
    // As many as the bucket keeps.
    let together = Arc::new(Barrier::new(4));
    let threads = [(); 4].map(|()| {
        let (alloc, together) = (alloc.clone(), together.clone());
        thread::spawn(move || {
            let two = [(); 2].map(|()| alloc.alloc::<u8>(1000).expect("memory"));
            together.wait();
            drop(two);
        })
    });
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    assert_eq!(alloc.stats().pooled_buffers, 8);
    drop(kept);
    assert_eq!(alloc.alloc::<u8>(1000).expect("memory").as_ptr().addr(), address);
    assert_eq!((alloc.stats().pooled_buffers, alloc.stats().released), (8, 1));
}

#[test]
fn what_lies_with_another_thread_is_not_in_the_way() {
    let limited = PoolConfig::default().with_limit(Some(128 << 10));
    let pooled_elsewhere = |alloc: &TensorAllocator<_>| {
        meanwhile(
            || drop([(); 2].map(|()| alloc.alloc::<u8>(60 << 10).expect("memory"))),
            || {
                assert_eq!(alloc.stats().pooled_bytes, 120 << 10);
                alloc.alloc::<u8>(100 << 10).is_ok()
            },
        )
    };
    assert!(pooled_elsewhere(&TensorAllocator::with_config_in(limited, Limited::new(System, usize::MAX))));
    assert!(pooled_elsewhere(&TensorAllocator::new_in(Limited::new(System, 128 << 10))));
}

#[test]
fn what_lies_with_another_thread_is_trimmed() {
    let (ledger, alloc) = tracked(PoolConfig::default());
    let released = meanwhile(|| one_of(&alloc, 1000), || alloc.trim(0));
    assert_eq!((released, alloc.stats().pooled_bytes, ledger.live_blocks()), (1024, 0, 0));
}

#[test]
fn an_error_counts_what_lies_with_another_thread() {
    let alloc = TensorAllocator::with_config(PoolConfig::default().with_limit(Some(1 << 20)));
    let here_and_there = || {
        drop([(); 2].map(|()| alloc.alloc::<u8>(1000).expect("memory")));
        alloc.alloc::<u8>(1000).expect("memory")
    };
    let error = meanwhile(here_and_there, || alloc.alloc::<u8>(2 << 20).err());
    assert_eq!(error.map(|error| (error.in_use(), error.pooled())), Some((1024, 1024)));
}

#[test]
fn threads_that_idle_do_not_keep_the_room_of_one_that_works() {
    let (_, alloc) = tracked(PoolConfig::default());
    let (did, stay) = (Barrier::new(5), Barrier::new(5));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                drop([(); 2].map(|()| alloc.alloc::<u8>(1000).expect("memory")));
                did.wait();
                stay.wait();
            });
        }
        did.wait();
        let step = || drop([(); 8].map(|()| alloc.alloc::<u8>(1000).expect("memory")));
        (0..20).for_each(|_| step());
        let before = alloc.stats();
        (0..100).for_each(|_| step());
        let after = alloc.stats();
        assert_eq!((after.pool_hits - before.pool_hits, after.pool_misses - before.pool_misses), (800, 0));
        stay.wait();
    });
}

#[test]
fn caps_and_sums_hold_at_every_moment() {
    for config in [
        PoolConfig::default(),
        PoolConfig::default().with_max_pool_size(256 << 10).with_max_buffers_per_bucket(5),
        PoolConfig::adaptive().with_classes_per_bucket(64),
        PoolConfig::default().with_max_buffers_per_bucket(1).with_limit(Some(4 << 20)),
    ] {
        at_work(config, 1, ops(200_000) / 4, |_, _| ());
    }
}

#[test]
fn a_pool_that_is_dropped_takes_everything_along() {
    let (ledger, alloc) = tracked(PoolConfig::default());
    let (did, stay) = (Barrier::new(4), Barrier::new(4));
    thread::scope(|scope| {
        for _ in 0..3 {
            let alloc = alloc.clone();
            scope.spawn(|| {
                [100, 1000, 10_000].iter().for_each(|&size| one_of(&alloc, size));
                drop(alloc);
                did.wait();
                stay.wait();
                // Its stock of the old pool is of no use any more.
                let other = TensorAllocator::new();
                (0..10).for_each(|_| one_of(&other, 1000));
                assert_eq!((other.stats().pool_misses, other.stats().pool_hits), (1, 9));
            });
        }
        did.wait();
        drop(alloc);
        assert_eq!((ledger.live_blocks(), ledger.faults().len()), (0, 0));
        stay.wait();
    });
}

#[test]
fn a_thread_uses_more_pools_in_turns_than_it_has_at_hand() {
    let pools: Vec<_> = (0..9).map(|_| tracked(PoolConfig::default())).collect();
    for round in 0..100 {
        for (_, alloc) in &pools {
            one_of(alloc, 100 + round);
        }
    }
    for (ledger, alloc) in pools {
        let stats = alloc.stats();
        assert_eq!(stats.allocations, 100);
        assert_eq!((stats.pooled_bytes, stats.pooled_buffers as u64), (ledger.live_bytes(), stats.pool_misses));
        drop(alloc);
        assert_eq!((ledger.live_blocks(), ledger.faults().len()), (0, 0));
    }
}

#[test]
fn threads_use_a_thousand_pools_in_turns_while_others_are_made_and_dropped() {
    const SIZES: [usize; 3] = [64, 1000, 5000];
    let rounds = ops(1_000_000) / 100_000 + 3;
    let pools: Vec<_> = (0..1000).map(|_| tracked(PoolConfig::default())).collect();
    thread::scope(|scope| {
        for id in 0..4 {
            let pools = &pools;
            scope.spawn(move || {
                let mut short = Vec::new();
                for round in 0..rounds {
                    for (at, (_, alloc)) in pools.iter().enumerate() {
                        SIZES.iter().for_each(|&size| one_of(alloc, size));
                        if at % 8 == id {
                            let (ledger, alloc) = tracked(PoolConfig::default());
                            SIZES.iter().for_each(|&size| one_of(&alloc, size));
                            short.push((ledger, alloc));
                        }
                        if short.len() > 60 {
                            let (ledger, alloc) = short.swap_remove((at * 7 + round) % 60);
                            SIZES.iter().for_each(|&size| one_of(&alloc, size));
                            assert_eq!((alloc.stats().pool_misses, alloc.stats().pool_hits), (3, 3));
                            drop(alloc);
                            assert_eq!((ledger.live_blocks(), ledger.faults().len()), (0, 0));
                        }
                    }
                }
            });
        }
    });
    for (ledger, alloc) in pools {
        let stats = alloc.stats();
        check_at_rest(&stats);
        assert_eq!((stats.allocations, stats.bytes_in_use), (4 * SIZES.len() as u64 * rounds as u64, 0));
        assert_eq!((stats.pooled_bytes, stats.pooled_buffers as u64), (ledger.live_bytes(), stats.pool_misses));
        // Each thread missed each size once at most.
        assert!(stats.pool_misses <= 12, "{stats}");
        drop(alloc);
        assert_eq!((ledger.live_blocks(), ledger.faults().len()), (0, 0));
    }
}

thread_local! {
    static EARLY: RefCell<Option<OwnedBuffer<u64, Arc<Tracking<System>>>>> = const { RefCell::new(None) };
    static LATE: RefCell<Option<OwnedBuffer<u64, Arc<Tracking<System>>>>> = const { RefCell::new(None) };
}

#[test]
fn destructors_of_thread_locals_free_as_any_other_code() {
    let (ledger, alloc) = tracked(PoolConfig::default());
    let there = alloc.clone();
    let thread = thread::spawn(move || {
        // The last to come is the first to go: one of them is dropped before the thread leaves its stocks, one after that.
        EARLY.set(None);
        EARLY.set(Some(there.alloc_filled(50, 1).expect("memory").into_owned()));
        one_of(&there, 1000);
        LATE.set(Some(there.alloc_filled(500, 2).expect("memory").into_owned()));
    });
    thread.join().expect("no panic");
    let stats = alloc.stats();
    assert_eq!((stats.bytes_in_use, stats.deallocations, stats.pooled_buffers), (0, 3, 3));
    drop(alloc);
    assert_eq!((ledger.live_blocks(), ledger.faults().len()), (0, 0));
}

#[test]
fn ten_thousand_threads_come_and_go() {
    let (ledger, alloc) = tracked(PoolConfig::default());
    let (sender, receiver) = mpsc::sync_channel::<OwnedBuffer<u8, Arc<Tracking<System>>>>(4);
    thread::scope(|scope| {
        scope.spawn(move || receiver.into_iter().for_each(drop));
        for i in 0..ops(10_000) / 4 {
            let threads = [(); 4].map(|()| {
                let (alloc, sender) = (alloc.clone(), sender.clone());
                thread::spawn(move || {
                    let buffer = alloc.alloc_filled(100 + i % 7, 1).expect("memory");
                    one_of(&alloc, 3000);
                    sender.send(buffer.into_owned()).expect("a receiver");
                })
            });
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        }
        drop(sender);
    });
    assert_eq!(alloc.stats().bytes_in_use, 0);
    assert!(ledger.peak_bytes() < 100 << 10, "{} bytes at the peak", ledger.peak_bytes());
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[test]
fn the_child_of_a_fork_has_the_stocks_of_all_threads() {
    let (_, alloc) = tracked(PoolConfig::default());
    [100, 1000].iter().for_each(|&size| one_of(&alloc, size));
    meanwhile(
        || [100, 1000, 10_000].iter().for_each(|&size| one_of(&alloc, size)),
        || {
            // SAFETY: the child uses nothing but the pool, and ends.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let mine = alloc.stats();
                [100, 1000].iter().for_each(|&size| one_of(&alloc, size));
                let hits = alloc.stats().pool_hits - mine.pool_hits;
                // What threads of this process have is reached as ever.
                let trimmed_there = thread::scope(|scope| scope.spawn(|| alloc.trim(0)).join().expect("no panic"));
                [100, 1000].iter().for_each(|&size| one_of(&alloc, size));
                let trimmed = meanwhile(|| one_of(&alloc, 20_000), || alloc.trim(0));
                let fine = hits == 2
                    && trimmed_there == 2 * (104 + 1024) + 10_240
                    && trimmed == 104 + 1024 + (20 << 10)
                    && alloc.alloc::<u8>(1000).is_ok();
                // SAFETY: ends the process, and leaves alone what belongs to the parent.
                unsafe { libc::_exit(i32::from(!fine)) };
            }
            let mut status = 0;
            // SAFETY: it is our child.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0, "the child's end");
            assert_eq!(alloc.trim(0), 2 * (104 + 1024) + 10_240);
        },
    );
}

#[test]
fn over_aligned_buffers_are_never_mixed_with_others() {
    let pool = BufferPool::new();
    let [plain, aligned] = [64, 4096].map(|align| crate::common::layout(1000, align));
    for _ in 0..100 {
        for layout in [plain, aligned, aligned, plain] {
            let ptr = pool.get(layout).expect("memory");
            assert!(ptr.addr().get().is_multiple_of(layout.align()));
            // SAFETY: just got with this layout.
            unsafe { pool.put(ptr, layout) };
        }
    }
    assert_eq!(pool.stats().pool_misses, 2);
}

#[test]
fn an_adaptive_pool_forgets_also_while_its_lock_is_hardly_taken() {
    let (ledger, alloc) = tracked(PoolConfig::adaptive());
    drop((0..100).map(|_| alloc.alloc::<u8>(60_000).expect("memory")).collect::<Vec<_>>());
    assert!(alloc.stats().pooled_bytes > 6_000_000);
    // Five times the frees of a tick.
    (0..5 * 4096).for_each(|_| one_of(&alloc, 1000));
    assert!(ledger.live_bytes() < 2048, "{}", alloc.stats());
}

#[test]
fn peaks_can_be_taken_anew_whatever_lies_in_stocks() {
    let alloc = TensorAllocator::new();
    let held = alloc.alloc::<u8>(1000).unwrap();
    for round in 1..20 {
        std::thread::scope(|scope| {
            let mine: Vec<_> = (0..round).map(|_| alloc.alloc::<u8>(5000).unwrap()).collect();
            scope.spawn(|| drop(mine));
        });
        let stats = alloc.take_peaks();
        assert_eq!(stats.peak_bytes_in_use, 1000 + round * 5000);
        assert_eq!(stats.bytes_in_use_rounded + stats.pooled_bytes + stats.overhead_bytes, stats.reserved_bytes);
        let stats = alloc.stats();
        assert_eq!((stats.peak_bytes_in_use, stats.peak_reserved_bytes), (1000, stats.reserved_bytes));
    }
    drop(held);
    assert_eq!(alloc.take_peaks().peak_bytes_in_use, 1000);
    assert_eq!(alloc.stats().peak_bytes_in_use, 0);
}
