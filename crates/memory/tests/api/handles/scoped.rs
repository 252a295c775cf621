//! A scope counts what goes through it: against a ledger that looks at the pool before and after each operation.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::{Barrier, mpsc};
use std::thread;

use tenzor_memory::allocator_api2::vec::Vec as PoolVec;
use tenzor_memory::{
    Allocator, Backing, ComputeArena, DefaultBacking, PoolConfig, ScopeStats, Scoped, ScopedBuffer, SharedAllocator,
    Stats, System, TensorAllocator,
};

use crate::common::{layout, ops, random_size};

/// Scopes, each with the place of the one around it, and what each should tell.
struct Ledger<B: Backing> {
    pool: TensorAllocator<B>,
    scopes: Vec<(Scoped<B>, Option<usize>, ScopeStats)>,
}

impl<B: Backing> Ledger<B> {
    /// Does something with a scope; what the pool counted meanwhile, the scope has counted, and those around it.
    fn note<R>(&mut self, scope: usize, act: impl FnOnce(&Scoped<B>) -> R) -> R {
        let before = self.pool.take_peaks();
        let done = act(&self.scopes[scope].0);
        let after = self.pool.stats();
        let rise = after.peak_bytes_in_use - before.bytes_in_use;
        let mut at = Some(scope);
        while let Some(place) = at {
            let (_, around, expect) = &mut self.scopes[place];
            expect.peak_bytes_in_use = expect.peak_bytes_in_use.max(expect.bytes_in_use + rise);
            for (count, what) in [
                (&mut expect.allocations, (|stats| stats.allocations) as fn(&Stats) -> u64),
                (&mut expect.deallocations, |stats| stats.deallocations),
                (&mut expect.pool_hits, |stats| stats.pool_hits),
                (&mut expect.pool_misses, |stats| stats.pool_misses),
                (&mut expect.failures, |stats| stats.failures),
            ] {
                *count += what(&after) - what(&before);
            }
            expect.bytes_allocated += after.bytes_allocated - before.bytes_allocated;
            expect.bytes_in_use = expect.bytes_in_use + after.bytes_in_use - before.bytes_in_use;
            at = *around;
        }
        done
    }

    fn check(&self) {
        for (scope, _, expect) in &self.scopes {
            assert_eq!(&scope.stats(), expect);
        }
    }
}

fn follows_the_ledger<B: Backing>(config: PoolConfig, backing: B, seed: u64) {
    const LARGEST: usize = 300 << 10;
    let pool = TensorAllocator::with_config_in(config, backing);
    let mut ledger = Ledger { scopes: Vec::new(), pool };
    let mut add = |name: &str, around: Option<usize>| {
        let scope = match around {
            Some(around) => ledger.scopes[around].0.scope(name),
            None => ledger.pool.scope(name),
        };
        let mut expect = ScopeStats::default();
        expect.name = name.to_owned();
        ledger.scopes.push((scope, around, expect));
    };
    [("a", None), ("b", None), ("ac", Some(0)), ("acd", Some(2)), ("ace", Some(2)), ("bf", Some(1))]
        .into_iter()
        .for_each(|(name, around)| add(name, around));
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut live: Vec<(usize, NonNull<u8>, Layout)> = Vec::new();
    for step in 0..ops(20_000) / 4 {
        let size = if rng.u8(..) < 8 { 0 } else { random_size(&mut rng, LARGEST) };
        let request = layout(size, 1 << rng.u32(0..8));
        match (rng.u32(0..8), live.len()) {
            (0..4, ..40) | (_, 0) => {
                let scope = rng.usize(0..ledger.scopes.len());
                let zeroed = rng.bool();
                let granted = ledger
                    .note(scope, |scope| if zeroed { scope.allocate_zeroed(request) } else { scope.allocate(request) });
                if let Ok(granted) = granted {
                    live.push((scope, granted.cast(), request));
                }
            }
            (4..6, len) => {
                let (scope, block, old) = &mut live[rng.usize(0..len)];
                let new = layout(size, old.align());
                // SAFETY: the block is live, and of this layout.
                let resized = ledger.note(*scope, |scope| unsafe {
                    if new.size() >= old.size() {
                        scope.grow(*block, *old, new)
                    } else {
                        scope.shrink(*block, *old, new)
                    }
                });
                if let Ok(resized) = resized {
                    (*block, *old) = (resized.cast(), new);
                }
            }
            (_, len) => {
                let (scope, block, request) = live.swap_remove(rng.usize(0..len));
                // SAFETY: as above.
                ledger.note(scope, |scope| unsafe { scope.deallocate(block, request) });
            }
        }
        if step % 16 == 0 {
            ledger.check();
        }
    }
    for (scope, block, request) in live {
        // SAFETY: as above.
        ledger.note(scope, |scope| unsafe { scope.deallocate(block, request) });
    }
    ledger.check();
    let outer = || ledger.scopes.iter().filter(|(_, around, _)| around.is_none()).map(|(scope, ..)| scope.stats());
    let all = ledger.pool.stats();
    assert_eq!(outer().map(|stats| stats.pool_hits).sum::<u64>(), all.pool_hits);
    assert_eq!(outer().map(|stats| stats.bytes_allocated).sum::<usize>(), all.bytes_allocated);
    assert!(all.pool_misses > 0 && outer().all(|stats| stats.bytes_in_use == 0));
}

#[test]
fn law_4_scopes_count_what_the_pool_counts_meanwhile() {
    let configs = [
        PoolConfig::default(),
        PoolConfig::default().with_zero_on_free(true).with_max_buffers_per_bucket(2),
        PoolConfig::default().with_limit(Some(2 << 20)),
        PoolConfig::default().with_max_pool_size(0),
    ];
    for (seed, config) in (1..).zip(configs) {
        follows_the_ledger(config, System, seed);
        // There, large blocks change their size below the pool.
        follows_the_ledger(config, DefaultBacking::default(), seed);
    }
}

#[test]
fn law_4_nothing_is_lost_between_eight_threads() {
    const THREADS: usize = 8;
    let alloc = TensorAllocator::new();
    let all = alloc.scope("all");
    let scopes: Vec<_> = (0..THREADS).map(|id| all.scope(&format!("thread {id}"))).collect();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::channel::<ScopedBuffer<u8>>()).unzip();
    let rounds = ops(200_000) / THREADS;
    let there = Barrier::new(THREADS);
    let bytes: usize = thread::scope(|threads| {
        let work = |(id, receiver): (usize, mpsc::Receiver<ScopedBuffer<u8>>)| {
            let (scope, senders, there, all) = (&scopes[id], &senders, &there, &all);
            threads.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(id as u64);
                let mut bytes = 0;
                for _ in 0..rounds {
                    let size = random_size(&mut rng, 20_000);
                    bytes += size;
                    let buffer = scope.alloc_zeroed::<u8>(size).unwrap();
                    if rng.bool() {
                        senders[rng.usize(0..THREADS)].send(buffer.into_owned()).unwrap();
                    }
                    receiver.try_iter().take(2).for_each(drop);
                    let seen = all.stats();
                    assert!(seen.bytes_in_use <= seen.peak_bytes_in_use && seen.deallocations <= seen.allocations);
                }
                there.wait();
                receiver.try_iter().for_each(drop);
                there.wait();
                // All have at the same time what nobody had before: not even who was sent much while it did not run.
                let last = scope.alloc::<u8>(1 << 24).unwrap();
                there.wait();
                drop(last);
                bytes + (1 << 24)
            })
        };
        let threads: Vec<_> = receivers.into_iter().enumerate().map(work).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let made = rounds as u64 + 1;
    for scope in &scopes {
        let stats = scope.stats();
        assert_eq!((stats.allocations, stats.deallocations, stats.bytes_in_use), (made, made, 0), "{stats}");
    }
    let (stats, pool) = (all.stats(), alloc.stats());
    assert_eq!((stats.allocations, stats.deallocations), (THREADS as u64 * made, THREADS as u64 * made));
    assert_eq!((stats.pool_hits, stats.pool_misses), (pool.pool_hits, pool.pool_misses));
    assert_eq!((stats.bytes_allocated, stats.bytes_in_use), (bytes, 0));
    assert_eq!(pool.bytes_allocated, bytes);
    assert_eq!(stats.peak_bytes_in_use, THREADS << 24);
}

#[test]
fn a_peak_is_taken_by_one_of_two_results() {
    let scope = TensorAllocator::new_in(System).scope("tenant");
    let rounds = ops(20_000);
    let most = thread::scope(|threads| {
        let worker = threads.spawn(|| (0..rounds).for_each(|round| drop(scope.alloc::<u8>(1000 + round).unwrap())));
        let mut most = 0;
        while !worker.is_finished() {
            most = most.max(scope.take_peaks().peak_bytes_in_use);
        }
        most
    });
    assert_eq!(most.max(scope.take_peaks().peak_bytes_in_use), 1000 + rounds - 1);
    assert_eq!(scope.stats().peak_bytes_in_use, 0);
}

#[test]
fn a_scope_is_an_allocator_for_whatever_takes_one() {
    fn any_thread<T: Send + Sync + Clone + 'static>() {}
    any_thread::<Scoped>();
    let alloc = TensorAllocator::with_config_in(PoolConfig::default().with_limit(Some(1 << 20)), System);
    let scope = alloc.scope("layer");
    assert_eq!((scope.name(), scope.upstream().stats().allocations), ("layer", 0));
    let in_use = || scope.stats().bytes_in_use;
    let mut vec = PoolVec::new_in(scope.allocator());
    vec.extend(0..100_u8);
    assert!(in_use() >= 100);
    drop(vec);
    let shared = SharedAllocator::new(scope.clone());
    let buffer = tenzor_memory::Buffer::<u32, _>::zeroed_in(10, shared).unwrap();
    assert_eq!(in_use(), 40);
    drop(buffer);
    let arena = ComputeArena::new_in(scope.clone());
    drop(arena.alloc::<u8>(1000).unwrap());
    assert_eq!(in_use(), arena.usage().reserved_bytes);
    drop(arena);
    let error = scope.alloc::<u64>(usize::MAX / 4).unwrap_err();
    assert_eq!((error.kind(), scope.stats().failures), (tenzor_memory::AllocErrorKind::NeverFits, 1));
    assert!(scope.alloc::<u64>(1 << 20).is_err());
    assert_eq!((in_use(), scope.stats().failures, alloc.stats().failures), (0, 2, 2));
}
