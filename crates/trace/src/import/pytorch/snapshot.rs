//! What a snapshot means: what was in use, and what its traces say, entry by entry.

use super::super::ImportError;
use super::input::wrong;
use super::pickle::Pickle;
use super::value::{Fields, Heap, Value, Word, grow};
use crate::recording::format::{MAX_SIZE, MAX_SOURCES};

/// A snapshot that is looked at.
#[derive(Debug)]
pub(super) struct Snapshot {
    heap: Heap,
    /// Where what is in it begins.
    at: u64,
    /// What holds segments, and what holds traces.
    segments: Option<Value>,
    traces: Option<Value>,
    /// How many more lists and entries may be looked at. There are no more than twice as many as the input has bytes, unless they are referred to many times.
    visits: u64,
}

/// A block that was in use when the snapshot was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct InUse {
    pub(super) device: u16,
    pub(super) at: u64,
    pub(super) address: u64,
    pub(super) size: u64,
}

/// An entry of a device's trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traced {
    at: u64,
    pub(super) action: Option<Word>,
    address: Option<Value>,
    size: Option<Value>,
    /// In microseconds.
    pub(super) time: Option<i64>,
}

impl Traced {
    /// Where it happened, in full.
    pub(super) fn address(&self) -> Result<u64, ImportError> {
        let address = self.address.and_then(bits);
        address.ok_or_else(|| wrong(self.at, "an entry has no address"))
    }

    /// Of how many bytes it is.
    pub(super) fn size(&self) -> Result<u64, ImportError> {
        self.size.and_then(number).ok_or_else(|| wrong(self.at, "an entry has no size"))
    }

    /// Its address as a recording has it.
    pub(super) fn place(&self) -> Result<u64, ImportError> {
        place(self.address()?, self.at)
    }

    pub(super) fn at(&self) -> u64 {
        self.at
    }
}

/// An address as a recording has it.
pub(super) fn place(address: u64, at: u64) -> Result<u64, ImportError> {
    if !address.is_multiple_of(16) {
        return Err(wrong(at, "an address is no multiple of 16"));
    }
    Ok(address & MAX_SIZE)
}

/// What a dict has under a word.
fn get(fields: &Fields, word: Word) -> Option<Value> {
    fields.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
}

/// A number that is not below zero.
fn number(value: Value) -> Option<u64> {
    match value {
        Value::Number(number) => u64::try_from(number).ok(),
        Value::Large(number) => Some(number),
        _ => None,
    }
}

/// An address. PyTorch's own pickler takes those of 2⁶³ and more for numbers below zero.
fn bits(value: Value) -> Option<u64> {
    match value {
        Value::Number(number) => Some(number as u64),
        Value::Large(number) => Some(number),
        _ => None,
    }
}

impl Snapshot {
    pub(super) fn new(pickle: Pickle) -> Result<Self, ImportError> {
        let Pickle { top, heap, bytes } = pickle;
        let at = heap.at(top).unwrap_or(0);
        let (segments, traces) = match heap.dict(top) {
            Some(fields) => (get(fields, Word::Segments), get(fields, Word::DeviceTraces)),
            None => (heap.list(top).map(|_| top), None),
        };
        if segments.or(traces).is_none() {
            return Err(wrong(at, "what is pickled is no snapshot: it has neither segments nor device_traces"));
        }
        Ok(Self { heap, at, segments, traces, visits: bytes.saturating_mul(2) })
    }

    /// The bytes of memory that may still be taken.
    pub(super) fn left(&self) -> u64 {
        self.heap.left()
    }

    /// How many devices have traces. All of their entries are looked at and shown.
    pub(super) fn look(&mut self, mut show: impl FnMut(&Traced)) -> Result<u16, ImportError> {
        let Some(traces) = self.traces else { return Ok(0) };
        let mut visits = self.visits;
        let devices = self.list(traces, &mut visits)?;
        for &trace in devices {
            self.list(trace, &mut visits)?;
            self.trace_of(trace).try_for_each(|entry| entry.map(|entry| show(&entry)))?;
        }
        let count = u16::try_from(devices.len()).ok().filter(|count| *count < MAX_SOURCES);
        self.visits = visits;
        count.ok_or_else(|| wrong(self.heap.at(traces).unwrap_or(self.at), "it has more devices than there can be"))
    }

    /// The entries of a device's trace.
    pub(super) fn trace(&self, device: u16) -> impl Iterator<Item = Result<Traced, ImportError>> {
        let traces = self.traces.and_then(|traces| self.heap.list(traces)).unwrap_or_default();
        traces.get(usize::from(device)).into_iter().flat_map(|trace| self.trace_of(*trace))
    }

    fn trace_of(&self, trace: Value) -> impl Iterator<Item = Result<Traced, ImportError>> {
        self.heap.list(trace).unwrap_or_default().iter().map(|entry| {
            let (fields, at) = self.dict(*entry)?;
            let word = |value| if let Value::Word(word) = value { Some(word) } else { None };
            let time = |value| if let Value::Number(time) = value { Some(time) } else { None };
            Ok(Traced {
                at,
                action: get(fields, Word::Action).and_then(word),
                address: get(fields, Word::Addr),
                size: get(fields, Word::Size),
                time: get(fields, Word::TimeUs).and_then(time),
            })
        })
    }

    /// The blocks that were in use when the snapshot was made, those of a device together.
    pub(super) fn in_use(&mut self, left: &mut u64) -> Result<Vec<InUse>, ImportError> {
        let Some(segments) = self.segments else { return Ok(Vec::new()) };
        let (mut visits, mut in_use) = (self.visits, Vec::new());
        for &segment in self.list(segments, &mut visits)? {
            let (fields, at) = self.dict(segment)?;
            let device = get(fields, Word::Device).map_or(Some(0), number);
            let device =
                device.and_then(|device| u16::try_from(device).ok()).filter(|device| *device < MAX_SOURCES - 1);
            let device = device.ok_or_else(|| wrong(at, "a segment's device is none that there can be"))?;
            let Some(blocks) = get(fields, Word::Blocks) else { continue };
            // Old versions did not write where each block is: they lie one after the other.
            let mut next = get(fields, Word::Address).and_then(bits);
            for &block in self.list(blocks, &mut visits)? {
                let (fields, at) = self.dict(block)?;
                let address = get(fields, Word::Address).and_then(bits).or(next);
                let whole = get(fields, Word::Size).and_then(number);
                next = address.zip(whole).map(|(address, size)| address.wrapping_add(size));
                let size = get(fields, Word::RequestedSize).and_then(number).filter(|size| *size > 0).or(whole);
                if let Some(Value::Word(Word::ActiveAllocated | Word::ActivePendingFree | Word::ActiveAwaitingFree)) =
                    get(fields, Word::State)
                {
                    let (address, size) =
                        address.zip(size).ok_or_else(|| wrong(at, "a block in use has no address, or no size"))?;
                    grow(&mut in_use, 1, left).map_err(|what| wrong(at, what))?;
                    in_use.push(InUse { device, at, address, size });
                }
            }
        }
        self.visits = visits;
        in_use.sort_unstable_by_key(|block| (block.device, block.address, block.at));
        Ok(in_use)
    }

    /// What is in a list; each time that it is looked at counts.
    fn list(&self, value: Value, visits: &mut u64) -> Result<&[Value], ImportError> {
        let at = self.heap.at(value).unwrap_or(self.at);
        let list = self.heap.list(value);
        let list = list.ok_or_else(|| wrong(at, "what should be a list of a snapshot is none"))?;
        let left = visits.checked_sub(list.len() as u64 + 1);
        *visits = left.ok_or_else(|| wrong(at, "a list of a snapshot is referred to too many times"))?;
        Ok(list)
    }

    /// What is in a dict, and where it begins.
    fn dict(&self, value: Value) -> Result<(&Fields, u64), ImportError> {
        let at = self.heap.at(value).unwrap_or(self.at);
        let fields = self.heap.dict(value);
        Ok((fields.ok_or_else(|| wrong(at, "what should be a dict of a snapshot is none"))?, at))
    }
}
