//! The system refuses the fence for all threads after some of them had stocks, as a sandbox may at any time: nothing is lost, no
//! cap is exceeded, nobody waits for ever, and the numbers add up.
#![allow(unsafe_code, missing_docs, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/pools.rs"]
mod pools;
#[path = "global/process.rs"]
#[allow(dead_code)]
mod process;

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use common::ops;
use pools::{at_work, check_caps, one_of, tracked};
use process::alone;
use tenzor_memory::{AllocErrorKind, Limited, OwnedBuffer, PoolConfig, System, TensorAllocator};

/// From now on the calling thread, or all threads, may not use the fence.
fn refuse_fences(of_all_threads: bool) {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        step(0x20, 0, 0, 0), // The call's number
        step(0x15, 0, 1, libc::SYS_membarrier as u32),
        step(0x06, 0, 0, 0x0005_0000 | libc::EPERM as u32),
        step(0x06, 0, 0, 0x7fff_0000),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: plain calls; the program lives as long.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let flags = if of_all_threads { libc::SECCOMP_FILTER_FLAG_TSYNC } else { 0 };
        let set = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program);
        assert_eq!(set, 0, "a filter");
        assert_ne!(libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0), 0);
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// A thread that does what it is told, one thing after the other.
struct Worker {
    work: Sender<Work>,
    done: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Worker {
    fn new() -> Self {
        let (work, inbox) = mpsc::channel::<Work>();
        let (outbox, done) = mpsc::channel();
        let thread = thread::spawn(move || {
            inbox.into_iter().for_each(|work| {
                work();
                outbox.send(()).expect("somebody waits");
            });
        });
        Self { work, done, thread }
    }

    fn run(&self, work: impl FnOnce() + Send + 'static) {
        self.work.send(Box::new(work)).expect("it waits for work");
        self.done.recv().expect("no panic");
    }

    fn end(self) {
        drop(self.work);
        self.thread.join().expect("no panic");
    }
}

#[test]
fn what_a_thread_did_not_tell_is_not_claimed() {
    alone(|| {
        let alloc = TensorAllocator::new();
        let there = Worker::new();
        let (sender, receiver) = mpsc::channel::<OwnedBuffer<u8>>();
        let alloc_there = alloc.clone();
        there.run(move || {
            one_of(&alloc_there, 1000);
            // Counted in that thread's stock alone.
            sender.send(alloc_there.alloc_filled(1000, 1).expect("memory").into_owned()).expect("a receiver");
        });
        drop(receiver.recv());
        refuse_fences(true);
        let stats = alloc.stats();
        check_caps(&stats, alloc.config());
        assert_eq!((stats.bytes_in_use, stats.pooled_bytes, stats.reserved_bytes), (0, 1024, 1024), "{stats}");
        assert_eq!((stats.allocations, stats.deallocations), (2, 2), "{stats}");
        assert_eq!(alloc.trim(0), 1024);
        check_caps(&alloc.stats(), alloc.config());
        there.end();
        let stats = alloc.stats();
        check_caps(&stats, alloc.config());
        assert_eq!((stats.allocations, stats.deallocations, stats.reserved_bytes), (2, 2, 0), "{stats}");
    });
}

#[test]
fn a_stock_is_handed_over_when_its_thread_comes_by_or_ends() {
    alone(|| {
        let (ledger, alloc) = tracked(PoolConfig::default());
        let workers = [(); 2].map(|()| Worker::new());
        for worker in &workers {
            let alloc = alloc.clone();
            worker.run(move || [100, 1000, 10_000].iter().for_each(|&size| one_of(&alloc, size)));
        }
        refuse_fences(true);
        let all = ledger.live_bytes();
        assert_eq!(alloc.trim(0), 0);
        let stats = alloc.stats();
        check_caps(&stats, alloc.config());
        assert_eq!((stats.pooled_bytes, stats.bytes_in_use, stats.pool_hits), (all, 0, 0), "{stats}");
        let [comes_by, ends] = workers;
        let alloc_there = alloc.clone();
        comes_by.run(move || one_of(&alloc_there, 1000));
        assert_eq!(alloc.stats().pool_hits, 1);
        assert_eq!(alloc.trim(0), all / 2);
        check_caps(&alloc.stats(), alloc.config());
        ends.end();
        // What it left serves the others.
        [100, 1000, 10_000].iter().for_each(|&size| one_of(&alloc, size));
        let stats = alloc.stats();
        assert_eq!((stats.pool_hits, stats.pool_misses), (4, 6), "{stats}");
        assert_eq!(alloc.trim(0), all / 2);
        assert_eq!((ledger.live_blocks(), alloc.stats().reserved_bytes), (0, 0));
        comes_by.end();
    });
}

#[test]
fn nobody_waits_for_what_a_thread_keeps() {
    alone(|| {
        let limited = TensorAllocator::with_config_in(
            PoolConfig::default().with_limit(Some(128 << 10)),
            Limited::new(System, usize::MAX),
        );
        let scarce = TensorAllocator::new_in(Limited::new(System, 128 << 10));
        let there = Worker::new();
        let pools = [limited, scarce];
        let pools_there = pools.clone();
        there.run(move || {
            for pool in &pools_there {
                drop([(); 2].map(|()| pool.alloc::<u8>(60 << 10).expect("memory")));
            }
        });
        refuse_fences(true);
        for pool in &pools {
            let error = pool.alloc::<u8>(100 << 10).expect_err("no room");
            assert_eq!((error.kind(), error.in_use() + error.pooled()), (AllocErrorKind::OverLimit, 120 << 10));
            check_caps(&pool.stats(), pool.config());
            one_of(pool, 8 << 10);
        }
        let pools_there = pools.clone();
        there.run(move || pools_there.iter().for_each(|pool| one_of(pool, 60 << 10)));
        for pool in &pools {
            one_of(pool, 100 << 10);
            check_caps(&pool.stats(), pool.config());
        }
        there.end();
    });
}

#[test]
fn a_pool_that_is_dropped_takes_everything_along() {
    alone(|| {
        let (ledger, alloc) = tracked(PoolConfig::default());
        let there = Worker::new();
        let alloc_there = alloc.clone();
        there.run(move || [100, 1000, 10_000].iter().for_each(|&size| one_of(&alloc_there, size)));
        refuse_fences(true);
        drop(alloc);
        assert_eq!((ledger.live_blocks(), ledger.faults().len()), (0, 0));
        there.end();
    });
}

/// Threads at work when the fence is refused to one of them that looks, or to all.
fn refused_in_the_midst(of_all_threads: bool) {
    let looks = ops(2_000_000) / 1000;
    for config in [
        PoolConfig::default(),
        PoolConfig::default().with_max_pool_size(256 << 10).with_max_buffers_per_bucket(5),
        PoolConfig::default().with_max_buffers_per_bucket(2).with_limit(Some(8 << 20)),
    ] {
        at_work(config, looks, 0, |alloc, look| {
            if look == looks / 4 {
                refuse_fences(of_all_threads);
            }
            if look % 100 == 99 {
                alloc.trim(10_000);
            }
        });
    }
}

#[test]
fn a_refusal_in_the_midst_of_work_loses_nothing() {
    alone(|| refused_in_the_midst(true));
}

#[test]
fn a_refusal_to_one_thread_loses_nothing() {
    alone(|| refused_in_the_midst(false));
}

#[test]
fn a_child_counts_as_in_use_what_it_cannot_know() {
    alone(|| {
        let alloc = TensorAllocator::new();
        let there = Worker::new();
        let (sender, receiver) = mpsc::channel::<OwnedBuffer<u8>>();
        let alloc_there = alloc.clone();
        there.run(move || {
            [500, 1000].iter().for_each(|&size| one_of(&alloc_there, size));
            sender.send(alloc_there.alloc_filled(1000, 1).expect("memory").into_owned()).expect("a receiver");
        });
        // Last told, it lay in the other thread's stock.
        let buffer = receiver.recv().expect("sent");
        refuse_fences(true);
        // SAFETY: the child uses the pool, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let stats = alloc.stats();
            check_caps(&stats, alloc.config());
            assert_eq!((stats.bytes_in_use_rounded, stats.pooled_bytes), (512 + 1024, 0), "{stats}");
            assert!(buffer.iter().all(|&byte| byte == 1));
            drop(buffer);
            let stats = alloc.stats();
            check_caps(&stats, alloc.config());
            assert_eq!((stats.bytes_in_use_rounded, stats.pooled_bytes), (512, 1024), "{stats}");
            assert_eq!(alloc.trim(0), 1024);
            // SAFETY: ends the process; a panic ends it otherwise.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: it is our child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "the child's end");
        check_caps(&alloc.stats(), alloc.config());
        there.end();
    });
}
