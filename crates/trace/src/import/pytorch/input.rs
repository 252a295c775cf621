//! The bytes of a pickle, one piece after the other. Whatever length a piece claims, at most [`KEPT`] bytes of it are held.

use std::io::{BufRead, ErrorKind};

use super::super::ImportError;

/// The most bytes of a text that are kept: the longest name that a snapshot is known to have, and any number of 64 bits, are shorter.
const KEPT: usize = 40;

/// What is at an offset is not as it should be.
pub(super) fn wrong(offset: u64, what: impl Into<std::borrow::Cow<'static, str>>) -> ImportError {
    ImportError::Byte { offset, what: what.into(), source: None }
}

/// A text, if it is so short that it may mean something.
#[derive(Debug)]
pub(super) struct Kept {
    bytes: [u8; KEPT],
    length: u64,
}

impl Kept {
    fn new() -> Self {
        Self { bytes: [0; KEPT], length: 0 }
    }

    fn add(&mut self, more: &[u8]) {
        let at = usize::try_from(self.length).unwrap_or(KEPT).min(KEPT);
        for (to, from) in self.bytes.iter_mut().skip(at).zip(more) {
            *to = *from;
        }
        self.length = self.length.saturating_add(more.len() as u64);
    }

    /// All of it; `None` if it is longer than what is kept.
    pub(super) fn all(&self) -> Option<&[u8]> {
        self.bytes.get(..usize::try_from(self.length).ok()?)
    }
}

/// An input, and how far it was read.
#[derive(Debug)]
pub(super) struct Input<R> {
    from: R,
    offset: u64,
}

impl<R: BufRead> Input<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, offset: 0 }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Shows what is at hand, of which `take` says how much is taken; never nothing.
    fn some<T>(&mut self, take: impl FnOnce(&[u8]) -> (usize, T)) -> Result<T, ImportError> {
        loop {
            match self.from.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let what = "the input cannot be read".into();
                    return Err(ImportError::Byte { offset: self.offset, what, source: Some(error) });
                }
                Ok([]) => return Err(wrong(self.offset, "the input ends in the midst of a pickle")),
                Ok(bytes) => {
                    let (taken, told) = take(bytes);
                    self.from.consume(taken);
                    self.offset = self.offset.saturating_add(taken as u64);
                    return Ok(told);
                }
            }
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, ImportError> {
        self.some(|bytes| (1, bytes.first().copied().unwrap_or(0)))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ImportError> {
        let mut array = [0; N];
        for byte in &mut array {
            *byte = self.byte()?;
        }
        Ok(array)
    }

    /// A text of a known length.
    pub(super) fn text(&mut self, length: u64) -> Result<Kept, ImportError> {
        let mut kept = Kept::new();
        let mut left = length;
        while left > 0 {
            left -= self.some(|bytes| {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                kept.add(bytes.get(..taken).unwrap_or_default());
                (taken, taken as u64)
            })?;
        }
        Ok(kept)
    }

    /// A text up to the end of its line.
    pub(super) fn line(&mut self) -> Result<Kept, ImportError> {
        let mut kept = Kept::new();
        loop {
            let is_whole = self.some(|bytes| {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                let line = end.and_then(|end| bytes.get(..end)).unwrap_or(bytes);
                kept.add(line);
                (line.len() + usize::from(end.is_some()), end.is_some())
            })?;
            if is_whole {
                return Ok(kept);
            }
        }
    }
}
