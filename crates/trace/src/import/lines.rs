//! Lines that say by their first byte what they are, with numbers in hex behind it.

use std::borrow::Cow;
use std::io::{BufRead, Read};

use super::hex::hex;
use crate::text::{Limits, ParseError, quote};

/// The lines of an input, one at a time.
pub(super) struct Lines<R> {
    input: R,
    limits: Limits,
    bytes: u64,
    line: usize,
    text: Vec<u8>,
    is_whole: bool,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R, limits: Limits) -> Self {
        Self { input, limits, bytes: 0, line: 0, text: Vec::new(), is_whole: false }
    }

    /// Goes to the next line; false at the end of the input. One that may be long by its kind gets no error if it is: its beginning is there.
    pub(super) fn advance(&mut self, may_be_long: impl Fn(u8) -> bool) -> Result<bool, ParseError> {
        self.line = self.line.saturating_add(1);
        self.text.clear();
        let most = (self.limits.max_line_bytes as u64).min(self.rest()).saturating_add(1);
        let read = Read::take(&mut self.input, most).read_until(b'\n', &mut self.text);
        if !self.count(read.map(|read| read as u64))? {
            return Ok(false);
        }
        // The first line is no row.
        if self.line.saturating_sub(2) as u64 >= u64::from(self.limits.max_rows) && self.line > 1 {
            return Err(self.error(format!("at most {} lines after the first", self.limits.max_rows), "another"));
        }
        self.is_whole = self.text.ends_with(b"\n");
        if self.is_whole {
            self.text.pop();
        } else if self.text.len() > self.limits.max_line_bytes {
            if !may_be_long(self.kind()) {
                let expected = format!("a line of at most {} bytes", self.limits.max_line_bytes);
                return Err(self.error(expected, quote(&self.text)));
            }
            let most = self.rest().saturating_add(1);
            let skipped = Read::take(&mut self.input, most).skip_until(b'\n');
            self.count(skipped.map(|read| read as u64))?;
            // Its end is not, but matters no more than what precedes it.
            self.is_whole = true;
        }
        Ok(true)
    }

    /// How many bytes are left of those that the input may have.
    fn rest(&self) -> u64 {
        self.limits.max_bytes.saturating_sub(self.bytes)
    }

    /// Counts what was read, if that was anything.
    fn count(&mut self, read: std::io::Result<u64>) -> Result<bool, ParseError> {
        match read {
            Ok(read) => {
                self.bytes = self.bytes.saturating_add(read);
                let expected = || format!("at most {} bytes of input", self.limits.max_bytes);
                if self.bytes > self.limits.max_bytes { Err(self.error(expected(), "more")) } else { Ok(read > 0) }
            }
            Err(error) => {
                let found = error.to_string();
                Err(self.error("readable input", found).because(error))
            }
        }
    }

    /// The first byte; that of an empty line is its end.
    pub(super) fn kind(&self) -> u8 {
        self.text.first().copied().unwrap_or(b'\n')
    }

    /// The line has an end: it is not cut off.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The numbers in the line, which has no others.
    pub(super) fn numbers<const N: usize>(&self, names: [&'static str; N]) -> Result<[u64; N], ParseError> {
        let mut fields = self.fields();
        let mut numbers = [0; N];
        for (number, name) in numbers.iter_mut().zip(names) {
            *number = self.number(fields.next(), name)?;
        }
        match fields.next() {
            None => Ok(numbers),
            Some(more) => Err(self.error("the end of the line", quote(more))),
        }
    }

    /// The number in a field.
    pub(super) fn number(&self, field: Option<&[u8]>, name: &'static str) -> Result<u64, ParseError> {
        let field = field.ok_or_else(|| self.error("a number in hex", "the end of the line").in_field(name))?;
        hex(field).map_err(|expected| self.error(expected, quote(field)).in_field(name))
    }

    /// What stands behind the kind, between single spaces.
    pub(super) fn fields(&self) -> impl Iterator<Item = &[u8]> {
        // What begins a line and no space behind it is no field: the whole of it is the first then, which is no number.
        let rest = match self.text.get(1..) {
            None | Some([]) => None,
            Some([b' ', rest @ ..]) => Some(rest),
            Some(_) => Some(&self.text[..]),
        };
        rest.into_iter().flat_map(|rest| rest.split(|byte| *byte == b' '))
    }

    /// Something else was expected in the line.
    pub(super) fn error(
        &self,
        expected: impl Into<Cow<'static, str>>,
        found: impl Into<Cow<'static, str>>,
    ) -> ParseError {
        ParseError::new(self.line, expected, found)
    }

    /// The line is none of those that were expected.
    pub(super) fn unexpected(&self, expected: impl Into<Cow<'static, str>>) -> ParseError {
        self.error(expected, quote(&self.text))
    }
}
