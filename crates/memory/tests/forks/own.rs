//! What the forking thread itself has under way at the backing.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use tenzor_memory::{Backing, Refused, System};

use crate::buffers::full;
use crate::child::wait;
use crate::pools::check_at_rest;
use crate::process::alone;

/// A backing that forks; the child goes on from there.
struct Forking {
    children: Mutex<Vec<libc::pid_t>>,
    forks: AtomicBool,
}

impl Forking {
    fn fork(&self) {
        if self.forks.swap(false, SeqCst) {
            // SAFETY: one thread, and the child ends where the test does.
            let child = unsafe { libc::fork() };
            assert!(child >= 0);
            self.children.lock().expect("no panics").push(child);
        }
    }
}

// SAFETY: what is granted is granted by `System`.
unsafe impl Backing for Forking {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.fork();
        System.obtain(layout)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        self.fork();
        // SAFETY: the caller's word, passed on.
        unsafe { System.give_back(block, layout) };
    }
}

#[test]
fn what_the_forking_thread_has_under_way_goes_on_in_both_processes() {
    alone(|| {
        let backing = Forking { children: Mutex::new(Vec::new()), forks: AtomicBool::new(true) };
        let (pool, large) = full(backing);
        let forks = || pool.backing().forks.store(true, SeqCst);
        let at_rest = |in_use: usize, pooled: usize| {
            let stats = pool.stats();
            check_at_rest(&stats);
            assert_eq!(
                (stats.bytes_in_use, stats.pooled_bytes, stats.reserved_bytes),
                (in_use, pooled, in_use + pooled)
            );
        };
        at_rest(32 << 10, 32 << 10);
        // It waits for the room of the others.
        forks();
        large.put(&pool, 32 << 10);
        at_rest(0, 32 << 10);
        forks();
        assert_eq!(pool.trim(0), 32 << 10);
        at_rest(0, 0);
        let children = pool.backing().children.lock().expect("no panics").clone();
        // Each of the eight processes waits for its own.
        let own = children.iter().rposition(|&child| child == 0).map_or(0, |at| at + 1);
        children[own..].iter().for_each(|&child| assert_eq!(wait(child), 0));
        if own > 0 {
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) };
        }
    });
}
