//! What can be set: a limit, how much is kept and how long, what goes elsewhere.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::thread;
use std::time::Duration;

use tenzor_memory::{HeapConfig, Origin, TenzorMalloc};

use crate::GLOBAL;
use crate::block::Block;
use crate::common::layout;
use crate::process::{alone, alone_with, within};

const MIB: usize = 1 << 20;

/// Takes blocks of a MiB until one is refused, a hundred at most; each has another page for its colour.
fn taken() -> Vec<Block> {
    (0..100).map_while(|i| Block::try_new(layout(MIB, 8), i)).collect()
}

fn reserved() -> usize {
    GLOBAL.stats().reserved_bytes
}

fn holds_a_limit_of_40_mib() {
    for _ in 0..3 {
        let blocks = taken();
        assert!((36..40).contains(&blocks.len()), "{} MiB could be had", blocks.len());
        let stats = GLOBAL.stats();
        assert!(stats.bytes_in_use_rounded <= 40 * MIB && stats.failures > 0 && stats.reserved_bytes <= 41 * MIB);
        // What is small, and cached, yields to what is large.
        drop(blocks);
        let mut small = Vec::with_capacity(100_000);
        small.extend((0..100_000).map_while(|i| Block::try_new(layout(100, 1), i)));
        assert_eq!(small.len(), 100_000);
        drop(small);
        assert!(Block::try_new(layout(35 * MIB, 8), 0).is_some());
    }
}

#[test]
fn a_limit_is_held_by_the_environments_word() {
    alone_with("TENZOR_LIMIT", "40M", || {
        holds_a_limit_of_40_mib();
        let in_force = || (GLOBAL.config().limit.value, GLOBAL.config().limit.origin);
        // It is that of whoever runs the program, whose word counts more than the program's.
        let config = HeapConfig::new().with_limit(None).with_idle_limit(80 * MIB);
        GLOBAL.configure(&config);
        assert_eq!(in_force(), (Some(40 * MIB), Origin::Environment));
        assert_eq!(GLOBAL.config().idle_limit.value, Some(80 * MIB));
        holds_a_limit_of_40_mib();
        GLOBAL.configure(&config.ignore_environment());
        assert_eq!(in_force(), (None, Origin::Program));
        assert_eq!(taken().len(), 100);
    });
}

#[test]
fn a_limit_is_held_by_the_programs_word() {
    alone(|| {
        let some = taken();
        assert_eq!(some.len(), 100);
        // Less than what is in use: nothing more is granted until enough was freed.
        GLOBAL.configure(&HeapConfig::new().with_limit(40 * MIB));
        assert!(taken().is_empty() && some.iter().all(Block::is_intact));
        drop(some);
        holds_a_limit_of_40_mib();
        // What is not set stays.
        GLOBAL.configure(&HeapConfig::new().with_idle_limit(64 * MIB));
        holds_a_limit_of_40_mib();
        GLOBAL.configure(&HeapConfig::new().with_limit(None));
        assert_eq!(taken().len(), 100);
    });
}

#[test]
fn no_more_is_kept_than_the_environment_says() {
    alone_with("TENZOR_IDLE_LIMIT", "8M", || {
        let mut blocks = taken();
        assert!(reserved() > 100 * MIB);
        while blocks.pop().is_some() {
            let stats = GLOBAL.stats();
            assert!(stats.pooled_bytes <= 9 * MIB, "{stats}");
        }
        assert!(reserved() < 10 * MIB, "{}", GLOBAL.stats());
        // However much there is to give back.
        let large = Block::new(layout(500 * MIB, 8), 1);
        drop(large);
        assert!(reserved() < 10 * MIB, "{}", GLOBAL.stats());
    });
}

#[test]
fn what_may_be_kept_decays_as_well() {
    alone_with("TENZOR_IDLE_LIMIT", "16M", || {
        GLOBAL.configure(&HeapConfig::new().with_decay(Some(Duration::from_millis(200))));
        drop(Block::new(layout(300 * MIB, 8), 1));
        // Nothing larger is freed any more.
        let gone = within(Duration::from_secs(30), || {
            drop(Block::new(layout(100, 8), 1));
            reserved() < 4 * MIB
        });
        assert!(gone, "{}", GLOBAL.stats());
    });
}

#[test]
fn no_more_is_kept_than_the_program_says_from_then_on() {
    alone(|| {
        drop(taken());
        assert!(reserved() > 100 * MIB);
        GLOBAL.configure(&HeapConfig::new().with_idle_limit(8 * MIB));
        assert!(reserved() < 10 * MIB, "{}", GLOBAL.stats());
    });
}

#[test]
fn memory_decays_as_fast_as_the_environment_says() {
    alone_with("TENZOR_DECAY_MS", "400", || {
        drop(taken());
        assert!(within(Duration::from_secs(30), || reserved() < 4 * MIB), "{}", GLOBAL.stats());
    });
}

#[test]
fn memory_does_not_decay_if_the_environment_says_so() {
    alone_with("TENZOR_DECAY_MS", "never", || {
        drop(taken());
        thread::sleep(Duration::from_millis(1500));
        assert!(reserved() > 100 * MIB);
        // From now on it does.
        GLOBAL.configure(&HeapConfig::new().with_decay(Some(Duration::from_millis(100))).ignore_environment());
        drop(taken());
        assert!(within(Duration::from_secs(30), || reserved() < 4 * MIB), "{}", GLOBAL.stats());
    });
}

#[test]
fn a_threshold_leaves_small_requests_to_the_other_allocator() {
    /// Counts what it has granted and not got back.
    struct Inner<'a>(&'a Cell<usize>);
    // SAFETY: what is granted is granted by `System`.
    unsafe impl GlobalAlloc for Inner<'_> {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            assert!(layout.size() < 1000);
            self.0.set(self.0.get() + 1);
            // SAFETY: the caller's word, passed on.
            unsafe { System.alloc(layout) }
        }
        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            assert!(layout.size() < 1000);
            self.0.set(self.0.get() - 1);
            // SAFETY: the caller's word, passed on.
            unsafe { System.dealloc(block, layout) };
        }
    }
    let granted = Cell::new(0);
    let alloc = TenzorMalloc::new_in(Inner(&granted)).with_threshold(1000);
    for (first, second) in [(999, 1000), (1000, 999), (1, 100_000), (100_000, 1), (10, 20), (2000, 3000), (999, 5)] {
        let (before, after) = (layout(first, 16), layout(second, 16));
        // SAFETY: a block's contents are set in full before they are read; it is freed with the layout it has.
        unsafe {
            let block = if first % 2 == 0 { alloc.alloc(before) } else { alloc.alloc_zeroed(before) };
            assert_eq!(granted.get(), usize::from(first < 1000));
            block.write_bytes(7, first);
            let block = alloc.realloc(block, before, second);
            assert_eq!(granted.get(), usize::from(second < 1000));
            let kept = std::slice::from_raw_parts(block, first.min(second));
            assert!(kept.iter().all(|&byte| byte == 7));
            alloc.dealloc(block, after);
            assert_eq!(granted.get(), 0);
        }
    }
}
