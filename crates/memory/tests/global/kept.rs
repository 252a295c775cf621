//! What is kept for reuse goes back by time, which is the heap's clock.

use std::thread;
use std::time::{Duration, Instant};

use tenzor_memory::recycle::Vecs;
use tenzor_memory::{ComputeArena, HeapConfig, Pages, PlannedAllocator, PoolConfig, TensorAllocator};

use crate::GLOBAL;
use crate::process::alone;

const MIB: usize = 1 << 20;

/// Does something now and then until it has come about, for long enough.
fn until(mut it_is_so: impl FnMut() -> bool, what: &str) {
    let start = Instant::now();
    while !it_is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn law_13_what_is_kept_goes_back_by_time() {
    alone(|| {
        GLOBAL.configure(&HeapConfig::new().with_decay(Duration::from_millis(80)));
        let other = TensorAllocator::new_in(Pages);
        let mut sizes = 1;
        // A miss each time.
        let mut use_another = || {
            sizes += 1;
            drop(other.alloc::<u8>(sizes << 16));
            other.clear_pool();
        };

        let mut arena = ComputeArena::new_in(Pages);
        drop(arena.alloc::<u8>(10 * MIB).unwrap());
        arena.reset();
        until(|| (use_another(), arena.usage().reserved_bytes == 0).1, "a reset arena");

        let pool = TensorAllocator::new_in(Pages);
        let planned = PlannedAllocator::new(pool.clone());
        let step = || planned.step(|alloc| drop((alloc.alloc::<u8>(MIB).unwrap(), alloc.alloc::<u8>(MIB).unwrap())));
        (0..4).for_each(|_| step());
        assert_eq!(pool.stats().kept_above_bytes, 2 * MIB);
        until(|| (use_another(), pool.stats().reserved_bytes == 0).1, "a planned block");
        let followed = planned.stats().followed;
        step();
        assert_eq!(planned.stats().followed, followed + 1);

        // One that works is given the time it takes; only its own frees look at the clock.
        let adaptive = TensorAllocator::with_config_in(PoolConfig::adaptive(), Pages);
        drop(adaptive.alloc::<u8>(100 * MIB).unwrap());
        let mut small = 0;
        until(
            || {
                small += 1;
                (0..64).for_each(|_| drop(adaptive.alloc::<u8>(MIB).unwrap()));
                adaptive.stats().pooled_bytes < 10 * MIB
            },
            "an adaptive pool",
        );
        assert!(small * 64 < 16_384, "{small}");

        GLOBAL.configure(&HeapConfig::new().with_decay(None));
        drop(arena.alloc::<u8>(10 * MIB).unwrap());
        arena.reset();
        for _ in 0..100 {
            use_another();
            thread::sleep(Duration::from_millis(1));
        }
        assert!(arena.usage().reserved_bytes > 0, "nothing decays");
    });
}

#[test]
fn law_13_vecs_that_are_kept_give_way_at_the_heaps_limit() {
    alone(|| {
        let vecs = Vecs::new();
        vecs.give(vec![1_u8; 40 * MIB]);
        assert!(GLOBAL.stats().kept_above_bytes >= 40 * MIB);
        GLOBAL.configure(&HeapConfig::new().with_limit(Some(60 * MIB)));
        let mut large: Vec<u8> = Vec::new();
        assert!(large.try_reserve_exact(50 * MIB).is_ok());
        assert_eq!((vecs.stats().pooled_bytes, GLOBAL.stats().kept_above_bytes), (0, 0));
        // Nothing is emptied for what cannot be had.
        drop(large);
        vecs.give(vec![1_u8; 10 * MIB]);
        assert!(Vec::<u8>::new().try_reserve_exact(70 * MIB).is_err());
        assert_eq!(vecs.stats().pooled_bytes, 10 * MIB);
        let error = vecs.take::<u8>(70 * MIB).unwrap_err();
        assert_eq!(error.limit(), Some(60 * MIB));
        GLOBAL.configure(&HeapConfig::new().with_limit(None));
        // What pages and `System` above keep is of other grounds, or of the same.
        assert!(GLOBAL.trim() > 0);
        assert_eq!(vecs.stats().pooled_bytes, 0);
    });
}

#[test]
fn law_13_what_is_kept_over_the_heap_is_told_as_such_and_peaks_are_taken_anew() {
    alone(|| {
        let pool = TensorAllocator::with_config_in(PoolConfig::default().with_max_pool_size(usize::MAX), Pages);
        drop(vec![1_u8; 60 * MIB]);
        assert!(GLOBAL.take_peaks().peak_bytes_in_use >= 60 * MIB);
        assert!(GLOBAL.stats().peak_bytes_in_use < 10 * MIB);
        drop(pool.alloc_filled(40 * MIB, 1_u8).unwrap());
        let stats = GLOBAL.stats();
        assert!(stats.kept_above_bytes >= 40 * MIB && stats.bytes_in_use < 10 * MIB, "{stats}");
        assert_eq!(stats.bytes_in_use_rounded + stats.pooled_bytes + stats.overhead_bytes, stats.reserved_bytes);
        let before = stats.released;
        assert!(GLOBAL.trim() >= 40 * MIB);
        let stats = GLOBAL.take_peaks();
        assert!(stats.released > before && stats.kept_above_bytes == 0, "{stats}");
        assert!(stats.peak_bytes_in_use >= 40 * MIB && stats.peak_reserved_bytes >= 40 * MIB);
        assert!(GLOBAL.stats().peak_reserved_bytes < 20 * MIB);
    });
}
