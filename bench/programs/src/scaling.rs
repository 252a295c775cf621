//! Threads that do nothing but request and free: each has some blocks live, and replaces one at random by one of a random size.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Barrier, Mutex};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::measure::{peak_resident, resident};
use crate::random::Random;

/// Blocks of each thread.
const LIVE: usize = 64;

/// What is asked for: sizes in bytes, log-uniform; threads; replacements of each thread; whether all bytes are written or the first one; and
/// whether each free with its request is timed, beside a thread that only reads the clock.
struct Wish {
    low: usize,
    high: usize,
    threads: usize,
    operations: usize,
    fills: bool,
    timed: bool,
}

/// `LOW-HIGH,THREADS,OPERATIONS,first|all|timed`.
fn wish(text: &str) -> Result<Wish> {
    let parts: Vec<&str> = text.split(',').collect();
    let [sizes, threads, operations, written] = parts[..] else { bail!("{text} is no wish") };
    let (low, high) = sizes.split_once('-').context("sizes are LOW-HIGH")?;
    let fills = match written {
        "first" | "timed" => false,
        "all" => true,
        other => bail!("{other} is to be written?"),
    };
    Ok(Wish {
        low: low.parse()?,
        high: high.parse()?,
        threads: threads.parse()?,
        operations: operations.parse()?,
        fills,
        timed: written == "timed",
    })
}

struct Block(*mut u8, Layout);

impl Block {
    fn new(size: usize) -> Result<Self> {
        let layout = Layout::from_size_align(size, 16)?;
        // SAFETY: no size is zero.
        let start = unsafe { alloc(layout) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        Ok(Self(start, layout))
    }

    fn write(&mut self, bytes: usize) {
        // SAFETY: the block has so many.
        unsafe { self.0.write_bytes(1, bytes) };
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: granted for this layout, and nobody else's.
        unsafe { dealloc(self.0, self.1) };
    }
}

/// How long things took, as far as that was long.
struct Times {
    all: usize,
    /// Nanoseconds.
    long: Vec<u32>,
}

const LONG: u32 = 500;

impl Times {
    fn new() -> Self {
        // What is written later shall cause no faults.
        let mut long = vec![1; 1 << 20];
        long.clear();
        Self { all: 0, long }
    }

    fn add(&mut self, start: Instant) {
        self.all += 1;
        let ns = u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX);
        if ns >= LONG && self.long.len() < self.long.capacity() {
            self.long.push(ns);
        }
    }

    /// In microseconds: what one of 10,000 took, and the longest.
    fn tail(mut self) -> [f64; 2] {
        self.long.sort_unstable_by(|a, b| b.cmp(a));
        [self.all / 10_000, 0].map(|at| f64::from(self.long.get(at).copied().unwrap_or(LONG)) / 1e3)
    }
}

pub(crate) fn measure(text: &str) -> Result<Value> {
    let wish = wish(text)?;
    let before = resident()?;
    let (live, peak_live) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let count = |gone: usize, come: usize| {
        if wish.fills {
            let now = live.fetch_add(come.wrapping_sub(gone), Relaxed).wrapping_add(come).wrapping_sub(gone);
            peak_live.fetch_max(now, Relaxed);
        }
    };
    let barrier = Barrier::new(wish.threads + 1);
    let (all_times, done) = (Mutex::new(Times::new()), AtomicBool::new(false));
    let work = |number: u64| -> Result<()> {
        let mut times = wish.timed.then(Times::new);
        let mut random = Random::new(number + 1);
        let mut blocks = Vec::with_capacity(LIVE);
        for _ in 0..LIVE {
            let size = random.log_uniform(wish.low, wish.high);
            count(0, size);
            let mut block = Block::new(size)?;
            block.write(if wish.fills { size } else { 1 });
            blocks.push(block);
        }
        barrier.wait();
        for _ in 0..wish.operations {
            let at = random.uniform(0, LIVE - 1);
            let size = random.log_uniform(wish.low, wish.high);
            count(blocks[at].1.size(), size);
            let start = times.is_some().then(Instant::now);
            drop(blocks.swap_remove(at));
            let mut block = Block::new(size)?;
            // What is not touched yet costs a page fault: none of it is timed.
            times.iter_mut().zip(start).for_each(|(times, start)| times.add(start));
            block.write(if wish.fills { size } else { 1 });
            blocks.push(block);
        }
        barrier.wait();
        if let (Some(times), Ok(mut all)) = (times, all_times.lock()) {
            all.all += times.all;
            all.long.extend(times.long);
        }
        Ok(())
    };
    let read_the_clock = || {
        let mut times = Times::new();
        let mut last = Instant::now();
        while !done.load(Relaxed) {
            times.add(last);
            last = Instant::now();
        }
        times.tail()
    };
    let (seconds, control) = std::thread::scope(|scope| {
        let work = &work;
        let control = wish.timed.then(|| scope.spawn(read_the_clock));
        let threads: Vec<_> = (0..wish.threads as u64).map(|number| scope.spawn(move || work(number))).collect();
        barrier.wait();
        let start = Instant::now();
        barrier.wait();
        let seconds = start.elapsed().as_secs_f64();
        done.store(true, Relaxed);
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))?;
        anyhow::Ok((seconds, control.and_then(|control| control.join().ok())))
    })?;
    let times = all_times.into_inner().unwrap_or_else(|_| Times::new());
    let tail = control.map(|control| json!({ "requests": times.tail(), "clock": control }));
    let operations = (wish.operations * wish.threads) as f64;
    Ok(json!({ "scaling": {
        "ns": seconds * 1e9 / operations,
        "resident": peak_resident()?.saturating_sub(before),
        "live": wish.fills.then_some(peak_live.into_inner()),
        "tail": tail,
    }}))
}
