//! Handlers of others around a fork, on both sides of ours, which use pools.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock};
use std::thread;

use tenzor_memory::{BufferPool, PoolConfig, TensorAllocator};

use crate::buffers::{layout, pair};
use crate::busy::Pools;
use crate::child::{fork, in_fork, wait};
use crate::common::ops;
use crate::gate::{Gate, gated, while_at_the_gate};
use crate::pools::{check, check_at_rest};
use crate::process::alone;

static POOLS: OnceLock<Pools> = OnceLock::new();
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// What another library's handler may do: anything.
extern "C" fn handler() {
    CALLS.fetch_add(1, Relaxed);
    let Some(pools) = POOLS.get() else { return };
    let mut random = fastrand::Rng::with_seed(3);
    (0..3).for_each(|_| pools.use_all(&mut random));
    pools.stats().iter().for_each(check);
    pools.tight.trim(0);
    let own = TensorAllocator::with_config(PoolConfig::default().with_limit(Some(1 << 20)));
    let kept = own.alloc::<u8>(1000).expect("memory");
    drop(own.alloc::<u8>(1 << 19));
    drop(kept);
    check_at_rest(&own.stats());
}

/// What was registered before ours calls it, if anything.
static EARLIER: OnceLock<extern "C" fn()> = OnceLock::new();

/// Before all constructors: as those of a library that starts earlier.
#[used]
#[unsafe(link_section = ".preinit_array")]
static REGISTER: extern "C" fn() = {
    extern "C" fn earlier() {
        if let Some(handler) = EARLIER.get() {
            handler();
        }
    }
    extern "C" fn register() {
        handle_forks(earlier);
    }
    register
};

/// Called after ours before the fork, and before ours after it.
fn handle_forks_earlier(handler: extern "C" fn()) {
    assert!(EARLIER.set(handler).is_ok());
}

/// The other way about.
fn handle_forks(handler: extern "C" fn()) {
    // SAFETY: it stays for ever.
    unsafe {
        let handler = std::mem::transmute::<extern "C" fn(), unsafe extern "C" fn()>(handler);
        assert_eq!(libc::pthread_atfork(Some(handler), Some(handler), Some(handler)), 0);
    }
}

#[test]
fn handlers_around_forks_allocate_on_both_sides_of_ours() {
    alone(|| {
        handle_forks_earlier(handler);
        assert!(POOLS.set(Pools::new()).is_ok());
        handle_forks(handler);
        let (pools, times) = (POOLS.get().expect("just set"), ops(3_000_000) / 10_000);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let stop = &stop;
            scope.spawn(move || {
                thread::scope(|scope| {
                    pools.keep_busy(scope, stop);
                });
            });
            let mut random = fastrand::Rng::with_seed(5);
            for _ in 0..times {
                in_fork(|| pools.are_whole(&mut random));
            }
            stop.store(true, Relaxed);
        });
        assert_eq!(CALLS.load(Relaxed), times * 4);
        pools.stats().iter().for_each(check_at_rest);
    });
}

static GATED: OnceLock<BufferPool<Gate>> = OnceLock::new();
static GRANTED: Mutex<Vec<bool>> = Mutex::new(Vec::new());

/// Asks for more than is left while another thread asks for as much.
extern "C" fn greedy() {
    let pool = GATED.get().expect("set before");
    let got = pool.get(layout(768 << 10));
    GRANTED.lock().expect("no panics").push(got.is_ok());
    // SAFETY: got with this layout.
    got.into_iter().for_each(|ptr| unsafe { pool.put(ptr, layout(768 << 10)) });
    check(&pool.stats());
}

#[test]
fn handlers_do_not_wait_for_other_threads() {
    alone(|| {
        handle_forks_earlier(greedy);
        let pool = GATED.get_or_init(gated);
        while_at_the_gate(
            pool,
            || pair(pool, 512 << 10),
            || {
                in_fork(|| {
                    // The other thread stood in the way before the fork.
                    assert_eq!(*GRANTED.lock().expect("no panics"), [false, true]);
                    check_at_rest(&pool.stats());
                });
                assert_eq!(*GRANTED.lock().expect("no panics"), [false; 2]);
            },
        );
    });
}

/// Forks in the handler, once.
extern "C" fn forks() {
    static ONCE: AtomicBool = AtomicBool::new(false);
    if !ONCE.swap(true, SeqCst) {
        let pools = POOLS.get().expect("set before");
        let ours = std::process::id();
        let child = fork(|| pools.use_all(&mut fastrand::Rng::with_seed(4)));
        assert_eq!(wait(child), 0, "the child of {ours}");
        pools.use_all(&mut fastrand::Rng::with_seed(4));
    }
}

#[test]
fn a_handler_may_fork() {
    alone(|| {
        assert!(POOLS.set(Pools::new()).is_ok());
        let pools = POOLS.get().expect("just set");
        handle_forks(forks);
        in_fork(|| pools.are_whole(&mut fastrand::Rng::with_seed(5)));
        thread::scope(|scope| {
            scope.spawn(|| pools.are_whole(&mut fastrand::Rng::with_seed(6)));
        });
    });
}
