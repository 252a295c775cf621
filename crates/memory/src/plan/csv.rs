//! Problems and plans as CSV.
//!
//! The first line names the columns, in any order; each further line is a buffer:
//!
//! | column | |
//! |---|---|
//! | `id` | its name; also called `buffer` or `buffer_id` |
//! | `lower` | when its lifetime begins; also called `start` or `begin` |
//! | `upper` | when it has ended; or `end`, its last instant, which is one less, in gaps as well |
//! | `size` | |
//! | `alignment` | 1 if there is no such column, or nothing in it |
//! | `offset` | where it has to be, if something stands there |
//! | `gaps` | when it is idle, as `3-5 8-9` |
//! | `alias` | the number of its group, if any |
//! | `space` | 0 if there is no such column, or nothing in it |
//!
//! What [`write_csv`] makes of a plan is a problem in which every offset is fixed.

use std::collections::HashSet;
use std::io::{self, BufRead, Write};
use std::ops::Range;

use super::problem::{BufferSpec, Problem};
use crate::trace::{Limits, Lines, ParseError, quote};

/// The columns, by their first names.
const COLUMNS: [&str; 9] = ["id", "lower", "upper", "size", "alignment", "offset", "gaps", "alias", "space"];

/// Reads a problem, and the name of each buffer. A byte slice is a reader, too.
///
/// ```
/// use tenzor_memory::plan::read_csv;
///
/// let (problem, ids) = read_csv("id,lower,upper,size\na,0,2,100\nb,1,3,50\n".as_bytes())?;
/// assert_eq!((problem.buffers()[1].lifetime.clone(), &ids[..]), (1..3, &["a".to_owned(), "b".to_owned()][..]));
/// # Ok::<(), tenzor_memory::trace::ParseError>(())
/// ```
///
/// # Errors
/// The first line that is not as the format demands, or beyond 1 GiB, 64 KiB a line, or 2^24 buffers.
pub fn read_csv(input: impl BufRead) -> Result<(Problem, Vec<String>), ParseError> {
    let limits = Limits { max_bytes: 1 << 30, max_line_bytes: 1 << 16, max_events: 1 << 24 };
    let mut lines = Lines::new(input, limits);
    if !lines.advance()? {
        return Err(lines.error("a line that names the columns", "an empty file"));
    }
    let header = Header::parse(lines.line(), lines.text())?;
    let (mut problem, mut ids) = (Problem::new(), Vec::new());
    let mut empty_line = None;
    while lines.advance()? {
        if lines.text().is_empty() {
            empty_line = empty_line.or(Some(lines.line()));
            continue;
        }
        if let Some(line) = empty_line {
            return Err(ParseError::new(line, None, "a buffer", "an empty line"));
        }
        if ids.len() >= limits.max_events as usize {
            return Err(lines.error(format!("at most {} buffers", limits.max_events), "another"));
        }
        let row = header.row(lines.line(), lines.text())?;
        ids.push(row.id()?);
        problem.push(row.spec()?).map_err(|error| lines.error("a possible buffer", error.to_string()))?;
    }
    match repeated(&ids) {
        // Buffers begin on the second line, and none is empty.
        Some(index) => Err(ParseError::new(index + 2, Some("id"), "a name of its own", quote(ids[index].as_bytes()))),
        None => Ok((problem, ids)),
    }
}

/// The index of the first name that another one has before it.
fn repeated(ids: &[String]) -> Option<usize> {
    let mut seen = HashSet::with_capacity(ids.len());
    ids.iter().position(|id| !seen.insert(id.as_str()))
}

/// Which field of a line holds which column.
struct Header {
    fields: [Option<usize>; COLUMNS.len()],
    count: usize,
    /// What to add to the ends of lifetimes and gaps.
    beyond: u64,
}

impl Header {
    fn parse(line: usize, text: &[u8]) -> Result<Self, ParseError> {
        // Some spreadsheets begin a file with a byte order mark.
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut header = Self { fields: [None; COLUMNS.len()], count: 0, beyond: 0 };
        for name in text.split(|&byte| byte == b',') {
            let column = match name {
                b"buffer" | b"buffer_id" => 0,
                b"start" | b"begin" => 1,
                b"end" => {
                    header.beyond = 1;
                    2
                }
                _ => COLUMNS.iter().position(|column| column.as_bytes() == name).unwrap_or(COLUMNS.len()),
            };
            match header.fields.get_mut(column) {
                None => {
                    let expected = format!("columns of {}", COLUMNS.join(", "));
                    return Err(ParseError::new(line, None, expected, quote(name)));
                }
                Some(Some(_)) => return Err(ParseError::new(line, Some(COLUMNS[column]), "it once", "it twice")),
                Some(field) => *field = Some(header.count),
            }
            header.count += 1;
        }
        let missing = (0..4).find(|&column| header.fields[column].is_none());
        match missing {
            Some(column) => Err(ParseError::new(line, Some(COLUMNS[column]), "a column of that name", "none")),
            None => Ok(header),
        }
    }

    fn row<'a>(&'a self, line: usize, text: &'a [u8]) -> Result<Row<'a>, ParseError> {
        let mut fields: [&[u8]; COLUMNS.len()] = [b""; COLUMNS.len()];
        let mut found = 0;
        for field in text.split(|&byte| byte == b',') {
            if let Some(place) = fields.get_mut(found) {
                *place = field;
            }
            found += 1;
        }
        if found != self.count {
            return Err(ParseError::new(line, None, format!("{} fields", self.count), found.to_string()));
        }
        Ok(Row { header: self, line, fields })
    }
}

struct Row<'a> {
    header: &'a Header,
    line: usize,
    fields: [&'a [u8]; COLUMNS.len()],
}

impl Row<'_> {
    fn spec(&self) -> Result<BufferSpec, ParseError> {
        let lifetime = self.range("upper", self.number("lower")?, self.number("upper")?)?;
        let mut spec = BufferSpec::new(self.number("size")?, lifetime);
        spec.alignment = self.optional("alignment")?.unwrap_or(1);
        spec.offset = self.optional("offset")?;
        spec.alias = self.optional("alias")?.map(|group| self.small("alias", group)).transpose()?;
        spec.space = self.small("space", self.optional("space")?.unwrap_or(0))?;
        let gaps = self.text("gaps").unwrap_or_default();
        for gap in gaps.split(|&byte| byte == b' ').filter(|gap| !gap.is_empty()) {
            let bounds = gap.iter().position(|&byte| byte == b'-').and_then(|dash| {
                let (start, end) = (parse(&gap[..dash])?, parse(&gap[dash + 1..])?);
                Some((start, end))
            });
            let (start, end) = bounds.ok_or_else(|| self.error("gaps", "windows such as 3-5", quote(gap)))?;
            spec.gaps.push(self.range("gaps", start, end)?);
        }
        Ok(spec)
    }

    fn range(&self, column: &'static str, start: u64, end: u64) -> Result<Range<u64>, ParseError> {
        let beyond = end.checked_add(self.header.beyond);
        Ok(start..beyond.ok_or_else(|| self.error(column, "an end within 64 bits", end.to_string()))?)
    }

    fn id(&self) -> Result<String, ParseError> {
        let id = self.text("id").unwrap_or_default();
        match str::from_utf8(id) {
            Ok(id) if !id.is_empty() => Ok(id.to_owned()),
            _ => Err(self.error("id", "a name", quote(id))),
        }
    }

    fn number(&self, column: &'static str) -> Result<u64, ParseError> {
        let text = self.text(column).unwrap_or_default();
        parse(text).ok_or_else(|| self.error(column, "a number", quote(text)))
    }

    fn optional(&self, column: &'static str) -> Result<Option<u64>, ParseError> {
        match self.text(column) {
            None | Some(b"") => Ok(None),
            Some(_) => self.number(column).map(Some),
        }
    }

    fn small(&self, column: &'static str, number: u64) -> Result<u32, ParseError> {
        u32::try_from(number).map_err(|_| self.error(column, "a number of 32 bits", number.to_string()))
    }

    fn text(&self, column: &str) -> Option<&[u8]> {
        let column = COLUMNS.iter().position(|name| *name == column)?;
        self.fields.get(self.header.fields[column]?).copied()
    }

    fn error(&self, column: &'static str, expected: &'static str, found: String) -> ParseError {
        ParseError::new(self.line, Some(column), expected, found)
    }
}

/// An unsigned decimal number, without a sign.
fn parse(text: &[u8]) -> Option<u64> {
    if text.first() == Some(&b'+') { None } else { str::from_utf8(text).ok()?.parse().ok() }
}

/// Writes a problem, with a name for each buffer (or else its index), and with offsets if there are some. Columns in which nothing would stand
/// are left out.
///
/// What it writes of a problem and its ids, [`read_csv`] reads again, within its limits.
///
/// # Errors
/// What the writer reports; and [`InvalidInput`](io::ErrorKind::InvalidInput), before anything is written, if there is not one id and offset for
/// each buffer, or an id is empty, stands twice, or contains a comma or a line's end.
pub fn write_csv(
    mut out: impl Write,
    problem: &Problem,
    ids: Option<&[String]>,
    offsets: Option<&[u64]>,
) -> io::Result<()> {
    let buffers = problem.buffers();
    let invalid = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    let count = buffers.len();
    if ids.is_some_and(|ids| ids.len() != count) || offsets.is_some_and(|offsets| offsets.len() != count) {
        return invalid(format!("{count} buffers need as many ids and offsets"));
    }
    let is_name = |id: &&String| !id.is_empty() && !id.contains([',', '\n']);
    if let Some(id) = ids.and_then(|ids| ids.iter().find(|id| !is_name(id)).or_else(|| ids.get(repeated(ids)?))) {
        return invalid(format!("{id:?} cannot name a buffer, or names two"));
    }
    let any = |has: fn(&BufferSpec) -> bool| buffers.iter().any(has);
    let stand = [
        any(|spec| spec.alignment != 1),
        offsets.is_some() || any(|spec| spec.offset.is_some()),
        any(|spec| !spec.gaps.is_empty()),
        any(|spec| spec.alias.is_some()),
        any(|spec| spec.space != 0),
    ];
    write!(out, "id,lower,upper,size")?;
    for (column, _) in COLUMNS[4..].iter().zip(stand).filter(|(_, stands)| *stands) {
        write!(out, ",{column}")?;
    }
    writeln!(out)?;
    let optional = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    for (index, spec) in buffers.iter().enumerate() {
        match ids {
            Some(ids) => write!(out, "{}", ids[index])?,
            None => write!(out, "{index}")?,
        }
        write!(out, ",{},{},{}", spec.lifetime.start, spec.lifetime.end, spec.size)?;
        let gaps: Vec<String> = spec.gaps.iter().map(|gap| format!("{}-{}", gap.start, gap.end)).collect();
        let fields = [
            spec.alignment.to_string(),
            optional(offsets.map_or(spec.offset, |offsets| Some(offsets[index]))),
            gaps.join(" "),
            optional(spec.alias.map(u64::from)),
            spec.space.to_string(),
        ];
        for (field, _) in fields.iter().zip(stand).filter(|(_, stands)| *stands) {
            write!(out, ",{field}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}
