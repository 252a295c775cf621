//! What must not be done, and is noticed: the process ends by the signal of `abort`.
//!
//! Noticed is a small block, of less than 8 KiB, that is freed a second time, once both frees have left the caches of the
//! threads; and with them what was never a block of the heap. Of blocks of more than 64 KiB, `hostile` tries what is noticed. Not noticed
//! are a block that was handed out again in between, which is then its next owner's that is freed, and writes to what was freed,
//! though these damage no bookkeeping.

use std::alloc::{Layout, alloc, dealloc};
use std::os::unix::process::ExitStatusExt;
use std::thread;

use tenzor_memory::HeapConfig;

use crate::GLOBAL;
use crate::common::layout;
use crate::process::{alone_with, in_child};

/// Frees a block so often, by so many threads; what lay in their caches goes to the heap then.
fn free(layout: Layout, threads: usize, times: usize) {
    // SAFETY: none for the second free. That is the point.
    unsafe {
        let neighbours: Vec<_> = (0..100).map(|_| alloc(layout).addr()).collect();
        let block = alloc(layout).addr();
        for _ in 0..threads {
            let free = move || (0..times).for_each(|_| dealloc(std::ptr::with_exposed_provenance_mut(block), layout));
            thread::spawn(free).join().expect("no panic");
        }
        GLOBAL.trim();
        assert_eq!(neighbours.len(), 100);
    }
}

#[test]
fn a_second_free_of_a_small_block_is_noticed() {
    for (case, size) in [1, 16, 100, 1000, 4096, 7168].into_iter().enumerate() {
        for (threads, times) in [(1, 2), (2, 1), (1, 1)] {
            let case = (case * 10 + threads * 2 + times) as u64;
            let end = in_child(case, |_| (), || free(layout(size, 1), threads, times));
            let right = threads * times == 1;
            let signal = if right { None } else { Some(libc::SIGABRT) };
            assert!(
                end.as_ref().is_none_or(|end| end.status.signal() == signal && end.status.success() == right),
                "{size} bytes, {times} times by {threads} threads: {end:?}"
            );
        }
    }
}

/// Frees a block twice, one directly after the other, and then says that it was not noticed.
fn free_at_once(layout: Layout) {
    // SAFETY: none for the second free. That is the point.
    unsafe {
        let neighbours: Vec<_> = (0..10).map(|_| alloc(layout)).collect();
        let block = std::hint::black_box(alloc(layout));
        dealloc(block, layout);
        dealloc(std::hint::black_box(block), layout);
        drop(neighbours);
    }
}

#[test]
fn a_second_free_is_noticed_at_once_where_that_is_asked_for() {
    for (case, size) in [1, 100, 7168, 8192, 20_000, 65_536].into_iter().enumerate() {
        for checks in [true, false] {
            let end = in_child(
                1000 + 2 * case as u64 + u64::from(checks),
                |_| (),
                || {
                    GLOBAL.configure(&HeapConfig::new().with_checks(checks));
                    free_at_once(layout(size, 1));
                    // Nothing else is looked at.
                    // SAFETY: it ends the process.
                    unsafe { libc::_exit(0) };
                },
            );
            let signal = if checks { Some(libc::SIGABRT) } else { None };
            assert!(end.as_ref().is_none_or(|end| end.status.signal() == signal), "{size} bytes, {checks}: {end:?}");
        }
    }
}

#[test]
fn the_environment_asks_for_checks() {
    alone_with("TENZOR_CHECK", "1", || {
        assert!(GLOBAL.config().checks.value);
        let lives: Vec<Vec<u8>> = (0..10_000).map(|size| vec![size as u8; size % 9000]).collect();
        assert!(lives.iter().enumerate().all(|(size, life)| life.iter().all(|&byte| byte == size as u8)));
        let before = GLOBAL.stats().bytes_in_use_rounded;
        drop(lives);
        // Threads have no stocks: it is all back.
        assert!(GLOBAL.stats().bytes_in_use_rounded + 10_000 * 4000 < before);
    });
}
