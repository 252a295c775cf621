//! What is wrong with a recording, and where.

use std::{error, fmt, io};

/// What is wrong with a recording, and where.
#[derive(Debug)]
pub struct RecordingError {
    place: Place,
    what: &'static str,
    source: Option<io::Error>,
}

/// Where something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Header,
    /// The block of this number in the file, counted from 1, at this offset.
    Block(u64, u64),
}

impl RecordingError {
    pub(super) fn new(place: Place, what: &'static str) -> Self {
        Self { place, what, source: None }
    }

    pub(super) fn io(place: Place, source: io::Error) -> Self {
        Self { place, what: "cannot be read", source: Some(source) }
    }

    /// The same, but for what the system said.
    #[cfg(feature = "export")]
    pub(super) fn again(&self) -> Self {
        Self::new(self.place, self.what)
    }

    /// The block's number in the file, counted from 1; none for the file's header.
    pub fn block(&self) -> Option<u64> {
        match self.place {
            Place::Header => None,
            Place::Block(number, _) => Some(number),
        }
    }

    /// Where in the file it is, in bytes.
    pub fn offset(&self) -> u64 {
        match self.place {
            Place::Header => 0,
            Place::Block(_, offset) => offset,
        }
    }
}

impl fmt::Display for RecordingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Header => write!(f, "the header {}", self.what)?,
            Place::Block(number, offset) => write!(f, "block {number}, at byte {offset}, {}", self.what)?,
        }
        self.source.as_ref().map_or(Ok(()), |source| write!(f, ": {source}"))
    }
}

impl error::Error for RecordingError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
