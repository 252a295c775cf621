//! Threads that allocate and free across each other: nothing is lost, and at the end every number is exact.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::common::{ops, random_size};
use tenzor_memory::{Backing, Limited, OwnedBuffer, PoolConfig, Refused, System, TensorAllocator, Tracking};

const THREADS: usize = 8;

#[test]
fn eight_threads_pass_ten_million_buffers_around() {
    let ledger = Tracking::new(System);
    let config = PoolConfig::default().with_max_pool_size(4 << 20).with_limit(Some(64 << 20));
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
                    if let Ok(buffer) = inbox.try_recv() {
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
    let config = PoolConfig::default().with_limit(Some(256 << 10)).with_max_buffers_per_bucket(2);
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
    let buffer: OwnedBuffer<f32> = alloc.alloc_filled(1000, 1.5).expect("memory").into_owned();
    drop(alloc);
    let sum = thread::spawn(move || buffer.iter().sum::<f32>()).join().expect("no panic");
    assert_eq!(sum, 1500.0);
}

/// Takes its time over taking a block back.
struct Slow<B> {
    inner: B,
    taking_back: AtomicBool,
}

impl<B> Slow<B> {
    fn new(inner: B) -> Self {
        Self { inner, taking_back: AtomicBool::new(false) }
    }

    fn wait_until_taking_back(&self) {
        while !self.taking_back.load(Ordering::Acquire) {
            thread::yield_now();
        }
    }
}

// SAFETY: what is granted is granted by `inner`.
unsafe impl<B: Backing> Backing for Slow<B> {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.inner.obtain(layout)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        self.taking_back.store(true, Ordering::Release);
        thread::sleep(Duration::from_millis(50));
        // SAFETY: the caller's word, passed on.
        unsafe { self.inner.give_back(block, layout) };
    }
}

#[test]
fn a_request_waits_for_memory_that_is_on_its_way_back() {
    // Under the pool's own limit, and over a backing that has no more.
    let slow = Slow::new(System);
    waits(&slow, &TensorAllocator::with_config_in(PoolConfig::default().with_limit(Some(1 << 20)), &slow));
    let slow = Slow::new(Limited::new(System, 1 << 20));
    waits(&slow, &TensorAllocator::new_in(&slow));
}

fn waits<B: Backing + Sync + Send>(slow: &Slow<B>, alloc: &TensorAllocator<&Slow<B>>) {
    drop(alloc.alloc::<u8>(640 << 10));
    thread::scope(|scope| {
        scope.spawn(|| alloc.trim(0));
        slow.wait_until_taking_back();
        let stats = alloc.stats();
        if stats.overhead_bytes > 0 {
            assert_eq!((stats.pooled_bytes, stats.overhead_bytes, stats.reserved_bytes), (0, 640 << 10, 640 << 10));
        }
        assert!(alloc.alloc::<u8>(500 << 10).is_ok());
    });
}

/// Grants one request, and refuses the next when it is told to.
#[derive(Default)]
struct Hesitant {
    requests: AtomicUsize,
    refuse: AtomicBool,
}

// SAFETY: what is granted is granted by `System`.
unsafe impl Backing for Hesitant {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        if self.requests.fetch_add(1, Ordering::AcqRel) == 0 {
            return System.obtain(layout);
        }
        while !self.refuse.load(Ordering::Acquire) {
            thread::yield_now();
        }
        Err(Refused)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's word, passed on.
        unsafe { System.give_back(block, layout) };
    }
}

#[test]
fn a_refused_request_takes_what_was_freed_meanwhile() {
    let backing = Hesitant::default();
    let alloc = TensorAllocator::new_in(&backing);
    let kept = alloc.alloc::<u8>(1000).expect("memory");
    let address = kept.as_ptr().addr();
    thread::scope(|scope| {
        let request = scope.spawn(|| alloc.alloc::<u8>(1000).map(|buffer| buffer.as_ptr().addr()));
        while backing.requests.load(Ordering::Acquire) < 2 {
            thread::yield_now();
        }
        drop(kept);
        backing.refuse.store(true, Ordering::Release);
        assert_eq!(request.join().expect("no panic"), Ok(address));
    });
    assert_eq!((alloc.stats().pool_hits, alloc.stats().pool_misses, alloc.stats().released), (1, 1, 0));
}

#[test]
fn a_buffer_that_waits_for_room_in_the_pool_stands_in_nobodys_way() {
    let slow = Slow::new(System);
    let config = PoolConfig::default().with_limit(Some(64 << 10)).with_max_pool_size(32 << 10);
    let alloc = TensorAllocator::with_config_in(config.with_max_buffers_per_bucket(100), &slow);
    let large = alloc.alloc::<u8>(32 << 10).expect("memory");
    drop((0..32).map(|_| alloc.alloc::<u8>(1 << 10).expect("memory")).collect::<Vec<_>>());
    thread::scope(|scope| {
        scope.spawn(|| drop(large)); // Pushes out all the small ones, one after the other.
        slow.wait_until_taking_back();
        assert!(alloc.alloc::<u8>(40 << 10).is_ok());
    });
}

#[test]
fn a_backing_at_its_limit_refuses_nobody_for_what_is_pooled() {
    let backing = Limited::new(System, 256 << 10);
    let alloc = TensorAllocator::new_in(&backing);
    thread::scope(|scope| {
        for id in 0..THREADS {
            let alloc = &alloc;
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(id as u64);
                for _ in 0..ops(400_000) / THREADS {
                    alloc.alloc::<u8>(rng.usize(1..=28 << 10)).expect("it fits beside everyone else's");
                }
            });
        }
    });
    let stats = alloc.stats();
    assert_eq!((stats.failures, stats.bytes_in_use, stats.overhead_bytes), (0, 0, 0));
    assert!(stats.peak_reserved_bytes <= 256 << 10, "{stats}");
}

#[test]
fn a_refused_request_leaves_no_mark_on_the_peak() {
    let alloc = TensorAllocator::new_in(Limited::new(System, 1 << 20));
    let refused = || (0..ops(20_000)).for_each(|_| assert!(alloc.alloc::<u8>(1 << 30).is_err()));
    let served = || (0..ops(20_000)).for_each(|i| assert!(alloc.alloc::<u8>(64 << (i % 8)).is_ok()));
    thread::scope(|scope| {
        scope.spawn(refused);
        scope.spawn(served);
    });
    assert!(alloc.stats().peak_reserved_bytes <= 1 << 20, "{}", alloc.stats());
}
