//! The whole of a pool's limit can be had, and what shrinks is not refused there.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use crate::common::{layout, ops, random_size};
use tenzor_memory::allocator_api2::vec::Vec as PoolVec;
use tenzor_memory::{Backing, Budget, BufferPool, DefaultBacking, PoolConfig, System, TensorAllocator, Tracking};

const ALIGNMENTS: [usize; 5] = [1, 8, 64, 128, 4096];

fn random_config(rng: &mut fastrand::Rng, limit: usize) -> PoolConfig {
    PoolConfig::default()
        .with_limit(Some(limit))
        .with_classes_per_bucket([1, 2, 8, 64][rng.usize(..4)])
        .with_max_pool_size([0, 1000, usize::MAX][rng.usize(..3)])
        .with_max_buffers_per_bucket([1, 8, usize::MAX][rng.usize(..3)])
        .with_alignment(ALIGNMENTS[rng.usize(..5)])
}

fn rounded(size: usize) -> usize {
    size.next_multiple_of(64)
}

/// Requests and frees in random order, of which those in use, each rounded to 64 bytes, come to no more than `share`: none is refused, and each
/// has its bytes for itself.
fn within_share<B: Backing>(pool: &BufferPool<B>, share: usize, seed: u64, requests: usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut in_use: Vec<(NonNull<u8>, Layout, u8)> = Vec::new();
    let mut sum = 0;
    let sizes: Vec<usize> = (0..6).map(|_| random_size(&mut rng, share)).collect();
    let free = |(ptr, layout, byte): (NonNull<u8>, Layout, u8)| {
        // SAFETY: it is live, with this layout, and all of it was written; and it is not used any more.
        unsafe {
            let bytes = NonNull::slice_from_raw_parts(ptr, layout.size());
            assert!(bytes.as_ref().iter().step_by(61).chain(bytes.as_ref().last()).all(|&is| is == byte));
            pool.put(ptr, layout);
        }
        rounded(layout.size()).min(share)
    };
    for _ in 0..requests {
        let size = match rng.u8(..) {
            // What fills the share to its last byte.
            0..30 => share - sum,
            30..200 => sizes[rng.usize(..6)],
            _ => random_size(&mut rng, share),
        };
        while !in_use.is_empty() && (rounded(size) + sum > share || rng.u8(..) < 100) {
            sum -= free(in_use.swap_remove(rng.usize(..in_use.len())));
        }
        // What is all of the share need not be a multiple of 64.
        if size == 0 || (rounded(size) > share && size != share) {
            continue;
        }
        let request = layout(size, ALIGNMENTS[rng.usize(..5)]);
        let ptr =
            pool.get(request).unwrap_or_else(|error| panic!("{sum} of {share} in use: {error}\n{}", pool.stats()));
        let byte = rng.u8(..);
        // SAFETY: it was just granted.
        unsafe { ptr.write_bytes(byte, size) };
        in_use.push((ptr, request, byte));
        sum += rounded(size).min(share);
    }
    in_use.into_iter().for_each(|one| _ = free(one));
}

fn any_requests_up_to_the_limit<B: Backing + Sync>(backing: impl Fn() -> B, largest: usize) {
    for seed in 0..ops(200_000) as u64 / 400 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let limit = random_size(&mut rng, largest).max(64);
        let pool = BufferPool::with_config_in(random_config(&mut rng, limit), Tracking::new(backing()));
        if seed % 4 > 0 {
            within_share(&pool, limit, seed, 200);
        } else {
            let share = limit / 4 / 64 * 64;
            thread::scope(|scope| {
                (0..4).for_each(|thread| {
                    let pool = &pool;
                    scope.spawn(move || {
                        within_share(pool, share.max(1), 4 * seed + thread, if share > 0 { 100 } else { 0 })
                    });
                });
            });
        }
        assert!(pool.stats().peak_reserved_bytes <= limit);
        assert!(pool.backing().peak_bytes() <= limit);
        assert!(pool.backing().faults().is_empty());
    }
}

#[test]
fn any_requests_that_come_to_no_more_than_the_limit_are_granted_over_the_default_backing() {
    any_requests_up_to_the_limit(DefaultBacking::default, 4 << 20);
}

#[test]
fn any_requests_that_come_to_no_more_than_the_limit_are_granted_over_malloc() {
    any_requests_up_to_the_limit(|| System, 4 << 20);
}

#[test]
fn one_request_of_exactly_the_limit_is_granted() {
    fn has_all<B: Backing>(backing: impl Fn() -> B) {
        for limit in (1..300).chain((1..400).map(|step| 997 * step)).chain([1 << 20, 1_000_000]) {
            let config = PoolConfig::default().with_limit(Some(limit));
            let alloc = TensorAllocator::with_config_in(config, backing());
            for _ in 0..2 {
                let all = alloc.alloc_filled(limit, 1_u8).unwrap();
                assert!(all.iter().all(|&byte| byte == 1) && alloc.alloc::<u8>(1).is_err());
                drop(all);
                // What is one byte less may get what was all, but not the other way round.
                drop(alloc.alloc_filled(limit - 1, 2_u8).unwrap());
                assert!(alloc.alloc::<u8>(limit + 1).is_err());
            }
        }
    }
    has_all(DefaultBacking::default);
    has_all(|| System);
}

#[test]
fn buffers_of_the_same_size_are_reused_below_a_limit_as_well() {
    let alloc = TensorAllocator::with_config_in(PoolConfig::default().with_limit(Some(10 << 20)), System);
    for round in 0..100 {
        let all = [1000, 70_000, 66_000, 69_000, 5000, 300_000, 299_000].map(|size| alloc.alloc::<u8>(size).unwrap());
        drop(all);
        assert_eq!(alloc.stats().pool_misses, 7, "{round}");
    }
}

#[test]
fn what_shrinks_at_the_limit_is_not_refused() {
    for limit in [1000, 100_000, 1 << 20, 1_000_001] {
        let config = PoolConfig::default().with_limit(Some(limit));
        let below = Budget::new_in("all", limit, Tracking::new(System));
        for alloc in [
            TensorAllocator::with_config_in(config, below.clone()),
            TensorAllocator::with_config_in(config.with_limit(None).with_classes_per_bucket(64), below.clone()),
        ] {
            let full = if alloc.config().limit.is_some() { limit } else { limit / 128 * 127 };
            let mut bytes: PoolVec<u8, _> = PoolVec::with_capacity_in(full, &alloc);
            bytes.extend((0..full).map(|i| i as u8));
            for keep in [full / 2, full / 3, full / 3 + 1, 65, 10] {
                bytes.truncate(keep);
                bytes.shrink_to_fit();
                assert!(bytes.iter().enumerate().all(|(i, &byte)| byte == i as u8));
                let stats = alloc.stats();
                assert_eq!((stats.bytes_in_use, stats.failures), (bytes.capacity(), 0));
                assert!(stats.reserved_bytes <= limit && below.usage().granted == stats.reserved_bytes);
            }
            drop(bytes);
            alloc.clear_pool();
            assert_eq!((alloc.stats().bytes_in_use, alloc.stats().reserved_bytes, below.usage().granted), (0, 0, 0));
        }
    }
}

/// Buffers that are larger than their layouts say are nobody else's, whichever thread frees them, and are wiped to their ends.
#[test]
fn what_shrank_where_it_is_is_taken_back_as_what_it_is() {
    let ledger = Tracking::new(System);
    let config = PoolConfig::default().with_limit(Some(1 << 20)).with_zero_on_free(true);
    let pool = BufferPool::with_config_in(config, &ledger);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // A thread that has a stock of the class, and uses it all the while.
        scope.spawn(|| {
            let small = layout(100, 64);
            while !done.load(Relaxed) {
                if let Ok(ptr) = pool.get(small) {
                    // SAFETY: just granted with this layout.
                    unsafe { pool.put(ptr, small) };
                }
            }
        });
        for round in 0..ops(20_000) / 20 {
            let all = layout((1 << 20) - 4096, 64);
            let Ok(ptr) = pool.get(all) else { continue };
            // SAFETY: just granted; it is resized and freed with the layouts it has, once each.
            unsafe {
                ptr.write_bytes(7, all.size());
                let filler = pool.get(layout(3000, 64));
                let small = layout(100, 64);
                let is = pool.resize(ptr, all, small, false).unwrap();
                assert_eq!(is.read(), 7);
                let pool = &pool;
                let put = move || pool.put(is, small);
                let is_send = AssertSend(put);
                if round % 2 == 0 {
                    is_send.call()
                } else {
                    scope.spawn(move || is_send.call()).join().unwrap()
                }
                if let Ok(filler) = filler {
                    pool.put(filler, layout(3000, 64));
                }
                if let Ok(again) = pool.get_zeroed(all) {
                    let bytes = std::slice::from_raw_parts(again.as_ptr(), all.size());
                    assert!(bytes.iter().all(|&byte| byte == 0));
                    pool.put(again, all);
                }
            }
        }
        done.store(true, Relaxed);
    });
    assert_eq!(pool.stats().bytes_in_use, 0);
    assert!(ledger.peak_bytes() <= 1 << 20);
    drop(pool);
    assert_eq!((ledger.live_blocks(), ledger.faults().len()), (0, 0));
}

struct AssertSend<F>(F);

// SAFETY: what is sent is a pointer to memory that no thread owns, for one call.
unsafe impl<F> Send for AssertSend<F> {}

impl<F: Fn()> AssertSend<F> {
    fn call(&self) {
        (self.0)();
    }
}

#[cfg(feature = "plan")]
#[test]
fn what_shrinks_in_a_planned_step_at_the_limit_is_not_refused() {
    use tenzor_memory::PlannedAllocator;

    for secret in [false, true] {
        let config = PoolConfig::default().with_limit(Some(100_000)).with_zero_on_free(secret);
        let planned = PlannedAllocator::new(TensorAllocator::with_config_in(config, System));
        for round in 0..6 {
            planned.step(|alloc| {
                let mut bytes: PoolVec<u8, _> = PoolVec::with_capacity_in(99_000, alloc);
                bytes.extend((0..99_000).map(|i| i as u8));
                bytes.truncate(90_000 - round / 3);
                bytes.shrink_to_fit();
                assert!(bytes.iter().enumerate().all(|(i, &byte)| byte == i as u8));
            });
        }
        assert_eq!(planned.upstream().stats().bytes_in_use, 0);
    }
}
