//! Costs that grow with what is asked, not with what exists.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tenzor_hostile::wrong;

use crate::block::Block;
use crate::heap;
use crate::traffic::Numbers;

const MIB: usize = 1 << 20;

fn block(size: usize, align: usize) -> Block {
    Block::new(size, align, 1).unwrap_or_else(|| wrong!("{size} bytes were refused"))
}

/// The least time of five tries.
fn least(mut once: impl FnMut() -> Duration) -> Duration {
    (0..5).map(|_| once()).min().unwrap_or_default()
}

fn by_two(body: impl Fn() + Sync) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(&body);
        scope.spawn(&body);
    });
    start.elapsed()
}

/// A realloc within a size class, and an allocation with its free, by two threads.
pub fn realloc_in_class() {
    use std::alloc::{Layout, alloc, dealloc, realloc};
    use std::hint::black_box;
    let (small, large) = (Layout::new::<[u64; 125]>(), Layout::new::<[u64; 126]>());
    let pairs = least(|| {
        by_two(|| {
            for _ in 0..400_000 {
                // SAFETY: each block is freed once, with its layout.
                unsafe { dealloc(black_box(alloc(small)), small) };
            }
        })
    });
    let reallocs = least(|| {
        by_two(|| {
            // SAFETY: the block is resized and freed with the layout that it has.
            unsafe {
                let mut at = alloc(small);
                for _ in 0..200_000 {
                    at = black_box(realloc(at, small, large.size()));
                    at = black_box(realloc(at, large, small.size()));
                }
                dealloc(at, small);
            }
        })
    });
    println!("pairs={}", pairs.as_nanos());
    println!("reallocs={}", reallocs.as_nanos());
}

/// What a request of many pages costs where so many ranges are free. Nothing is touched.
pub fn ranges(count: usize) {
    use std::alloc::{alloc, dealloc};
    let mut numbers = Numbers::new(80);
    let mut take = |least: usize, pages: usize| {
        let layout = layout(least + 4096 * numbers.below(pages));
        // SAFETY: the layout is not empty.
        let at = std::hint::black_box(unsafe { alloc(layout) });
        if at.is_null() {
            wrong!("{} bytes were refused", layout.size());
        }
        (at, layout)
    };
    // SAFETY: each block is freed once, with its layout.
    let free = |(at, layout)| unsafe { dealloc(at, layout) };
    let blocks: Vec<_> = (0..2 * count).map(|_| take(132 << 10, 8)).collect();
    blocks.iter().step_by(2).copied().for_each(free);
    let time = least(|| {
        let start = Instant::now();
        for _ in 0..2000 {
            free(take(130 << 10, 16));
            free(take(500 << 10, 1));
        }
        start.elapsed() / 4000
    });
    // What no free range holds, until it does.
    let large = least(|| {
        let start = Instant::now();
        let taken: Vec<_> = (0..64).map(|_| take(2 * MIB + (500 << 10), 8)).collect();
        taken.into_iter().for_each(free);
        start.elapsed() / 64
    });
    println!("request={}", time.as_nanos());
    println!("large={}", large.as_nanos());
}

fn layout(size: usize) -> std::alloc::Layout {
    std::alloc::Layout::from_size_align(size, 8).unwrap_or_else(|_| wrong!("no layout of {size} bytes"))
}

/// Alignments that nobody means: refused or granted, but at once.
pub fn alignments() {
    for shift in 21..47 {
        let time = least(|| {
            let start = Instant::now();
            drop(std::hint::black_box(Block::new(100, 1 << shift, 1)));
            drop(std::hint::black_box(Block::new(100 << 10, 1 << shift, 1)));
            start.elapsed()
        });
        println!("shift-{shift}={}", time.as_nanos());
        if time > Duration::from_millis(2) {
            wrong!("a request aligned to 2^{shift} took {time:?}");
        }
    }
}

/// While one thread trims 3 GB, the requests of another: the longest.
pub fn long_trim() {
    let once = || {
        let blocks: Vec<Block> = (0..96).map(|_| block(32 * MIB, 64)).collect();
        drop(blocks);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let longest = scope.spawn(|| {
                let mut longest = Duration::ZERO;
                while !over.load(SeqCst) {
                    let start = Instant::now();
                    drop(block(100 << 10, 8));
                    longest = longest.max(start.elapsed());
                }
                longest
            });
            std::thread::sleep(Duration::from_millis(5));
            heap::trim();
            over.store(true, SeqCst);
            longest.join().unwrap_or_default()
        })
    };
    println!("longest={}", least(once).as_nanos());
}
