//! What [Perfetto](https://perfetto.dev) shows: a `Trace` of its `perfetto_trace.proto`, a packet at a time.

mod counters;
mod slices;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Seek, Write};

use self::counters::{Counter, Counters, Point, Thinned};
use self::slices::{Mark, Seen, Slices};
use super::protobuf::Message;
use super::shown;
use crate::recording::format::Header;
use crate::recording::{ConvertError, Recording, What};

impl<R: Read + Seek> Recording<R> {
    /// Writes a trace that [Perfetto](https://ui.perfetto.dev) opens. The process has counters: `live bytes` of all sources and of each, and, where sources took memory from
    /// below, `reserved bytes` of all and of each, which is what was taken less what was given back. Each thread has slices of labels, and instants where steps begin and requests are
    /// refused. Time begins with the recording; of the threads' ids, only how many there are between them is told: the first one's is the process's.
    ///
    /// A counter has at most 100 000 points. Where there are more changes, each of at most 33 333 intervals of as many changes has its least, its greatest and its last value, each at
    /// its time: so each interval's peak is there, and the peak of all, exactly. A thread of which more than 100 000 slices and instants would be shown has only the slices that last
    /// for the 50 000th part of the recording or longer, and those around them; and one step and one refusal in that time. So a long recording makes no file that
    /// is too large to look at.
    ///
    /// # Errors
    /// The first block that is damaged; what the writer reports. What was written before stays.
    pub fn write_perfetto(&mut self, out: impl Write) -> Result<(), ConvertError> {
        let mut shape = Shape::of(self)?;
        let mut trace = Trace { out, header: self.header() };
        trace.begin()?;
        for &label in &shape.labels {
            trace.label(label, &shown::label(self, label))?;
        }
        for &counter in shape.counters.keys() {
            trace.counter(counter, &called(self, counter))?;
            trace.point(counter, Point { tick: 0, value: 0 })?;
        }
        for (at, &thread) in shape.threads.keys().enumerate() {
            trace.thread(thread, at, &shown::thread(self, thread))?;
        }
        // The order of events is not quite that of ticks, and a counter has only one.
        let (mut counters, mut now, mut seen) = (Counters::default(), 0, Vec::new());
        for event in self.events() {
            let event = event.map_err(ConvertError::Recording)?;
            now = now.max(event.tick);
            for (counter, value) in counters.happen(&event.what) {
                let kept = shape.counters.get_mut(&counter).map(|thinned| thinned.change(Point { tick: now, value }));
                kept.into_iter().flatten().flatten().try_for_each(|point| trace.point(counter, point))?;
            }
            if let Some(slices) = shape.threads.get_mut(&event.thread) {
                slices.happen(&event, &mut seen);
                seen.drain(..).try_for_each(|seen| trace.seen(event.thread, seen))?;
            }
        }
        for (&counter, thinned) in &mut shape.counters {
            thinned.rest().into_iter().flatten().try_for_each(|point| trace.point(counter, point))?;
        }
        for (&thread, slices) in &mut shape.threads {
            slices.begin(&mut seen);
            seen.drain(..).try_for_each(|seen| trace.seen(thread, seen))?;
        }
        trace.out.flush()?;
        Ok(())
    }
}

/// What is to be shown of a recording, and how much of it there is.
#[derive(Debug)]
struct Shape {
    counters: BTreeMap<Counter, Thinned>,
    threads: BTreeMap<u32, Slices>,
    labels: BTreeSet<u64>,
}

impl Shape {
    fn of<R: Read + Seek>(recording: &mut Recording<R>) -> Result<Self, ConvertError> {
        recording.first_damage().map_or(Ok(()), |damage| Err(ConvertError::Recording(damage)))?;
        let (mut changes, mut labels, mut ticks): (BTreeMap<_, u64>, _, _) = (BTreeMap::new(), BTreeSet::new(), 0);
        let mut seen: BTreeMap<u32, u64> = recording.thread_numbers().map(|thread| (thread, 0)).collect();
        let mut counters = Counters::default();
        for event in recording.events() {
            let event = event.map_err(ConvertError::Recording)?;
            ticks = ticks.max(event.tick);
            counters.happen(&event.what).for_each(|(counter, _)| *changes.entry(counter).or_default() += 1);
            *seen.entry(event.thread).or_default() += u64::from(slices::is_seen(&event.what));
            if let What::Enter(label) = event.what {
                labels.insert(label);
            }
        }
        let counters = changes.into_iter().map(|(counter, changes)| (counter, Thinned::new(changes))).collect();
        let threads = seen.into_iter().map(|(thread, count)| (thread, Slices::new(count, ticks))).collect();
        Ok(Self { counters, threads, labels })
    }
}

fn called<R>(recording: &Recording<R>, counter: Counter) -> String {
    let (what, source) = match counter {
        Counter::Live(source) => ("live bytes", source),
        Counter::Reserved(source) => ("reserved bytes", source),
    };
    source.map_or(what.to_owned(), |source| format!("{what}: {}", shown::source(recording, source)))
}

/// The packets are one sequence, and know its labels by their numbers and one.
const SEQUENCE: u64 = 1;
const IS_FIRST: u64 = 1;
const KNOWS_LABELS: u64 = 2;

/// The number of the process's track, and where those of its counters and threads begin.
const PROCESS: u64 = 1;
const LIVE: u64 = 1 << 32;
const RESERVED: u64 = 2 << 32;
const THREADS: u64 = 3 << 32;

/// Clocks: the one that packets' times are of, and that of the day.
const BOOT: u64 = 6;
const DAY: u64 = 1;

/// The unit of counters.
const BYTES: u64 = 3;

/// The kinds of what happens on a track.
const BEGIN: u64 = 1;
const END: u64 = 2;
const INSTANT: u64 = 3;
const COUNTER: u64 = 4;

/// A trace as it is written.
#[derive(Debug)]
struct Trace<W> {
    out: W,
    header: Header,
}

impl<W: Write> Trace<W> {
    /// Writes a packet.
    fn packet(&mut self, packet: Message, flags: u64) -> io::Result<()> {
        Message::new().message(1, &packet.number(10, SEQUENCE).number(13, flags)).write(&mut self.out)
    }

    /// Writes the track of the process, and what time of the day it began at.
    fn begin(&mut self) -> io::Result<()> {
        let process = Message::new().number(1, self.process());
        let track = Message::new().number(1, PROCESS).message(3, &process);
        self.packet(Message::new().message(60, &track), IS_FIRST)?;
        if self.header.began == 0 {
            return Ok(());
        }
        let clock = |clock, time| Message::new().number(1, clock).number(2, time);
        let clocks = Message::new().message(1, &clock(BOOT, 0)).message(1, &clock(DAY, self.header.began));
        self.packet(Message::new().message(6, &clocks), KNOWS_LABELS)
    }

    /// The process's number. Where it is not known it is 1, as 0 is the idle one.
    fn process(&self) -> u64 {
        u64::from(self.header.process & i32::MAX as u32).max(1)
    }

    /// Writes what a label is called.
    fn label(&mut self, label: u64, name: &str) -> io::Result<()> {
        let name = Message::new().number(1, label + 1).bytes(2, name.as_bytes());
        self.packet(Message::new().message(12, &Message::new().message(2, &name)), KNOWS_LABELS)
    }

    /// Writes the track of a counter.
    fn counter(&mut self, counter: Counter, name: &str) -> io::Result<()> {
        let track = Message::new().number(1, counter_track(counter)).number(5, PROCESS).bytes(2, name.as_bytes());
        let track = track.message(8, &Message::new().number(3, BYTES));
        self.packet(Message::new().message(60, &track), KNOWS_LABELS)
    }

    /// Writes the track of a thread, so many after the first.
    fn thread(&mut self, thread: u32, at: usize, name: &str) -> io::Result<()> {
        let id = self.process().saturating_add(at as u64) & i32::MAX as u64;
        let thread_message = Message::new().number(1, self.process()).number(2, id).bytes(5, name.as_bytes());
        let track = Message::new().number(1, thread_track(thread)).number(5, PROCESS).message(4, &thread_message);
        self.packet(Message::new().message(60, &track), KNOWS_LABELS)
    }

    /// Writes what happens on a track.
    fn event(&mut self, tick: u64, event: &Message) -> io::Result<()> {
        let time = tick.saturating_mul(self.header.tick);
        self.packet(Message::new().number(8, time).message(11, event), KNOWS_LABELS)
    }

    fn point(&mut self, counter: Counter, point: Point) -> io::Result<()> {
        let event = Message::new().number(9, COUNTER).number(11, counter_track(counter)).signed(30, point.value);
        self.event(point.tick, &event)
    }

    fn seen(&mut self, thread: u32, seen: Seen) -> io::Result<()> {
        let event = Message::new().number(11, thread_track(thread));
        let event = match seen.what {
            Mark::Begin(label) => event.number(9, BEGIN).number(10, label + 1),
            Mark::End => event.number(9, END),
            Mark::Step(step) => event.number(9, INSTANT).bytes(23, format!("step {step}").as_bytes()),
            Mark::Refused(bytes) => {
                let bytes = Message::new().bytes(10, b"bytes").number(3, bytes);
                event.number(9, INSTANT).bytes(23, b"refused").message(4, &bytes)
            }
        };
        self.event(seen.tick, &event)
    }
}

fn counter_track(counter: Counter) -> u64 {
    let (first, source) = match counter {
        Counter::Live(source) => (LIVE, source),
        Counter::Reserved(source) => (RESERVED, source),
    };
    first + source.map_or(0, |source| u64::from(source) + 1)
}

fn thread_track(thread: u32) -> u64 {
    THREADS + u64::from(thread)
}
