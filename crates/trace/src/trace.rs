//! A trace as a whole, and what follows from it.

use std::collections::HashSet;
use std::io::{self, BufRead, Write};
use std::ops::Range;

use crate::event::Event;
use crate::parse::Checker;
use crate::text::{Limits, ParseError, Rows, quote};

/// The first line of every trace file.
pub const HEADER: &str = "op,id,size,align,thread,seq";

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
        let mut rows = Rows::new(input, limits);
        let expected = format!("the header {HEADER}");
        rows.header(&expected)?;
        if rows.text() != HEADER.as_bytes() {
            return Err(rows.error(expected, quote(rows.text())));
        }
        let mut checker = Checker::default();
        while rows.advance()? {
            checker.check(&rows)?;
        }
        Ok(Self::of(checker))
    }

    fn of(checker: Checker) -> Self {
        let Checker { mut events, marks, slots, peak_live_bytes, setup_live_bytes, .. } = checker;
        events.shrink_to_fit();
        let end = events.len();
        let setup = 0..marks.first().copied().unwrap_or(0);
        let mut steps: Vec<_> = marks.windows(2).map(|pair| pair[0] + 1..pair[1]).collect();
        let mut tail = marks.last().map_or(0, |mark| mark + 1)..end;
        if requests(&events[tail.clone()]) > 0 {
            steps.push(std::mem::replace(&mut tail, end..end));
        }
        Self { events, slots: slots as usize, setup, steps, tail, peak_live_bytes, setup_live_bytes }
    }

    /// Writes a trace that reads as this one: its events, each buffer called by its slot, without what was not kept.
    ///
    /// ```
    /// use tenzor_trace::Trace;
    ///
    /// let csv = "op,id,size,align,thread,seq\na,7,100,8,3,1\nf,7,100,8,3,2\n";
    /// let mut written = Vec::new();
    /// Trace::parse(csv.as_bytes())?.write(&mut written)?;
    /// assert_eq!(str::from_utf8(&written)?, "op,id,size,align,thread,seq\na,0,100,8,0,0\nf,0,0,0,0,1\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What the writer reports.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        writeln!(out, "{HEADER}")?;
        for (seq, event) in self.events.iter().enumerate() {
            let (op, id, size, align) = match *event {
                Event::Allocate { slot, layout, zeroed, .. } => {
                    (if zeroed { 'z' } else { 'a' }, slot.into(), layout.size(), layout.align())
                }
                Event::Resize { slot, layout } => ('r', slot.into(), layout.size(), layout.align()),
                Event::Free { slot } => ('f', slot.into(), 0, 0),
                Event::Mark { step } => ('m', step, 0, 0),
            };
            writeln!(out, "{op},{id},{size},{align},0,{seq}")?;
        }
        Ok(())
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
