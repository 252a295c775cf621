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

use tenzor_trace::text::{Limits, Rows, field, number, quote};

use super::ParseError;
use super::problem::{BufferSpec, Problem};

/// The columns, by their first names.
const COLUMNS: [&str; 9] = ["id", "lower", "upper", "size", "alignment", "offset", "gaps", "alias", "space"];

/// Reads a problem, and the name of each buffer. A byte slice is a reader, too.
///
/// ```
/// use tenzor_plan::read_csv;
///
/// let (problem, ids) = read_csv("id,lower,upper,size\na,0,2,100\nb,1,3,50\n".as_bytes())?;
/// assert_eq!((problem.buffers()[1].lifetime.clone(), &ids[..]), (1..3, &["a".to_owned(), "b".to_owned()][..]));
/// # Ok::<(), tenzor_plan::ParseError>(())
/// ```
///
/// # Errors
/// The first line that is not as the format demands, or beyond 1 GiB, 64 KiB a line, or 2^24 buffers.
pub fn read_csv(input: impl BufRead) -> Result<(Problem, Vec<String>), ParseError> {
    let limits = Limits::default().with_max_bytes(1 << 30).with_max_line_bytes(1 << 16).with_max_rows(1 << 24);
    let mut rows = Rows::new(input, limits);
    let columns = Columns::named(&rows.header("a line that names the columns")?)?;
    let (mut problem, mut ids) = (Problem::new(), Vec::new());
    while rows.advance()? {
        let row = Row { columns: &columns, row: &rows };
        ids.push(row.id()?);
        problem.push(row.spec()?).map_err(|error| rows.error("a possible buffer", error.to_string()))?;
    }
    match repeated(&ids) {
        // Buffers begin on the second line, and none is empty.
        Some(index) => {
            Err(ParseError::new(index + 2, "a name of its own", quote(ids[index].as_bytes())).in_field("id"))
        }
        None => Ok((problem, ids)),
    }
}

/// The index of the first name that another one has before it.
fn repeated(ids: &[String]) -> Option<usize> {
    let mut seen = HashSet::with_capacity(ids.len());
    ids.iter().position(|id| !seen.insert(id.as_str()))
}

/// Which field of a row holds which column.
struct Columns {
    fields: [Option<usize>; COLUMNS.len()],
    /// What to add to the ends of lifetimes and gaps.
    beyond: u64,
}

impl Columns {
    fn named(names: &[Vec<u8>]) -> Result<Self, ParseError> {
        let error = |expected: String, found: String| ParseError::new(1, expected, found);
        let mut columns = Self { fields: [None; COLUMNS.len()], beyond: 0 };
        for (place, name) in names.iter().enumerate() {
            let column = match &name[..] {
                b"buffer" | b"buffer_id" => 0,
                b"start" | b"begin" => 1,
                b"end" => {
                    columns.beyond = 1;
                    2
                }
                _ => COLUMNS.iter().position(|column| column.as_bytes() == name).unwrap_or(COLUMNS.len()),
            };
            match columns.fields.get_mut(column) {
                None => return Err(error(format!("columns of {}", COLUMNS.join(", ")), quote(name))),
                Some(Some(_)) => return Err(error("it once".into(), "it twice".into()).in_field(COLUMNS[column])),
                Some(field) => *field = Some(place),
            }
        }
        match (0..4).find(|&column| columns.fields[column].is_none()) {
            Some(column) => Err(error("a column of that name".into(), "none".into()).in_field(COLUMNS[column])),
            None => Ok(columns),
        }
    }
}

/// A row, whose fields are called by their columns.
struct Row<'a, R> {
    columns: &'a Columns,
    row: &'a Rows<R>,
}

impl<R: BufRead> Row<'_, R> {
    fn spec(&self) -> Result<BufferSpec, ParseError> {
        let lifetime = self.range("upper", self.number("lower")?, self.number("upper")?)?;
        let mut spec = BufferSpec::new(self.number("size")?, lifetime);
        spec.alignment = self.optional("alignment")?.unwrap_or(1);
        spec.offset = self.optional("offset")?;
        spec.alias = self.optional("alias")?.map(|group| self.small("alias", group)).transpose()?;
        spec.space = self.small("space", self.optional("space")?.unwrap_or(0))?;
        for gap in self.text("gaps").split(|&byte| byte == b' ').filter(|gap| !gap.is_empty()) {
            let bounds = gap.iter().position(|&byte| byte == b'-').and_then(|dash| {
                let (start, end) = (number(&gap[..dash]).ok()?, number(&gap[dash + 1..]).ok()?);
                Some((start, end))
            });
            let (start, end) = bounds.ok_or_else(|| self.error("gaps", "windows such as 3-5", quote(gap)))?;
            spec.gaps.push(self.range("gaps", start, end)?);
        }
        Ok(spec)
    }

    fn range(&self, column: &'static str, start: u64, end: u64) -> Result<Range<u64>, ParseError> {
        let beyond = end.checked_add(self.columns.beyond);
        Ok(start..beyond.ok_or_else(|| self.error(column, "an end within 64 bits", end.to_string()))?)
    }

    fn id(&self) -> Result<String, ParseError> {
        let id = self.text("id");
        match str::from_utf8(id) {
            Ok(id) if !id.is_empty() => Ok(id.to_owned()),
            _ => Err(self.error("id", "a name", quote(id))),
        }
    }

    fn number(&self, column: &'static str) -> Result<u64, ParseError> {
        let text = self.text(column);
        number(text).map_err(|expected| self.error(column, expected, quote(text)))
    }

    fn optional(&self, column: &'static str) -> Result<Option<u64>, ParseError> {
        if self.text(column).is_empty() { Ok(None) } else { self.number(column).map(Some) }
    }

    fn small(&self, column: &'static str, number: u64) -> Result<u32, ParseError> {
        u32::try_from(number).map_err(|_| self.error(column, "a number of 32 bits", number.to_string()))
    }

    /// What stands there; nothing if there is no such column.
    fn text(&self, column: &str) -> &[u8] {
        let column = COLUMNS.iter().position(|name| *name == column);
        let place = column.and_then(|column| self.columns.fields[column]);
        place.map_or(&[], |place| self.row.field(place))
    }

    fn error(&self, column: &'static str, expected: &'static str, found: String) -> ParseError {
        self.row.error(expected, found).in_field(column)
    }
}

/// Writes a problem, with a name for each buffer (or else its index), and with offsets if there are some. Columns in which nothing would stand
/// are left out.
///
/// What it writes of a problem and its ids, [`read_csv`] reads again, within its limits.
///
/// # Errors
/// What the writer reports; and [`InvalidInput`](io::ErrorKind::InvalidInput), before anything is written, if there is not one id and offset for
/// each buffer, or an id is empty, stands twice, or contains a line's end.
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
    let is_name = |id: &&String| !id.is_empty() && !id.contains('\n');
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
            Some(ids) => write!(out, "{}", field(&ids[index]))?,
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
