//! Writes recordings: what converts others' does, and tests.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::format::{BlockHeader, BlockKind, Header, MAX_SIZE, RECORD_BYTES, Record};
use super::names::{self, Kind};

/// The records of a block that is written as a whole.
const RECORDS: usize = 1020;

/// The most records that belong together, with one for ticks.
const TOGETHER: usize = 5;

/// Writes a recording, a block whenever one is full. [`finish`](Self::finish) writes the rest.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    threads: BTreeMap<u32, Open>,
    names: Vec<u8>,
    names_blocks: u32,
}

/// A thread's block that is not full.
#[derive(Debug, Default)]
struct Open {
    records: Vec<u8>,
    header: Option<BlockHeader>,
    blocks: u32,
    events: u64,
    tick: u64,
    /// The last record belongs to the next one.
    is_begun: bool,
}

impl<W: Write> Writer<W> {
    /// Begins a recording.
    ///
    /// # Errors
    /// What the writer reports; as for the other functions.
    pub fn new(mut out: W, header: Header) -> io::Result<Self> {
        out.write_all(&header.encode())?;
        Ok(Self { out, threads: BTreeMap::new(), names: Vec::new(), names_blocks: 0 })
    }

    /// Writes a record of a thread. A tick that is before the thread's last counts as that.
    ///
    /// # Errors
    /// See [`new`](Self::new).
    pub fn record(&mut self, thread: u32, tick: u64, record: Record) -> io::Result<()> {
        let open = self.threads.entry(thread).or_default();
        if open.records.len() >= (RECORDS - TOGETHER) * RECORD_BYTES && !open.is_begun {
            open.write(&mut self.out)?;
        }
        open.take(thread, tick, record);
        Ok(())
    }

    /// So many events of a thread are missing here.
    ///
    /// # Errors
    /// See [`new`](Self::new).
    pub fn lost(&mut self, thread: u32, events: u64) -> io::Result<()> {
        let open = self.threads.entry(thread).or_default();
        open.write(&mut self.out)?;
        open.events += events;
        open.header = Some(open.begin(thread, events));
        Ok(())
    }

    /// Writes a name.
    ///
    /// # Errors
    /// See [`new`](Self::new).
    pub fn name(&mut self, kind: Kind, number: u32, name: &[u8]) -> io::Result<()> {
        names::encode(kind, number, name, &mut self.names);
        if self.names.len() >= RECORDS * RECORD_BYTES {
            self.write_names()?;
        }
        Ok(())
    }

    fn write_names(&mut self) -> io::Result<()> {
        if self.names.is_empty() {
            return Ok(());
        }
        self.names.resize(self.names.len().next_multiple_of(RECORD_BYTES), 0);
        let bytes = self.names.len() as u32;
        let header = BlockHeader {
            kind: BlockKind::Names,
            packed: false,
            bytes,
            records: 0,
            thread: 0,
            number: self.names_blocks,
            tick: 0,
            first: 0,
            lost: 0,
        };
        self.out.write_all(&header.encode(&self.names))?;
        self.out.write_all(&self.names)?;
        self.names.clear();
        self.names_blocks += 1;
        Ok(())
    }

    /// Writes what is left, and returns the writer.
    ///
    /// # Errors
    /// See [`new`](Self::new).
    pub fn finish(mut self) -> io::Result<W> {
        self.write_names()?;
        for open in self.threads.values_mut() {
            open.write(&mut self.out)?;
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

impl Open {
    fn begin(&self, thread: u32, lost: u64) -> BlockHeader {
        BlockHeader {
            kind: BlockKind::Events,
            packed: false,
            bytes: 0,
            records: 0,
            thread,
            number: self.blocks,
            tick: self.tick,
            first: self.events,
            lost,
        }
    }

    fn take(&mut self, thread: u32, tick: u64, record: Record) {
        if self.records.is_empty() {
            self.tick = self.tick.max(tick);
            let lost = self.header.take().map_or(0, |header| header.lost);
            self.header = Some(self.begin(thread, lost));
        }
        let mut gap = tick.saturating_sub(self.tick);
        self.tick += gap;
        if gap > u16::MAX.into() {
            self.put(Record::Ticks(gap.min(MAX_SIZE)), 0);
            gap = 0;
        }
        self.put(record, gap as u16);
        self.is_begun =
            matches!(record, Record::Passed { .. } | Record::Stack(_) | Record::Resize(_) | Record::Ticks(_));
        self.events += u64::from(!self.is_begun);
    }

    fn put(&mut self, record: Record, ticks: u16) {
        self.records.extend(record.encode(ticks).iter().flat_map(|word| word.to_le_bytes()));
    }

    fn write(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        let Some(begun) = self.header.take() else { return Ok(()) };
        let bytes = self.records.len();
        let header = BlockHeader { bytes: bytes as u32, records: (bytes / RECORD_BYTES) as u32, ..begun };
        out.write_all(&header.encode(&self.records))?;
        out.write_all(&self.records)?;
        self.records.clear();
        self.blocks += 1;
        Ok(())
    }
}
