//! Fault injection: every scenario with its k-th backing request refused, for every k, once and from there on. After each:
//! either it worked, or an error said why; the ledger and the statistics agree; nothing is lost.

use tenzor_memory::allocator_api2::vec::Vec as PoolVec;
use tenzor_memory::{AllocError, ComputeArena, Failing, PoolConfig, System, TensorAllocator, Tracking};

type Backing<'a> = Failing<&'a Tracking<System>>;

/// Runs `scenario` with ever later faults until it meets none, and validates after each. Returns how many it met.
fn inject(scenario: impl Fn(&Backing<'_>) -> Result<(), AllocError>) -> u64 {
    let mut met = 0;
    for rule in ["once", "from", "every"] {
        for k in 1.. {
            let ledger = Tracking::new(System);
            let backing = match rule {
                "once" => Failing::once(&ledger, k),
                "from" => Failing::from(&ledger, k),
                _ => Failing::every(&ledger, k),
            };
            let result = scenario(&backing);
            assert_eq!((ledger.live_blocks(), ledger.live_bytes()), (0, 0), "lost after fault {k}");
            assert_eq!(ledger.faults(), [], "after fault {k}");
            if backing.requests() < k {
                assert_eq!(result, Ok(()), "no fault, and yet");
                break;
            }
            met += 1;
            assert!(k < 10_000, "the scenario never ends");
        }
    }
    met
}

fn validate(alloc: &TensorAllocator<&Backing<'_>>) {
    let stats = alloc.stats();
    assert_eq!(stats.bytes_in_use_rounded + stats.pooled_bytes, stats.reserved_bytes);
    assert_eq!(stats.overhead_bytes, 0);
    assert_eq!(stats.allocations, stats.pool_hits + stats.pool_misses);
    assert_eq!(stats.bytes_allocated - stats.bytes_freed, stats.bytes_in_use);
    let held = stats.pool_misses - stats.released;
    assert_eq!(held, stats.buckets.iter().map(|row| row.buffers_in_use + row.pooled_buffers as u64).sum::<u64>());
}

#[test]
fn typed_buffers() {
    let met = inject(|backing| {
        let alloc = TensorAllocator::new_in(backing);
        let result = (|| {
            let first = alloc.alloc_from_fn(1000, |i| i as f32)?;
            let second = alloc.alloc_zeroed::<f64>(3000)?;
            let strings = alloc.alloc_filled(100, String::from("owned"))?;
            drop(first);
            let third = alloc.alloc_from_slice(&strings)?;
            assert!(third.iter().all(|string| string == "owned") && second.iter().all(|&value| value == 0.0));
            drop(alloc.alloc_aligned::<u8>(5000, 4096)?);
            Ok(())
        })();
        validate(&alloc);
        assert_eq!(alloc.stats().bytes_in_use, 0);
        result
    });
    assert!(met >= 3 * 5, "{met}");
}

#[test]
fn a_pool_at_its_caps_and_limit() {
    inject(|backing| {
        let config = PoolConfig::default().with_max_pool_size(20_000).with_max_buffers_per_bucket(2);
        let alloc = TensorAllocator::with_config_in(config.with_limit(Some(60_000)), backing);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut live = Vec::new();
        let mut first_error = Ok(());
        for _ in 0..60 {
            match alloc.alloc::<u8>(rng.usize(1..20_000)) {
                Ok(buffer) => live.push(buffer),
                Err(error) if error.limit().is_some() && live.len() > 2 => drop(live.split_off(1)),
                Err(error) => first_error = first_error.and(Err(error)),
            }
            if live.len() > 4 {
                live.swap_remove(rng.usize(..live.len()));
            }
            validate(&alloc);
        }
        drop(live);
        validate(&alloc);
        first_error
    });
}

#[test]
fn a_growing_vector_keeps_its_contents() {
    inject(|backing| {
        let alloc = TensorAllocator::new_in(backing);
        let mut vec = PoolVec::new_in(alloc.allocator());
        let mut refused = false;
        for i in 0..5000_u32 {
            refused |= vec.try_reserve(1).is_err();
            if vec.len() < vec.capacity() {
                vec.push(i);
            }
        }
        assert!(vec.iter().enumerate().all(|(i, &value)| refused || value as usize == i));
        assert!(vec.is_sorted());
        drop(vec);
        validate(&alloc);
        if refused { Err(alloc.alloc::<u8>(usize::MAX).expect_err("too large")) } else { Ok(()) }
    });
}

#[test]
fn an_arena_that_grows_scopes_and_resets() {
    let met = inject(|backing| {
        let mut arena = ComputeArena::with_capacity_in(1000, backing);
        let mut result = Ok(());
        for _ in 0..3 {
            arena.reset();
            let pass = (|| {
                let outer = arena.alloc_filled(500, 1_u8)?;
                arena.scope(|scope| {
                    let inner = scope.alloc_filled(100_000, 2_u8)?;
                    let late = arena.alloc_filled(50_000, 3_u8)?;
                    assert!(inner.iter().all(|&byte| byte == 2) && late.iter().all(|&byte| byte == 3));
                    Ok(())
                })?;
                let after = arena.alloc_filled(300_000, 4_u8)?;
                assert!(outer.iter().all(|&byte| byte == 1) && after.iter().all(|&byte| byte == 4));
                Ok(())
            })();
            let usage = arena.usage();
            assert_eq!(usage.bytes_in_use + usage.pooled_bytes + usage.overhead_bytes, usage.reserved_bytes);
            result = result.and(pass);
        }
        // A refused first block or exchange is not an error: the arena asked again, and was heard.
        if backing.requests() > 0 && result.is_err() { result } else { Ok(()) }
    });
    assert!(met > 3);
}

#[test]
fn stacked_arena_over_pool_and_pool_over_arena() {
    inject(|backing| {
        let pool = TensorAllocator::new_in(backing);
        let arena = ComputeArena::new_in(&pool);
        let upper = TensorAllocator::new_in(&arena);
        let result = (|| {
            for round in 0..20 {
                let buffer = upper.alloc_filled(1000 * (round + 1), round)?;
                assert!(buffer.iter().all(|&value| value == round));
            }
            Ok(())
        })();
        drop(upper);
        drop(arena);
        validate(&pool);
        result
    });
}
