//! From rows to events: what may follow upon what.

use std::alloc::Layout;
use std::borrow::Cow;
use std::collections::hash_map::{Entry, HashMap};
use std::io::BufRead;

use crate::event::Event;
use crate::text::{ParseError, Rows};

/// The names of the columns, and the places of those that count.
pub(crate) const COLUMNS: [&str; 6] = ["op", "id", "size", "align", "thread", "seq"];
const OP: usize = 0;
const ID: usize = 1;
const SIZE: usize = 2;
const ALIGN: usize = 3;
const THREAD: usize = 4;
const SEQ: usize = 5;

/// What is known of a live buffer.
struct Live {
    slot: u32,
    layout: Layout,
    /// Where its request stands among the events.
    request: usize,
}

/// The events so far, and the state of the program after them.
#[derive(Default)]
pub(crate) struct Checker {
    pub(crate) events: Vec<Event>,
    /// Where the marks stand among the events.
    pub(crate) marks: Vec<usize>,
    last_step: u64,
    live: HashMap<u64, Live>,
    vacant: Vec<u32>,
    pub(crate) slots: u32,
    live_bytes: u64,
    pub(crate) peak_live_bytes: u64,
    pub(crate) setup_live_bytes: u64,
}

impl Checker {
    /// Takes the current row for the next event.
    pub(crate) fn check(&mut self, row: &Rows<impl BufRead>) -> Result<(), ParseError> {
        let number = |column| row.number(column, COLUMNS[column]);
        let (id, size, align) = (number(ID)?, number(SIZE)?, number(ALIGN)?);
        number(THREAD)?;
        number(SEQ)?;
        let event = match row.field(OP) {
            b"a" | b"z" => self.allocate(row, id, layout(row, size, align)?)?,
            b"r" => self.resize(row, id, size)?,
            b"f" => self.free(row, id)?,
            b"m" => self.mark(row, id)?,
            _ => return Err(error(row, OP, "one of a, z, r, f, m")),
        };
        self.events.push(event);
        Ok(())
    }

    fn allocate(&mut self, row: &Rows<impl BufRead>, id: u64, layout: Layout) -> Result<Event, ParseError> {
        let Entry::Vacant(entry) = self.live.entry(id) else {
            return Err(error(row, ID, "an id that is not live"));
        };
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        entry.insert(Live { slot, layout, request: self.events.len() });
        self.count(row, 0, layout.size())?;
        Ok(Event::Allocate { slot, layout, zeroed: row.field(OP) == b"z", escapes: true })
    }

    fn resize(&mut self, row: &Rows<impl BufRead>, id: u64, size: u64) -> Result<Event, ParseError> {
        let live = self.live.get_mut(&id);
        let live = live.ok_or_else(|| error(row, ID, "the id of a live buffer"))?;
        let layout = layout(row, size, live.layout.align() as u64)?;
        let (slot, old) = (live.slot, std::mem::replace(&mut live.layout, layout));
        self.count(row, old.size(), layout.size())?;
        Ok(Event::Resize { slot, layout })
    }

    fn free(&mut self, row: &Rows<impl BufRead>, id: u64) -> Result<Event, ParseError> {
        let live = self.live.remove(&id);
        let live = live.ok_or_else(|| error(row, ID, "the id of a live buffer"))?;
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

    fn mark(&mut self, row: &Rows<impl BufRead>, step: u64) -> Result<Event, ParseError> {
        if step <= self.last_step {
            return Err(error(row, ID, format!("a step number above {}", self.last_step)));
        }
        if self.marks.is_empty() {
            self.setup_live_bytes = self.live_bytes;
        }
        self.last_step = step;
        self.marks.push(self.events.len());
        Ok(Event::Mark { step })
    }

    /// Counts `old` bytes that are now `new` bytes.
    fn count(&mut self, row: &Rows<impl BufRead>, old: usize, new: usize) -> Result<(), ParseError> {
        let live = (self.live_bytes - old as u64).checked_add(new as u64);
        self.live_bytes = live.ok_or_else(|| error(row, SIZE, "live bytes below 2^64 in sum"))?;
        self.peak_live_bytes = self.peak_live_bytes.max(self.live_bytes);
        Ok(())
    }
}

/// The layout of `size` bytes aligned to `align`, whose fields are named in the error.
fn layout(row: &Rows<impl BufRead>, size: u64, align: u64) -> Result<Layout, ParseError> {
    let align = usize::try_from(align).unwrap_or(0);
    if !align.is_power_of_two() {
        return Err(error(row, ALIGN, "a power of two"));
    }
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    Layout::from_size_align(size, align).map_err(|_| {
        let expected = format!("at most {} when rounded up to the alignment", isize::MAX);
        error(row, SIZE, expected)
    })
}

fn error(row: &Rows<impl BufRead>, column: usize, expected: impl Into<Cow<'static, str>>) -> ParseError {
    row.field_error(column, COLUMNS[column], expected)
}
