//! Pools, what their numbers say at every moment, and threads that are at work with one meanwhile.
#![allow(dead_code)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, ScopedJoinHandle};

use tenzor_memory::{Backing, BucketStats, Buffer, PoolConfig, Stats, System, TensorAllocator, Tracking};

use crate::common::random_size;

pub(crate) type Alloc = TensorAllocator<Arc<Tracking<System>>>;

pub(crate) fn tracked(config: PoolConfig) -> (Arc<Tracking<System>>, Alloc) {
    let ledger = Arc::new(Tracking::new(System));
    (ledger.clone(), TensorAllocator::with_config_in(config, ledger))
}

pub(crate) fn one_of<B: Backing>(alloc: &TensorAllocator<B>, bytes: usize) {
    drop(alloc.alloc::<u8>(bytes).expect("memory"));
}

/// The numbers add up.
pub(crate) fn check(stats: &Stats) {
    assert!(stats.bytes_in_use <= stats.bytes_in_use_rounded, "{stats}");
    assert_eq!(stats.bytes_in_use_rounded + stats.pooled_bytes + stats.overhead_bytes, stats.reserved_bytes, "{stats}");
    assert_eq!(stats.bytes_allocated.wrapping_sub(stats.bytes_freed), stats.bytes_in_use, "{stats}");
    let rows = |number: fn(&BucketStats) -> u64| stats.buckets.iter().map(number).sum::<u64>();
    assert_eq!(rows(|row| row.buffers_in_use), stats.allocations - stats.deallocations, "{stats}");
    assert_eq!(rows(|row| row.pooled_bytes as u64), stats.pooled_bytes as u64, "{stats}");
    assert_eq!(rows(|row| row.pooled_buffers as u64), stats.pooled_buffers as u64, "{stats}");
    assert!(stats.buckets.iter().all(|row| row.buffers_in_use < 1 << 40 && row.hits < 1 << 40), "{stats}");
    for row in &stats.buckets {
        assert_eq!(row.misses - row.released, row.buffers_in_use + row.pooled_buffers as u64, "{stats}");
    }
}

/// As [`check`], where nothing is on its way.
pub(crate) fn check_at_rest(stats: &Stats) {
    check(stats);
    assert_eq!(stats.overhead_bytes, 0, "{stats}");
}

/// The numbers add up, and are within the caps.
pub(crate) fn check_caps(stats: &Stats, config: &PoolConfig) {
    check(stats);
    assert!(stats.pooled_bytes <= config.max_pool_size, "{stats}");
    assert!(stats.buckets.iter().all(|row| row.pooled_buffers <= config.max_buffers_per_bucket), "{stats}");
}

/// Four threads request buffers of a pool, and keep, hand over or free them, until so many looks at the numbers and so many requests were
/// made; what else is to be done with each look, `meanwhile` does. Nobody writes where another one does, and in the end nothing is missing.
pub(crate) fn at_work(config: PoolConfig, looks: usize, requests: usize, mut meanwhile: impl FnMut(&Alloc, usize)) {
    /// Lets the threads end, whatever happens.
    struct Rest<'a>(&'a AtomicBool);

    impl Drop for Rest<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }

    let (ledger, alloc) = tracked(config);
    let (done, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (sender, receiver) = mpsc::sync_channel::<Buffer<u8, &Alloc>>(16);
    let receiver = Mutex::new(receiver);
    let received = || receiver.lock().expect("no panics").try_recv();
    let work = |id: u64| {
        let untouched = |buffer: &Buffer<u8, &Alloc>, whose: u8| {
            assert_eq!((buffer.first(), buffer.last()), (Some(&whose), Some(&whose)), "somebody else wrote here");
        };
        let mut rng = fastrand::Rng::with_seed(id);
        let mut own = Vec::new();
        while !done.load(Relaxed) {
            let size = random_size(&mut rng, 100 << 10).max(1);
            let mut buffer = alloc.alloc::<u8>(size).expect("memory").init_with(|_| 0);
            (buffer[0], buffer[size - 1]) = (id as u8, id as u8);
            made.fetch_add(1, Relaxed);
            match rng.u8(..) {
                0..80 => drop(sender.try_send(buffer)),
                80..160 => own.push(buffer),
                _ => drop(buffer),
            }
            if let Ok(other) = received() {
                untouched(&other, other[0]);
            }
            if own.len() > 20 {
                own.drain(..).for_each(|buffer| untouched(&buffer, id as u8));
            }
        }
    };
    thread::scope(|scope| {
        let _rest = Rest(&done);
        let workers = [0, 1, 2, 3].map(|id| {
            let work = &work;
            scope.spawn(move || work(id))
        });
        for look in 0.. {
            let is_enough = look >= looks && made.load(Relaxed) >= requests;
            // Before its time, none ends but by a panic.
            if is_enough || workers.iter().any(ScopedJoinHandle::is_finished) {
                break;
            }
            check_caps(&alloc.stats(), alloc.config());
            meanwhile(&alloc, look);
            thread::yield_now();
        }
    });
    drop((sender, receiver));
    let stats = alloc.stats();
    check_caps(&stats, alloc.config());
    assert_eq!((stats.bytes_in_use, stats.overhead_bytes, stats.pooled_bytes), (0, 0, ledger.live_bytes()));
    drop(alloc);
    assert_eq!((ledger.live_blocks(), ledger.faults().len()), (0, 0));
}
