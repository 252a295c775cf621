//! Allocation traces: the events of a recorded program, read from CSV and checked once, so that a replay
//! needs no checks.
//!
//! The format is one header line, `op,id,size,align,thread,seq`, and then one event a line:
//!
//! | op  | event                                                           |
//! |-----|-----------------------------------------------------------------|
//! | `a` | request: buffer `id` of `size` bytes aligned to `align`         |
//! | `z` | the same, zeroed                                                |
//! | `r` | resize of buffer `id` to `size` bytes, alignment kept           |
//! | `f` | free of buffer `id`, which may then name another                |
//! | `m` | mark: step number `id` begins here, and the step before it ends |
//!
//! What precedes the first mark is set-up (weights, warm-up). The other fields are unsigned decimal numbers. `thread` and
//! `seq` tell where an event came from; they and the size and alignment of an op that needs neither are not kept: a replay
//! follows the order of the lines.
//!
//! ```
//! use tenzor_memory::trace::Trace;
//!
//! let csv = "op,id,size,align,thread,seq
//! a,0,4096,64,0,1
//! m,1,0,0,0,2
//! z,1,1000,8,0,3
//! f,1,0,0,0,4
//! m,2,0,0,0,5
//! ";
//! let trace = Trace::parse(csv.as_bytes())?;
//! assert_eq!((trace.requests(), trace.steps().len()), (2, 1));
//! assert_eq!((trace.peak_live_bytes(), trace.setup_live_bytes()), (5096, 4096));
//!
//! let error = Trace::parse(csv.replace(",64,", ",12,").as_bytes()).unwrap_err();
//! assert_eq!(error.to_string(), r#"line 2: field 'align': expected a power of two, found "12""#);
//! # Ok::<(), tenzor_memory::trace::ParseError>(())
//! ```

use std::alloc::Layout;
use std::borrow::Cow;
use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};
use std::fmt;
use std::io::{self, BufRead, Read};
use std::ops::Range;

/// The first line of every trace file.
pub const HEADER: &str = "op,id,size,align,thread,seq";

/// The names in [`HEADER`], in its order.
const FIELDS: [&str; 6] = ["op", "id", "size", "align", "thread", "seq"];

/// How much of an offending piece of input an error repeats, in bytes.
const FOUND_BYTES: usize = 40;

/// One event of a trace.
///
/// A `slot` is the buffer's dense number, below [`Trace::slots`]: no two buffers that live at the same time share one, so a replay
/// keeps its buffers in a plain vector. A slot is taken again once its buffer is freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A buffer is requested.
    Allocate {
        /// The buffer's slot, vacant until now.
        slot: u32,
        /// Requested size in bytes (it may be zero) and alignment.
        layout: Layout,
        /// The buffer has to be all zeros.
        zeroed: bool,
        /// The buffer outlives its step (or the set-up): it is freed after the next mark, or never.
        escapes: bool,
    },
    /// A live buffer grows or shrinks, and keeps its slot and its contents up to the lesser size.
    Resize {
        /// The buffer's slot.
        slot: u32,
        /// The new size in bytes, and the alignment the buffer was requested with.
        layout: Layout,
    },
    /// A live buffer is freed.
    Free {
        /// The buffer's slot, vacant from now on.
        slot: u32,
    },
    /// A step begins, and the one before it ends.
    Mark {
        /// The step's number as the file gives it, counting up from 1 or above.
        step: u64,
    },
}

/// What a parse accepts at most; an input beyond any of these gets an error before memory is taken for it.
///
/// A parse keeps 24 bytes per event, takes up to three times that while their vector grows, and about 150 bytes more per
/// buffer that is live at the same time; it holds one line of the input at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole input.
    pub max_bytes: u64,
    /// Bytes of one line, its end not counted.
    pub max_line_bytes: usize,
    /// Events.
    pub max_events: u32,
}

impl Default for Limits {
    /// 256 MiB, 256 bytes a line, 2²² events.
    fn default() -> Self {
        Self { max_bytes: 1 << 28, max_line_bytes: 256, max_events: 1 << 22 }
    }
}

/// A valid sequence of events, and what follows from it.
///
/// Every buffer is requested before it is resized or freed and has one slot while it lives, every layout is valid, marks count up,
/// and the live bytes never exceed `u64`. Buffers may outlive the trace.
///
/// A **step** is what lies between two marks. What follows the last mark is a step too if it requests anything; else it is the
/// [`tail`](Self::tail), a program taking itself down. A trace without marks is one step without set-up.
#[derive(Debug, Clone)]
pub struct Trace {
    events: Vec<Event>,
    slots: usize,
    setup: Range<usize>,
    steps: Vec<Range<usize>>,
    tail: Range<usize>,
    peak_live_bytes: u64,
    setup_live_bytes: u64,
}

impl Trace {
    /// Reads and checks a trace within the default [`Limits`]. A byte slice is a reader, too.
    ///
    /// # Errors
    /// The first line that is not as the format demands, that goes beyond a limit, or that cannot be read.
    pub fn parse(input: impl BufRead) -> Result<Self, ParseError> {
        Self::parse_within(input, Limits::default())
    }

    /// Reads and checks a trace within the given limits.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_within(input: impl BufRead, limits: Limits) -> Result<Self, ParseError> {
        let mut lines = Lines::new(input, limits);
        if !lines.advance()? {
            return Err(lines.error(format!("the header {HEADER}"), "an empty file"));
        }
        // Some spreadsheets begin a file with a byte order mark.
        if lines.text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&lines.text) != HEADER.as_bytes() {
            return Err(lines.error(format!("the header {HEADER}"), quote(&lines.text)));
        }
        let mut checker = Checker::default();
        let mut empty_line = None;
        while lines.advance()? {
            if lines.text().is_empty() {
                empty_line = empty_line.or(Some(lines.line()));
            } else if let Some(line) = empty_line {
                return Err(ParseError::new(line, None, "an event", "an empty line"));
            } else if checker.events.len() >= limits.max_events as usize {
                return Err(lines.error(format!("at most {} events", limits.max_events), "another"));
            } else {
                checker.check(&Fields::split(lines.line(), lines.text())?)?;
            }
        }
        Ok(checker.finish())
    }

    /// All events, marks included, in order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// How many slots a replay needs: the greatest number of buffers live at the same time.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// The events before the first mark.
    pub fn setup(&self) -> &[Event] {
        self.part(&self.setup)
    }

    /// The events of each step, without marks.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = &[Event]> {
        self.steps.iter().map(|step| self.part(step))
    }

    /// The events after the last step.
    pub fn tail(&self) -> &[Event] {
        self.part(&self.tail)
    }

    /// Requests (`a` and `z`) in the whole trace.
    pub fn requests(&self) -> usize {
        requests(&self.events)
    }

    /// Requests (`a` and `z`) in the step that makes the most of them.
    pub fn requests_per_step(&self) -> usize {
        self.steps().map(requests).max().unwrap_or(0)
    }

    /// Different sizes requested (`a` and `z`) in the steps.
    pub fn distinct_sizes(&self) -> usize {
        let sizes = self.steps().flatten().filter_map(|event| match event {
            Event::Allocate { layout, .. } => Some(layout.size()),
            _ => None,
        });
        sizes.collect::<HashSet<_>>().len()
    }

    /// The greatest sum of requested bytes in use at an instant of the trace.
    pub fn peak_live_bytes(&self) -> u64 {
        self.peak_live_bytes
    }

    /// Requested bytes in use at the first mark: what the set-up leaves to the steps.
    pub fn setup_live_bytes(&self) -> u64 {
        self.setup_live_bytes
    }

    fn part(&self, range: &Range<usize>) -> &[Event] {
        self.events.get(range.clone()).unwrap_or_default()
    }
}

fn requests(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Allocate { .. })).count()
}

/// A line that is not a trace's.
#[derive(Debug)]
pub struct ParseError {
    line: usize,
    field: Option<&'static str>,
    expected: Cow<'static, str>,
    found: Cow<'static, str>,
    source: Option<io::Error>,
}

impl ParseError {
    pub(crate) fn new(
        line: usize,
        field: Option<&'static str>,
        expected: impl Into<Cow<'static, str>>,
        found: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { line, field, expected: expected.into(), found: found.into(), source: None }
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
        fmt::from_fn(|f| {
            if let Some(field) = self.field {
                write!(f, "field '{field}': ")?;
            }
            write!(f, "expected {}, found {}", self.expected, self.found)
        })
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

/// The input as lines, none of which is held in memory beyond its limit.
pub(crate) struct Lines<R> {
    input: R,
    limits: Limits,
    line: usize,
    bytes: u64,
    /// The current line without its end.
    text: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(input: R, limits: Limits) -> Self {
        Self { input, limits, line: 0, bytes: 0, text: Vec::new() }
    }

    /// Goes to the next line; false at the end of the input.
    pub(crate) fn advance(&mut self) -> Result<bool, ParseError> {
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
                return Err(ParseError { source: Some(error), ..self.error("readable input", found) });
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

    /// The current line's number, from 1.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// The current line, without its end.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(crate) fn error(
        &self,
        expected: impl Into<Cow<'static, str>>,
        found: impl Into<Cow<'static, str>>,
    ) -> ParseError {
        ParseError::new(self.line, None, expected, found)
    }
}

/// One event's line, not yet understood.
struct Fields<'a> {
    line: usize,
    text: [&'a [u8]; FIELDS.len()],
}

/// The places of the fields in a line.
const OP: usize = 0;
const ID: usize = 1;
const SIZE: usize = 2;
const ALIGN: usize = 3;
const THREAD: usize = 4;
const SEQ: usize = 5;

impl<'a> Fields<'a> {
    fn split(line: usize, text: &'a [u8]) -> Result<Self, ParseError> {
        let mut fields = [&text[..0]; FIELDS.len()];
        let mut count = 0;
        for field in text.split(|&byte| byte == b',') {
            if let Some(place) = fields.get_mut(count) {
                *place = field;
            }
            count += 1;
        }
        if count != FIELDS.len() {
            let expected = format!("{} fields ({HEADER})", FIELDS.len());
            return Err(ParseError::new(line, None, expected, count.to_string()));
        }
        Ok(Self { line, text: fields })
    }

    fn number(&self, field: usize) -> Result<u64, ParseError> {
        let digits = self.text[field];
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(self.error(field, "an unsigned decimal number"));
        }
        let add = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
        digits.iter().try_fold(0, add).ok_or_else(|| self.error(field, "a number below 2^64"))
    }

    /// The layout of `size` bytes aligned to `align`, whose fields are named in the error.
    fn layout(&self, size: u64, align: u64) -> Result<Layout, ParseError> {
        let align = usize::try_from(align).unwrap_or(0);
        if !align.is_power_of_two() {
            return Err(self.error(ALIGN, "a power of two"));
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        Layout::from_size_align(size, align).map_err(|_| {
            let expected = format!("at most {} when rounded up to the alignment", isize::MAX);
            self.error(SIZE, expected)
        })
    }

    fn error(&self, field: usize, expected: impl Into<Cow<'static, str>>) -> ParseError {
        let found = quote(self.text[field]);
        ParseError::new(self.line, Some(FIELDS[field]), expected, found)
    }
}

/// What is known of a live buffer.
struct Live {
    slot: u32,
    layout: Layout,
    /// Where its request stands among the events.
    request: usize,
}

/// The events so far, and the state of the program after them.
#[derive(Default)]
struct Checker {
    events: Vec<Event>,
    /// Where the marks stand among the events.
    marks: Vec<usize>,
    last_step: u64,
    live: HashMap<u64, Live>,
    vacant: Vec<u32>,
    slots: u32,
    live_bytes: u64,
    peak_live_bytes: u64,
    setup_live_bytes: u64,
}

impl Checker {
    fn check(&mut self, fields: &Fields<'_>) -> Result<(), ParseError> {
        let id = fields.number(ID)?;
        let size = fields.number(SIZE)?;
        let align = fields.number(ALIGN)?;
        fields.number(THREAD)?;
        fields.number(SEQ)?;
        let event = match fields.text[OP] {
            b"a" | b"z" => self.allocate(fields, id, fields.layout(size, align)?)?,
            b"r" => self.resize(fields, id, size)?,
            b"f" => self.free(fields, id)?,
            b"m" => self.mark(fields, id)?,
            _ => return Err(fields.error(OP, "one of a, z, r, f, m")),
        };
        self.events.push(event);
        Ok(())
    }

    fn allocate(&mut self, fields: &Fields<'_>, id: u64, layout: Layout) -> Result<Event, ParseError> {
        let Entry::Vacant(entry) = self.live.entry(id) else {
            return Err(fields.error(ID, "an id that is not live"));
        };
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        entry.insert(Live { slot, layout, request: self.events.len() });
        self.count(fields, 0, layout.size())?;
        Ok(Event::Allocate { slot, layout, zeroed: fields.text[OP] == b"z", escapes: true })
    }

    fn resize(&mut self, fields: &Fields<'_>, id: u64, size: u64) -> Result<Event, ParseError> {
        let live = self.live.get_mut(&id);
        let live = live.ok_or_else(|| fields.error(ID, "the id of a live buffer"))?;
        let layout = fields.layout(size, live.layout.align() as u64)?;
        let (slot, old) = (live.slot, std::mem::replace(&mut live.layout, layout));
        self.count(fields, old.size(), layout.size())?;
        Ok(Event::Resize { slot, layout })
    }

    fn free(&mut self, fields: &Fields<'_>, id: u64) -> Result<Event, ParseError> {
        let live = self.live.remove(&id);
        let live = live.ok_or_else(|| fields.error(ID, "the id of a live buffer"))?;
        self.vacant.push(live.slot);
        self.live_bytes -= live.layout.size() as u64;
        let step_begins = self.marks.last().copied().unwrap_or(0);
        if live.request >= step_begins
            && let Some(Event::Allocate { escapes, .. }) = self.events.get_mut(live.request)
        {
            *escapes = false;
        }
        Ok(Event::Free { slot: live.slot })
    }

    fn mark(&mut self, fields: &Fields<'_>, step: u64) -> Result<Event, ParseError> {
        if step <= self.last_step {
            return Err(fields.error(ID, format!("a step number above {}", self.last_step)));
        }
        if self.marks.is_empty() {
            self.setup_live_bytes = self.live_bytes;
        }
        self.last_step = step;
        self.marks.push(self.events.len());
        Ok(Event::Mark { step })
    }

    /// Counts `old` bytes that are now `new` bytes.
    fn count(&mut self, fields: &Fields<'_>, old: usize, new: usize) -> Result<(), ParseError> {
        let live = (self.live_bytes - old as u64).checked_add(new as u64);
        self.live_bytes = live.ok_or_else(|| fields.error(SIZE, "live bytes below 2^64 in sum"))?;
        self.peak_live_bytes = self.peak_live_bytes.max(self.live_bytes);
        Ok(())
    }

    fn finish(mut self) -> Trace {
        self.events.shrink_to_fit();
        let end = self.events.len();
        let setup = 0..self.marks.first().copied().unwrap_or(0);
        let mut steps: Vec<_> = self.marks.windows(2).map(|pair| pair[0] + 1..pair[1]).collect();
        let mut tail = self.marks.last().map_or(0, |mark| mark + 1)..end;
        if requests(&self.events[tail.clone()]) > 0 {
            steps.push(std::mem::replace(&mut tail, end..end));
        }
        Trace {
            events: self.events,
            slots: self.slots as usize,
            setup,
            steps,
            tail,
            peak_live_bytes: self.peak_live_bytes,
            setup_live_bytes: self.setup_live_bytes,
        }
    }
}

/// A piece of input, fit to be shown.
pub(crate) fn quote(text: &[u8]) -> String {
    let shown = text.get(..FOUND_BYTES).unwrap_or(text);
    let rest = if shown.len() < text.len() { "…" } else { "" };
    format!("\"{}{rest}\"", shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &str) -> Result<Trace, ParseError> {
        Trace::parse(format!("{HEADER}\n{lines}").as_bytes())
    }

    const SMALL: &str = "a,7,100,8,0,1
m,1,0,0,0,2
a,9,50,4,0,3
z,3,60,16,0,4
r,9,80,4,0,5
f,9,80,4,0,6
a,9,10,1,0,7
m,2,0,0,0,8
f,9,0,0,0,9
m,5,0,0,0,10
f,3,0,0,0,11
";

    #[test]
    fn facts_are_exact() {
        let trace = parse(SMALL).unwrap();
        assert_eq!((trace.requests(), trace.requests_per_step()), (4, 3));
        assert_eq!((trace.distinct_sizes(), trace.slots()), (3, 3));
        assert_eq!(trace.peak_live_bytes(), 240);
        assert_eq!(trace.setup_live_bytes(), 100);
        let steps: Vec<_> = trace.steps().map(<[Event]>::len).collect();
        assert_eq!(steps, [5, 1]);
        assert_eq!((trace.setup().len(), trace.tail().len()), (1, 1));
    }

    #[test]
    fn a_byte_order_mark_is_no_error() {
        let marked = format!("\u{feff}{HEADER}\n{SMALL}");
        assert_eq!(Trace::parse(marked.as_bytes()).unwrap().requests(), 4);
        assert!(Trace::parse("\u{feff}".as_bytes()).is_err());
    }

    #[test]
    fn slots_are_dense_and_escapes_are_known() {
        let layout = |size, align| Layout::from_size_align(size, align).unwrap();
        let allocate = |slot, layout, zeroed, escapes| Event::Allocate { slot, layout, zeroed, escapes };
        let expected = [
            allocate(0, layout(100, 8), false, true),
            Event::Mark { step: 1 },
            allocate(1, layout(50, 4), false, false),
            allocate(2, layout(60, 16), true, true),
            Event::Resize { slot: 1, layout: layout(80, 4) },
            Event::Free { slot: 1 },
            allocate(1, layout(10, 1), false, true),
            Event::Mark { step: 2 },
            Event::Free { slot: 1 },
            Event::Mark { step: 5 },
            Event::Free { slot: 2 },
        ];
        assert_eq!(parse(SMALL).unwrap().events(), expected);
    }

    #[test]
    fn without_marks_it_is_one_step() {
        let trace = parse("a,1,8,8,0,0\nf,1,8,8,0,0").unwrap();
        let step = trace.steps().next().unwrap();
        assert_eq!((step, trace.steps().len()), (trace.events(), 1));
        assert!(matches!(step[0], Event::Allocate { escapes: false, .. }));
        assert_eq!(parse("").unwrap().steps().len(), 0);
    }

    #[test]
    fn carriage_returns_and_empty_last_lines_are_accepted() {
        let text = format!("{HEADER}\n{SMALL}\n\n").replace('\n', "\r\n");
        let trace = Trace::parse(text.as_bytes()).unwrap();
        assert_eq!(trace.events(), parse(SMALL).unwrap().events());
    }

    /// Lines (`;` ends each) and the message they get.
    const WRONG: &str = r#"
a,1,8,8,0 => line 2: expected 6 fields (op,id,size,align,thread,seq), found 5
a,1,8,8,0,0,0 => line 2: expected 6 fields (op,id,size,align,thread,seq), found 7
a,1,8,8,0,0;;f,1,8,8,0,0 => line 3: expected an event, found an empty line
x,1,8,8,0,0 => line 2: field 'op': expected one of a, z, r, f, m, found "x"
a,-1,8,8,0,0 => line 2: field 'id': expected an unsigned decimal number, found "-1"
a,1,,8,0,0 => line 2: field 'size': expected an unsigned decimal number, found ""
a,1,8,8,NUL,0 => line 2: field 'thread': expected an unsigned decimal number, found "\x00"
a,1,8,8,0,ä => line 2: field 'seq': expected an unsigned decimal number, found "\xc3\xa4"
f,18446744073709551616,0,0,0,0 => line 2: field 'id': expected a number below 2^64, found "18446744073709551616"
a,1,8,12,0,0 => line 2: field 'align': expected a power of two, found "12"
z,1,8,0,0,0 => line 2: field 'align': expected a power of two, found "0"
a,1,MAX,2,0,0 => line 2: field 'size': expected at most MAX when rounded up to the alignment, found "MAX"
a,1,8,8,0,0;r,1,MAX,0,0,0 => line 3: field 'size': expected at most MAX when rounded up to the alignment, found "MAX"
a,1,MAX,1,0,0;a,2,MAX,1,0,0;a,3,MAX,1,0,0 => line 4: field 'size': expected live bytes below 2^64 in sum, found "MAX"
a,1,8,8,0,0;z,1,8,8,0,0 => line 3: field 'id': expected an id that is not live, found "1"
a,1,8,8,0,0;r,2,8,8,0,0 => line 3: field 'id': expected the id of a live buffer, found "2"
a,1,8,8,0,0;f,1,8,8,0,0;f,1,8,8,0,0 => line 4: field 'id': expected the id of a live buffer, found "1"
m,0,0,0,0,0 => line 2: field 'id': expected a step number above 0, found "0"
m,2,0,0,0,0;m,2,0,0,0,0 => line 3: field 'id': expected a step number above 2, found "2"
"#;

    #[test]
    fn every_error_names_its_place() {
        let cases = WRONG.replace("MAX", &isize::MAX.to_string());
        for case in cases.trim().lines() {
            let (lines, expected) = case.split_once(" => ").unwrap();
            let lines = lines.replace(';', "\n").replace("NUL", "\0");
            assert_eq!(parse(&lines).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn the_header_is_required() {
        let found = |text: &[u8]| Trace::parse(text).unwrap_err().to_string();
        let expected = format!("line 1: expected the header {HEADER}, found ");
        assert_eq!(found(b""), format!("{expected}an empty file"));
        assert_eq!(found(b"a,1\n"), format!("{expected}\"a,1\""));
        let cut = r"\xff".repeat(FOUND_BYTES);
        assert_eq!(found(&[0xff; 60]), format!("{expected}\"{cut}…\""));
    }

    #[test]
    fn limits_hold() {
        let text = format!("{HEADER}\n{SMALL}");
        let parse = |max_bytes, max_line_bytes, max_events| {
            let limits = Limits { max_bytes, max_line_bytes, max_events };
            Trace::parse_within(text.as_bytes(), limits).map_err(|error| error.to_string())
        };
        let (bytes, line) = (text.len() as u64, HEADER.len());
        assert!(parse(bytes, line, 11).is_ok());
        let events = parse(bytes, line, 10).unwrap_err();
        assert_eq!(events, "line 12: expected at most 10 events, found another");
        let input = parse(bytes - 1, line, 11).unwrap_err();
        let most = bytes - 1;
        assert!(input.ends_with(&format!("expected at most {most} bytes of input, found more")));
        let line = parse(bytes, line - 1, 11).unwrap_err();
        assert!(line.starts_with("line 1: expected a line of at most 26 bytes"));
        // A line without end is not read to its end.
        assert!(Trace::parse(io::BufReader::new(io::repeat(b'1'))).is_err());
    }

    #[test]
    fn mutations_never_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let mut accepted = 0;
        for _ in 0..20_000 {
            let mut text = format!("{HEADER}\n{SMALL}").into_bytes();
            for _ in 0..=random(3) {
                let at = random(text.len());
                match random(4) {
                    0 => text[at] = b"0123456789,azrfm\n\r\0\xff"[random(20)],
                    1 => text.truncate(at + 1),
                    2 => text.insert(at, b'9'),
                    _ => {
                        let digits = &b"18446744073709551615"[random(20)..];
                        text.splice(at..at, digits.iter().copied());
                    }
                }
            }
            accepted += usize::from(Trace::parse(text.as_slice()).is_ok());
        }
        assert!((1..20_000).contains(&accepted));
    }
}
