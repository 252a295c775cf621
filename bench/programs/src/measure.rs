//! What is measured of a program, and how.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::peer;

/// A program that is set up.
pub(crate) struct Program {
    /// Steps before measuring begins.
    pub(crate) warm_up: usize,
    pub(crate) steps: usize,
    /// One step. Nothing of it stays but what the program's state is made of. The result is the part of its time in which one
    /// thread did alone what several do at once in the rest; nothing for programs that do not compare this.
    pub(crate) step: Box<dyn FnMut() -> Result<Duration>>,
}

impl Program {
    /// A program of `steps` steps after `warm_up`; if it is `quick`, of one step after none.
    pub(crate) fn new(
        quick: bool,
        warm_up: usize,
        steps: usize,
        mut step: impl FnMut() -> Result<()> + 'static,
    ) -> Self {
        Self::compared(quick, warm_up, steps, move || step().map(|()| Duration::ZERO))
    }

    /// The same for steps that are done by one thread alone as well.
    pub(crate) fn compared(
        quick: bool,
        warm_up: usize,
        steps: usize,
        step: impl FnMut() -> Result<Duration> + 'static,
    ) -> Self {
        let (warm_up, steps) = if quick { (0, 1) } else { (warm_up, steps) };
        Self { warm_up, steps, step: Box::new(step) }
    }
}

/// Sets a program up, runs its steps, and reports.
pub(crate) fn measure(idle: Duration, set_up: impl FnOnce() -> Result<Program>) -> Result<Value> {
    let begin = Instant::now();
    let mut program = set_up()?;
    let set_up = begin.elapsed();
    let (resident_after_setup, live_after_setup) = (resident()?, peer::live());
    let mut first = None;
    for _ in 0..program.warm_up {
        let begin = Instant::now();
        (program.step)()?;
        first.get_or_insert(begin.elapsed());
    }
    let mut alone = Duration::ZERO;
    let (faults, start) = (minor_faults(), Instant::now());
    for _ in 0..program.steps {
        alone += (program.step)()?;
    }
    let seconds = start.elapsed() - alone;
    let faults = minor_faults() - faults;
    let (huge, peak_resident) = (proc("smaps_rollup", "AnonHugePages:")?, peak_resident()?);
    let live_idle = peer::live();
    let resident_idle = if idle.is_zero() {
        None
    } else {
        // Some allocators give memory back in later requests: a program that waits makes one now and then.
        for _ in 0..idle.as_secs() {
            std::thread::sleep(Duration::from_secs(1));
            drop(std::hint::black_box(vec![1_u8; 40]));
        }
        Some(resident()?)
    };
    Ok(json!({
        "steps": program.steps,
        "seconds_set_up": set_up.as_secs_f64(),
        "seconds_first": first.map(|first| first.as_secs_f64()),
        "seconds": seconds.as_secs_f64(),
        "seconds_alone": (!alone.is_zero()).then_some(alone.as_secs_f64()),
        "faults": faults,
        "peak_resident": peak_resident,
        "resident_after_setup": resident_after_setup,
        "resident_idle": resident_idle,
        "huge": huge,
        "live": peer::peak_live().map(|peak| json!({
            "peak": peak,
            "after_setup": live_after_setup,
            "idle": live_idle,
            "requests_below_64k": peer::requests().map(|requests| requests[0]),
            "requests_from_64k": peer::requests().map(|requests| requests[1]),
        })),
    }))
}

pub(crate) fn resident() -> Result<u64> {
    proc("smaps_rollup", "Rss:")
}

pub(crate) fn peak_resident() -> Result<u64> {
    proc("status", "VmHWM:")
}

/// The bytes that a file of this process's folder in /proc tells, read without allocating.
fn proc(file: &'static str, key: &str) -> Result<u64> {
    let path = match file {
        "status" => "/proc/self/status",
        _ => "/proc/self/smaps_rollup",
    };
    let mut text = [0; 4096];
    let length = File::open(path)?.read(&mut text)?;
    let text = std::str::from_utf8(&text[..length])?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key} in {path}"))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes << 10)
}

fn minor_faults() -> i64 {
    // SAFETY: a `rusage` is made of numbers, so all zeros is one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a `rusage` to write to.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    usage.ru_minflt
}
