//! Text that others wrote, a row of numbers and names a line: read a piece at a time, and never trusted.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead, Read};

use csv_core::{ReadRecordResult, Terminator};

/// How much of an offending piece of input an error repeats, in bytes.
const FOUND_BYTES: usize = 40;

/// What some spreadsheets begin a file with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What is accepted at most; an input beyond any of these gets an error before memory is taken for it.
///
/// A [`Trace`](crate::Trace) takes 24 bytes per event, up to three times that while their vector grows, and about 150 bytes more per
/// buffer that is live at the same time. Of the input, one line at a time is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of the whole input.
    pub max_bytes: u64,
    /// Bytes of one line, its end not counted.
    pub max_line_bytes: usize,
    /// Rows after the header.
    pub max_rows: u32,
}

impl Default for Limits {
    /// 256 MiB, 256 bytes a line, 2²² rows.
    fn default() -> Self {
        Self { max_bytes: 1 << 28, max_line_bytes: 256, max_rows: 1 << 22 }
    }
}

impl Limits {
    /// Sets [`max_bytes`](Self::max_bytes).
    #[must_use]
    pub fn with_max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// Sets [`max_line_bytes`](Self::max_line_bytes).
    #[must_use]
    pub fn with_max_line_bytes(self, max_line_bytes: usize) -> Self {
        Self { max_line_bytes, ..self }
    }

    /// Sets [`max_rows`](Self::max_rows).
    #[must_use]
    pub fn with_max_rows(self, max_rows: u32) -> Self {
        Self { max_rows, ..self }
    }
}

/// A line that is not as its format demands.
#[derive(Debug)]
pub struct ParseError {
    line: usize,
    field: Option<&'static str>,
    expected: Cow<'static, str>,
    found: Cow<'static, str>,
    source: Option<io::Error>,
}

impl ParseError {
    /// What was expected in a line, counted from 1, and what stands there instead.
    pub fn new(line: usize, expected: impl Into<Cow<'static, str>>, found: impl Into<Cow<'static, str>>) -> Self {
        Self { line, field: None, expected: expected.into(), found: found.into(), source: None }
    }

    /// The same, of a field.
    #[must_use]
    pub fn in_field(self, name: &'static str) -> Self {
        Self { field: Some(name), ..self }
    }

    /// The same, as the system said so.
    pub(crate) fn because(self, source: io::Error) -> Self {
        Self { source: Some(source), ..self }
    }

    /// The line, counted from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The field's name in the header, unless the line as a whole is wrong.
    pub fn field(&self) -> Option<&'static str> {
        self.field
    }

    /// What should have stood there.
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// What stands there: printable, quoted where it repeats the input, and short.
    pub fn found(&self) -> &str {
        &self.found
    }

    /// The message without the line, for a caller that prints the place in a way of its own.
    pub fn problem(&self) -> impl fmt::Display + '_ {
        WithoutLine(self)
    }
}

struct WithoutLine<'a>(&'a ParseError);

impl fmt::Display for WithoutLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(field) = self.0.field {
            write!(f, "field '{field}': ")?;
        }
        write!(f, "expected {}, found {}", self.0.expected, self.0.found)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem())
    }
}

impl std::error::Error for ParseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|error| error as _)
    }
}

/// A piece of input, fit to be shown.
pub fn quote(text: &[u8]) -> String {
    let shown = text.get(..FOUND_BYTES).unwrap_or(text);
    let rest = if shown.len() < text.len() { "…" } else { "" };
    format!("\"{}{rest}\"", shown.escape_ascii())
}

/// An unsigned decimal number, or what was expected.
///
/// ```
/// use tenzor_trace::text::number;
///
/// assert_eq!(number(b"4096"), Ok(4096));
/// assert_eq!(number(b"+1"), Err("an unsigned decimal number"));
/// assert_eq!(number(b"18446744073709551616"), Err("a number below 2^64"));
/// ```
///
/// # Errors
/// What should have stood there.
pub fn number(digits: &[u8]) -> Result<u64, &'static str> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err("an unsigned decimal number");
    }
    let add = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    digits.iter().try_fold(0, add).ok_or("a number below 2^64")
}

/// A text as a field of a row: in quotes where something in it would end the field.
///
/// ```
/// use tenzor_trace::text::field;
///
/// assert_eq!((field("a b"), field("a, b"), field("a\"b")), ("a b".into(), "\"a, b\"".into(), "\"a\"\"b\"".into()));
/// ```
pub fn field(text: &str) -> Cow<'_, str> {
    match text.contains([',', '"', '\r']) {
        true => Cow::Owned(format!("\"{}\"", text.replace('"', "\"\""))),
        false => Cow::Borrowed(text),
    }
}

/// The rows of a CSV file whose first line names the columns: as many fields each as there are columns, and each on a line of its own. Fields
/// may stand in quotes. Empty lines may stand at the end only.
///
/// ```
/// use tenzor_trace::text::{Limits, Rows};
///
/// let mut rows = Rows::new("name,size\n\"a, b\",4096\n".as_bytes(), Limits::default());
/// rows.header("the names of two columns")?;
/// assert!(rows.advance()?);
/// assert_eq!((rows.field(0), rows.number(1, "size")?), (&b"a, b"[..], 4096));
/// assert!(!rows.advance()?);
/// # Ok::<(), tenzor_trace::ParseError>(())
/// ```
pub struct Rows<R> {
    input: R,
    limits: Limits,
    bytes: u64,
    line: usize,
    /// The current line without its end, and its fields: their text, one behind the other, and where each ends.
    text: Vec<u8>,
    reader: csv_core::Reader,
    fields: Vec<u8>,
    ends: Vec<usize>,
    /// The header, and of how many fields.
    header: String,
    columns: usize,
    rows: u32,
}

impl<R: BufRead> Rows<R> {
    /// Rows that were not read yet. A byte slice is a reader, too.
    pub fn new(input: R, limits: Limits) -> Self {
        Self {
            input,
            limits,
            bytes: 0,
            line: 0,
            text: Vec::new(),
            // A line's end is none of its fields'.
            reader: csv_core::ReaderBuilder::new().terminator(Terminator::Any(b'\n')).build(),
            fields: Vec::new(),
            ends: Vec::new(),
            header: String::new(),
            columns: 0,
            rows: 0,
        }
    }

    /// Reads the header; returns the names in it.
    ///
    /// # Errors
    /// There is no first line that could be read, or it is beyond the limits. `expected` says what should have been there.
    pub fn header(&mut self, expected: &str) -> Result<Vec<Vec<u8>>, ParseError> {
        if !self.next_line()? {
            return Err(self.error(expected.to_owned(), "an empty file"));
        }
        if self.text.starts_with(BYTE_ORDER_MARK) {
            self.text.drain(..BYTE_ORDER_MARK.len());
        }
        self.split()?;
        self.header = String::from_utf8_lossy(&self.text).into_owned();
        self.columns = self.ends.len();
        Ok((0..self.columns).map(|column| self.field(column).to_owned()).collect())
    }

    /// Goes to the next row; false if there is none.
    ///
    /// # Errors
    /// The next line is no row, it is beyond the limits, or it cannot be read.
    pub fn advance(&mut self) -> Result<bool, ParseError> {
        if !self.next_line()? {
            return Ok(false);
        }
        if self.text.is_empty() {
            let line = self.line;
            while self.next_line()? {
                if !self.text.is_empty() {
                    return Err(ParseError::new(line, "a row", "an empty line"));
                }
            }
            return Ok(false);
        }
        if self.rows >= self.limits.max_rows {
            return Err(self.error(format!("at most {} rows", self.limits.max_rows), "another"));
        }
        self.rows += 1;
        self.split()?;
        if self.ends.len() != self.columns {
            let expected = format!("{} fields ({})", self.columns, self.header);
            return Err(self.error(expected, self.ends.len().to_string()));
        }
        Ok(true)
    }

    /// The number of the current line, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The current line, without its end.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// A field of the current row, by its place; empty beyond the last one.
    pub fn field(&self, column: usize) -> &[u8] {
        let start = column.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied());
        let range = start.zip(self.ends.get(column)).map(|(start, &end)| start..end);
        range.and_then(|range| self.fields.get(range)).unwrap_or_default()
    }

    /// The [`number`] in a field, whose name an error tells.
    ///
    /// # Errors
    /// There is none.
    pub fn number(&self, column: usize, name: &'static str) -> Result<u64, ParseError> {
        number(self.field(column)).map_err(|expected| self.field_error(column, name, expected))
    }

    /// Something else was expected in the current line.
    pub fn error(&self, expected: impl Into<Cow<'static, str>>, found: impl Into<Cow<'static, str>>) -> ParseError {
        ParseError::new(self.line, expected, found)
    }

    /// Something else was expected in a field.
    pub fn field_error(&self, column: usize, name: &'static str, expected: impl Into<Cow<'static, str>>) -> ParseError {
        self.error(expected, quote(self.field(column))).in_field(name)
    }

    /// Goes to the next line; false at the end of the input.
    fn next_line(&mut self) -> Result<bool, ParseError> {
        self.line += 1;
        self.text.clear();
        // Two bytes more than a line may have: its end, which can be CR and LF.
        let most = (self.limits.max_line_bytes as u64).saturating_add(2);
        let mut line = Read::take(&mut self.input, most);
        match line.read_until(b'\n', &mut self.text) {
            Ok(0) => return Ok(false),
            Ok(read) => self.bytes = self.bytes.saturating_add(read as u64),
            Err(error) => {
                let found = error.to_string();
                return Err(self.error("readable input", found).because(error));
            }
        }
        if self.bytes > self.limits.max_bytes {
            let expected = format!("at most {} bytes of input", self.limits.max_bytes);
            return Err(self.error(expected, "more"));
        }
        if self.text.ends_with(b"\n") {
            self.text.pop();
            if self.text.ends_with(b"\r") {
                self.text.pop();
            }
        }
        if self.text.len() > self.limits.max_line_bytes {
            let expected = format!("a line of at most {} bytes", self.limits.max_line_bytes);
            return Err(self.error(expected, quote(&self.text)));
        }
        Ok(true)
    }

    /// Finds the fields of the current line.
    fn split(&mut self) -> Result<(), ParseError> {
        if self.text.iter().filter(|&&byte| byte == b'"').count() % 2 != 0 {
            return Err(self.error("quotes that are closed on their line", quote(&self.text)));
        }
        self.reader.reset();
        // Never more bytes than the line has, nor more fields than one each and one.
        self.fields.resize(self.text.len(), 0);
        self.ends.resize(self.text.len() + 1, 0);
        let (mut read, mut written, mut found) = (0, 0, 0);
        loop {
            let (result, bytes, text, ends) =
                self.reader.read_record(&self.text[read..], &mut self.fields[written..], &mut self.ends[found..]);
            (read, written, found) = (read + bytes, written + text, found + ends);
            // The end of the line is told by a call with nothing to read.
            if !matches!(result, ReadRecordResult::InputEmpty) {
                break;
            }
        }
        self.ends.truncate(found);
        Ok(())
    }
}

impl<R> fmt::Debug for Rows<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("line", &self.line).field("header", &self.header).finish_non_exhaustive()
    }
}
