//! What another thread has under way at the backing.

use std::alloc::Layout;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

use tenzor_memory::{Backing, BufferPool, PoolConfig, Refused, System};

use crate::buffers::{full, pair};
use crate::child::in_fork;
use crate::pools::{check, check_at_rest};

/// A backing that holds requests and returns of one size up, until it is told to go on.
pub(crate) struct Gate {
    size: usize,
    holds: AtomicBool,
    there: AtomicUsize,
}

impl Gate {
    fn new(size: usize) -> Self {
        Self { size, holds: AtomicBool::new(false), there: AtomicUsize::new(0) }
    }

    fn pass(&self, layout: Layout) {
        if layout.size() == self.size && self.holds.load(SeqCst) {
            self.there.fetch_add(1, SeqCst);
            while self.holds.load(SeqCst) {
                thread::yield_now();
            }
        }
    }

    fn wait_for(&self, there: usize) {
        while self.there.load(SeqCst) < there {
            thread::yield_now();
        }
    }
}

// SAFETY: what is granted is granted by `System`.
unsafe impl Backing for Gate {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.pass(layout);
        System.obtain(layout)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        self.pass(layout);
        // SAFETY: the caller's word, passed on.
        unsafe { System.give_back(block, layout) };
    }
}

pub(crate) fn gated() -> BufferPool<Gate> {
    BufferPool::with_config_in(PoolConfig::default().with_limit(Some(1 << 20)), Gate::new(512 << 10))
}

/// What comes of `then` while `first` is at the gate in another thread.
pub(crate) fn while_at_the_gate(pool: &BufferPool<Gate>, first: impl FnOnce() + Send, then: impl FnOnce()) {
    let gate = pool.backing();
    gate.holds.store(true, SeqCst);
    thread::scope(|scope| {
        scope.spawn(first);
        gate.wait_for(1);
        let result = catch_unwind(AssertUnwindSafe(then));
        gate.holds.store(false, SeqCst);
        result.unwrap_or_else(|panic| resume_unwind(panic));
    });
    check_at_rest(&pool.stats());
}

#[test]
fn what_another_thread_asks_the_backing_for_does_not_stand_in_the_childs_way() {
    let pool = gated();
    while_at_the_gate(
        &pool,
        || pair(&pool, 512 << 10),
        || {
            assert_eq!(pool.stats().overhead_bytes, 512 << 10);
            in_fork(|| {
                check_at_rest(&pool.stats());
                assert_eq!(pool.stats().reserved_bytes, 0);
                pair(&pool, 1 << 20);
                assert_eq!(pool.trim(0), 1 << 20);
                check_at_rest(&pool.stats());
            });
        },
    );
}

#[test]
fn what_another_thread_gives_back_is_gone_in_the_child() {
    let pool = gated();
    pair(&pool, 512 << 10);
    pair(&pool, 128 << 10);
    while_at_the_gate(
        &pool,
        || _ = pool.trim(0),
        || {
            in_fork(|| {
                check_at_rest(&pool.stats());
                pair(&pool, 1 << 20);
                check_at_rest(&pool.stats());
            });
        },
    );
}

#[test]
fn what_waits_for_room_in_another_thread_is_gone_in_the_child() {
    let (pool, large) = full(Gate::new(1 << 10));
    while_at_the_gate(
        &pool,
        || large.put(&pool, 32 << 10),
        || {
            let stats = pool.stats();
            assert_eq!((stats.overhead_bytes, stats.pooled_bytes), (48 << 10, 16 << 10));
            check(&stats);
            in_fork(|| {
                check_at_rest(&pool.stats());
                assert_eq!(pool.stats().reserved_bytes, 16 << 10);
                pool.backing().holds.store(false, SeqCst);
                pair(&pool, 64 << 10);
                check_at_rest(&pool.stats());
            });
        },
    );
}
