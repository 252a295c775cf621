//! The arena: against a naive model of nested scopes, and its promises one by one.
#![allow(missing_docs, clippy::expect_used, clippy::panic)]

mod common;

use common::{ops, random_size};
use tenzor_memory::{Backing, ComputeArena, Limited, Scope, System, TensorAllocator, Tracking};

/// What a scope has handed out: each buffer filled with a byte of its own.
type Live<'a, B> = Vec<(tenzor_memory::Buffer<u8, &'a Scope<'a, B>>, u8)>;

fn verify<B: Backing>(live: &Live<'_, B>) {
    for (buffer, byte) in live {
        assert!(buffer.iter().all(|other| other == byte), "somebody else wrote here");
        assert!(buffer.as_ptr().addr().is_multiple_of(64));
    }
}

/// Opens scopes within scopes at random; in each, requests go to it and to all those around it.
fn descend<B: Backing>(outer: &[&Scope<'_, B>], rng: &mut fastrand::Rng, budget: &mut usize) {
    let innermost = outer[outer.len() - 1];
    innermost.scope(|scope| {
        let start = scope.usage().bytes_in_use;
        let mut late_outer = 0;
        let mut live: Live<'_, B> = Vec::new();
        let mut live_outer = Vec::new();
        while *budget > 0 && rng.u8(..) > 12 {
            *budget -= 1;
            let (size, byte) = (random_size(rng, 3000), rng.u8(..));
            match rng.u8(..) {
                0..20 if outer.len() < 6 => {
                    let mut scopes = outer.to_vec();
                    scopes.push(scope);
                    descend(&scopes, rng, budget);
                }
                20..40 => {
                    let chosen = outer[rng.usize(..outer.len())];
                    live_outer.push((chosen.alloc_filled(size, byte).expect("memory"), byte));
                    late_outer += size;
                }
                40..60 if !live.is_empty() => drop(live.swap_remove(rng.usize(..live.len()))),
                60..70 => {
                    let align = 1 << rng.u32(6..=12);
                    let buffer = scope.alloc_aligned::<u8>(size, align).expect("memory").init_filled(byte);
                    assert!(buffer.as_ptr().addr().is_multiple_of(align));
                    live.push((buffer, byte));
                }
                _ => live.push((scope.alloc_filled(size, byte).expect("memory"), byte)),
            }
            let usage = scope.usage();
            assert_eq!(usage.bytes_in_use + usage.pooled_bytes + usage.overhead_bytes, usage.reserved_bytes);
            assert!(usage.bytes_in_use >= start + late_outer);
        }
        verify(&live);
        verify(&live_outer);
    });
}

#[test]
fn nested_scopes_keep_what_the_outer_ones_hand_out() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let ledger = Tracking::new(System);
        let mut arena = ComputeArena::with_capacity_in(rng.usize(..100_000), &ledger);
        for _ in 0..3 {
            let mut budget = ops(100_000) / 60;
            let root = arena.checkpoint();
            let kept = root.alloc_filled(100, 77_u8).expect("memory");
            while budget > 0 {
                budget -= 1;
                descend(&[&root], &mut rng, &mut budget);
                assert!(kept.iter().all(|&byte| byte == 77));
            }
            drop(kept);
            root.rewind();
            arena.reset();
            let usage = arena.usage();
            assert_eq!((usage.bytes_in_use, usage.overhead_bytes, usage.allocations), (0, 0, 0));
            assert_eq!((usage.pooled_bytes, usage.blocks), (usage.reserved_bytes, 1));
        }
        drop(arena);
        assert_eq!((ledger.live_blocks(), ledger.faults().len()), (0, 0));
    }
}

#[test]
fn a_second_pass_never_grows() {
    for seed in 0..200 {
        let ledger = Tracking::new(System);
        let mut arena = ComputeArena::new_in(&ledger);
        let pass = |arena: &ComputeArena<&Tracking<System>>| {
            let mut rng = fastrand::Rng::with_seed(seed);
            for _ in 0..rng.usize(1..60) {
                let (size, align) = (random_size(&mut rng, 300_000), 1 << rng.u32(6..=16));
                drop(arena.alloc_aligned::<u8>(size, align).expect("memory"));
                arena.scope(|scope| drop(scope.alloc_aligned::<u8>(size / 2, align).expect("memory")));
            }
        };
        pass(&arena);
        let reserved = arena.usage().reserved_bytes;
        arena.reset();
        assert_eq!(arena.usage().blocks, 1);
        assert!(arena.usage().reserved_bytes >= reserved, "the capacity is kept");
        let (grants, capacity) = (ledger.grants(), arena.usage().reserved_bytes);
        for _ in 0..3 {
            pass(&arena);
            arena.reset();
        }
        assert_eq!((ledger.grants(), arena.usage().reserved_bytes), (grants, capacity), "seed {seed}");
    }
}

#[test]
fn with_capacity_takes_its_memory_at_once_and_reset_keeps_it() {
    let ledger = Tracking::new(System);
    let mut arena = ComputeArena::with_capacity_in(10_000, &ledger);
    assert!(arena.usage().reserved_bytes >= 10_000);
    for _ in 0..10 {
        drop(arena.alloc::<u8>(5000));
        drop(arena.alloc::<u8>(4900));
        arena.reset();
    }
    assert_eq!(ledger.grants(), 1);
    assert_eq!(arena.usage().peak_bytes_in_use, 9900);
    let empty = ComputeArena::new_in(&ledger);
    assert_eq!((empty.usage().reserved_bytes, ledger.grants()), (0, 1));
}

#[test]
fn dropping_a_buffer_reclaims_nothing_and_runs_destructors() {
    let arena = ComputeArena::new();
    let first = arena.alloc_filled(1000, 1_u8).expect("memory");
    let address = first.as_ptr();
    drop(first);
    assert_ne!(arena.alloc::<u8>(1000).expect("memory").as_ptr().cast(), address);
    assert_eq!(arena.usage().bytes_in_use, 2000);
    let counter = std::rc::Rc::new(());
    drop(arena.alloc_filled(10, counter.clone()));
    assert_eq!(std::rc::Rc::strong_count(&counter), 1);
}

#[test]
fn a_scope_dropped_out_of_order_or_forgotten_frees_nothing_in_use() {
    let mut arena = ComputeArena::new();
    let first = arena.checkpoint();
    let second = arena.checkpoint();
    let kept = second.alloc_filled(1000, 2_u8).expect("memory");
    drop(first);
    let third = arena.checkpoint();
    drop(third.alloc_filled(1000, 3_u8));
    drop(third);
    assert!(arena.alloc_filled(1000, 4_u8).expect("memory").iter().all(|&byte| byte == 4));
    assert!(kept.iter().all(|&byte| byte == 2));
    drop(kept);
    drop(second);
    std::mem::forget(arena.checkpoint());
    arena.scope(|scope| drop(scope.alloc_filled(1000, 5_u8)));
    arena.reset();
    assert_eq!(arena.usage().bytes_in_use, 0);
    arena.scope(|scope| drop(scope.alloc_filled(1000, 5_u8)));
    assert_eq!(arena.usage().bytes_in_use, 0, "as good as new");
}

#[test]
fn a_request_outside_during_a_scope_holds_back_only_what_it_must() {
    let arena = ComputeArena::new();
    let outer = arena.checkpoint();
    let inner = outer.checkpoint();
    let late = arena.alloc_filled(100, 1_u8).expect("memory");
    drop(inner);
    assert_eq!(arena.usage().bytes_in_use, 100);
    drop(outer);
    assert_eq!(arena.usage().bytes_in_use, 100);
    arena.scope(|scope| drop(scope.alloc_filled(50, 2_u8)));
    assert_eq!(arena.usage().bytes_in_use, 100, "later scopes rewind in full");
    // A request of the middle scope goes with the middle scope.
    let outer = arena.checkpoint();
    let inner = outer.checkpoint();
    drop(outer.alloc_filled(30, 3_u8));
    drop(inner);
    assert_eq!(arena.usage().bytes_in_use, 130);
    drop(outer);
    assert_eq!(arena.usage().bytes_in_use, 100);
    assert!(late.iter().all(|&byte| byte == 1));
}

#[test]
fn large_requests_and_a_backing_with_little_room() {
    let arena = ComputeArena::new_in(Limited::new(System, 10 << 20));
    let first = arena.alloc_filled(6 << 20, 1_u8).expect("memory");
    // Growth by half would be over the limit; the request alone is not.
    let second = arena.alloc_filled(3 << 20, 2_u8).expect("memory");
    let third = arena.alloc_filled((1 << 20) - 64, 3_u8).expect("memory");
    let error = arena.alloc::<u8>(1 << 20).expect_err("no room");
    assert_eq!(error.in_use(), (10 << 20) - 64);
    for (buffer, byte) in [(&first, 1), (&second, 2), (&third, 3)] {
        assert!(buffer.iter().all(|&other| other == byte));
    }
}

#[test]
fn an_arena_over_a_pool_returns_its_blocks_there() {
    let alloc = TensorAllocator::new();
    for round in 0..10 {
        let arena = ComputeArena::new_in(&alloc);
        drop(arena.alloc_filled(100_000, round));
        assert!(alloc.stats().bytes_in_use > 0);
        drop(arena);
        assert_eq!(alloc.stats().bytes_in_use, 0);
    }
    assert_eq!(alloc.stats().pool_misses, 1);
}

#[test]
fn an_arena_moves_between_threads() {
    let mut arena = ComputeArena::new();
    drop(arena.alloc_filled(1000, 1_u8));
    arena.reset();
    let arena = std::thread::spawn(move || {
        drop(arena.alloc_filled(1000, 2_u8));
        arena
    });
    let arena = arena.join().expect("no panic");
    assert_eq!(arena.usage().bytes_in_use, 1000);
}
