//! One order of what threads did, always the same for the same recording.
//!
//! Of each thread, the order is known. Of several, a block's life tells: it is requested before it is freed, as large as it is then, and freed before its address is
//! requested again. And where events passed a lock, their numbers tell. Beyond that it goes by ticks, and by threads' numbers. What no order explains, as events were
//! lost, or a block was not known to be in use when the recording began, happens once all others are a thousand ticks later: it is
//! counted as [forced](Events::forced).

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::io::{Read, Seek};

use super::error::RecordingError;
use super::format::Block;
use super::read::{Recording, Thread};
use super::thread::{Cursor, Event, What};

/// So many ticks an event waits for another that would explain it.
pub(super) const PATIENCE: u64 = 1000;

/// The events of a recording, in one order. A block that is damaged is an error, and goes on behind it.
///
/// Memory: a block of each thread, and some 40 bytes for each block of memory that is in use.
#[derive(Debug)]
pub struct Events<'a, R> {
    recording: &'a mut Recording<R>,
    threads: Vec<State>,
    /// Those whose next event may happen, the first first.
    ready: BinaryHeap<Reverse<Turn>>,
    /// How many turns there were so far.
    turns: u64,
    waiting: Waiting,
    /// The blocks in use, and their bytes.
    live: HashMap<u64, u64>,
    /// How many events passed each source's lock.
    passed: HashMap<u16, u64>,
    forced: u64,
    lost: u64,
    error: Option<RecordingError>,
}

#[derive(Debug, Default)]
struct State {
    cursor: Option<Cursor>,
    blocks: usize,
    next: Option<Event>,
    /// What it waits for, if it does.
    waits: Option<Wait>,
}

/// When a thread is to go on: at a tick; at once, if it waited for what just happened, as it is what came next then, more likely than not; otherwise in turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    tick: u64,
    turn: u64,
    at: usize,
}

/// What an event waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Wait {
    /// Something happens at an address.
    Address(u64),
    /// So many events passed a lock.
    Lock(u16, u64),
}

/// Who waits for what; and all who wait, by tick and number.
#[derive(Debug, Default)]
struct Waiting {
    on: HashMap<Wait, Vec<usize>>,
    all: BTreeSet<(u64, usize)>,
}

impl<'a, R: Read + Seek> Events<'a, R> {
    pub(super) fn new(recording: &'a mut Recording<R>) -> Self {
        let count = recording.threads().len();
        // A thread's first block is read when it is its turn.
        let begins = |(at, thread): (usize, &Thread)| Reverse(Turn { tick: thread.begins(), turn: 1, at });
        let ready = recording.threads().iter().enumerate().map(begins).collect();
        Self {
            recording,
            threads: (0..count).map(|_| State::default()).collect(),
            ready,
            turns: 1,
            waiting: Waiting::default(),
            live: HashMap::new(),
            passed: HashMap::new(),
            forced: 0,
            lost: 0,
            error: None,
        }
    }

    /// How many events so far happened without what would explain them.
    pub fn forced(&self) -> u64 {
        self.forced
    }

    /// How many events are missing so far, as the recorder had no room for them.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Reads a thread's next event, if there is one and none is at hand. What is damaged is left out, and told.
    fn read(&mut self, at: usize) {
        let state = &mut self.threads[at];
        while state.next.is_none() {
            match state.cursor.as_mut().and_then(Cursor::event) {
                Some(Ok(event)) => state.next = Some(event),
                Some(Err(error)) => {
                    state.cursor = None;
                    self.error = self.error.take().or(Some(error));
                }
                None => match self.recording.block(at, state.blocks) {
                    None => return,
                    Some(read) => {
                        state.blocks += 1;
                        match read {
                            Ok((cursor, lost)) => {
                                self.lost = self.lost.saturating_add(lost);
                                state.cursor = Some(cursor);
                            }
                            Err(error) => {
                                state.cursor = None;
                                self.error = self.error.take().or(Some(error));
                            }
                        }
                    }
                },
            }
        }
    }

    /// What an event has to wait for, if it does.
    fn wait(&self, event: &Event) -> Option<Wait> {
        if let Some((source, number)) = event.passed
            && number > self.passed.get(&source).copied().unwrap_or(0)
        {
            return Some(Wait::Lock(source, number));
        }
        let unless = |holds: bool, block: Block| (!holds).then_some(Wait::Address(block.address));
        let is_vacant = |block: Block| unless(!self.live.contains_key(&block.address), block);
        // It is not another block, that was here before or comes after.
        let is_there = |block: Block| {
            unless(self.live.get(&block.address).is_some_and(|&size| block.size == 0 || size == block.size), block)
        };
        match event.what {
            What::Request(block) | What::Live(block) => is_vacant(block),
            What::Free(block) => is_there(block),
            What::Resize { from, to } if from.address == to.address => is_there(from),
            What::Resize { from, to } => is_there(from).or_else(|| is_vacant(to)),
            _ => None,
        }
    }

    /// An event happens: who waited for it may go on.
    fn happen(&mut self, event: &Event) {
        if let Some((source, number)) = event.passed {
            let passed = self.passed.entry(source).or_insert(0);
            *passed = (*passed).max(number.saturating_add(1));
            let passed = *passed;
            self.wake(Wait::Lock(source, passed));
        }
        let (gone, come) = match event.what {
            What::Request(block) | What::Live(block) => (None, Some(block)),
            What::Free(block) => (Some(block), None),
            What::Resize { from, to } => (Some(from), Some(to)),
            _ => (None, None),
        };
        gone.map(|block| self.live.remove(&block.address));
        come.map(|block| self.live.insert(block.address, block.size));
        for block in gone.into_iter().chain(come) {
            self.wake(Wait::Address(block.address));
        }
    }

    fn wake(&mut self, wait: Wait) {
        for at in self.waiting.on.remove(&wait).unwrap_or_default() {
            let state = &mut self.threads[at];
            state.waits = None;
            let tick = state.next.map_or(0, |event| event.tick);
            self.waiting.all.remove(&(tick, at));
            self.ready.push(Reverse(Turn { tick, turn: 0, at }));
        }
    }

    /// A thread goes on at a tick, once the others had their turns.
    fn line_up(&mut self, tick: u64, at: usize) {
        self.turns += 1;
        self.ready.push(Reverse(Turn { tick, turn: self.turns, at }));
    }

    /// A thread that waits for too long, or for what nobody is left to do.
    fn impatient(&mut self) -> Option<usize> {
        let &(tick, at) = self.waiting.all.first()?;
        let next = self.ready.peek().map(|Reverse(next)| next.tick);
        if next.is_some_and(|next| next <= tick.saturating_add(PATIENCE)) {
            return None;
        }
        self.waiting.all.pop_first();
        if let Some(wait) = self.threads[at].waits.take()
            && let Some(others) = self.waiting.on.get_mut(&wait)
        {
            others.retain(|other| *other != at);
            if others.is_empty() {
                self.waiting.on.remove(&wait);
            }
        }
        Some(at)
    }

    /// The next event of a thread happens.
    fn take(&mut self, at: usize) -> Option<Event> {
        let event = self.threads[at].next.take()?;
        self.happen(&event);
        // The tick of what follows is not less.
        self.line_up(event.tick, at);
        Some(event)
    }
}

impl<R: Read + Seek> Iterator for Events<'_, R> {
    type Item = Result<Event, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(error) = self.error.take() {
                return Some(Err(error));
            }
            if let Some(at) = self.impatient() {
                self.forced += 1;
                return self.take(at).map(Ok);
            }
            let Reverse(Turn { tick, at, .. }) = self.ready.pop()?;
            self.read(at);
            let Some(event) = self.threads[at].next else { continue };
            if event.tick > tick {
                self.line_up(event.tick, at);
                continue;
            }
            match self.wait(&event) {
                None => return self.take(at).map(Ok),
                Some(wait) => {
                    self.threads[at].waits = Some(wait);
                    self.waiting.on.entry(wait).or_default().push(at);
                    self.waiting.all.insert((event.tick, at));
                }
            }
        }
    }
}
