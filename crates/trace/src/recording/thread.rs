//! What one thread did: from records to events.

use super::error::{Place, RecordingError};
use super::format::{Block, BlockHeader, Record};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// A block was requested.
    Request(Block),
    /// A block was freed.
    Free(Block),
    /// A block has another size, or lies elsewhere.
    Resize {
        /// As it was.
        from: Block,
        /// As it is.
        to: Block,
    },
    /// A request was refused.
    Refused(Block),
    /// A block was in use when the recording began.
    Live(Block),
    /// Memory went back to the system.
    Purged(Block),
    /// A source took memory from below. What a pool takes of the process's heap is nothing else to the heap: no request of its own.
    Taken(Block),
    /// A source gave back what it had taken.
    Given(Block),
    /// A step begins.
    Step(u64),
    /// A label is entered.
    Enter(u64),
    /// A label is left.
    Leave(u64),
}

/// What happened, and where and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The thread, by its number.
    pub thread: u32,
    /// Which of the thread's events it is, counted from 0. What was lost counts.
    pub number: u64,
    /// How many ticks after the beginning.
    pub tick: u64,
    /// Under whose lock it was made, and which of those recorded there it is, if it was.
    pub passed: Option<(u16, u64)>,
    /// The number of its stack, if that was taken.
    pub stack: Option<u64>,
    /// What happened.
    pub what: What,
}

/// The records of a block, one after the other.
#[derive(Debug)]
pub(super) struct Cursor {
    thread: u32,
    records: std::vec::IntoIter<[u64; 2]>,
    place: Place,
    tick: u64,
    number: u64,
}

impl Cursor {
    pub(super) fn new(header: &BlockHeader, place: Place, payload: &[u8]) -> Self {
        let (words, _) = payload.as_chunks::<8>();
        let (pairs, _) = words.as_chunks::<2>();
        let records: Vec<[u64; 2]> = pairs.iter().map(|pair| pair.map(u64::from_le_bytes)).collect();
        Self { thread: header.thread, records: records.into_iter(), place, tick: header.tick, number: header.first }
    }

    /// The next record.
    fn record(&mut self) -> Option<Result<Record, RecordingError>> {
        let Some((record, ticks)) = Record::decode(self.records.next()?) else {
            // What follows may mean anything.
            self.records = Vec::new().into_iter();
            return Some(Err(RecordingError::new(self.place, "holds a record that is none")));
        };
        self.tick = self.tick.saturating_add(ticks.into());
        Some(Ok(record))
    }

    pub(super) fn event(&mut self) -> Option<Result<Event, RecordingError>> {
        let (mut passed, mut stack) = (None, None);
        let what = loop {
            break match self.record()? {
                Err(error) => return Some(Err(error)),
                Ok(Record::Ticks(ticks)) => {
                    self.tick = self.tick.saturating_add(ticks);
                    continue;
                }
                Ok(Record::Passed { source, number }) => {
                    passed = Some((source, number));
                    continue;
                }
                Ok(Record::Stack(number)) => {
                    stack = Some(number);
                    continue;
                }
                Ok(Record::Resize(to)) => match self.record() {
                    Some(Ok(Record::From(from))) => What::Resize { from, to },
                    Some(Err(error)) => return Some(Err(error)),
                    _ => return Some(Err(RecordingError::new(self.place, "holds half of a resize"))),
                },
                Ok(Record::From(_)) => return Some(Err(RecordingError::new(self.place, "holds half of a resize"))),
                Ok(Record::Request(block)) => What::Request(block),
                Ok(Record::Free(block)) => What::Free(block),
                Ok(Record::Refused(block)) => What::Refused(block),
                Ok(Record::Live(block)) => What::Live(block),
                Ok(Record::Purged(block)) => What::Purged(block),
                Ok(Record::Taken(block)) => What::Taken(block),
                Ok(Record::Given(block)) => What::Given(block),
                Ok(Record::Step(number)) => What::Step(number),
                Ok(Record::Enter(label)) => What::Enter(label),
                Ok(Record::Leave(label)) => What::Leave(label),
            };
        };
        let number = self.number;
        self.number = number.saturating_add(1);
        Some(Ok(Event { thread: self.thread, number, tick: self.tick, passed, stack, what }))
    }
}
