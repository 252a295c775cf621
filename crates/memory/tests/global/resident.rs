//! What the process holds of the machine's memory: no more than it uses, in the long run, and steadily while it repeats itself.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use tenzor_memory::HeapConfig;

use crate::GLOBAL;
use crate::block::Block;
use crate::common::{layout, ops, random_size};
use crate::forks::forked;
use crate::lives::{EXCHANGE, wave};
use crate::process::{alone, alone_each, page_faults, resident, within};

const MIB: usize = 1 << 20;

/// Takes 200 MB in blocks of all sizes, frees most of it, and returns what is still alive, all over the place.
fn a_tenth_of_200_mb() -> Vec<Block> {
    let kinds = [(300_000, 100), (2000, 5000), (2000, 20_000), (200, 300_000), (64, MIB), (3, 8 * MIB)];
    let all = kinds.iter().map(|kind| kind.0 as usize).sum::<usize>();
    // Lists that grew, or were too long, would have memory that was never touched, and so never resident.
    let (mut live, mut garbage) = (Vec::with_capacity(all / 10 + 10), Vec::with_capacity(all));
    for (number, size) in kinds {
        for i in 0..number {
            let block = Block::new(layout(size, 8), i);
            // Small blocks are not spread: each would keep its page.
            let alive = if size < 10_000 { i < number / 10 } else { i % 10 == 5 };
            if alive { &mut live } else { &mut garbage }.push(block);
        }
    }
    live
}

/// Waits for the purge; live blocks keep their contents.
fn falls_to(bound: usize, live: &[Block]) {
    let fell = within(Duration::from_secs(30), || resident() <= bound);
    assert!(fell, "{} bytes are resident, not {bound}: {}", resident(), GLOBAL.stats());
    assert!(live.iter().all(Block::is_intact), "live data was purged");
}

fn live_bytes(live: &[Block]) -> usize {
    live.iter().map(Block::size).sum::<usize>() + size_of_val(live)
}

#[test]
fn idle_memory_goes_back_within_ten_seconds() {
    alone(|| {
        let program = resident();
        let live = a_tenth_of_200_mb();
        assert!(resident() > program + 150 * MIB, "there is something to give back");
        falls_to((program + live_bytes(&live)) / 10 * 11, &live);
    });
}

#[test]
fn idle_memory_of_a_forks_child_goes_back_too() {
    alone(|| {
        let program = resident();
        // The thread that will give this back is not in the child.
        let live = a_tenth_of_200_mb();
        forked(|| {
            let more = a_tenth_of_200_mb();
            falls_to((program + live_bytes(&live) + live_bytes(&more)) / 10 * 11, &more);
            assert!(live.iter().all(Block::is_intact), "live data was purged");
        });
        assert!(live.iter().all(Block::is_intact), "a child wrote to its parent's memory");
    });
}

#[test]
fn idle_memory_goes_back_at_once_by_a_trim() {
    alone(|| {
        let program = resident();
        let live = a_tenth_of_200_mb();
        let (before, reserved) = (resident(), GLOBAL.stats().reserved_bytes);
        let given_back = GLOBAL.trim();
        assert_eq!(reserved - GLOBAL.stats().reserved_bytes, given_back);
        let fell = before - resident();
        // Some pages in use were never touched: of lists, and of what threads' stocks are.
        assert!(fell.abs_diff(given_back) < given_back / 100, "{given_back} bytes are said to be gone, {fell} are");
        assert!(resident() <= (program + live_bytes(&live)) / 10 * 11, "{}", GLOBAL.stats());
        assert!(live.iter().all(Block::is_intact), "live data was purged");
    });
}

#[test]
fn ten_thousand_threads_leave_nothing_behind() {
    alone(|| {
        const WAVE: usize = 40;
        let waves = ops(10_000).min(10_000) / WAVE;
        let measure = || {
            EXCHANGE.clear();
            GLOBAL.trim();
            (GLOBAL.stats().bytes_in_use, resident())
        };
        (0..waves / 10).for_each(|_| wave(WAVE));
        let (in_use, level) = measure();
        (waves / 10..waves).for_each(|_| wave(WAVE));
        let (still, end) = measure();
        assert_eq!(still, in_use, "bytes in use");
        assert!(end <= level + (1 << 20), "{level} bytes were resident after a tenth of the threads, now it is {end}");
    });
}

/// Page faults in 30 repetitions of a step, once these are none, or after 300. Time passes meanwhile, in which idle memory decays.
fn faults_of(step: impl Fn()) -> i64 {
    GLOBAL.configure(&HeapConfig::new().with_decay(Some(Duration::from_millis(400))));
    let mut faults = 0;
    for _ in 0..10 {
        let before = page_faults();
        for _ in 0..30 {
            step();
            thread::sleep(Duration::from_millis(40));
        }
        faults = page_faults() - before;
        if faults == 0 {
            break;
        }
    }
    faults
}

#[test]
fn a_repeated_step_finds_all_its_memory_where_it_left_it() {
    alone_each(0..4, |seed| {
        // A training step: every layer keeps its output for the way back, and uses scratch memory on both ways.
        let faults = faults_of(|| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut block = |largest| Block::new(layout(random_size(&mut rng, largest), 64), seed);
            let mut outputs = Vec::with_capacity(24);
            for _ in 0..24 {
                drop((block(MIB), block(64 << 10)));
                outputs.push(block(4 * MIB));
            }
            for output in outputs.drain(..).rev() {
                let _gradient = block(4 * MIB);
                drop((output, block(MIB)));
            }
        });
        assert_eq!(faults, 0, "in program {seed}");
    });
}

#[test]
fn a_repeated_step_without_any_order_finds_its_memory_too() {
    alone_each(0..16, |seed| {
        let faults = faults_of(|| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut live = Vec::with_capacity(100);
            for i in 0..100 {
                live.push(Block::new(layout(random_size(&mut rng, 4 * MIB), 64), i));
                if rng.bool() {
                    live.swap_remove(rng.usize(0..live.len()));
                }
            }
        });
        assert_eq!(faults, 0, "in program {seed}");
    });
}

#[test]
fn the_thread_that_gives_memory_back_comes_and_goes() {
    alone(|| {
        let threads = || std::fs::read_dir("/proc/self/task").expect("Linux tells").count();
        let reserved = || GLOBAL.stats().reserved_bytes;
        GLOBAL.configure(&HeapConfig::new().with_decay(Some(Duration::from_millis(400))));
        // It may be there for what this thread had of the pot.
        let alone = 2;
        assert!(within(Duration::from_secs(30), || threads() == alone), "it does not end");
        // What is idle is much by itself, though little beside what is in use.
        let live: Vec<_> = (0..100).map(|i| Block::new(layout(MIB, 64), i)).collect();
        for _ in 0..3 {
            drop((0..40).map(|i| Block::new(layout(MIB, 64), i)).collect::<Vec<_>>());
            assert!(reserved() > 130 * MIB && threads() == alone + 1);
            assert!(within(Duration::from_secs(30), || reserved() < 110 * MIB), "{}", GLOBAL.stats());
            assert!(within(Duration::from_secs(30), || threads() == alone), "it does not end");
        }
        assert!(live.iter().all(Block::is_intact), "live data was purged");
    });
}

/// Fills the calling thread's stocks.
fn cache_all_it_may() {
    for _ in 0..3 {
        for size in (4..16).flat_map(|power| [1, 2, 3, 4].map(|quarter| (1_usize << power) + (quarter << (power - 2))))
        {
            drop((0..200).map(|i| Block::new(layout(size.min(64 << 10), 8), i)).collect::<Vec<_>>());
        }
    }
}

/// Bytes in the stocks of all threads.
fn cached() -> usize {
    GLOBAL.stats().buckets.iter().map(|row| row.pooled_bytes).sum()
}

const THREADS: usize = 8;

/// What a thread may have of its own, and all threads together beyond that.
const OWN: usize = 256 << 10;
const POT: usize = 4 << 20;

/// While other threads rest that filled their stocks. They go on with what they have then.
fn while_others_rest(body: impl FnOnce()) {
    let barrier = Barrier::new(THREADS + 1);
    thread::scope(|scope| {
        for id in 0..THREADS as u64 {
            let barrier = &barrier;
            scope.spawn(move || {
                cache_all_it_may();
                let live: Vec<_> = (0..50).map(|i| Block::new(layout(1000, 8), id + i)).collect();
                barrier.wait();
                barrier.wait();
                assert!(live.iter().all(Block::is_intact), "live data was given away");
                cache_all_it_may();
            });
        }
        barrier.wait();
        // Whatever becomes of the body, they go on.
        struct Wakes<'a>(&'a Barrier);
        impl Drop for Wakes<'_> {
            fn drop(&mut self) {
                self.0.wait();
            }
        }
        let _wakes = Wakes(&barrier);
        body();
    });
}

#[test]
fn threads_cache_no_more_than_their_shares() {
    alone(|| {
        cache_all_it_may();
        let alone = cached();
        assert!((MIB..=OWN + POT).contains(&alone), "{alone} bytes are cached by one thread");
        // The first thread, which asked first, may have all of the pot.
        while_others_rest(|| {
            let all = cached();
            let least = alone + THREADS * OWN / 2;
            assert!((least..=(THREADS + 1) * OWN + POT).contains(&all), "{all} bytes are cached: {}", GLOBAL.stats());
        });
    });
}

#[test]
fn what_resting_threads_keep_goes_back_in_time() {
    alone(|| {
        for _ in 0..3 {
            GLOBAL.configure(&HeapConfig::new().with_decay(None));
            while_others_rest(|| {
                assert!(cached() > THREADS * OWN / 2);
                GLOBAL.configure(&HeapConfig::new().with_decay(Some(Duration::from_millis(400))));
                // This thread makes some requests now and then.
                let gone = within(Duration::from_secs(30), || {
                    drop(Block::new(layout(MIB, 64), 1));
                    cached() < OWN
                });
                assert!(gone, "{}", GLOBAL.stats());
            });
        }
    });
}

/// Free pages between blocks of threads that rest, as long as nothing else is free.
#[test]
fn what_resting_threads_keep_of_pages_goes_back_in_time() {
    alone(|| {
        GLOBAL.configure(&HeapConfig::new().with_decay(None));
        let barrier = Barrier::new(THREADS + 1);
        let idle = || GLOBAL.stats().pooled_bytes;
        thread::scope(|scope| {
            for id in 0..THREADS as u64 {
                let barrier = &barrier;
                scope.spawn(move || {
                    let sizes = |round: usize| (0..60).map(move |i| 8000 + (7919 * (i + round)) % 50_000);
                    let live: Vec<_> = sizes(1).step_by(10).map(|size| Block::new(layout(size, 8), id)).collect();
                    drop(sizes(2).map(|size| Block::new(layout(size, 8), id)).collect::<Vec<_>>());
                    barrier.wait();
                    barrier.wait();
                    assert!(live.iter().all(Block::is_intact), "live data was given away");
                    drop(sizes(3).map(|size| Block::new(layout(size, 8), id)).collect::<Vec<_>>());
                });
            }
            barrier.wait();
            GLOBAL.configure(&HeapConfig::new().with_idle_limit(Some(0)));
            GLOBAL.configure(&HeapConfig::new().with_idle_limit(None).with_decay(Some(Duration::from_millis(400))));
            let before = idle();
            // This thread makes some requests now and then, of which the heap learns: it keeps no block for another size.
            let gone = within(Duration::from_secs(30), || {
                [100_000, 120_000].iter().for_each(|&size| drop(Block::new(layout(size, 64), 1)));
                idle() < before / 4
            });
            barrier.wait();
            assert!(before > 3 * MIB && gone, "{} of {before} bytes are idle still", idle());
        });
    });
}

/// A thread that rests has the pages of what others freed, and those ask for nothing that the heap serves.
#[test]
fn what_others_freed_of_a_resting_threads_pages_goes_back_in_time() {
    alone(|| {
        GLOBAL.configure(&HeapConfig::new().with_decay(Some(Duration::from_millis(400))));
        let barrier = Barrier::new(2);
        let (give, take) = std::sync::mpsc::channel();
        let idle = || GLOBAL.stats().pooled_bytes;
        thread::scope(|scope| {
            let barrier = &barrier;
            scope.spawn(move || {
                let sizes = (0..400).map(|i| 20_000 + 50 * i);
                give.send(sizes.map(|size| Block::new(layout(size, 8), 1)).collect::<Vec<_>>()).expect("it is awaited");
                barrier.wait();
            });
            let blocks = take.recv().expect("they come");
            // Nobody gives memory back any more, for anything else.
            let threads = || std::fs::read_dir("/proc/self/task").expect("Linux tells").count();
            assert!(within(Duration::from_secs(30), || threads() == 3), "it does not end");
            drop(blocks);
            let before = idle();
            let gone = within(Duration::from_secs(30), || {
                drop(Block::new(layout(30_000, 64), 1));
                idle() < before / 4
            });
            barrier.wait();
            assert!(before > 8 * MIB && gone, "{} of {before} bytes are idle still", idle());
        });
    });
}

#[test]
fn what_resting_threads_keep_goes_back_by_a_trim() {
    alone(|| {
        GLOBAL.configure(&HeapConfig::new().with_decay(None));
        while_others_rest(|| {
            let before = cached();
            GLOBAL.trim();
            let after = cached();
            assert!(before > THREADS * OWN / 2 && after < 10_000, "{after} of {before} bytes are kept");
        });
    });
}

#[test]
fn law_13_what_resting_threads_keep_gives_way_to_a_request() {
    alone(|| {
        while_others_rest(|| {
            let stats = GLOBAL.stats();
            let kept = cached();
            let held = stats.bytes_in_use_rounded + kept;
            GLOBAL.configure(&HeapConfig::new().with_limit(Some(held)).with_decay(None));
            assert!(kept > THREADS * OWN / 2, "{stats}");
            // What slabs have free between blocks in use stays.
            let block = Block::try_new(layout(kept / 3, 8), 1);
            GLOBAL.configure(&HeapConfig::new().with_limit(None));
            assert!(block.is_some_and(|block| block.is_intact()), "{kept} bytes were kept: {}", GLOBAL.stats());
        });
    });
}
