//! Threads that request and free in other patterns than `scaling`, and look whether the contents of their blocks stayed.

#![allow(unsafe_code)]

use std::mem;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use anyhow::{Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use crate::measure::{peak_resident, resident};
use crate::random::Random;
use crate::scaling::{Block, LIVE, Wish};

/// Blocks of a burst, and of a phase.
const MANY: usize = 500;
/// Operations of a thread that comes and goes.
const LIFE: usize = 200;
/// After so many operations sizes grow by this factor.
const SHIFT: (usize, f64) = (2000, 1.5);
/// The largest size by the least, where sizes shift.
const RANGE: f64 = 4.0;
/// Far from the seeds of `scaling`.
const SEED: u64 = 0x7061_7474_6572_6e73;

/// An operation is a request and a free, of the same block or of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pattern {
    /// Many blocks, freed in random order.
    Burst,
    /// One thread requests, the next one frees.
    HandOver,
    /// One thread requests many blocks, another one frees all; then it requests.
    Phases,
    /// Threads end and leave their blocks to new ones.
    ComeAndGo,
    /// Sizes grow step by step, and begin again.
    Shift,
}

fn pattern(wish: &Wish) -> Result<Pattern> {
    let pattern = match wish.manner {
        "burst" => Pattern::Burst,
        "hand-over" => Pattern::HandOver,
        "phases" => Pattern::Phases,
        "come-and-go" => Pattern::ComeAndGo,
        "shift" => Pattern::Shift,
        other => bail!("{other} is no pattern"),
    };
    let is_for_pairs = matches!(pattern, Pattern::HandOver | Pattern::Phases);
    ensure!(!is_for_pairs || wish.threads.is_multiple_of(2), "{} needs pairs of threads", wish.manner);
    ensure!(wish.low >= MARK, "blocks have {MARK} bytes at least");
    Ok(pattern)
}

/// Bytes of a mark.
const MARK: usize = size_of::<u64>();

/// A block with marks at its beginning, in its middle and at its end, by which its contents are known.
struct Marked {
    block: Block,
    number: u64,
}

impl Marked {
    fn new(size: usize, number: u64) -> Result<Self> {
        let marked = Self { block: Block::new(size)?, number };
        for (place, mark) in marked.marks() {
            // SAFETY: the block has these bytes.
            unsafe { place.write_unaligned(mark) };
        }
        Ok(marked)
    }

    /// Each mark, and where it is. It follows from the block's address and number. Marks of small blocks overlap, and agree
    /// there: each byte is that of one word at the byte's offset.
    fn marks(&self) -> [(*mut u64, u64); 3] {
        let Block(start, layout) = self.block;
        let word = (start as u64).wrapping_add(self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let last = layout.size() - MARK;
        [0, last / 2, last].map(|at| {
            // SAFETY: within the block.
            let place = unsafe { start.add(at) }.cast();
            (place, word.rotate_right(8 * (at % MARK) as u32).to_le())
        })
    }

    /// Frees it, if its contents are what was written; otherwise nobody may rely on anything any more, and it stays.
    fn free(self) -> Result<()> {
        for (place, mark) in self.marks() {
            // SAFETY: the block has these bytes, and they were written.
            let found = unsafe { place.read_unaligned() };
            if found != mark {
                let (Block(start, layout), number) = (&self.block, self.number);
                let wrong = format!("{found:#x} at {place:?}, instead of {mark:#x}");
                let error = anyhow!("block {number:#x}, {} bytes at {start:?}, has {wrong}", layout.size());
                mem::forget(self);
                return Err(error);
            }
        }
        Ok(())
    }
}

/// What a thread requests.
struct Requests {
    random: Random,
    low: usize,
    high: usize,
    /// That of the last block: other threads' differ.
    number: u64,
}

impl Requests {
    fn new(wish: &Wish, thread: usize) -> Self {
        let thread = thread as u64 + 1;
        Self { random: Random::new(SEED + thread), low: wish.low, high: wish.high, number: thread << 40 }
    }

    fn one(&mut self) -> Result<Marked> {
        self.number += 1;
        Marked::new(self.random.log_uniform(self.low, self.high), self.number)
    }

    fn take_any(&mut self, blocks: &mut Vec<Marked>) -> Marked {
        blocks.swap_remove(self.random.uniform(0, blocks.len() - 1))
    }

    fn replace_any(&mut self, blocks: &mut Vec<Marked>) -> Result<()> {
        self.take_any(blocks).free()?;
        blocks.push(self.one()?);
        Ok(())
    }
}

fn burst(mut requests: Requests, operations: usize) -> Result<()> {
    let (mut blocks, mut left) = (Vec::with_capacity(MANY), operations);
    while left > 0 {
        for _ in 0..left.min(MANY) {
            blocks.push(requests.one()?);
        }
        left -= blocks.len();
        while !blocks.is_empty() {
            requests.take_any(&mut blocks).free()?;
        }
    }
    Ok(())
}

/// Ends, too, where the thread that frees ended: that one tells why.
fn hand_over(mut requests: Requests, operations: usize, next: &SyncSender<Marked>) -> Result<()> {
    for _ in 0..operations {
        if next.send(requests.one()?).is_err() {
            break;
        }
    }
    Ok(())
}

/// What one of two threads does; the other one does the same.
fn phases(
    mut requests: Requests,
    operations: usize,
    inbox: &Receiver<Vec<Marked>>,
    other: &SyncSender<Vec<Marked>>,
) -> Result<()> {
    let mut left = operations;
    while let Ok(mut blocks) = inbox.recv() {
        blocks.drain(..).try_for_each(Marked::free)?;
        for _ in 0..left.min(MANY) {
            blocks.push(requests.one()?);
        }
        left -= blocks.len();
        if blocks.is_empty() || other.send(blocks).is_err() {
            break;
        }
    }
    Ok(())
}

fn come_and_go(mut requests: Requests, operations: usize) -> Result<()> {
    let (mut blocks, mut left) = (Vec::with_capacity(LIVE), operations);
    while left > 0 {
        let life = left.min(LIFE);
        let thread = thread::spawn(move || {
            while blocks.len() < LIVE {
                blocks.push(requests.one()?);
            }
            (0..life).try_for_each(|_| requests.replace_any(&mut blocks))?;
            anyhow::Ok((requests, blocks))
        });
        (requests, blocks) = joined(thread.join())?;
        left -= life;
    }
    blocks.into_iter().try_for_each(Marked::free)
}

fn shift(mut requests: Requests, operations: usize) -> Result<()> {
    let (low, high) = (requests.low, requests.high);
    let mut blocks = Vec::with_capacity(LIVE);
    for operation in 0..operations {
        (requests.low, requests.high) = shifted(low, high, operation);
        if blocks.len() < LIVE {
            blocks.push(requests.one()?);
        } else {
            requests.replace_any(&mut blocks)?;
        }
    }
    blocks.into_iter().try_for_each(Marked::free)
}

/// Between which sizes an operation's is.
fn shifted(low: usize, high: usize, operation: usize) -> (usize, usize) {
    let (every, factor) = SHIFT;
    let widest = high as f64 / low as f64 / RANGE;
    let steps = widest.max(1.0).log(factor) as usize + 1;
    let low = low as f64 * factor.powi((operation / every % steps) as i32);
    (low as usize, (low * RANGE) as usize)
}

fn joined<T>(result: thread::Result<Result<T>>) -> Result<T> {
    result.unwrap_or_else(|_| bail!("a thread panicked"))
}

pub(crate) fn measure(text: &str) -> Result<Value> {
    let wish = Wish::parse(text)?;
    let (pattern, operations) = (pattern(&wish)?, wish.operations);
    let before = resident()?;
    let start = Instant::now();
    thread::scope(|scope| {
        let mut threads: Vec<ScopedJoinHandle<Result<()>>> = vec![];
        for number in 0..wish.threads {
            let requests = Requests::new(&wish, number);
            match pattern {
                Pattern::Burst => threads.push(scope.spawn(move || burst(requests, operations))),
                Pattern::ComeAndGo => threads.push(scope.spawn(move || come_and_go(requests, operations))),
                Pattern::Shift => threads.push(scope.spawn(move || shift(requests, operations))),
                // With the next one.
                _ if number % 2 == 1 => {}
                Pattern::HandOver => {
                    let (next, inbox) = sync_channel(LIVE);
                    threads.push(scope.spawn(move || hand_over(requests, 2 * operations, &next)));
                    threads.push(scope.spawn(move || inbox.into_iter().try_for_each(Marked::free)));
                }
                Pattern::Phases => {
                    let ((to_one, one), (to_other, other)) = (sync_channel(1), sync_channel(1));
                    // Its turn, with nothing to free yet.
                    ensure!(to_one.send(Vec::with_capacity(MANY)).is_ok(), "nobody takes the first turn");
                    let next = Requests::new(&wish, number + 1);
                    threads.push(scope.spawn(move || phases(requests, operations, &one, &to_other)));
                    threads.push(scope.spawn(move || phases(next, operations, &other, &to_one)));
                }
            }
        }
        threads.into_iter().try_for_each(|thread| joined(thread.join()))
    })?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(json!({ "scaling": {
        "ns": seconds * 1e9 / (operations * wish.threads) as f64,
        "resident": peak_resident()?.saturating_sub(before),
    }}))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERNS: [&str; 5] = ["burst", "hand-over", "phases", "come-and-go", "shift"];

    #[test]
    fn every_pattern_runs() {
        for name in PATTERNS {
            for operations in [1, 10, 1001] {
                let figures = measure(&format!("16-65536,4,{operations},{name}")).unwrap();
                assert!(figures["scaling"]["ns"].as_f64().unwrap() > 0.0, "{name}: {figures}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let refused = ["16-64,2,10,first", "16-64,3,10,phases", "16-64,1,10,hand-over", "4-64,2,10,burst"];
        for text in refused {
            assert!(measure(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_corrupted_block_is_found() {
        for size in [8, 9, 15, 16, 17, 23, 24, 40, 4097] {
            Marked::new(size, 7).unwrap().free().unwrap();
            for at in [0, 7, (size - MARK) / 2, size / 2, size - MARK, size - 1] {
                let marked = Marked::new(size, 7).unwrap();
                // SAFETY: within the block, and written if it is one of its marks.
                unsafe { *marked.block.0.add(at) ^= 1 };
                let error = marked.free().unwrap_err().to_string();
                assert!(error.starts_with(&format!("block 0x7, {size} bytes")), "{error}");
            }
        }
    }

    #[test]
    fn another_blocks_marks_are_found() {
        let mut marked = Marked::new(100, 7).unwrap();
        marked.number = 8;
        assert!(marked.free().is_err());
    }

    #[test]
    fn who_hands_over_ends_with_who_frees() {
        let (next, inbox) = sync_channel(1);
        drop(inbox);
        let wish = Wish::parse("16-64,2,10,hand-over").unwrap();
        hand_over(Requests::new(&wish, 0), 10, &next).unwrap();
    }

    #[test]
    fn sizes_shift_within_theirs_and_begin_again() {
        let ranges: Vec<_> = (0..12).map(|step| shifted(16, 512, step * 2000 + 1999)).collect();
        assert_eq!(ranges[..6], [(16, 64), (24, 96), (36, 144), (54, 216), (81, 324), (121, 486)]);
        assert_eq!(ranges[..6], ranges[6..]);
    }
}
