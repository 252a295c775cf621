//! Forks of the host: handlers that use the allocator, those that keep others waiting, and what a child has.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::GLOBAL;
use crate::block::{Block, any_layout};
use crate::case::{Case, case};
use crate::common::{layout, ops};
use crate::forks::forked;
use crate::host::{MIB, decays_within, has_two_threads, purgers, slow_requests_give_it_back, threads, waste};
use crate::lives::use_the_allocator;
use crate::process::within;
use crate::traffic::{self, Exchange};

static HANDLED: AtomicUsize = AtomicUsize::new(0);
static KEPT: Mutex<Vec<Block>> = Mutex::new(Vec::new());

/// Uses the allocator in every way.
pub(crate) unsafe extern "C" fn handler() {
    let number = HANDLED.fetch_add(1, Relaxed);
    use_the_allocator(number as u64);
    // Freed by a later one, on another side of the lock.
    let mut kept = KEPT.lock().expect("no panic");
    let block = Block::new(any_layout(&mut fastrand::Rng::with_seed(number as u64), 300 << 10), number as u64);
    kept.push(block);
    if kept.len() > 4 {
        kept.remove(0);
    }
    let stats = GLOBAL.stats();
    assert_eq!(stats.bytes_in_use_rounded + stats.pooled_bytes, stats.reserved_bytes);
    if number.is_multiple_of(16) {
        GLOBAL.trim();
    }
    if number.is_multiple_of(8) {
        // It may have to wait until the fork is over.
        thread::spawn(move || use_the_allocator(number as u64));
    }
}

fn handlers_around_forks_may_use_the_allocator() {
    // SAFETY: the function is there for ever.
    assert_eq!(unsafe { libc::pthread_atfork(Some(handler), Some(handler), Some(handler)) }, 0);
    let exchange = Exchange::new();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for id in 0..8 {
            let (exchange, done) = (&exchange, &done);
            scope.spawn(move || {
                // SAFETY: a plain call; it is about the calling thread.
                unsafe { libc::nice(10) };
                while !done.load(Relaxed) {
                    traffic::work(id, 1000, 100 << 10, exchange);
                }
            });
        }
        for _ in 0..(ops(10_000_000) / 20_000).clamp(20, 500) {
            let before = HANDLED.load(Relaxed);
            forked(|| {
                assert_eq!(HANDLED.load(Relaxed) - before, 4, "two before the fork and two in the child");
                use_the_allocator(1);
                thread::spawn(|| use_the_allocator(2)).join().expect("no panic");
                GLOBAL.trim();
            });
            assert_eq!(HANDLED.load(Relaxed) - before, 4);
        }
        done.store(true, Relaxed);
    });
}

/// A library's lock, held while the process forks.
static OUTER: AtomicBool = AtomicBool::new(false);

pub(crate) unsafe extern "C" fn take_outer() {
    while OUTER.compare_exchange(false, true, Acquire, Relaxed).is_err() {
        thread::yield_now();
    }
}

pub(crate) unsafe extern "C" fn leave_outer() {
    OUTER.store(false, Release);
}

/// Does something under the library's lock.
fn under_outer(body: impl FnOnce()) {
    // SAFETY: plain functions.
    unsafe { take_outer() };
    body();
    // SAFETY: as above.
    unsafe { leave_outer() };
}

fn a_fork_waits_for_who_waits_for_the_heap() {
    let exchange = Exchange::new();
    let done = AtomicBool::new(false);
    let in_use = GLOBAL.stats().bytes_in_use;
    thread::scope(|scope| {
        for id in 0..4 {
            let (exchange, done) = (&exchange, &done);
            scope.spawn(move || {
                for round in 0.. {
                    if done.load(Relaxed) {
                        break;
                    }
                    under_outer(|| match (id, round % 8) {
                        // Its end is waited for.
                        (0, 0) => thread::spawn(move || use_the_allocator(round)).join().expect("no panic"),
                        (1, _) => {
                            let mut block = Block::zeroed(layout(40 * MIB, 8), round);
                            block.resize(50 * MIB);
                        }
                        _ => traffic::work(id, 20, 300 << 10, exchange),
                    });
                    thread::sleep(Duration::from_micros(100));
                }
            });
        }
        for round in 0..(ops(10_000_000) / 500_000).clamp(5, 20) as u64 {
            forked(|| {
                use_the_allocator(round);
                under_outer(|| thread::spawn(|| use_the_allocator(2)).join().expect("no panic"));
            });
        }
        done.store(true, Relaxed);
    });
    drop(exchange);
    let stats = GLOBAL.stats();
    assert!(stats.bytes_in_use.abs_diff(in_use) < 20_000, "{stats}");
    assert_eq!(stats.bytes_in_use_rounded + stats.pooled_bytes, stats.reserved_bytes, "{stats}");
}

fn a_forks_child_counts_what_it_has() {
    let (to_main, blocks) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        // Hits of a cache that nobody has settled.
        drop((0..50).map(|i| Block::new(layout(500, 8), i)).collect::<Vec<_>>());
        to_main.send((0..20).map(|i| Block::new(layout(500, 8), i)).collect::<Vec<_>>()).expect("a receiver");
        wait.recv().ok();
    });
    let blocks = blocks.recv().expect("a sender");
    let before = GLOBAL.stats();
    forked(move || {
        let now = GLOBAL.stats();
        assert!(now.bytes_in_use.abs_diff(before.bytes_in_use) < 10_000, "{before}\n{now}");
        drop(blocks); // Freed here, where nobody has allocated them.
        let then = GLOBAL.stats();
        assert!(now.bytes_in_use - then.bytes_in_use >= 20 * 500, "{now}\n{then}");
        assert_eq!(then.bytes_in_use_rounded + then.pooled_bytes, then.reserved_bytes);
        assert!(then.buckets.iter().all(|row| row.buffers_in_use < 1 << 40), "{then}");
        let cached: usize = then.buckets.iter().map(|row| row.pooled_bytes).sum();
        assert!(cached < 320 << 10, "what other threads had cached is not: {then}");
        // Single-threaded again.
        waste();
        assert_eq!(threads(), 1);
    });
    drop(go_on);
    thread.join().expect("no panic");
}

fn a_child_without_a_purge_thread_gives_memory_back_itself() {
    has_two_threads();
    GLOBAL.configure(&decays_within(1000));
    waste();
    assert!(within(Duration::from_secs(30), || !purgers().is_empty()), "there is none");
    forked(|| {
        assert!(slow_requests_give_it_back(Duration::from_millis(500)), "{}", GLOBAL.stats());
        assert_eq!(threads(), 1);
    });
}

pub(crate) const CASES: &[Case] = &[
    Case {
        environment: &[("TENZOR_TEST", "handlers")],
        ..case("handlers_around_forks_may_use_the_allocator", handlers_around_forks_may_use_the_allocator)
    },
    Case {
        environment: &[("TENZOR_TEST", "a lock")],
        ..case("a_fork_waits_for_who_waits_for_the_heap", a_fork_waits_for_who_waits_for_the_heap)
    },
    case("a_forks_child_counts_what_it_has", a_forks_child_counts_what_it_has),
    case(
        "a_child_without_a_purge_thread_gives_memory_back_itself",
        a_child_without_a_purge_thread_gives_memory_back_itself,
    ),
];
