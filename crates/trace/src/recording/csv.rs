//! A recording as the [text](crate) that a [`Trace`](crate::Trace) is read from.

use std::collections::HashMap;
use std::io::{self, Read, Seek, Write};
use std::{error, fmt};

use super::error::RecordingError;
use super::format::Block;
use super::read::Recording;
use super::thread::{Event, What};
use crate::trace::HEADER;

/// Why a recording could not be converted.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConvertError {
    /// The recording is damaged, or cannot be read.
    Recording(RecordingError),
    /// What was made of it cannot be written.
    Write(io::Error),
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recording(error) => error.fmt(f),
            Self::Write(error) => write!(f, "what is made of the recording cannot be written: {error}"),
        }
    }
}

impl error::Error for ConvertError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Recording(error) => Some(error),
            Self::Write(error) => Some(error),
        }
    }
}

impl From<io::Error> for ConvertError {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

impl<R: Read + Seek> Recording<R> {
    /// Writes the requests, resizes, frees and steps, in the order of [`events`](Self::events), as text. What was in use when the recording began is requested first.
    /// Steps are counted anew, as those of several threads come in one row; frees of what nobody requested are left out, and so is what text has no word
    /// for: labels, refusals, memory that went back.
    ///
    /// # Errors
    /// The first block that is damaged; what the writer reports. What was written before stays.
    pub fn write_csv(&mut self, out: impl Write) -> Result<(), ConvertError> {
        let mut rows = Rows { out, ids: HashMap::new(), blocks: 0, steps: 0 };
        writeln!(rows.out, "{HEADER}")?;
        for event in self.events() {
            rows.write(&event.map_err(ConvertError::Recording)?)?;
        }
        rows.out.flush()?;
        Ok(())
    }
}

#[derive(Debug)]
struct Rows<W> {
    out: W,
    /// What the blocks in use are called, by address.
    ids: HashMap<u64, u64>,
    blocks: u64,
    steps: u64,
}

impl<W: Write> Rows<W> {
    fn write(&mut self, event: &Event) -> io::Result<()> {
        match event.what {
            What::Request(block) | What::Live(block) => self.request(event, block),
            What::Free(block) => match self.ids.remove(&block.address) {
                Some(id) => self.row(event, 'f', id, 0, 0),
                None => Ok(()),
            },
            What::Resize { from, to } => match self.ids.remove(&from.address) {
                Some(id) => {
                    self.make_room(event, to)?;
                    self.ids.insert(to.address, id);
                    self.row(event, 'r', id, to.size, 0)
                }
                None => self.request(event, to),
            },
            What::Step(_) => {
                self.steps += 1;
                self.row(event, 'm', self.steps, 0, 0)
            }
            _ => Ok(()),
        }
    }

    fn request(&mut self, event: &Event, block: Block) -> io::Result<()> {
        self.make_room(event, block)?;
        self.blocks += 1;
        self.ids.insert(block.address, self.blocks);
        self.row(event, if block.zeroed { 'z' } else { 'a' }, self.blocks, block.size, 1 << block.align)
    }

    /// What was where a block is now was freed, though nobody told.
    fn make_room(&mut self, event: &Event, block: Block) -> io::Result<()> {
        match self.ids.remove(&block.address) {
            Some(id) => self.row(event, 'f', id, 0, 0),
            None => Ok(()),
        }
    }

    fn row(&mut self, event: &Event, op: char, id: u64, size: u64, align: u64) -> io::Result<()> {
        writeln!(self.out, "{op},{id},{size},{align},{},{}", event.thread, event.number)
    }
}
