//! Reads a recording: an index of its blocks, names, and the blocks of a thread one after the other.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Seek, SeekFrom};

use super::error::{Place, RecordingError};
use super::format::{BlockHeader, BlockKind, HEADER_BYTES, Header, RECORD_BYTES};
use super::names::{self, Kind};
use super::order::Events;
use super::pack;
use super::thread::Cursor;

/// The most damages that are told one by one.
const MOST_DAMAGES: usize = 100;

/// A recording, of which little is in memory: 32 bytes for each of its blocks, its names, and a block of each thread while its events are read.
#[derive(Debug)]
pub struct Recording<R> {
    input: R,
    header: Header,
    threads: Vec<Thread>,
    names: HashMap<(Kind, u32), Box<[u8]>>,
    damages: Vec<RecordingError>,
    blocks: u64,
    records: u64,
    is_cut: bool,
}

/// The blocks of a thread, by their numbers, and the next to be read.
#[derive(Debug)]
pub(super) struct Thread {
    pub(super) number: u32,
    blocks: Vec<Indexed>,
}

#[derive(Debug, Clone, Copy)]
struct Indexed {
    number: u32,
    block: u64,
    offset: u64,
    tick: u64,
}

impl<R: Read + Seek> Recording<R> {
    /// Looks at the whole file's headers, and reads its names.
    ///
    /// # Errors
    /// The file's header is that of no recording, or the file cannot be read. What is wrong further on is among the [damages](Self::damages).
    pub fn open(mut input: R) -> Result<Self, RecordingError> {
        let at_header = |error| RecordingError::io(Place::Header, error);
        let end = input.seek(SeekFrom::End(0)).map_err(at_header)?;
        input.rewind().map_err(at_header)?;
        let mut bytes = [0; HEADER_BYTES];
        input.read_exact(&mut bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => RecordingError::new(Place::Header, "is not there: the file is too short"),
            _ => at_header(error),
        })?;
        let header = Header::decode(&bytes).map_err(|what| RecordingError::new(Place::Header, what))?;
        let mut recording = Self {
            input,
            header,
            threads: Vec::new(),
            names: HashMap::new(),
            damages: Vec::new(),
            blocks: 0,
            records: 0,
            is_cut: false,
        };
        recording.index(end)?;
        Ok(recording)
    }

    fn index(&mut self, end: u64) -> Result<(), RecordingError> {
        let mut places: HashMap<u32, usize> = HashMap::new();
        let mut offset = HEADER_BYTES as u64;
        let mut is_lost = false;
        while offset < end {
            let place = Place::Block(self.blocks + 1, offset);
            let mut bytes = [0; HEADER_BYTES];
            let after = offset + HEADER_BYTES as u64;
            if after > end {
                self.is_cut = true;
                break;
            }
            self.read_at(offset, &mut bytes, place)?;
            let header = match BlockHeader::decode(&bytes) {
                Ok(header) => header,
                Err(what) => {
                    // Where it ends is not known: the next that looks like one, at a multiple of what all lengths are multiples of.
                    if !is_lost {
                        self.blocks += 1;
                        self.damage(RecordingError::new(place, what));
                    }
                    is_lost = true;
                    offset += RECORD_BYTES as u64;
                    continue;
                }
            };
            if after + u64::from(header.bytes) > end {
                // Nothing behind it can be told from what it claims to hold.
                self.is_cut = true;
                break;
            }
            is_lost = false;
            self.blocks += 1;
            match header.kind {
                BlockKind::Names => self.read_names(&header, &bytes, offset, place)?,
                BlockKind::Events => {
                    self.records += u64::from(header.records);
                    let at = *places.entry(header.thread).or_insert_with(|| {
                        self.threads.push(Thread { number: header.thread, blocks: Vec::new() });
                        self.threads.len() - 1
                    });
                    let indexed = Indexed { number: header.number, block: self.blocks, offset, tick: header.tick };
                    self.threads[at].blocks.push(indexed);
                }
            }
            offset = after + u64::from(header.bytes);
        }
        for thread in &mut self.threads {
            thread.blocks.sort_by_key(|block| (block.number, block.offset));
        }
        self.threads.sort_by_key(|thread| thread.number);
        Ok(())
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8], place: Place) -> Result<(), RecordingError> {
        let read = self.input.seek(SeekFrom::Start(offset)).and_then(|_| self.input.read_exact(into));
        read.map_err(|error| RecordingError::io(place, error))
    }

    fn damage(&mut self, damage: RecordingError) {
        if self.damages.len() < MOST_DAMAGES {
            self.damages.push(damage);
        }
    }

    fn read_names(
        &mut self,
        header: &BlockHeader,
        bytes: &[u8; HEADER_BYTES],
        offset: u64,
        place: Place,
    ) -> Result<(), RecordingError> {
        let mut payload = vec![0; header.bytes as usize];
        self.read_at(offset + HEADER_BYTES as u64, &mut payload, place)?;
        if !BlockHeader::is_intact(bytes, &payload) {
            self.damage(RecordingError::new(place, CHANGED));
            return Ok(());
        }
        let names = &mut self.names;
        if names::decode(&payload, |kind, number, name| _ = names.insert((kind, number), name.into())).is_none() {
            self.damage(RecordingError::new(place, "holds a name that is none"));
        }
        Ok(())
    }

    /// The next block of a thread.
    pub(super) fn block(&mut self, thread: usize, block: usize) -> Option<Result<(Cursor, u64), RecordingError>> {
        let indexed = *self.threads.get(thread)?.blocks.get(block)?;
        let place = Place::Block(indexed.block, indexed.offset);
        let read = self.read_block(indexed, place);
        Some(read.map(|(header, records)| (Cursor::new(&header, place, &records), header.lost)))
    }

    /// A block's header, and its records.
    fn read_block(&mut self, indexed: Indexed, place: Place) -> Result<(BlockHeader, Vec<u8>), RecordingError> {
        let mut bytes = [0; HEADER_BYTES];
        self.read_at(indexed.offset, &mut bytes, place)?;
        let header = BlockHeader::decode(&bytes).map_err(|what| RecordingError::new(place, what))?;
        let mut payload = vec![0; header.bytes as usize];
        self.read_at(indexed.offset + HEADER_BYTES as u64, &mut payload, place)?;
        if !BlockHeader::is_intact(&bytes, &payload) {
            return Err(RecordingError::new(place, CHANGED));
        }
        if header.packed {
            payload = pack::unpack(&payload, header.records).map_err(|what| RecordingError::new(place, what))?;
        }
        Ok((header, payload))
    }

    /// Writes the recording anew, its blocks compressed: about a tenth of the bytes. A block that is damaged is left out.
    ///
    /// # Errors
    /// What the reader or the writer reports; the first block that is damaged, once all others are written.
    #[cfg(feature = "pack")]
    pub fn pack(&mut self, mut out: impl std::io::Write) -> Result<(), super::ConvertError> {
        let mut writer = super::Writer::new(&mut out, self.header)?;
        let mut names: Vec<_> = self.names.iter().collect();
        names.sort();
        names.into_iter().try_for_each(|((kind, number), name)| writer.name(*kind, *number, name))?;
        writer.finish()?;
        let mut blocks: Vec<Indexed> = self.threads.iter().flat_map(|thread| thread.blocks.iter().copied()).collect();
        blocks.sort_by_key(|block| block.offset);
        let mut damaged = None;
        for indexed in blocks {
            match self.read_block(indexed, Place::Block(indexed.block, indexed.offset)) {
                Ok((header, payload)) => {
                    let packed = pack::pack(&payload)?;
                    let header = BlockHeader { packed: true, bytes: packed.len() as u32, ..header };
                    out.write_all(&header.encode(&packed))?;
                    out.write_all(&packed)?;
                }
                Err(error) => damaged = damaged.or(Some(error)),
            }
        }
        out.flush()?;
        damaged.map_or(Ok(()), |error| Err(super::ConvertError::Recording(error)))
    }

    pub(super) fn threads(&self) -> &[Thread] {
        &self.threads
    }

    /// All events, in one order; see [`Events`].
    pub fn events(&mut self) -> Events<'_, R> {
        Events::new(self)
    }
}

/// Of a block whose checksum is another.
const CHANGED: &str = "was changed: its checksum is another";

impl Thread {
    /// The tick that its first block begins at.
    pub(super) fn begins(&self) -> u64 {
        self.blocks.first().map_or(0, |block| block.tick)
    }
}

impl<R> Recording<R> {
    /// What it is of.
    pub fn header(&self) -> Header {
        self.header
    }

    /// How many blocks there are.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// How many records there are, some of which belong to one event together.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The numbers of the threads.
    pub fn thread_numbers(&self) -> impl Iterator<Item = u32> {
        self.threads.iter().map(|thread| thread.number)
    }

    /// A name.
    pub fn name(&self, kind: Kind, number: u32) -> Option<&[u8]> {
        self.names.get(&(kind, number)).map(|name| &**name)
    }

    /// The names of a kind, by their numbers, in no order.
    #[cfg(feature = "export")]
    pub(crate) fn names(&self, kind: Kind) -> impl Iterator<Item = (u32, &[u8])> {
        self.names.iter().filter(move |((of, _), _)| *of == kind).map(|((_, number), name)| (*number, &**name))
    }

    /// The first of the [damages](Self::damages), to be returned.
    #[cfg(feature = "export")]
    pub(crate) fn first_damage(&self) -> Option<RecordingError> {
        self.damages.first().map(RecordingError::again)
    }

    /// The first hundred blocks that are damaged as far as their headers tell, or names.
    pub fn damages(&self) -> &[RecordingError] {
        &self.damages
    }

    /// Whether the file ends in the midst of a block, as that of a process that was killed.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }
}
