//! Replays of a trace over one heap: one for time and page faults, one for memory.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tenzor::trace::{Event, Trace};

use crate::cycle;
use crate::sys::{Blocks, Heap, OutOfMemory, minor_faults, peak_resident, resident};

/// Steps that repeat are replayed until they took this long together, which steadies the median of short ones …
const TIMED: Duration = Duration::from_millis(100);
/// … or until there are this many.
const TIMED_STEPS: usize = 1000;

/// Looking at what a heap has reserved takes time, so only every so many-th request is followed by a look …
const LOOK_EVERY: usize = 64;
/// … and each of at least this many bytes.
const LOOK_FROM: usize = 64 << 10;

/// Medians over the steps of one replay.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) step_ns: f64,
    pub(crate) minor_faults_per_step: Option<f64>,
}

/// What one replay of the whole trace took; bytes are above those of the program itself.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Footprint {
    pub(crate) peak_reserved_bytes: Option<u64>,
    pub(crate) peak_resident_bytes: Option<u64>,
    /// In the steps.
    pub(crate) hit_rate: Option<f64>,
}

pub(crate) fn times<H: Heap>(trace: &Trace, mut heap: H) -> Result<Times, OutOfMemory> {
    heap.prepare(trace);
    let moves = cycle::moves(trace);
    let passes = TIMED_STEPS.div_ceil(trace.steps().len().max(1));
    let mut step_ns = Vec::with_capacity(passes * trace.steps().len());
    let mut faults = Vec::with_capacity(step_ns.capacity());
    let mut blocks = Blocks::new(heap, trace.slots());
    play(&mut blocks, trace.setup(), Part::Outside)?;
    if let Some(moves) = &moves {
        // The program's set-up has warmed up a malloc and a pool, but not an arena, which serves nothing but steps.
        for step in trace.steps() {
            blocks.begin_step();
            play(&mut blocks, step, Part::Step)?;
            blocks.end_step();
        }
        blocks.rename(moves);
    }
    let begin = Instant::now();
    for _ in 0..passes {
        for step in trace.steps() {
            let (faults_before, start) = (minor_faults(), Instant::now());
            blocks.begin_step();
            play(&mut blocks, step, Part::Step)?;
            blocks.end_step();
            step_ns.push(start.elapsed().as_nanos() as f64);
            let new_faults = minor_faults().zip(faults_before);
            faults.extend(new_faults.map(|(after, before)| (after - before) as f64));
        }
        match &moves {
            Some(moves) if begin.elapsed() < TIMED => blocks.rename(moves),
            _ => break,
        }
    }
    Ok(Times { step_ns: median(step_ns).unwrap_or(0.0), minor_faults_per_step: median(faults) })
}

pub(crate) fn footprint<H: Heap>(trace: &Trace, mut heap: H) -> Result<Footprint, OutOfMemory> {
    heap.prepare(trace);
    let mut blocks = Blocks::new(heap, trace.slots());
    let resident_before = resident();
    let mut watch = Watch::default();
    watch.play(&mut blocks, trace.setup(), Part::Outside)?;
    let traffic_before = blocks.heap().hits_and_misses();
    for step in trace.steps() {
        blocks.begin_step();
        watch.play(&mut blocks, step, Part::Step)?;
        blocks.end_step();
        watch.look(&blocks);
    }
    let traffic = blocks.heap().hits_and_misses().zip(traffic_before);
    watch.play(&mut blocks, trace.tail(), Part::Outside)?;
    let resident = peak_resident().zip(resident_before);
    Ok(Footprint {
        peak_reserved_bytes: watch.peak_reserved.map(|bytes| bytes as u64),
        peak_resident_bytes: resident.map(|(peak, before)| peak.saturating_sub(before) as u64),
        hit_rate: traffic.map(|(after, before)| {
            let (hits, misses) = (after.0 - before.0, after.1 - before.1);
            hits as f64 / (hits + misses).max(1) as f64
        }),
    })
}

/// The part of a trace that an event is in: what is requested outside of the steps is not scratch, however short it lives.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Outside,
    Step,
}

fn play<H: Heap>(blocks: &mut Blocks<H>, events: &[Event], part: Part) -> Result<(), OutOfMemory> {
    events.iter().try_for_each(|event| apply(blocks, event, part))
}

#[inline]
fn apply<H: Heap>(blocks: &mut Blocks<H>, event: &Event, part: Part) -> Result<(), OutOfMemory> {
    match *event {
        Event::Allocate { slot, layout, zeroed, escapes } => {
            blocks.take(slot, layout, zeroed, part == Part::Step && !escapes)
        }
        Event::Resize { slot, layout } => blocks.resize(slot, layout),
        Event::Free { slot } => {
            blocks.release(slot);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Looks at what a heap has reserved, now and then.
#[derive(Default)]
struct Watch {
    requests: usize,
    peak_reserved: Option<usize>,
}

impl Watch {
    fn play<H: Heap>(&mut self, blocks: &mut Blocks<H>, events: &[Event], part: Part) -> Result<(), OutOfMemory> {
        for event in events {
            apply(blocks, event, part)?;
            if let Event::Allocate { layout, .. } | Event::Resize { layout, .. } = event {
                self.requests += 1;
                if layout.size() >= LOOK_FROM || self.requests.is_multiple_of(LOOK_EVERY) {
                    self.look(blocks);
                }
            }
        }
        Ok(())
    }

    fn look<H: Heap>(&mut self, blocks: &Blocks<H>) {
        self.peak_reserved = self.peak_reserved.max(blocks.reserved());
    }
}

/// The middle value, or the mean of the two middle ones; none of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}
