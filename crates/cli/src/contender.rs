//! One allocator replaying one trace, in a process of its own: the task, its start, and what it prints.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tenzor::trace::{Event, Trace};

use crate::replay::{self, Footprint, Times};
use crate::source::{self, Source};
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
use crate::sys;
use crate::sys::{Arena, Heap, Malloc, Planned, Pool};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contender {
    Malloc,
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    Heap,
    Pool,
    Planned,
    Arena,
}

impl Contender {
    /// In the order of the rows; malloc, which the others are compared with, comes first.
    pub(crate) const ALL: &[Self] = &[
        Self::Malloc,
        #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
        Self::Heap,
        Self::Pool,
        Self::Planned,
        Self::Arena,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Malloc => "malloc",
            #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
            Self::Heap => "TenzorMalloc",
            Self::Pool => "TensorAllocator",
            Self::Planned => "PlannedAllocator",
            Self::Arena => "ComputeArena",
        }
    }

    /// The bytes that a replay needs at the least: for the arena, which frees nothing within a step, all requests of one.
    pub(crate) fn least_bytes(self, trace: &Trace) -> u64 {
        let requested = |step: &[Event]| -> u64 {
            let sizes = step.iter().map(|event| match event {
                Event::Allocate { layout, escapes: false, .. } => layout.size() as u64,
                _ => 0,
            });
            sizes.fold(0, u64::saturating_add)
        };
        match self {
            Self::Arena => {
                let step = trace.steps().map(requested).max().unwrap_or(0);
                trace.peak_live_bytes().max(trace.setup_live_bytes().saturating_add(step))
            }
            _ => trace.peak_live_bytes(),
        }
    }

    /// Starts a process that replays `source` for its times, and waits for it.
    pub(crate) fn times(self, source: &Source, round: u32) -> Result<Times> {
        self.start(source, What::Times, round)
    }

    /// Starts a process that replays `source` for its footprint, and waits for it.
    pub(crate) fn footprint(self, source: &Source) -> Result<Footprint> {
        self.start(source, What::Footprint, 0)
    }

    fn start<T: DeserializeOwned>(self, source: &Source, what: What, round: u32) -> Result<T> {
        let program = std::env::current_exe().context("cannot find this program to start it again")?;
        let mut command = Command::new(program);
        command.arg("contend").args([word(self), word(what), round.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start this program again")?;
        if let Some(mut input) = child.stdin.take() {
            // A child that ends before it has read everything says why itself.
            let _ = input.write_all(&source.bytes);
        }
        let output = child.wait_with_output().context("cannot wait for this program")?;
        let problem = String::from_utf8_lossy(&output.stderr);
        let name = &source.name;
        ensure!(
            output.status.success(),
            "{name}: {}: {}",
            self.name(),
            if problem.trim().is_empty() { output.status.to_string() } else { problem.trim().to_owned() },
        );
        serde_json::from_slice(&output.stdout).with_context(|| format!("{name}: {}: unreadable figures", self.name()))
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    Times,
    Footprint,
}

/// How a value is written on the command line.
fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[derive(Debug, Args)]
pub(crate) struct Task {
    contender: Contender,
    what: What,
    round: u32,
}

/// Does a task with the trace from standard input, and prints what it found as one JSON object.
pub(crate) fn run(task: &Task) -> Result<()> {
    let trace = source::parse(std::io::stdin().lock(), "standard input")?;
    let _held = std::hint::black_box(ballast(task.round));
    match task.contender {
        Contender::Malloc => replay_over(Malloc::default(), &trace, task.what),
        #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
        Contender::Heap => replay_over(sys::ProcessHeap::default(), &trace, task.what),
        Contender::Pool => replay_over(Pool::default(), &trace, task.what),
        Contender::Planned => replay_over(Planned::default(), &trace, task.what),
        Contender::Arena => replay_over(Arena::default(), &trace, task.what),
    }
}

/// Memory to hold during a replay, of another size in each round, up to 128 KiB.
///
/// Whether malloc keeps what is freed or gives it back to the system, to be mapped and zeroed again, turns on where in its heap
/// a program happens to begin: a hundred bytes more can halve a step's time. Beginning elsewhere in each round, the median is not
/// that of one lucky or unlucky place.
fn ballast(round: u32) -> Vec<u8> {
    // Steps of the golden ratio cover a range evenly, however many there are.
    const STEP: u32 = 0x9e37_79b9;
    vec![0; (STEP.wrapping_mul(round) >> 15) as usize]
}

fn replay_over<H: Heap>(heap: H, trace: &Trace, what: What) -> Result<()> {
    match what {
        What::Times => print(&replay::times(trace, heap)?),
        What::Footprint => print(&replay::footprint(trace, heap)?),
    }
}

fn print(figures: &impl Serialize) -> Result<()> {
    Ok(serde_json::to_writer(std::io::stdout().lock(), figures)?)
}
