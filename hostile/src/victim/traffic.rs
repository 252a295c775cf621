//! What every program here does before, during and after what is done to it: requests of all kinds, with contents checked.

use std::alloc::Layout;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use tenzor_hostile::wrong;

use crate::block::{Block, LEAST};

/// Numbers that only look random, the same each time.
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// A size between `low` and `high`, each power of two as likely as any other.
    pub fn size(&mut self, low: usize, high: usize) -> usize {
        let octaves = (high / low).ilog2() as usize + 1;
        let size = low << self.below(octaves);
        (size + self.below(size)).min(high)
    }
}

/// Whether a request may be refused just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusals {
    /// No: each one is wrong.
    None,
    /// Yes, as long as nothing else is lost.
    Fine,
}

/// How much is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Amount {
    small: usize,
    large: usize,
    largest: usize,
    live: usize,
    grown: usize,
    zeroed: usize,
}

const MIB: usize = 1 << 20;

impl Amount {
    /// Runs up to 64 MiB, and a buffer that grows to 160.
    pub const MUCH: Amount =
        Amount { small: 20_000, large: 24, largest: 64 * MIB, live: 128 * MIB, grown: 160 * MIB, zeroed: 36 * MIB };
    /// Enough for everything that happens at 32 MiB and more.
    pub const MEDIUM: Amount =
        Amount { small: 10_000, large: 20, largest: 40 * MIB, live: 64 * MIB, grown: 72 * MIB, zeroed: 5 * MIB };
    /// For the other threads, and where time is dear.
    pub const SOME: Amount =
        Amount { small: 10_000, large: 20, largest: 8 * MIB, live: 24 * MIB, grown: 16 * MIB, zeroed: 6 * MIB };
    /// For children and handlers.
    pub const LITTLE: Amount =
        Amount { small: 500, large: 3, largest: MIB, live: 3 * MIB, grown: 2 * MIB, zeroed: 300 << 10 };
}

/// One thread's requests. What it holds stays live between the rounds.
#[derive(Debug)]
pub struct Traffic {
    numbers: Numbers,
    amount: Amount,
    small: Vec<Option<Block>>,
    large: Vec<Option<Block>>,
    /// How many requests were refused.
    pub refused: usize,
}

impl Traffic {
    pub fn new(seed: u64, amount: Amount) -> Self {
        let none = |count| (0..count).map(|_| None).collect();
        Traffic { numbers: Numbers::new(seed), amount, small: none(512), large: none(8), refused: 0 }
    }

    /// One round. Where refusals are fine, nothing is asked for in a way that would end the process if it is refused.
    pub fn round(&mut self, refusals: Refusals) {
        let before = self.refused;
        self.small_blocks();
        self.large_blocks();
        self.growing();
        self.zeroed();
        if refusals == Refusals::None && self.refused > before {
            wrong!("{} requests were refused, and nothing forbids them", self.refused - before);
        }
    }

    /// Looks at every block that is held.
    pub fn check(&self) {
        self.small.iter().chain(&self.large).flatten().for_each(Block::check);
    }

    /// The blocks of many pages that are held.
    pub fn held(&self) -> impl Iterator<Item = &Block> {
        self.large.iter().flatten()
    }

    /// Frees everything.
    pub fn free(&mut self) {
        self.small.iter_mut().chain(&mut self.large).for_each(|slot| *slot = None);
    }

    fn asked(&mut self, block: Option<Block>) -> Option<Block> {
        self.refused += usize::from(block.is_none());
        block
    }

    fn small_blocks(&mut self) {
        for _ in 0..self.amount.small {
            let slot = self.numbers.below(self.small.len());
            let size = self.numbers.size(LEAST, 32 << 10);
            match self.small[slot].take() {
                Some(mut block) if self.numbers.below(4) == 0 => {
                    self.refused += usize::from(!block.resize(size));
                    self.small[slot] = Some(block);
                }
                Some(block) => drop(block),
                None => {
                    let align = [8, 8, 8, 16, 64, 4096][self.numbers.below(6)];
                    let block = Block::new(size, align, self.numbers.next());
                    self.small[slot] = self.asked(block);
                }
            }
        }
    }

    fn large_blocks(&mut self) {
        for _ in 0..self.amount.large {
            let slot = self.numbers.below(self.large.len());
            let size = self.numbers.size(100 << 10, self.amount.largest);
            let others: usize = self.large.iter().flatten().map(Block::size).sum();
            match self.large[slot].take() {
                Some(mut block) if self.numbers.below(3) == 0 && others + size <= self.amount.live => {
                    self.refused += usize::from(!block.resize(size));
                    self.large[slot] = Some(block);
                }
                Some(block) => drop(block),
                None if others + size <= self.amount.live => {
                    let align = [8, 64, 4096, 2 * MIB][self.numbers.below(4)];
                    let block = Block::new(size, align, self.numbers.next());
                    self.large[slot] = self.asked(block);
                }
                None => {}
            }
        }
    }

    /// A buffer that grows and grows, beside another that does, so that neither can stay where it is.
    fn growing(&mut self) {
        let stamp = self.numbers.next();
        let (first, second) = (Block::new(MIB, 64, stamp), Block::new(MIB / 2, 64, !stamp));
        let (Some(mut first), Some(mut second)) = (self.asked(first), self.asked(second)) else { return };
        while first.size() < self.amount.grown {
            let larger = (first.size() * 2).min(self.amount.grown);
            if !first.resize(larger) || !second.resize(larger / 4) {
                self.refused += 1;
                break;
            }
            second.check();
        }
        let _ = first.resize(300 << 10);
    }

    /// Memory that was soiled and freed comes back zero to the last byte.
    fn zeroed(&mut self) {
        for size in [self.numbers.size(64, 64 << 10), self.numbers.size(100 << 10, MIB), self.amount.zeroed] {
            let stamp = self.numbers.next();
            let soiled = [Block::new(size, 64, stamp), Block::new(size / 2, 64, !stamp)];
            soiled.iter().flatten().for_each(Block::soil);
            drop(soiled);
            // What went back to the system is taken for zero afterwards, if it went.
            if self.numbers.below(2) == 0 || size == self.amount.zeroed {
                crate::heap::trim();
            }
            for part in [size / 2 - 8, size] {
                let block = Block::zeroed(part, stamp);
                self.asked(block);
            }
        }
    }
}

/// Threads that do rounds when they are told to, and hand blocks to each other.
pub struct Crew {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    /// The round that is asked for: twice its number, plus one where refusals are fine; `END` to end.
    asked: AtomicUsize,
    done: AtomicUsize,
    /// Where a thread leaves a block for any other.
    table: [AtomicPtr<Block>; 64],
}

const END: usize = usize::MAX;

impl Crew {
    /// As many threads as can be had, up to `count`.
    pub fn new(count: usize) -> Self {
        let table = [const { AtomicPtr::new(std::ptr::null_mut()) }; 64];
        let shared = Arc::new(Shared { asked: AtomicUsize::new(0), done: AtomicUsize::new(0), table });
        let threads = (0..count)
            .map_while(|number| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new().stack_size(256 << 10).spawn(move || shared.work(number as u64)).ok()
            })
            .collect();
        Crew { shared, threads }
    }

    /// Starts a round of every thread's.
    pub fn start(&self, round: usize, refusals: Refusals) {
        self.shared.done.store(0, SeqCst);
        self.shared.asked.store(2 * (round + 1) + usize::from(refusals == Refusals::Fine), SeqCst);
    }

    /// Waits until every thread has done its round.
    pub fn wait(&self) {
        while self.shared.done.load(SeqCst) < self.threads.len() {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Ends all threads.
    pub fn end(self) {
        self.shared.asked.store(END, SeqCst);
        for thread in self.threads {
            if thread.join().is_err() {
                wrong!("a thread panicked");
            }
        }
        for place in &self.shared.table {
            Shared::take(place);
        }
    }
}

impl Shared {
    fn work(&self, number: u64) {
        let mut traffic = Traffic::new(number + 100, Amount::SOME);
        let mut numbers = Numbers::new(number + 7);
        let mut seen = 0;
        loop {
            let asked = self.asked.load(SeqCst);
            if asked == END {
                return;
            }
            if asked == seen {
                std::thread::sleep(Duration::from_micros(200));
                continue;
            }
            seen = asked;
            let refusals = if asked % 2 == 1 { Refusals::Fine } else { Refusals::None };
            traffic.round(refusals);
            for _ in 0..200 {
                let place = &self.table[numbers.below(self.table.len())];
                Self::take(place);
                if let Some(block) = Block::new(numbers.size(LEAST, 256 << 10), 8, numbers.next()) {
                    self.leave(place, block);
                }
            }
            traffic.check();
            self.done.fetch_add(1, SeqCst);
        }
    }

    fn leave(&self, place: &AtomicPtr<Block>, block: Block) {
        // As a box is made, but for the end of the process where it is refused.
        // SAFETY: the layout is not empty.
        let at = unsafe { std::alloc::alloc(Layout::new::<Block>()) }.cast::<Block>();
        if at.is_null() {
            return;
        }
        // SAFETY: fresh memory for a block's description.
        unsafe { at.write(block) };
        Self::open(place.swap(at, SeqCst));
    }

    fn take(place: &AtomicPtr<Block>) {
        Self::open(place.swap(std::ptr::null_mut(), SeqCst));
    }

    fn open(left: *mut Block) {
        if !left.is_null() {
            // SAFETY: `leave` made it as a box is made, and whoever swaps it out owns it.
            drop(unsafe { Box::from_raw(left) });
        }
    }
}

/// A round of this thread's traffic and of the crew's, at once.
pub fn round(traffic: &mut Traffic, crew: &Crew, number: usize, refusals: Refusals) {
    crew.start(number, refusals);
    traffic.round(refusals);
    crew.wait();
    traffic.check();
}

/// Ends a program well: everything still works, nothing is lost, the books are in order.
pub fn finish(mut traffic: Traffic, crew: Crew, rounds: usize) {
    round(&mut traffic, &crew, rounds, Refusals::None);
    traffic.free();
    crew.end();
    crate::heap::consistent();
    crate::heap::trim();
    crate::heap::consistent();
}
