//! Locked allocators, by many threads at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;

use tenzor_memory::{Buffer, ComputeArena, Locked, SharedAllocator};

use crate::common::ops;

const THREADS: u64 = 8;

/// Threads that hold some buffers each, send some to others, and see to it that each keeps its contents.
fn use_by_all(alloc: &SharedAllocator, between: impl Fn(&mut fastrand::Rng) + Sync) {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::channel()).unzip();
    thread::scope(|scope| {
        for (id, received) in (0..THREADS).zip(receivers) {
            let (senders, between) = (&senders, &between);
            let senders = senders.clone();
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(id);
                let mut held = VecDeque::new();
                let check = |(buffer, stamp): (Buffer<u64, SharedAllocator>, u64)| {
                    assert!(buffer.iter().all(|&value| value == stamp), "somebody else wrote here");
                };
                for round in 0..ops(1_000_000) as u64 / 100 {
                    let (len, stamp) = (random.usize(0..300), id << 32 | round);
                    let buffer = match round % 3 {
                        0 => Buffer::zeroed_in(len, alloc.clone()).map(|zeros: Buffer<u64, _>| {
                            assert!(zeros.iter().all(|&value| value == 0));
                            Buffer::from_slice_in(&vec![stamp; len], zeros.allocator().clone())
                        }),
                        _ => Ok(Buffer::filled_in(len, stamp, alloc.clone())),
                    };
                    held.push_back((buffer.unwrap().unwrap(), stamp));
                    if held.len() > 8 {
                        let one = held.swap_remove_front(random.usize(..8)).unwrap();
                        if random.bool() { check(one) } else { _ = senders[random.usize(..8)].send(one) }
                    }
                    received.try_iter().take(2).for_each(check);
                    between(&mut random);
                }
                drop(senders);
                held.into_iter().for_each(check);
                received.try_iter().for_each(check);
            });
        }
    });
}

#[test]
fn an_arena_is_shared_by_threads_and_reset_when_nothing_is_alive() {
    let arena = Locked::new(ComputeArena::new());
    let resets = AtomicUsize::new(0);
    use_by_all(&SharedAllocator::new(arena.clone()), |random| {
        // Hardly ever is nothing alive; asked often, it never does harm.
        if random.u8(..) == 0 && arena.reset().is_ok() {
            resets.fetch_add(1, SeqCst);
        }
    });
    arena.reset().unwrap();
    assert_eq!(arena.usage().bytes_in_use, 0);
}

#[test]
fn resets_race_with_requests_and_frees() {
    let arena = Locked::new(ComputeArena::new());
    let (is_over, resets) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                resets.fetch_add(usize::from(arena.reset().is_ok()), SeqCst);
                thread::yield_now();
            }
        });
        let threads = [1_u8, 2].map(|stamp| {
            let arena = &arena;
            scope.spawn(move || {
                for round in 0..ops(1_000_000) / 50 {
                    let buffer = arena.alloc_filled(1 + round % 3000, stamp).unwrap();
                    assert!(buffer.iter().all(|&byte| byte == stamp), "reset while it is alive");
                }
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        is_over.store(true, SeqCst);
    });
    assert!(arena.reset().is_ok());
}

#[cfg(feature = "plan")]
mod planned {
    use tenzor_memory::{AllocError, LockedBuffer, PlannedAllocator, TensorAllocator};

    use super::*;

    #[test]
    fn a_planned_allocator_is_shared_by_threads_that_step_as_they_like() {
        let planned = Locked::new(PlannedAllocator::new(TensorAllocator::new()));
        use_by_all(&SharedAllocator::new(planned.clone()), |random| match random.u8(..20) {
            0 => _ = planned.begin_step(),
            1 => _ = planned.end_step(),
            2 => planned.step(|planned| drop(planned.alloc_filled(100, 1_u8))),
            3 if random.u8(..) == 0 => planned.clear_plans(),
            _ => {}
        });
        planned.end_step();
        planned.clear_plans();
        assert_eq!(planned.upstream().stats().bytes_in_use, 0);
    }

    /// `p21`: a thread requests from a planned allocator that another one has.
    #[test]
    fn threads_take_turns_in_a_step_that_is_followed() {
        let planned = Locked::new(PlannedAllocator::new(TensorAllocator::new()));
        for _ in 0..10 {
            planned.step(|planned| {
                thread::scope(|scope| {
                    let there = scope.spawn(|| planned.alloc_filled(10, 1.0_f32).map(|buffer| buffer.into_owned()));
                    let sum = scope.spawn(move || there.join().unwrap().map(|buffer| buffer.iter().sum::<f32>()));
                    assert_eq!(sum.join().unwrap().unwrap(), 10.0);
                });
            });
        }
        assert_eq!(planned.stats().followed, 8);
    }

    /// `p01`: a session with a handle, and tensors whose buffers own one.
    #[test]
    fn tensors_own_a_handle_of_the_sessions_allocator() {
        struct Session {
            planned: Locked<PlannedAllocator>,
        }
        struct Tensor {
            data: LockedBuffer<f32, PlannedAllocator>,
        }
        trait Op: Send + Sync {
            fn run(&self, x: Tensor, session: &Session) -> Result<Tensor, AllocError>;
        }
        struct Scale(f32);
        impl Op for Scale {
            fn run(&self, x: Tensor, session: &Session) -> Result<Tensor, AllocError> {
                let data = session.planned.alloc_from_fn(x.data.len(), |i| x.data[i] * self.0)?.into_owned();
                Ok(Tensor { data })
            }
        }

        let session = Session { planned: Locked::new(PlannedAllocator::new(TensorAllocator::new())) };
        let ops: [Box<dyn Op>; 3] = [2.0, 3.0, 4.0].map(|factor| Box::new(Scale(factor)) as _);
        for _ in 0..10 {
            let result = session.planned.step(|planned| {
                let x = Tensor { data: planned.alloc_filled(1000, 1.0)?.into_owned() };
                ops.iter().try_fold(x, |x, op| op.run(x, &session))
            });
            assert_eq!(result.unwrap().data[999], 24.0);
        }
        assert!(session.planned.stats().followed >= 7, "{}", session.planned.stats());
    }
}
