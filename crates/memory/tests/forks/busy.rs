//! Pools that other threads use while the process forks.

use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;

use tenzor_memory::{Backing, BufferPool, ComputeArena, Limited, PoolConfig, Stats, System, TensorAllocator, Tracking};

use crate::buffers::{Travelling, layout, pair};
use crate::child::in_fork;
use crate::common::ops;
use crate::pools::{check, check_at_rest};
use crate::process::alone;

const THREADS: usize = 8;

/// Pools of several kinds, one over another.
pub(crate) struct Pools {
    plain: BufferPool,
    limited: TensorAllocator<Limited<System>>,
    pub(crate) tight: BufferPool,
    adaptive: TensorAllocator,
    over: BufferPool<TensorAllocator>,
}

const LIMIT: usize = 4 << 20;

impl Pools {
    pub(crate) fn new() -> Self {
        let adaptive = TensorAllocator::with_config(PoolConfig::adaptive());
        let tight = PoolConfig::default().with_max_pool_size(256 << 10).with_max_buffers_per_bucket(5);
        Self {
            plain: BufferPool::new(),
            limited: TensorAllocator::with_config_in(
                PoolConfig::default().with_limit(Some(LIMIT)),
                Limited::new(System, 2 * LIMIT),
            ),
            tight: BufferPool::with_config(tight),
            over: BufferPool::with_config_in(tight, adaptive.clone()),
            adaptive,
        }
    }

    pub(crate) fn stats(&self) -> [Stats; 5] {
        [self.plain.stats(), self.limited.stats(), self.tight.stats(), self.adaptive.stats(), self.over.stats()]
    }

    /// Some requests and frees that succeed whatever else is going on, unless the limit refuses.
    pub(crate) fn use_all(&self, random: &mut fastrand::Rng) {
        let size = 1_usize << random.u32(6..17);
        pair(&self.plain, size);
        pair(&self.tight, 2 * size);
        pair(&self.over, size + 8);
        // Eight threads have a part each, and a part is left.
        let one = self.limited.alloc::<u8>(random.usize(1..200_000)).map(|buffer| buffer.init_with(|_| 7));
        drop(self.adaptive.alloc::<u8>(size).expect("memory"));
        drop(one);
    }

    pub(crate) fn keep_busy<'scope>(&'scope self, scope: &'scope thread::Scope<'scope, '_>, stop: &'scope AtomicBool) {
        for id in 0..THREADS {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(id as u64);
                let mut held = VecDeque::new();
                while !stop.load(Relaxed) {
                    self.use_all(&mut random);
                    held.push_back(Travelling::get(&self.plain, 640));
                    if held.len() > 5 {
                        held.pop_front().into_iter().for_each(|one| one.put(&self.plain, 640));
                    }
                    if random.u8(..) == 0 {
                        self.stats().iter().for_each(check);
                        self.tight.trim(1000);
                    }
                }
                held.into_iter().for_each(|one| one.put(&self.plain, 640));
            });
        }
    }

    /// What a child finds.
    pub(crate) fn are_whole(&self, random: &mut fastrand::Rng) {
        self.stats().iter().for_each(check_at_rest);
        (0..20).for_each(|_| self.use_all(random));
        self.stats().iter().for_each(check_at_rest);
        // What the other threads have in use stays there; all else is free.
        let free = LIMIT - self.limited.stats().bytes_in_use_rounded;
        // A power of two is a capacity.
        drop(self.limited.alloc::<u8>(1 << free.ilog2()).expect("the rest of the limit"));
        thread::scope(|scope| {
            scope.spawn(|| self.use_all(&mut fastrand::Rng::with_seed(1)));
        });
        for pool in [&self.plain, &self.tight] {
            pool.trim(0);
            assert_eq!(pool.stats().pooled_bytes, 0);
        }
        self.over.trim(0);
        self.adaptive.trim(0);
        self.limited.trim(0);
        self.stats().iter().for_each(check_at_rest);
    }
}

#[test]
fn forks_between_the_turns_of_a_thousand_pools() {
    alone(|| {
        let pools: Vec<_> = (0..1000).map(|_| BufferPool::new()).collect();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for id in 0..3 {
                let (pools, stop) = (&pools, &stop);
                scope.spawn(move || {
                    let mut short = Vec::new();
                    for at in (id * 300..).take_while(|_| !stop.load(Relaxed)) {
                        pair(&pools[at % pools.len()], 1000);
                        short.push(BufferPool::new());
                        pair(&short[at % short.len()], 100);
                        if short.len() == 100 {
                            short.drain(..50).for_each(drop);
                        }
                    }
                });
            }
            for _ in 0..ops(1_000_000) / 50_000 {
                pools.iter().for_each(|pool| pair(pool, 1000));
                in_fork(|| {
                    for pool in &pools {
                        let before = pool.stats();
                        check_at_rest(&before);
                        pair(pool, 1000);
                        let after = pool.stats();
                        check_at_rest(&after);
                        assert_eq!((after.pool_hits - before.pool_hits, after.released), (1, before.released));
                        // Those of the child's own.
                        pair(&BufferPool::new(), 1000);
                    }
                    pools.iter().for_each(BufferPool::clear);
                    assert!(pools.iter().all(|pool| pool.stats().pooled_bytes == 0));
                });
            }
            stop.store(true, Relaxed);
        });
        pools.iter().for_each(|pool| check_at_rest(&pool.stats()));
    });
}

#[test]
fn three_hundred_forks_of_a_busy_process() {
    alone(|| {
        let pools = ManuallyDrop::new(Pools::new());
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            pools.keep_busy(scope, &stop);
            let mut random = fastrand::Rng::with_seed(9);
            for i in 0..ops(3_000_000) / 10_000 {
                in_fork(|| {
                    pools.are_whole(&mut random);
                    if i % 3 == 0 {
                        // SAFETY: the child is its only user, and uses it no more.
                        drop(ManuallyDrop::into_inner(unsafe { std::ptr::read(&raw const pools) }));
                    }
                });
                pools.use_all(&mut random);
            }
            stop.store(true, Relaxed);
        });
        for stats in pools.stats() {
            check_at_rest(&stats);
        }
        assert_eq!((pools.plain.stats().bytes_in_use, pools.limited.stats().bytes_in_use), (0, 0));
        drop(ManuallyDrop::into_inner(pools));
    });
}

#[test]
fn the_child_has_what_lies_with_other_threads() {
    let pool = BufferPool::with_config(PoolConfig::adaptive());
    let (did, stay) = (AtomicBool::new(false), AtomicBool::new(true));
    thread::scope(|scope| {
        scope.spawn(|| {
            let all: Vec<_> = (0..4).map(|_| Travelling::get(&pool, 1000)).collect();
            all.into_iter().for_each(|one| one.put(&pool, 1000));
            // A hit that only the stock knows, freed elsewhere.
            let one = Travelling::get(&pool, 1000);
            thread::scope(|scope| {
                scope.spawn(|| one.put(&pool, 1000));
            });
            did.store(true, SeqCst);
            while stay.load(SeqCst) {
                thread::yield_now();
            }
        });
        while !did.load(SeqCst) {
            thread::yield_now();
        }
        in_fork(|| {
            let stats = pool.stats();
            check_at_rest(&stats);
            assert_eq!((stats.pooled_buffers, stats.bytes_in_use, stats.allocations), (4, 0, 5), "{stats}");
            let misses = stats.pool_misses;
            let all: Vec<_> = (0..4).map(|_| Travelling::get(&pool, 1000)).collect();
            assert_eq!(pool.stats().pool_misses, misses);
            all.into_iter().for_each(|one| one.put(&pool, 1000));
            assert_eq!(pool.trim(0), 4096);
            check_at_rest(&pool.stats());
        });
        stay.store(false, SeqCst);
    });
}

#[test]
fn a_ledger_is_whole_in_the_child() {
    alone(|| {
        let ledgers = [Tracking::new(System), Tracking::new(System)];
        let layout = layout(5 << 10);
        let turn = |ledger: &Tracking<System>| {
            let block = ledger.obtain(layout).expect("there is memory");
            // SAFETY: just obtained with this layout.
            unsafe { ledger.give_back(block, layout) };
        };
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for ledger in &ledgers {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        turn(ledger);
                    }
                });
            }
            for _ in 0..ops(3_000_000) / 30_000 {
                in_fork(|| {
                    for ledger in &ledgers {
                        // At most what the other thread had in its hand.
                        let (blocks, bytes) = (ledger.live_blocks(), ledger.live_bytes());
                        assert!(blocks <= 1 && bytes == blocks * layout.size(), "{blocks} blocks of {bytes} bytes");
                        turn(ledger);
                        assert_eq!((ledger.live_blocks(), ledger.faults().len()), (blocks, 0));
                    }
                });
            }
            stop.store(true, Relaxed);
        });
        assert!(ledgers.iter().all(Tracking::is_empty));
    });
}

#[test]
fn what_stands_on_a_pool_goes_on_in_the_child() {
    let alloc = TensorAllocator::new();
    let mut arena = ComputeArena::new_in(&alloc);
    let buffer = arena.alloc_filled(1000, 3_u32).expect("memory");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                drop(alloc.alloc::<u8>(70_000));
                drop(alloc.alloc::<u8>(700));
            }
        });
        for _ in 0..20 {
            in_fork(|| {
                assert!(buffer.iter().all(|&value| value == 3));
                assert_eq!(arena.alloc_filled(100_000, 4_u32).expect("memory")[99_999], 4);
                check_at_rest(&alloc.stats());
            });
        }
        stop.store(true, Relaxed);
    });
    drop(buffer);
    arena.reset();
}
