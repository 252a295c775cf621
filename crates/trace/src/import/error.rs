//! Why an input cannot be imported.

use std::borrow::Cow;
use std::{error, fmt, io};

use crate::text::ParseError;

/// Why an input cannot be imported.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImportError {
    /// A line is not as its format demands, or cannot be read.
    Line(ParseError),
    /// What is at an offset, in bytes, is not as the format demands, or cannot be read.
    Byte {
        /// Where it is.
        offset: u64,
        /// What is wrong.
        what: Cow<'static, str>,
        /// What the system said, if it could not be read.
        source: Option<io::Error>,
    },
    /// The recording cannot be written.
    Write(io::Error),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(error) => error.fmt(f),
            Self::Byte { offset, what, source: None } => write!(f, "byte {offset}: {what}"),
            Self::Byte { offset, what, source: Some(source) } => write!(f, "byte {offset}: {what}: {source}"),
            Self::Write(error) => write!(f, "the recording cannot be written: {error}"),
        }
    }
}

impl error::Error for ImportError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Line(error) => Some(error),
            Self::Byte { source, .. } => source.as_ref().map(|source| source as _),
            Self::Write(error) => Some(error),
        }
    }
}

impl From<ParseError> for ImportError {
    fn from(error: ParseError) -> Self {
        Self::Line(error)
    }
}

impl From<io::Error> for ImportError {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}
