//! Forks of a process whose other threads are in the middle of anything.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use std::{panic, thread};

use crate::GLOBAL;
use crate::block::{Block, any_layout};
use crate::common::ops;
use crate::lives::use_the_allocator;
use crate::process::alone;
use crate::traffic::{self, Exchange};

const PATIENCE: Duration = Duration::from_secs(30);
const LARGEST: usize = 100 << 10;

/// Operations that take as long as a fork.
const WORTH: usize = 20_000;

/// Forks, runs `body` in the child and waits for its end.
pub(crate) fn forked(body: impl FnOnce()) {
    // SAFETY: the child uses nothing but the allocator, and threads.
    match unsafe { libc::fork() } {
        -1 => panic!("no child"),
        0 => {
            let fine = panic::catch_unwind(panic::AssertUnwindSafe(body)).is_ok();
            // SAFETY: ends the process, and leaves alone what belongs to the parent.
            unsafe { libc::_exit(i32::from(!fine)) };
        }
        child => {
            let (start, mut status) = (Instant::now(), 0);
            // SAFETY: it is our child, and was not waited for yet.
            while unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == 0 {
                if start.elapsed() > PATIENCE {
                    // SAFETY: as above.
                    unsafe { libc::kill(child, libc::SIGKILL) };
                    panic!("the child hangs");
                }
                thread::sleep(Duration::from_micros(200));
            }
            assert_eq!(status, 0, "the child's end");
        }
    }
}

#[test]
fn five_hundred_children_of_a_busy_process_live_and_end_well() {
    alone(|| {
        let (exchange, done) = (Exchange::new(), AtomicBool::new(false));
        let mut rng = fastrand::Rng::with_seed(1);
        let mut inherited: Vec<_> = (0..100).map(|i| Block::new(any_layout(&mut rng, LARGEST), i)).collect();
        thread::scope(|scope| {
            for id in 0..8 {
                let (exchange, done) = (&exchange, &done);
                scope.spawn(move || {
                    // Busy, but not so busy that it takes the children long to get a turn.
                    // SAFETY: a plain call; it is about the calling thread.
                    unsafe { libc::nice(10) };
                    while !done.load(Relaxed) {
                        traffic::work(id, 1000, LARGEST, exchange);
                    }
                });
            }
            for _ in 0..(ops(500 * WORTH) / WORTH).clamp(20, 500) {
                forked(|| {
                    inherited.clear(); // Each looks at its contents.
                    use_the_allocator(1);
                    thread::spawn(|| use_the_allocator(2)).join().expect("no panic");
                    GLOBAL.trim();
                    let stats = GLOBAL.stats();
                    assert_eq!(stats.bytes_in_use_rounded + stats.pooled_bytes, stats.reserved_bytes);
                });
            }
            done.store(true, Relaxed);
        });
        assert!(inherited.iter().all(Block::is_intact), "a child wrote to its parent's memory");
    });
}
