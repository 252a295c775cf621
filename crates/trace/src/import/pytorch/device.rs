//! What happened on a device, as records.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Write;

use super::super::{ImportError, Imported};
use super::input::wrong;
use super::snapshot::{InUse, Snapshot, Traced, place};
use super::value::{TOO_MUCH, Word};
use crate::recording::Writer;
use crate::recording::format::{Block, Record};
use crate::recording::names::Kind;

/// What a place in a table of addresses takes, nodes that are half full included.
const PLACE_BYTES: u64 = 96;

/// The logarithm of the alignment that PyTorch gives its blocks.
const ALIGN: u32 = 9;

/// What is at an address.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The address in full.
    address: u64,
    /// The bytes of the block there, if there is one.
    size: Option<u64>,
}

/// What was at each address, as recordings have them, in the beginning; then, what is.
#[derive(Debug)]
struct Places {
    map: BTreeMap<u64, Place>,
    /// The bytes of memory that may still be taken.
    left: u64,
}

impl Places {
    /// What is first heard of an address: whether something was there from the beginning.
    fn first(&mut self, at: u64, address: u64, size: Option<u64>) -> Result<(), ImportError> {
        match self.map.entry(place(address, at)?) {
            Entry::Vacant(entry) => {
                self.left = self.left.checked_sub(PLACE_BYTES).ok_or_else(|| wrong(at, TOO_MUCH))?;
                entry.insert(Place { address, size });
            }
            Entry::Occupied(entry) if entry.get().address != address => {
                return Err(wrong(at, "two addresses have the same lower 48 bits"));
            }
            Entry::Occupied(_) => {}
        }
        Ok(())
    }
}

/// A device, and where what happens there is written.
#[derive(Debug)]
struct Device<'a, W> {
    number: u16,
    /// What frees are called.
    free: Word,
    /// The earliest time.
    first: i64,
    places: Places,
    /// Where the segment lies that was taken last, and no block of it since, and its bytes.
    segment: Option<(u64, u64)>,
    imported: &'a mut Imported,
    out: &'a mut Writer<W>,
}

/// Writes all that a snapshot says.
pub(super) fn write<W: Write>(mut snapshot: Snapshot, out: &mut Writer<W>) -> Result<Imported, ImportError> {
    let mut left = snapshot.left();
    let in_use = snapshot.in_use(&mut left)?;
    let (mut free, mut first) = (Word::FreeRequested, None);
    let traces = snapshot.look(|entry| {
        if entry.action == Some(Word::FreeCompleted) {
            free = Word::FreeCompleted;
        }
        first = first.into_iter().chain(entry.time).min();
    })?;
    let mut imported = Imported::default();
    let mut groups = in_use.chunk_by(|one, other| one.device == other.device).peekable();
    let devices = in_use.last().map_or(0, |block| block.device + 1).max(traces);
    for number in 0..devices {
        let blocks = groups.next_if(|blocks| blocks.first().is_some_and(|block| block.device == number));
        let places = Places { map: BTreeMap::new(), left };
        let (first, imported, out) = (first.unwrap_or(0), &mut imported, &mut *out);
        let mut device = Device { number, free, first, places, segment: None, imported, out };
        device.look(&snapshot, blocks.unwrap_or_default())?;
        device.begin()?;
        snapshot.trace(number).try_for_each(|entry| device.happen(&entry?))?;
    }
    Ok(imported)
}

impl<W: Write> Device<'_, W> {
    /// What was there in the beginning: what was in use in the end, or freed before, and is nowhere allocated.
    fn look(&mut self, snapshot: &Snapshot, in_use: &[InUse]) -> Result<(), ImportError> {
        for entry in snapshot.trace(self.number) {
            let entry = entry?;
            match entry.action {
                Some(Word::Alloc) => self.places.first(entry.at(), entry.address()?, None)?,
                Some(free) if free == self.free => {
                    self.places.first(entry.at(), entry.address()?, Some(entry.size()?))?;
                }
                _ => {}
            }
        }
        in_use.iter().try_for_each(|block| self.places.first(block.at, block.address, Some(block.size)))
    }

    /// Writes what was there in the beginning, and what the device is called.
    fn begin(&mut self) -> Result<(), ImportError> {
        self.out.name(Kind::Thread, self.number.into(), format!("device {}", self.number).as_bytes())?;
        self.out.name(Kind::Source, self.source().into(), format!("pool pytorch:{}", self.number).as_bytes())?;
        for (&address, place) in &self.places.map {
            if let Some(size) = place.size {
                self.out.record(self.number.into(), 0, Record::Live(self.block(address, size)))?;
                self.imported.events += 1;
            }
        }
        Ok(())
    }

    /// 0 is the process's heap.
    fn source(&self) -> u16 {
        self.number + 1
    }

    fn block(&self, address: u64, size: u64) -> Block {
        let align = address.trailing_zeros().min(ALIGN) as u8;
        Block { address, size, align, source: self.source(), ..Block::default() }
    }

    /// Writes what an entry says.
    fn happen(&mut self, entry: &Traced) -> Result<(), ImportError> {
        let record = match entry.action {
            Some(Word::Alloc) => self.alloc(entry.place()?, entry.size()?),
            Some(free) if free == self.free => {
                let address = entry.place()?;
                // As large as it was said to be when it was requested.
                let size = self.places.map.get_mut(&address).and_then(|place| place.size.take());
                size.map(|size| Record::Free(self.block(address, size)))
            }
            Some(Word::Oom) => Some(Record::Refused(self.block(0, entry.size()?))),
            Some(Word::SegmentFree | Word::SegmentUnmap) => {
                Some(Record::Purged(self.block(entry.place()?, entry.size()?)))
            }
            Some(Word::SegmentAlloc | Word::SegmentMap) => {
                self.segment = Some((entry.place()?, entry.size()?));
                None
            }
            _ => None,
        };
        let Some(record) = record else {
            self.imported.left_out += 1;
            return Ok(());
        };
        let micros = entry.time.map_or(0, |time| time.saturating_sub(self.first));
        let tick = u64::try_from(micros).unwrap_or(0) / 1000;
        self.out.record(self.number.into(), tick, record)?;
        self.imported.events += 1;
        Ok(())
    }

    fn alloc(&mut self, address: u64, size: u64) -> Option<Record> {
        let place = self.places.map.get_mut(&address)?;
        if place.size.is_some() {
            return None;
        }
        place.size = Some(size);
        // A block may begin in memory that it had already, where a segment grows.
        let taken = self.segment.take();
        let missed = taken.is_some_and(|(segment, bytes)| {
            address < segment.saturating_add(bytes) && segment < address.saturating_add(size)
        });
        Some(Record::Request(Block { missed, ..self.block(address, size) }))
    }
}
