//! Threads that do nothing but request and free: each has some blocks live, and replaces one at random by one of a random size, or
//! makes it a bit larger or smaller.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Barrier, Mutex};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::measure::{peak_resident, resident};
use crate::random::Random;

/// Blocks of each thread.
pub(crate) const LIVE: usize = 64;

/// What is asked for, as `LOW-HIGH,THREADS,OPERATIONS,MANNER`: sizes in bytes, log-uniform; threads; operations of each thread; and in which
/// manner.
pub(crate) struct Wish<'a> {
    pub(crate) low: usize,
    pub(crate) high: usize,
    pub(crate) threads: usize,
    pub(crate) operations: usize,
    pub(crate) manner: &'a str,
}

impl<'a> Wish<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self> {
        let parts: Vec<&str> = text.split(',').collect();
        let [sizes, threads, operations, manner] = parts[..] else { bail!("{text} is no wish") };
        let (low, high) = sizes.split_once('-').context("sizes are LOW-HIGH")?;
        Ok(Self {
            low: low.parse()?,
            high: high.parse()?,
            threads: threads.parse()?,
            operations: operations.parse()?,
            manner,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// The first byte of each block is written.
    First,
    /// All are.
    All,
    /// The first byte is written; each free with its request is timed, beside a thread that only reads the clock.
    Timed,
    /// Blocks keep their size class, and the first byte is written.
    Resized,
}

fn manner(name: &str) -> Result<Manner> {
    Ok(match name {
        "first" => Manner::First,
        "all" => Manner::All,
        "timed" => Manner::Timed,
        "resized" => Manner::Resized,
        other => bail!("{other} is no manner"),
    })
}

pub(crate) struct Block(pub(crate) *mut u8, pub(crate) Layout);

// SAFETY: memory of one owner; any thread may free it.
unsafe impl Send for Block {}

impl Block {
    pub(crate) fn new(size: usize) -> Result<Self> {
        let layout = Layout::from_size_align(size, 16)?;
        // SAFETY: no size is zero.
        let start = unsafe { alloc(layout) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        Ok(Self(start, layout))
    }

    fn resize(&mut self, size: usize) -> Result<()> {
        let layout = Layout::from_size_align(size, 16)?;
        // SAFETY: granted for this layout, and no size is zero.
        let start = unsafe { realloc(self.0, self.1, size) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        (self.0, self.1) = (start, layout);
        Ok(())
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

/// Another size of the same eighth between two powers of two, if there is one: all of them are of one class of Tenzor's heap.
fn sibling(random: &mut Random, size: usize) -> usize {
    let last = size - 1;
    let step = ((1 << last.ilog2()) / 8).max(1);
    last / step * step + (last % step + random.uniform(1, step.max(2) - 1)) % step + 1
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
    let wish = Wish::parse(text)?;
    let manner = manner(wish.manner)?;
    let (fills, timed) = (manner == Manner::All, manner == Manner::Timed);
    let before = resident()?;
    let (live, peak_live) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let count = |gone: usize, come: usize| {
        if fills {
            let now = live.fetch_add(come.wrapping_sub(gone), Relaxed).wrapping_add(come).wrapping_sub(gone);
            peak_live.fetch_max(now, Relaxed);
        }
    };
    let barrier = Barrier::new(wish.threads + 1);
    let (all_times, done) = (Mutex::new(Times::new()), AtomicBool::new(false));
    let work = |number: u64| -> Result<()> {
        let mut times = timed.then(Times::new);
        let mut random = Random::new(number + 1);
        let mut blocks = Vec::with_capacity(LIVE);
        for _ in 0..LIVE {
            let size = random.log_uniform(wish.low, wish.high);
            count(0, size);
            let mut block = Block::new(size)?;
            block.write(if fills { size } else { 1 });
            blocks.push(block);
        }
        barrier.wait();
        for _ in 0..wish.operations {
            let at = random.uniform(0, LIVE - 1);
            if manner == Manner::Resized {
                let size = sibling(&mut random, blocks[at].1.size());
                blocks[at].resize(size)?;
                blocks[at].write(1);
                continue;
            }
            let size = random.log_uniform(wish.low, wish.high);
            count(blocks[at].1.size(), size);
            let start = times.is_some().then(Instant::now);
            drop(blocks.swap_remove(at));
            let mut block = Block::new(size)?;
            // What is not touched yet costs a page fault: none of it is timed.
            times.iter_mut().zip(start).for_each(|(times, start)| times.add(start));
            block.write(if fills { size } else { 1 });
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
        let control = timed.then(|| scope.spawn(read_the_clock));
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
        "live": fills.then_some(peak_live.into_inner()),
        "tail": tail,
    }}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manner_runs() {
        for name in ["first", "all", "timed", "resized"] {
            let figures = measure(&format!("16-4096,2,100,{name}")).unwrap();
            assert!(figures["scaling"]["ns"].as_f64().unwrap() > 0.0, "{name}: {figures}");
        }
    }

    #[test]
    fn what_is_no_wish_is_refused() {
        let refused = ["", "16-64,2,10", "16,2,10,first", "16-64,2,10,first,1", "16-x,2,10,first", "16-64,2,10,burst"];
        for text in refused {
            assert!(measure(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_resized_block_gets_another_size_of_its_eighth() {
        // Steps of 16 bytes up to 128, and of a quarter of a power of two above.
        let class = |size: usize| match size {
            ..=128 => size.next_multiple_of(16),
            _ => size.next_multiple_of((size / 2 + 1).next_power_of_two() / 4),
        };
        assert_eq!([16, 17, 128, 129, 160, 256, 257, 320].map(class), [16, 32, 128, 160, 160, 256, 320, 320]);
        let mut random = Random::new(1);
        for size in 16..5000 {
            let others: Vec<_> = (0..20).map(|_| sibling(&mut random, size)).collect();
            assert!(others.iter().all(|&other| class(other) == class(size)), "{size}: {others:?}");
            assert!(size == 16 || !others.contains(&size), "{size}: {others:?}");
        }
        let mut all: Vec<_> = (0..1000).map(|_| sibling(&mut random, 1030)).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 127);
        assert_eq!((all[0], all[126]), (1025, 1152));
    }
}
