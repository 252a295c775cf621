//! What is in a recording.

use std::fmt;
use std::io::{Read, Seek};
use std::ops::ControlFlow;
use std::time::Duration;

use serde::Serialize;
use tenzor_trace::recording::{Recording, What};

use crate::live::Live;
use crate::pass::{Flaws, pass};
use crate::words::{bytes, count};

/// What is in a recording, in numbers. Shown as a few lines.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// The process.
    pub process: u32,
    /// When it began, in seconds since 1970.
    pub began_unix_seconds: f64,
    /// How long it is.
    pub seconds: f64,
    /// How many threads did something.
    pub threads: usize,
    /// How many blocks of records there are.
    pub blocks: u64,
    /// How many requests were served.
    pub requests: u64,
    /// How many blocks of memory were freed.
    pub frees: u64,
    /// How many got another size.
    pub resizes: u64,
    /// How many requests were refused.
    pub refusals: u64,
    /// How many steps began.
    pub steps: u64,
    /// The bytes in use when it began, as far as they are known.
    pub live_at_first: u64,
    /// The most bytes in use at an instant.
    pub peak_live_bytes: u64,
    /// In how many blocks.
    pub peak_live_blocks: usize,
    /// When that was.
    pub peak_at_seconds: f64,
    /// The bytes in use at its end.
    pub live_at_last_bytes: u64,
    /// What of it is missing.
    #[serde(flatten)]
    pub flaws: Flaws,
}

/// Reads a recording, once. What is damaged is left out, and told.
pub fn summary<R: Read + Seek>(recording: &mut Recording<R>) -> Summary {
    let header = recording.header();
    let seconds = |ticks: u64| Duration::from_nanos(ticks.saturating_mul(header.tick)).as_secs_f64();
    let mut told = Summary {
        process: header.process,
        began_unix_seconds: Duration::from_nanos(header.began).as_secs_f64(),
        threads: recording.thread_numbers().count(),
        blocks: recording.blocks(),
        ..Summary::default()
    };
    let mut live = Live::default();
    let flaws = pass(recording, |_, event| {
        told.seconds = told.seconds.max(seconds(event.tick));
        live.happen(&event.what, |_, _| ());
        match event.what {
            What::Request(_) => told.requests += 1,
            What::Live(block) => told.live_at_first = told.live_at_first.saturating_add(block.size),
            What::Free(_) => told.frees += 1,
            What::Resize { .. } => told.resizes += 1,
            What::Refused(_) => told.refusals += 1,
            What::Step(_) => told.steps += 1,
            _ => {}
        }
        if live.bytes() > told.peak_live_bytes {
            (told.peak_live_bytes, told.peak_live_blocks) = (live.bytes(), live.len());
            told.peak_at_seconds = seconds(event.tick);
        }
        ControlFlow::Continue(())
    });
    (told.flaws, told.live_at_last_bytes) = (flaws, live.bytes());
    told
}

/// The most damages that are shown.
const DAMAGES: usize = 10;

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, told: String| writeln!(f, "  {name:<14}{told}");
        line("recorded", format!("{}, {}", count(self.threads as u64, "thread"), count(self.blocks, "block")))?;
        let kinds = [
            count(self.requests, "request"),
            count(self.frees, "free"),
            count(self.resizes, "resize"),
            count(self.refusals, "refusal"),
            count(self.steps, "step"),
        ];
        line("events", kinds.join(", "))?;
        if self.live_at_first > 0 {
            line("in use before", bytes(self.live_at_first).to_string())?;
        }
        let blocks = count(self.peak_live_blocks as u64, "block");
        line("peak live", format!("{} in {blocks}, at {:.3} s", bytes(self.peak_live_bytes), self.peak_at_seconds))?;
        line("in use at last", bytes(self.live_at_last_bytes).to_string())?;
        self.flaws.show(f, "", DAMAGES)
    }
}
