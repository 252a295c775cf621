//! Budgets whose memory other threads are asking one another for while the process forks.

use std::alloc::Layout;
use std::panic::catch_unwind;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use tenzor_memory::{Backing, Budget, Grounds, PoolConfig, Refused, System, TensorAllocator};

use crate::child::{in_fork, wait};
use crate::common::{layout, ops};
use crate::pools::check_at_rest;
use crate::process::alone;

const MIB: usize = 1 << 20;
const THREADS: usize = 4;
/// The largest request.
const MOST: usize = 4 * MIB;

fn pool(budget: &Budget<System>) -> TensorAllocator<Budget<System>> {
    TensorAllocator::with_config_in(PoolConfig::default().with_max_pool_size(usize::MAX), budget.clone())
}

/// Lets the threads end, whatever happens.
struct Rest<'a>(&'a AtomicBool);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn the_child_of_a_process_under_pressure_has_all_room_that_is_left() {
    alone(|| {
        let root = Budget::new_in("root", 12 * MIB, System);
        let tenants = ["first", "second"].map(|name| root.within(name, 8 * MIB));
        let pools: Vec<_> = (0..THREADS).map(|i| pool(&tenants[i % 2])).collect();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for (seed, pool) in (0..).zip(&pools) {
                let stop = &stop;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    let mut held = None;
                    while !stop.load(Relaxed) {
                        // Half of the room is wanted by four: most of them have others give up memory, and some are refused.
                        held = pool.alloc::<u8>(random.usize(MIB..MOST)).ok().or(held.filter(|_| random.bool()));
                    }
                });
            }
            let _rest = Rest(&stop);
            for _ in 0..ops(3_000_000) / 10_000 {
                in_fork(|| {
                    root.trim();
                    pools.iter().for_each(|pool| check_at_rest(&pool.stats()));
                    let usage = root.usage();
                    let known: usize = pools.iter().map(|pool| pool.stats().reserved_bytes).sum();
                    // What was in the hands of the other threads the pools have forgotten.
                    assert!((known..=known + THREADS * MOST).contains(&usage.granted), "{known} of {usage}");
                    let own = root.within("child", usize::MAX);
                    let whole = layout(usage.limit - usage.granted, 1);
                    let granted = own.obtain(whole).unwrap_or_else(|error| panic!("{error:?}: {usage}"));
                    assert!(own.obtain(layout(1, 1)).is_err(), "{usage}");
                    // SAFETY: it was obtained there.
                    unsafe { own.give_back(granted, whole) };
                    assert_eq!(root.usage().granted, usage.granted);
                });
            }
        });
        root.trim();
        assert_eq!(root.usage().granted, 0);
        assert!(pool(&root).alloc::<u8>(12 * MIB).is_ok());
    });
}

/// Forks, and goes on in both processes; the parent waits for the child.
fn fork_on() {
    // SAFETY: the child does what the parent does.
    match unsafe { libc::fork() } {
        // SAFETY: a plain call.
        0 => _ = unsafe { libc::alarm(20) },
        child => assert_eq!(wait(child), 0, "the child's end"),
    }
}

/// Malloc, which forks when it gets its second block back.
struct Forking {
    returns: AtomicUsize,
}

// SAFETY: it is malloc.
unsafe impl Backing for Forking {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        System.obtain(layout)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        if self.returns.fetch_add(1, Relaxed) == 1 {
            fork_on();
        }
        // SAFETY: the caller's word, passed on.
        unsafe { System.give_back(block, layout) };
    }

    fn grounds(&self, grounds: &mut Grounds) {
        grounds.bears_any_thread();
    }
}

/// A request has memory given up, of two buffers and then of the program's; at the second buffer, and while the program is asked, the process forks.
fn a_request_forks() {
    let root = Budget::new_in("root", 8 * MIB, Forking { returns: AtomicUsize::new(0) });
    let inner = root.within("inner", 8 * MIB);
    let [kept, alloc] = [(); 2].map(|()| TensorAllocator::new_in(inner.clone()));
    let spilled = Mutex::new(Some(alloc.alloc::<u8>(2 * MIB).expect("memory").into_owned()));
    inner.on_pressure(move |_| {
        let spilled = spilled.lock().expect("no panics").take();
        if spilled.is_some() {
            fork_on();
        }
        spilled.is_some()
    });
    drop([(); 2].map(|()| kept.alloc::<u8>(2 * MIB).expect("memory")));
    let wanted = inner.obtain(layout(7 * MIB, 64)).expect("there is room");
    for budget in [&inner, &root] {
        assert_eq!(budget.usage().granted, 7 * MIB);
        budget.obtain(layout(MIB + 1, 64)).expect_err("there is less room");
    }
    let rest = inner.obtain(layout(MIB, 64)).expect("so much");
    // SAFETY: they were obtained there.
    unsafe {
        inner.give_back(wanted, layout(7 * MIB, 64));
        inner.give_back(rest, layout(MIB, 64));
    }
    assert_eq!((inner.usage().granted, root.usage().granted), (0, 0));
    let all = inner.obtain(layout(8 * MIB, 64)).expect("as in the beginning");
    // SAFETY: as above.
    unsafe { inner.give_back(all, layout(8 * MIB, 64)) };
}

#[test]
fn what_a_request_was_given_is_its_own_in_both_processes() {
    alone(|| {
        let parent = std::process::id();
        let end = catch_unwind(a_request_forks);
        if std::process::id() != parent {
            // SAFETY: what belongs to the parent is left alone.
            unsafe { libc::_exit(i32::from(end.is_err())) };
        }
        end.expect("it has done well");
    });
}
