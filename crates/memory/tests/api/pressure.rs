//! Law 13: what is kept for reuse can be asked back, and gives way before a request is refused.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use tenzor_memory::{
    AllocError, AllocErrorKind, Backing, Budget, ComputeArena, Failing, Grounds, Limited, OwnedBuffer, PoolConfig,
    Refused, System, TensorAllocator, Tracking,
};

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
use crate::common::layout;
use crate::common::ops;

const MIB: usize = 1 << 20;

fn pool<B: Backing>(backing: B) -> TensorAllocator<B> {
    TensorAllocator::with_config_in(PoolConfig::default().with_max_pool_size(usize::MAX), backing)
}

#[test]
fn law_13_what_one_pool_keeps_another_can_have() {
    let limited = Arc::new(Limited::new(System, 512 * MIB));
    let [a, b] = [(); 2].map(|()| pool(limited.clone()));
    drop(a.alloc::<u8>(400 * MIB).unwrap());
    let wanted = b.alloc::<u8>(256 * MIB).unwrap();
    assert_eq!((a.stats().pooled_bytes, limited.granted()), (0, 256 * MIB));
    // Nothing is emptied for a request that cannot succeed anyway.
    drop(a.alloc::<u8>(128 * MIB).unwrap());
    let error = b.alloc::<u8>(400 * MIB).unwrap_err();
    assert_eq!(error.kind(), AllocErrorKind::OverLimit);
    assert_eq!((error.in_use(), error.pooled(), error.limit()), (256 * MIB, 128 * MIB, Some(512 * MIB)));
    assert_eq!(a.stats().pooled_bytes, 128 * MIB);
    drop(wanted);
}

#[test]
fn law_13_the_idlest_gives_way_first_and_no_more_than_is_needed() {
    let limited = Arc::new(Limited::new(System, 100 * MIB));
    let pools = [(); 4].map(|()| pool(limited.clone()));
    for pool in &pools[..3] {
        drop([(); 3].map(|()| pool.alloc::<u8>(10 * MIB).unwrap()));
    }
    // The first is used again.
    drop(pools[0].alloc::<u8>(11 * MIB - 100));
    let pooled = |pool: &TensorAllocator<_>| pool.stats().pooled_bytes / MIB;
    let before = pooled(&pools[0]);
    let _wanted = pools[3].alloc::<u8>(24 * MIB).unwrap();
    assert_eq!((pooled(&pools[0]), pooled(&pools[1]), pooled(&pools[2])), (before, 0, 30));
}

#[cfg(target_pointer_width = "64")]
#[test]
fn law_13_what_no_system_grants_costs_nobody_anything() {
    let [over_malloc, another] = [(); 2].map(|()| pool(System));
    drop(over_malloc.alloc::<u8>(MIB).unwrap());
    assert!(another.alloc::<u8>(1 << 46).is_err());
    assert_eq!(over_malloc.stats().pooled_bytes, MIB);
    #[cfg(target_os = "linux")]
    {
        let [over_heap, another] = [(); 2].map(|()| pool(tenzor_memory::Pages));
        drop(over_heap.alloc::<u8>(MIB).unwrap());
        assert!(another.alloc::<u8>(1 << 46).is_err());
        assert_eq!(over_heap.stats().pooled_bytes, MIB);
    }
}

#[cfg(feature = "plan")]
#[test]
fn law_13_an_idle_planned_block_counts_as_kept_and_gives_way() {
    use tenzor_memory::PlannedAllocator;

    let pool = TensorAllocator::with_config(PoolConfig::default().with_limit(Some(512 * MIB)));
    let planned = PlannedAllocator::new(pool.clone());
    let step =
        || planned.step(|alloc| drop((alloc.alloc::<u8>(100 * MIB).unwrap(), alloc.alloc::<u8>(200 * MIB).unwrap())));
    (0..3).for_each(|_| step());
    let stats = pool.stats();
    assert_eq!((stats.bytes_in_use, stats.pooled_bytes, stats.kept_above_bytes), (0, 300 * MIB, 300 * MIB));
    assert_eq!(stats.reserved_bytes, stats.bytes_in_use_rounded + stats.pooled_bytes + stats.overhead_bytes);
    // By pressure …
    drop(pool.alloc::<u8>(250 * MIB).unwrap());
    assert_eq!(pool.stats().kept_above_bytes, 0);
    // … and it comes back with the next step.
    let followed = planned.stats().followed;
    step();
    assert_eq!((planned.stats().followed, planned.stats().refused), (followed + 1, 0));
    // By trim …
    assert_eq!(pool.trim(0), 300 * MIB);
    assert_eq!((pool.stats().reserved_bytes, pool.stats().bytes_in_use), (0, 0));
    step();
    // … but not in the middle of a step.
    planned.step(|alloc| {
        let first = alloc.alloc_filled::<u8>(100 * MIB, 7).unwrap();
        assert_eq!(pool.trim(0), 0);
        assert!(pool.alloc::<u8>(250 * MIB).is_err());
        assert_eq!(first[100 * MIB - 1], 7);
    });
}

#[cfg(feature = "plan")]
#[test]
fn law_13_what_lies_where_a_block_was_given_up_is_not_taken_for_the_blocks() {
    use tenzor_memory::PlannedAllocator;

    let pool = TensorAllocator::new();
    let planned = PlannedAllocator::new(pool.clone());
    for _ in 0..4 {
        planned.step(|alloc| drop((alloc.alloc::<u8>(MIB).unwrap(), alloc.alloc::<u8>(MIB).unwrap())));
    }
    let mut held = Vec::new();
    for _ in 0..20 {
        pool.trim(0);
        // Between two steps, of the size of the block that was there: malloc gives the same place again.
        let between = planned.alloc_filled(MIB, 3_u8).unwrap();
        held.push(pool.alloc_filled(MIB, 5_u8).unwrap());
        assert!(between.iter().all(|&byte| byte == 3));
        drop(between);
        planned.step(|alloc| drop((alloc.alloc_filled(MIB, 1_u8).unwrap(), alloc.alloc_filled(MIB, 2_u8).unwrap())));
    }
    assert!(held.iter().all(|buffer| buffer.iter().all(|&byte| byte == 5)));
    drop(held);
    drop(planned);
    assert_eq!((pool.stats().bytes_in_use, pool.stats().kept_above_bytes), (0, 0));
}

#[test]
fn law_13_a_reset_arena_gives_way_and_one_in_use_does_not() {
    let ledger = Arc::new(Tracking::new(System));
    let limited = Arc::new(Limited::new(ledger.clone(), 100 * MIB));
    let mut arena = ComputeArena::new_in(limited.clone());
    let pool = pool(limited.clone());
    for round in 0..3_u8 {
        let scratch = arena.alloc_filled(60 * MIB, round).unwrap();
        assert!(pool.alloc::<u8>(60 * MIB).is_err(), "it is in use");
        assert!(scratch.iter().all(|&byte| byte == round));
        drop(scratch);
        arena.reset();
        let usage = arena.usage();
        assert_eq!((usage.bytes_in_use, usage.pooled_bytes), (0, usage.reserved_bytes));
        drop(pool.alloc::<u8>(60 * MIB).unwrap());
        assert_eq!(arena.usage().reserved_bytes, 0, "it gave way");
    }
    // Over a pool as well.
    let mut arena = ComputeArena::new_in(pool.clone());
    drop(arena.alloc::<u8>(30 * MIB).unwrap());
    arena.reset();
    assert!(pool.stats().kept_above_bytes >= 30 * MIB);
    pool.trim(0);
    assert_eq!((pool.stats().reserved_bytes, arena.usage().blocks), (0, 0));
    drop((arena, pool));
    assert_eq!((ledger.live_blocks(), ledger.faults().len()), (0, 0));
}

#[test]
fn an_arena_forgets_what_its_recent_passes_did_not_need() {
    let mut arena = ComputeArena::new();
    drop(arena.alloc::<u8>(64 * MIB).unwrap());
    arena.reset();
    assert!(arena.usage().reserved_bytes >= 64 * MIB);
    for _ in 0..64 {
        drop(arena.alloc::<u8>(1000).unwrap());
        arena.reset();
    }
    assert!(arena.usage().reserved_bytes <= 1 << 16, "{}", arena.usage());
    // What it was made with stays, until that is asked for.
    let mut arena = ComputeArena::with_capacity(MIB);
    (0..100).for_each(|_| arena.reset());
    assert_eq!(arena.usage().reserved_bytes, MIB);
    assert_eq!(arena.shrink_to(0), MIB);
    (0..100).for_each(|_| arena.reset());
    assert_eq!(arena.usage().reserved_bytes, 0);
}

#[test]
fn a_budget_is_never_exceeded_and_its_name_is_told() {
    let server = Budget::new("server", 100 * MIB);
    let tenants = ["first", "second"].map(|name| server.within(name, 60 * MIB));
    let [a, b] = [0, 1].map(|i: usize| pool(tenants[i].clone()));
    drop(a.alloc::<u8>(60 * MIB).unwrap());
    let held = b.alloc::<u8>(60 * MIB).unwrap();
    assert_eq!((tenants[0].usage().granted, server.usage().kept), (0, 0));
    let error = a.alloc::<u8>(50 * MIB).unwrap_err();
    assert!(error.to_string().contains("over the limit of 100 MiB of server, with 60 MiB in use"), "{error}");
    let error = b.alloc::<u8>(MIB).unwrap_err();
    assert!(error.to_string().contains("over the limit of 60 MiB of second"), "{error}");
    let usage = server.usage();
    assert_eq!((usage.granted, usage.within[1].granted, usage.peak_granted), (60 * MIB, 60 * MIB, 60 * MIB));
    assert!(usage.to_string().contains("  second"), "{usage}");
    drop(held);
    assert_eq!((server.trim(), server.usage().granted), (60 * MIB, 0));
    assert_eq!((server.take_peak(), server.usage().peak_granted), (60 * MIB, 0));
    server.set_limit(MIB);
    assert_eq!(a.alloc::<u8>(2 * MIB).unwrap_err().kind(), AllocErrorKind::NeverFits);
}

#[test]
fn a_spill_is_asked_last_and_once_and_never_within_itself() {
    let budget = Budget::new("cache", 10 * MIB);
    let alloc = pool(budget.clone());
    let cache = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::new(AtomicUsize::new(0));
    let spilled = (cache.clone(), asked.clone(), alloc.clone());
    budget.on_pressure(move |missing| {
        let (cache, asked, alloc) = &spilled;
        asked.fetch_add(1, Relaxed);
        assert!(missing <= 4 * MIB);
        // It requests memory itself.
        assert!(alloc.alloc::<u8>(9 * MIB).is_err());
        cache.lock().unwrap().pop().is_some()
    });
    let keep = |size: usize| cache.lock().unwrap().push(alloc.alloc::<u8>(size).unwrap().into_owned());
    keep(4 * MIB);
    drop(alloc.alloc::<u8>(4 * MIB).unwrap());
    // What is kept for reuse goes first.
    keep(6 * MIB);
    assert_eq!(asked.load(Relaxed), 0);
    let wanted = alloc.alloc::<u8>(4 * MIB).unwrap();
    assert!(asked.load(Relaxed) >= 1);
    cache.lock().unwrap().clear();
    let before = asked.load(Relaxed);
    assert!(alloc.alloc::<u8>(10 * MIB).is_err(), "it has nothing to spill");
    assert!(asked.load(Relaxed) > before);
    drop(wanted);
}

/// However often a pool asks what is below it, for one request.
#[test]
fn a_program_is_asked_to_free_memory_once_for_a_request() {
    let asked = Arc::new([const { AtomicUsize::new(0) }; 2]);
    let root = Budget::new_in("root", 8 * MIB, System);
    let leaf = root.within("leaf", 7 * MIB);
    for (which, budget) in [&root, &leaf].into_iter().enumerate() {
        let asked = asked.clone();
        budget.on_pressure(move |_| asked[which].fetch_add(1, Relaxed) > 1000);
    }
    let counts = || [0, 1].map(|which| asked[which].swap(0, Relaxed));
    let (alloc, other) = (pool(leaf.clone()), pool(root.clone()));
    let held = alloc.alloc::<u8>(4 * MIB).unwrap();
    for _ in 0..3 {
        // Something that the pool gives back meanwhile.
        drop(alloc.alloc::<u8>(MIB).unwrap());
        assert!(alloc.alloc::<u8>(4 * MIB).is_err());
        assert_eq!(counts(), [0, 1]);
        drop(alloc.alloc::<u8>(MIB).unwrap());
        assert!(other.alloc::<u8>(5 * MIB).is_err());
        assert_eq!(counts(), [1, 0]);
        let above = pool(pool(leaf.clone()));
        drop((above.alloc::<u8>(MIB), above.alloc::<u8>(1000)));
        assert!(above.alloc::<u8>(4 * MIB).is_err());
        assert_eq!(counts(), [0, 1]);
        let below = pool(leaf.clone());
        let arena = ComputeArena::new_in(below.clone());
        assert!(arena.alloc::<u8>(4 * MIB).is_err());
        assert_eq!((counts(), below.stats().failures), ([0, 1], 1));
    }
    drop(held);
}

#[test]
fn nobody_is_asked_for_what_an_arena_could_do_without() {
    let asked = Arc::new(AtomicUsize::new(0));
    let budget = Budget::new("budget", 8 * MIB);
    let there = asked.clone();
    budget.on_pressure(move |_| there.fetch_add(1, Relaxed) > 1000);
    let arena = ComputeArena::with_capacity_in(7 * MIB, budget.clone());
    let first = arena.alloc::<u8>(7 * MIB).unwrap();
    // It would rather grow by half of what it has.
    let second = arena.alloc::<u8>(100_000).unwrap();
    assert_eq!((asked.load(Relaxed), AllocError::last()), (0, None));
    drop((first, second));
}

#[test]
fn law_13_what_a_thread_freed_last_gives_way_while_it_waits() {
    for (most, size, count) in [(8, 4096, 3), (16, 65_536, 1), (64, 65_536, 8), (64, 1000, 20)] {
        let budget = Budget::new("budget", MIB);
        let config = PoolConfig::default().with_max_buffers_per_bucket(most);
        let theirs = TensorAllocator::with_config_in(config, budget.clone());
        let mine = [(); 3].map(|()| pool(budget.clone()));
        let gate = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in &mine {
                    drop((0..count).map(|_| theirs.alloc::<u8>(size).unwrap()).collect::<Vec<_>>());
                    gate.wait();
                    gate.wait();
                }
            });
            for mine in &mine {
                gate.wait();
                assert_eq!(budget.usage().kept, budget.usage().granted, "{count} of {size}");
                drop(mine.alloc::<u8>(MIB).unwrap());
                gate.wait();
            }
        });
    }
}

#[test]
fn law_13_an_arena_gives_way_to_itself() {
    let budget = Budget::new("budget", 8 * MIB);
    let mut arena = ComputeArena::new_in(budget.clone());
    let other = pool(budget.clone());
    for round in 0..3 {
        drop(arena.alloc::<u8>(4 * MIB).unwrap());
        arena.reset();
        drop(arena.alloc::<u8>(5 * MIB).unwrap());
        arena.reset();
        // Nor does it cost what it has to ask for what it cannot have.
        assert_eq!(arena.alloc::<u8>(9 * MIB).unwrap_err().kind(), AllocErrorKind::NeverFits);
        assert_eq!((budget.usage().granted, budget.usage().kept), (5 * MIB, 5 * MIB), "{round}");
        drop(other.alloc::<u8>(4 * MIB).unwrap());
        other.clear_pool();
    }
    // What lies in one of its blocks stays.
    let kept = arena.alloc_filled(MIB, 7_u8).unwrap();
    arena.scope(|arena| drop(arena.alloc::<u8>(4 * MIB).unwrap()));
    arena.scope(|arena| drop(arena.alloc::<u8>(6 * MIB).unwrap()));
    assert!(kept.iter().all(|&byte| byte == 7) && arena.usage().bytes_in_use == MIB);
}

#[test]
fn what_is_kept_beyond_a_limit_goes_as_it_is_set() {
    let budget = Budget::new("budget", 8 * MIB);
    let alloc = pool(budget.clone());
    let held = alloc.alloc::<u8>(MIB).unwrap();
    drop(alloc.alloc::<u8>(4 * MIB).unwrap());
    budget.set_limit(2 * MIB);
    assert_eq!((budget.usage().granted, budget.usage().kept), (MIB, 0));
    assert!(alloc.alloc::<u8>(4 * MIB).is_err());
    drop(held);
}

#[test]
fn a_spill_that_panics_frees_nothing() {
    let budget = Budget::new("cache", MIB);
    let alloc = pool(budget.clone());
    budget.on_pressure(|_| panic!("no"));
    let held = alloc.alloc::<u8>(MIB / 2).unwrap();
    for _ in 0..3 {
        assert_eq!(alloc.alloc::<u8>(MIB).unwrap_err().kind(), AllocErrorKind::OverLimit);
    }
    let stats = alloc.stats();
    assert_eq!((stats.overhead_bytes, stats.reserved_bytes, budget.usage().granted), (0, MIB / 2, MIB / 2));
    drop(held);
    assert!(alloc.alloc::<u8>(MIB).is_ok());
}

#[test]
fn law_13_what_is_refused_further_down_stands_in_nobodys_way_above() {
    let root = Budget::new("root", 8 * MIB);
    let leaf = root.within("leaf", 8 * MIB);
    let other = pool(root.within("other", 8 * MIB));
    let _hold = other.alloc::<u8>(2 * MIB).unwrap();
    thread::scope(|scope| {
        let refused = scope.spawn(|| {
            let mine = pool(leaf.clone());
            (0..ops(1_000_000) / 200).for_each(|_| assert!(mine.alloc::<u8>(7 * MIB).is_err()));
        });
        let mine = pool(leaf.clone());
        while !refused.is_finished() {
            drop(mine.alloc::<u8>(3 * MIB).unwrap());
            mine.clear_pool();
        }
    });
    let usage = leaf.usage();
    // What the other request has given up is granted until it is back, and 3 MiB more may be granted meanwhile. Never were its own 7.
    assert!(usage.granted == 0 && usage.peak_granted <= 6 * MIB, "{usage}");
}

#[cfg(feature = "plan")]
#[test]
fn law_13_a_block_is_kept_again_once_what_escaped_is_gone() {
    use tenzor_memory::{Handle, PlannedAllocator};

    let budget = Budget::new("budget", 8 * MIB);
    let planned = Handle::new(PlannedAllocator::new(pool(budget.clone())));
    let step = || {
        planned.step(|alloc| {
            let first = alloc.alloc::<u8>(3 * MIB).unwrap().into_owned();
            drop(alloc.alloc::<u8>(2 * MIB).unwrap());
            first
        })
    };
    (0..4).for_each(|_| planned.step(|alloc| drop((alloc.alloc::<u8>(3 * MIB), alloc.alloc::<u8>(2 * MIB)))));
    let escaped = step();
    drop(escaped);
    let usage = budget.usage();
    assert_eq!((usage.granted, usage.kept), (usage.granted, usage.granted));
    assert!(pool(budget.clone()).alloc::<u8>(8 * MIB).is_ok());
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[test]
fn law_13_growth_in_place_is_not_refused_for_what_is_idle() {
    use tenzor_memory::allocator_api2::vec::Vec as PoolVec;

    let check = |alloc: TensorAllocator<Budget>| {
        drop(alloc.alloc::<u8>(50_000).unwrap());
        // So large that its pages are moved, whatever lies behind it.
        let mut bytes: PoolVec<u8, _> = PoolVec::with_capacity_in(32 * MIB, alloc.allocator());
        bytes.extend((0..32 * MIB).map(|byte| byte as u8));
        bytes.try_reserve_exact(32 * MIB).unwrap();
        assert!(bytes.iter().enumerate().all(|(place, &byte)| place as u8 == byte));
    };
    check(TensorAllocator::new_in(Budget::new("budget", 64 * MIB)));
    let config = PoolConfig::default().with_limit(Some(64 * MIB));
    check(TensorAllocator::with_config_in(config, Budget::new("budget", 100 * MIB)));
}

#[test]
fn what_is_kept_counts_once_however_many_pools_stand_one_over_the_other() {
    let budget = Budget::new("budget", 10 * MIB);
    let first = TensorAllocator::new_in(budget.clone());
    let second = TensorAllocator::new_in(first.clone());
    let third = TensorAllocator::new_in(second.clone());
    let held = second.alloc::<u8>(100_000).unwrap();
    drop(third.alloc::<u8>(9000).unwrap());
    let mut arena = ComputeArena::new_in(third.clone());
    drop(arena.alloc::<u8>(1000));
    arena.reset();
    let (usage, in_use) = (budget.usage(), second.stats().bytes_in_use_rounded);
    assert_eq!(usage.granted - usage.kept, in_use);
    assert_eq!(budget.trim(), usage.kept);
    assert_eq!(budget.usage().granted, in_use);
    drop(held);
}

/// What stands in the way of `bytes` more somewhere below a budget.
fn stands_in_the_way(budgets: &[&Budget<Arc<Tracking<System>>>], bytes: usize) -> bool {
    budgets.iter().any(|budget| {
        let usage = budget.usage();
        usage.granted - usage.kept + bytes > usage.limit
    })
}

#[test]
fn law_13_no_request_is_refused_while_idle_memory_would_do() {
    for seed in 0..60 {
        let mut rng = Rng::with_seed(seed);
        let ledger = Arc::new(Tracking::new(System));
        let root = Budget::new_in("root", 40 * MIB, ledger.clone());
        let tenants: Vec<_> = (0..3).map(|i| root.within(&format!("tenant {i}"), rng.usize(10..40) * MIB)).collect();
        let pools: Vec<_> = (0..6).map(|i| (i % 3, pool(tenants[i % 3].clone()))).collect();
        // Of one tenant's, over a pool of its own.
        let above = pool(pools[0].1.clone());
        let mut arenas: Vec<_> = (0..3).map(|i| (i, ComputeArena::new_in(tenants[i].clone()))).collect();
        let mut live: Vec<OwnedBuffer<u8, _>> = Vec::new();
        let mut live_above = Vec::new();
        let mut refused = 0;
        for _ in 0..400 {
            let size = rng.usize(1..20) << rng.usize(10..20);
            match rng.usize(..10) {
                0..4 => {
                    let (tenant, pool) = &pools[rng.usize(..pools.len())];
                    match pool.alloc::<u8>(size) {
                        Ok(buffer) => live.push(buffer.into_owned().init_filled(1)),
                        Err(error) => {
                            refused += 1;
                            let rounded = error.rounded().unwrap();
                            assert!(stands_in_the_way(&[&root, &tenants[*tenant]], rounded), "seed {seed}: {error}");
                        }
                    }
                }
                4 => match above.alloc::<u8>(size) {
                    Ok(buffer) => live_above.push(buffer.into_owned()),
                    Err(error) => {
                        let rounded = error.rounded().unwrap();
                        assert!(stands_in_the_way(&[&root, &tenants[0]], rounded), "seed {seed}: {error}");
                    }
                },
                5 => {
                    let (tenant, arena) = &arenas[rng.usize(..3)];
                    let usage = arena.usage();
                    if usage.pooled_bytes == 0
                        && let Err(error) = arena.alloc::<u8>(size)
                    {
                        assert!(stands_in_the_way(&[&root, &tenants[*tenant]], size), "seed {seed}: {error}");
                    }
                }
                6 => arenas[rng.usize(..3)].1.reset(),
                7..9 if !live.is_empty() => drop(live.swap_remove(rng.usize(..live.len()))),
                _ if !live_above.is_empty() => drop(live_above.swap_remove(rng.usize(..live_above.len()))),
                _ => {}
            }
            let usage = root.usage();
            assert!(usage.granted <= usage.limit && usage.granted == ledger.live_bytes(), "seed {seed}");
            assert!(usage.within.iter().all(|tenant| tenant.granted <= tenant.limit), "seed {seed}");
        }
        assert!(refused > 0 || seed > 0, "the limits mean something");
        assert!(live.iter().all(|buffer| buffer.iter().all(|&byte| byte == 1)));
        drop((live, live_above));
        arenas.iter_mut().for_each(|(_, arena)| arena.reset());
        root.trim();
        assert_eq!((root.usage().granted, ledger.live_blocks()), (0, 0), "seed {seed}");
        drop((above, pools, arenas));
        assert_eq!(ledger.faults().len(), 0);
    }
}

#[test]
fn law_13_threads_that_together_fit_are_never_refused() {
    const THREADS: usize = 8;
    let root = Budget::new("root", THREADS * 4 * MIB);
    let tenants: Vec<_> = (0..2).map(|i| root.within(&format!("tenant {i}"), THREADS * 3 * MIB)).collect();
    let shared = pool(root.clone());
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (own, shared, root) = (pool(tenants[number % 2].clone()), shared.clone(), &root);
            scope.spawn(move || {
                let mut rng = Rng::with_seed(number as u64);
                let mut arena = ComputeArena::new_in(own.clone());
                for round in 0..600 {
                    // Powers of two: nothing is lost by rounding. At most 3 MiB at once, of 4.
                    let size = MIB >> rng.usize(..4);
                    let kept = own.alloc_filled(size, number as u8).unwrap_or_else(|error| panic!("{round}: {error}"));
                    let other = shared.alloc::<u8>(MIB).unwrap_or_else(|error| panic!("{round}: {error}"));
                    assert!(kept.iter().all(|&byte| byte == number as u8));
                    drop((kept, other));
                    if round % 16 == 0 {
                        drop(arena.alloc::<u8>(MIB / 2).unwrap_or_else(|error| panic!("{round}: {error}")));
                        arena.reset();
                    }
                    assert!(root.usage().granted <= root.limit());
                }
            });
        }
    });
    root.trim();
    assert_eq!(root.usage().granted, shared.stats().reserved_bytes);
}

/// As many as there are, where a slow tool looks on.
#[test]
fn law_13_a_thousand_threads_under_one_budget() {
    let threads = (ops(1_000_000) / 1000).min(1000);
    let root = Budget::new("root", 64 * MIB);
    let shared = pool(root.within("shared", 48 * MIB));
    let gate = Barrier::new(threads);
    let granted = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..threads {
            let (root, shared, gate, granted) = (&root, &shared, &gate, &granted);
            let body = move || {
                let mut rng = Rng::with_seed(number as u64);
                // What it keeps is asked back while it waits, and when it is no more.
                let own = pool(root.clone());
                gate.wait();
                for _ in 0..20 {
                    let alloc = if rng.bool() { &own } else { shared };
                    let Ok(buffer) = alloc.alloc_filled(rng.usize(1..MIB), number as u8) else { continue };
                    granted.fetch_add(1, Relaxed);
                    thread::yield_now();
                    assert!(buffer.iter().all(|&byte| byte == number as u8));
                }
                assert!(root.usage().granted <= root.limit());
            };
            thread::Builder::new().stack_size(1 << 18).spawn_scoped(scope, body).unwrap();
        }
    });
    assert!(granted.load(Relaxed) > 10 * threads, "{granted:?} of {}", 20 * threads);
    root.trim();
    let stats = shared.stats();
    assert_eq!((stats.bytes_in_use, stats.pooled_bytes, root.usage().granted), (0, 0, stats.reserved_bytes));
    drop(shared);
    assert_eq!(root.usage().granted, 0);
}

/// Gives back slowly, and tells when it has begun for the first time.
#[derive(Clone)]
struct Slow(Budget, Arc<(AtomicUsize, Barrier)>);

// SAFETY: all is passed on.
unsafe impl Backing for Slow {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.0.obtain(layout)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        if self.1.0.fetch_add(1, Relaxed) == 0 {
            self.1.1.wait();
            thread::sleep(Duration::from_millis(20));
        }
        // SAFETY: the caller's word, passed on.
        unsafe { self.0.give_back(block, layout) };
    }

    fn grounds(&self, grounds: &mut Grounds) {
        self.0.grounds(grounds);
    }
}

#[test]
fn law_13_what_was_idle_and_is_on_its_way_back_is_waited_for() {
    fn with(keep: impl FnOnce(Slow) -> Box<dyn FnOnce() + Send>) {
        let (budget, begun) = (Budget::new("budget", MIB), Arc::new((AtomicUsize::new(0), Barrier::new(2))));
        let give = keep(Slow(budget.clone(), begun.clone()));
        thread::scope(|scope| {
            scope.spawn(give);
            begun.1.wait();
            drop(pool(budget.clone()).alloc::<u8>(MIB).unwrap());
        });
        assert_eq!(budget.usage().granted, 0);
    }
    let idle = |slow: Slow| {
        let pool = pool(slow);
        drop(pool.alloc::<u8>(MIB).unwrap());
        pool
    };
    let reset = |slow: Slow| {
        let mut arena = ComputeArena::with_capacity_in(MIB, slow);
        arena.reset();
        arena
    };
    with(|slow| Box::new(move || drop(idle(slow))));
    with(|slow| {
        let pool = idle(slow);
        Box::new(move || _ = pool.trim(0))
    });
    with(|slow| {
        let pool = TensorAllocator::with_config_in(PoolConfig::default().with_max_buffers_per_bucket(1), slow);
        let both = [(); 2].map(|()| pool.alloc::<u8>(MIB / 2).unwrap().into_owned());
        Box::new(move || drop(both))
    });
    with(|slow| {
        let arena = reset(slow);
        Box::new(move || drop(arena))
    });
    with(|slow| {
        let mut arena = reset(slow);
        Box::new(move || _ = arena.shrink_to(0))
    });
}

#[test]
fn law_13_nothing_is_lost_where_every_kth_call_fails() {
    for k in 1..40 {
        let ledger = Arc::new(Tracking::new(System));
        let failing = Arc::new(Failing::every(ledger.clone(), k));
        let root = Budget::new_in("root", 20 * MIB, failing);
        let pools = [(); 3].map(|()| pool(root.within("tenant", 12 * MIB)));
        let mut arena = ComputeArena::new_in(root.clone());
        let mut rng = Rng::with_seed(k);
        let mut live = Vec::new();
        for _ in 0..(ops(60_000) / 200).min(300) {
            let size = rng.usize(1..4 * MIB);
            match rng.usize(..8) {
                0..4 => live.extend(pools[rng.usize(..3)].alloc::<u8>(size).ok().map(|buffer| buffer.into_owned())),
                4 => drop(arena.alloc::<u8>(size)),
                5 => arena.reset(),
                _ if !live.is_empty() => drop(live.swap_remove(rng.usize(..live.len()))),
                _ => {}
            }
            assert!(root.usage().granted <= root.limit() && root.usage().granted == ledger.live_bytes());
        }
        drop(live);
        drop((pools, arena));
        assert_eq!((root.usage().granted, ledger.live_blocks(), ledger.faults().len()), (0, 0, 0), "every {k}th");
    }
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[test]
fn what_shrinks_needs_no_room_below_a_limit_that_was_lowered() {
    let budget = Budget::new("budget", 100 * MIB);
    let idle = pool(budget.clone());
    let held = idle.alloc::<u8>(MIB).unwrap();
    let [large, small] = [16 * MIB, 8 * MIB].map(|bytes| layout(bytes, 64));
    let block = budget.obtain(large).unwrap();
    budget.set_limit(MIB);
    // It is kept, though more is granted than the limit is.
    drop(held);
    // SAFETY: the block came from there, and has these layouts in turn.
    unsafe {
        let shrunk = budget.refit(block, large, small, false).expect("it shrinks");
        assert_eq!((idle.stats().pooled_bytes, budget.usage().granted), (MIB, 9 * MIB));
        budget.give_back(shrunk, small);
    }
    assert_eq!(budget.usage().granted, MIB);
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[test]
fn an_empty_pool_grants_one_request_of_exactly_its_limit() {
    for limit in [100 * MIB, 1_000_000, 70_000, 16 << 30] {
        let alloc = TensorAllocator::with_config(PoolConfig::default().with_limit(Some(limit)));
        drop(alloc.alloc::<u8>(1000));
        assert!(alloc.alloc::<u8>(limit / 64 * 64).is_ok(), "{limit}");
        assert_eq!(alloc.alloc::<u8>(limit + 1).unwrap_err().kind(), AllocErrorKind::NeverFits);
        let parts: Vec<_> = (0..7).map(|_| alloc.alloc::<u8>(limit / 7 / 64 * 64).map(|part| part.len())).collect();
        assert!(parts.iter().all(Result::is_ok) || limit < 7 << 16, "{limit}: {parts:?}");
    }
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[test]
fn of_large_buffers_over_the_heap_the_last_freed_one_is_kept() {
    let alloc = TensorAllocator::new();
    let address = |bytes: usize| alloc.alloc::<u8>(bytes).unwrap().as_ptr().addr();
    let first = address(MIB);
    for _ in 0..99 {
        assert_eq!(address(MIB), first);
    }
    let stats = alloc.stats();
    assert_eq!((stats.pool_hits, stats.pool_misses, stats.pooled_bytes), (99, 1, MIB));
    address(MIB - 64);
    let stats = alloc.stats();
    assert_eq!((stats.pool_misses, stats.released, stats.pooled_bytes), (2, 1, MIB - 64), "it takes the other's place");
    // As much as was in use at once, and no more.
    let both = [alloc.alloc::<u8>(MIB).unwrap(), alloc.alloc::<u8>(2 * MIB).unwrap()];
    assert_eq!((alloc.stats().pooled_bytes, alloc.stats().reserved_bytes), (0, 3 * MIB));
    assert_eq!(alloc.stats().peak_reserved_bytes, 3 * MIB);
    drop(both);
    assert_eq!(alloc.stats().pooled_bytes, 2 * MIB);
    assert_eq!(alloc.trim(0), 2 * MIB);
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[test]
fn a_vec_grows_where_it_is_or_its_memory_moves() {
    use tenzor_memory::allocator_api2::vec::Vec as PoolVec;

    let alloc = TensorAllocator::new();
    let mut numbers: PoolVec<u64, _> = PoolVec::new_in(alloc.allocator());
    for number in 0..(32 << 20) / 8 * 8 / 8 {
        numbers.push(number as u64);
    }
    let peak = alloc.stats().peak_reserved_bytes;
    assert!(peak <= 33 * MIB, "never two of them at once, but {peak}");
    assert!(numbers.iter().enumerate().all(|(place, &number)| place as u64 == number));
    numbers.truncate(20_000);
    numbers.shrink_to_fit();
    assert!(alloc.stats().bytes_in_use == 160_000 && numbers[19_999] == 19_999);
    numbers.resize(1_000_000, 7);
    assert!(numbers[20_000..].iter().all(|&number| number == 7));
    drop(numbers);
    let stats = alloc.stats();
    assert_eq!((stats.bytes_in_use, stats.allocations), (0, stats.deallocations));
    alloc.clear_pool();
    assert_eq!(alloc.stats().reserved_bytes, 0);
}
