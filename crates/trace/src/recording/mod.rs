//! Recordings: what a process's allocators did, thread by thread, in a file of blocks.
//!
//! A [`Recording`] is read from anything that can be read and sought in: its blocks are indexed first, and then one of each thread is in memory at a time, however
//! long it is. [`Recording::events`] makes one order of what the threads did. What is damaged is told with its place and left out; a
//! file that ends in the midst of a block, as a process that was killed leaves it, is whole up to there.
//!
//! ```
//! use std::io::Cursor;
//!
//! use tenzor_trace::recording::format::{Block, Header, Record};
//! use tenzor_trace::recording::{Recording, What, Writer};
//!
//! let mut file = Cursor::new(Vec::new());
//! let mut writer = Writer::new(&mut file, Header { began: 0, process: 1, page: 4096, tick: 1_000_000 })?;
//! let block = Block { address: 0x1000, size: 100, align: 6, ..Block::default() };
//! writer.record(0, 5, Record::Request(block))?;
//! writer.record(1, 7, Record::Free(block))?;
//! writer.finish()?;
//!
//! let mut recording = Recording::open(file)?;
//! let events: Vec<_> = recording.events().collect::<Result<_, _>>()?;
//! assert_eq!((events[0].thread, events[0].tick, events[0].what), (0, 5, What::Request(block)));
//! assert_eq!((events[1].thread, events[1].tick, events[1].what), (1, 7, What::Free(block)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod csv;
mod error;
pub mod format;
pub mod names;
mod order;
mod pack;
mod read;
mod thread;
mod write;

pub use csv::ConvertError;
pub use error::RecordingError;
pub use order::Events;
pub use read::Recording;
pub use thread::{Event, What};
pub use write::Writer;

#[cfg(test)]
mod tests;
