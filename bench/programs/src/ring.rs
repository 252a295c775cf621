//! Buffers of random sizes, wholly written: kept in rings, on one thread and on two, and passed from thread to thread.

use std::collections::VecDeque;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use anyhow::Result;

use crate::map;
use crate::measure::Program;
use crate::random::Random;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// So many buffers are in a ring, or on their way to the other thread.
const LIVE: usize = 16;

/// 1 KiB to 16 MiB, each doubling as likely as any other.
pub(crate) fn log_uniform(quick: bool) -> Program {
    ring(quick, 8000, |random| random.log_uniform(KIB, 16 * MIB))
}

/// 1 KiB to 16 MiB, each size as likely as any other.
pub(crate) fn uniform(quick: bool) -> Program {
    ring(quick, 2000, |random| random.uniform(KIB, 16 * MIB))
}

/// A step replaces the oldest buffer.
fn ring(quick: bool, steps: usize, size: fn(&mut Random) -> usize) -> Program {
    let mut ring = Ring::new(1, size);
    Program::new(quick, steps / 8, steps, move || {
        ring.replace();
        Ok(())
    })
}

struct Ring {
    buffers: VecDeque<Vec<f32>>,
    random: Random,
    size: fn(&mut Random) -> usize,
}

impl Ring {
    fn new(seed: u64, size: fn(&mut Random) -> usize) -> Self {
        let mut ring = Self { buffers: VecDeque::with_capacity(LIVE), random: Random::new(seed), size };
        (0..LIVE).for_each(|_| ring.push());
        ring
    }

    fn push(&mut self) {
        let bytes = (self.size)(&mut self.random);
        self.buffers.push_back(written(bytes));
    }

    fn replace(&mut self) {
        self.buffers.pop_front();
        self.push();
    }
}

fn written(bytes: usize) -> Vec<f32> {
    black_box(vec![black_box(1.0); bytes / size_of::<f32>()])
}

/// A step replaces 64 buffers on one thread and then 64 on each of two at once.
pub(crate) fn two_threads(quick: bool, preallocated: bool) -> Result<Program> {
    let size = |random: &mut Random| random.log_uniform(4 * KIB, 4 * MIB);
    let worker = |seed| -> Result<Worker> {
        if !preallocated {
            let mut ring = Ring::new(seed, size);
            return Ok(Worker::new(move || ring.replace()));
        }
        let buffers = map::buffers::<LIVE>(4 * MIB)?;
        let (mut random, mut next) = (Random::new(seed), 0);
        Ok(Worker::new(move || {
            let buffer = &mut buffers[next][..size(&mut random) / size_of::<f32>()];
            black_box(buffer).fill(MaybeUninit::new(black_box(1.0)));
            next = (next + 1) % LIVE;
        }))
    };
    let (one, other) = (worker(1)?, worker(2)?);
    Ok(Program::compared(quick, 20, 200, move || {
        let start = Instant::now();
        one.begin(64)?;
        one.end()?;
        let alone = start.elapsed();
        one.begin(64)?;
        other.begin(64)?;
        one.end()?;
        other.end()?;
        Ok(alone)
    }))
}

/// A thread that does one thing as often as it is told.
struct Worker {
    orders: SyncSender<usize>,
    done: Receiver<()>,
}

impl Worker {
    fn new(mut act: impl FnMut() + Send + 'static) -> Self {
        let (orders, inbox) = sync_channel(1);
        let (report, done) = sync_channel(1);
        thread::spawn(move || {
            for times in inbox {
                (0..times).for_each(|_| act());
                if report.send(()).is_err() {
                    break;
                }
            }
        });
        Self { orders, done }
    }

    fn begin(&self, times: usize) -> Result<()> {
        Ok(self.orders.send(times)?)
    }

    fn end(&self) -> Result<()> {
        Ok(self.done.recv()?)
    }
}

/// A step allocates and writes 256 buffers, which another thread reads and frees.
pub(crate) fn producer_consumer(quick: bool) -> Program {
    let (buffers, inbox) = sync_channel::<Vec<f32>>(LIVE);
    let (report, sums) = sync_channel(LIVE);
    thread::spawn(move || {
        for buffer in inbox {
            // Whole lanes at a time, as a tensor program would read.
            let sum = buffer.iter().map(|&x| u64::from(x.to_bits())).sum::<u64>();
            drop(buffer);
            if report.send(black_box(sum)).is_err() {
                break;
            }
        }
    });
    let mut random = Random::new(1);
    let mut unread = 0;
    Program::new(quick, 10, 100, move || {
        for _ in 0..256 {
            buffers.send(written(random.log_uniform(KIB, 4 * MIB)))?;
            unread += 1;
            unread -= sums.try_iter().count();
        }
        while unread > 0 {
            sums.recv()?;
            unread -= 1;
        }
        Ok(())
    })
}
