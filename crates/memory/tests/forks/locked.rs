//! Allocators that threads share by a lock: a fork waits for who is inside, and the child finds them whole.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use tenzor_memory::{Buffer, ComputeArena, Locked, SharedAllocator, System};

use crate::child::in_fork;
use crate::common::ops;
use crate::pools::check_at_rest;
use crate::process::alone;

/// Some buffers, each with its contents.
fn turn(alloc: &SharedAllocator, random: &mut fastrand::Rng) {
    let stamp = random.u8(..);
    let kept: Vec<_> =
        (0..4).map(|_| Buffer::filled_in(random.usize(1..20_000), stamp, alloc.clone()).expect("memory")).collect();
    assert!(kept.iter().all(|buffer| buffer.iter().all(|&byte| byte == stamp)));
}

#[cfg(feature = "plan")]
#[test]
fn the_child_of_a_busy_process_finds_locked_allocators_whole() {
    use tenzor_memory::{FromAllocator, PlannedAllocator, TensorAllocator, Tracking};

    alone(|| {
        // One over the other, so that both locks are had at once.
        let pool = TensorAllocator::new_in(Tracking::new(System));
        let planned = Locked::new(PlannedAllocator::new(pool.clone()));
        let arenas = [(); 4].map(|()| Locked::new(ComputeArena::new_in(FromAllocator(planned.clone()))));
        let alloc = SharedAllocator::new(planned.clone());
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for (seed, arena) in (0..).zip(&arenas) {
                let (alloc, planned, stop) = (&alloc, &planned, &stop);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    let scratch = SharedAllocator::new(arena.clone());
                    while !stop.load(Relaxed) {
                        if random.bool() {
                            planned.begin_step()
                        } else {
                            planned.end_step()
                        };
                        turn(alloc, &mut random);
                        turn(&scratch, &mut random);
                        arena.reset().expect("it is this thread's");
                        // One that comes and goes.
                        drop(Locked::new(ComputeArena::new()).alloc::<u8>(100));
                    }
                });
            }
            let mut random = fastrand::Rng::with_seed(9);
            for _ in 0..ops(3_000_000) / 10_000 {
                in_fork(|| {
                    for arena in &arenas {
                        assert!(!planned.end_step() || planned.begin_step());
                        turn(&alloc, &mut random);
                        turn(&SharedAllocator::new(arena.clone()), &mut random);
                        let usage = arena.usage();
                        let sum = usage.bytes_in_use + usage.pooled_bytes + usage.overhead_bytes;
                        assert_eq!(usage.reserved_bytes, sum);
                    }
                    thread::scope(|scope| {
                        scope.spawn(|| turn(&alloc, &mut random));
                    });
                    check_at_rest(&pool.stats());
                    assert!(pool.backing().faults().is_empty());
                });
                turn(&alloc, &mut random);
            }
            stop.store(true, Relaxed);
        });
        drop(arenas);
        planned.end_step();
        planned.clear_plans();
        check_at_rest(&pool.stats());
        assert_eq!(pool.stats().bytes_in_use, 0);
    });
}

#[test]
fn handlers_around_a_fork_pass() {
    static ARENA: std::sync::OnceLock<Locked<ComputeArena>> = std::sync::OnceLock::new();
    extern "C" fn handler() {
        if let Some(arena) = ARENA.get() {
            drop(arena.alloc_filled(1000, 1_u8).expect("memory"));
            _ = arena.reset();
            let own = Locked::new(ComputeArena::new());
            drop(own.alloc_filled(1000, 1_u8).expect("memory"));
        }
    }
    alone(|| {
        ARENA.get_or_init(|| Locked::new(ComputeArena::new()));
        // SAFETY: the handlers are there as long as the process.
        assert_eq!(unsafe { libc::pthread_atfork(Some(handler), Some(handler), Some(handler)) }, 0);
        for _ in 0..10 {
            in_fork(handler_of_child);
        }
        fn handler_of_child() {
            handler();
            thread::scope(|scope| {
                scope.spawn(|| handler());
            });
        }
        handler();
    });
}
