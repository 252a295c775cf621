//! Threads that allocate and free across each other: nothing is lost, and at the end every number is exact.
#![allow(unsafe_code, missing_docs, clippy::expect_used, clippy::panic)]

mod common;

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{ops, random_size};
use tenzor_memory::{Backing, Buffer, Config, Refused, System, TensorAllocator, Tracking};

const THREADS: usize = 8;

#[test]
fn eight_threads_pass_ten_million_buffers_around() {
    let ledger = Tracking::new(System);
    let config = Config::default().with_max_pool_size(4 << 20).with_limit(Some(64 << 20));
    let alloc = TensorAllocator::with_config_in(config, &ledger);
    let operations = ops(10_000_000) / THREADS / 2;
    thread::scope(|scope| {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::sync_channel(64)).unzip();
        for (id, inbox) in receivers.into_iter().enumerate() {
            let (outbox, alloc) = (senders[(id + 1) % THREADS].clone(), &alloc);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(id as u64);
                let mut own = Vec::new();
                for _ in 0..operations {
                    let size = random_size(&mut rng, 16 << 10).max(2);
                    let mut buffer = alloc.alloc::<u8>(size).expect("memory").init_with(|_| 0);
                    let mark = rng.u8(..);
                    (buffer[0], buffer[size - 1]) = (mark, mark);
                    match rng.u8(..) {
                        // Freed by the next thread, if that has room for it now.
                        0..64 => drop(outbox.try_send(buffer)),
                        64..192 => drop(buffer),
                        _ => own.push(buffer),
                    }
                    let received: Option<Buffer<u8, _>> = inbox.try_recv().ok();
                    if let Some(buffer) = received {
                        assert_eq!(buffer.first(), buffer.last(), "somebody else wrote here");
                    }
                    if own.len() > 16 {
                        own.clear();
                    }
                }
            });
        }
    });
    let stats = alloc.stats();
    assert_eq!((stats.bytes_in_use, stats.bytes_in_use_rounded, stats.overhead_bytes), (0, 0, 0));
    assert_eq!(stats.allocations, (operations * THREADS) as u64);
    assert_eq!(stats.allocations, stats.deallocations);
    assert_eq!(stats.bytes_allocated, stats.bytes_freed);
    assert_eq!(stats.reserved_bytes, stats.pooled_bytes);
    assert_eq!(ledger.live_bytes(), stats.pooled_bytes);
    assert!(stats.pooled_bytes <= 4 << 20);
    assert!(ledger.peak_bytes() <= 64 << 20);
    drop(alloc);
    assert_eq!((ledger.live_blocks(), ledger.faults().len()), (0, 0));
}

#[test]
fn a_limit_holds_and_is_not_lost_between_threads_that_fight_for_it() {
    let ledger = Tracking::new(System);
    let config = Config::default().with_limit(Some(256 << 10)).with_max_buffers_per_bucket(2);
    let alloc = TensorAllocator::with_config_in(config, &ledger);
    thread::scope(|scope| {
        for id in 0..THREADS {
            let alloc = &alloc;
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(id as u64);
                for _ in 0..ops(400_000) / THREADS {
                    // Two of these always fit; pooled buffers must never be what stands in the way.
                    let one = alloc.alloc::<u8>(rng.usize(1..=14 << 10)).expect("it fits beside everyone else's");
                    let two = alloc.alloc::<u8>(rng.usize(1..=14 << 10)).expect("it fits beside everyone else's");
                    assert!(one.as_ptr() != two.as_ptr());
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..ops(400_000) / 100 {
                let stats = alloc.stats();
                assert!(stats.reserved_bytes <= 256 << 10 && stats.bytes_in_use <= stats.bytes_in_use_rounded);
                assert_eq!(
                    stats.bytes_in_use_rounded + stats.pooled_bytes + stats.overhead_bytes,
                    stats.reserved_bytes
                );
                alloc.trim(stats.pooled_bytes / 2);
            }
        });
    });
    assert!(ledger.peak_bytes() <= 256 << 10);
    assert_eq!(alloc.stats().failures, 0);
    drop(alloc);
    assert_eq!((ledger.live_blocks(), ledger.faults().len()), (0, 0));
}

#[test]
fn owned_buffers_outlive_every_other_handle() {
    let alloc = TensorAllocator::new();
    let buffer: Buffer<f32, TensorAllocator> = Buffer::filled_in(1000, 1.5, alloc.clone()).expect("memory");
    drop(alloc);
    let sum = thread::spawn(move || buffer.iter().sum::<f32>()).join().expect("no panic");
    assert_eq!(sum, 1500.0);
}

/// Takes its time over taking a block back.
#[derive(Default)]
struct Slow {
    taking_back: AtomicBool,
}

// SAFETY: what is granted is granted by `System`.
unsafe impl Backing for Slow {
    fn allocate(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        System.allocate(layout)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        self.taking_back.store(true, Ordering::Release);
        thread::sleep(Duration::from_millis(50));
        // SAFETY: the caller's word, passed on.
        unsafe { System.deallocate(block, layout) };
    }
}

#[test]
fn a_request_waits_for_memory_that_is_on_its_way_back() {
    let slow = Slow::default();
    let alloc = TensorAllocator::with_config_in(Config::default().with_limit(Some(1 << 20)), &slow);
    drop(alloc.alloc::<u8>(600 << 10));
    thread::scope(|scope| {
        scope.spawn(|| alloc.trim(0));
        while !slow.taking_back.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let stats = alloc.stats();
        if stats.overhead_bytes > 0 {
            assert_eq!((stats.pooled_bytes, stats.overhead_bytes, stats.reserved_bytes), (0, 640 << 10, 640 << 10));
        }
        assert!(alloc.alloc::<u8>(500 << 10).is_ok());
    });
}
