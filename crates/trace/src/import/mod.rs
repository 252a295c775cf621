//! What other recorders wrote, as [recordings](crate::recording): each function reads one format, a bounded piece at a time, and writes what it understands.

mod error;
mod heaptrack;
mod hex;
mod lines;
mod live;
mod pytorch;
mod rmm;
mod text;

pub use error::ImportError;
pub use heaptrack::heaptrack;
pub use pytorch::{SnapshotLimits, pytorch};
pub use rmm::rmm;
pub use text::csv;

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Imported {
    /// Events that were written.
    pub events: u64,
    /// Those that were left out, as they say nothing of memory, or contradict what was before.
    pub left_out: u64,
}

#[cfg(test)]
mod testing;
