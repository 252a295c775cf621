//! The comparison: every contender on every trace, in turns, each time in a process of its own.

use std::io::{self, Write};

use anyhow::{Result, ensure};
use tenzor::trace::Trace;

use crate::bytes::bytes;
use crate::contender::Contender;
use crate::progress::Progress;
use crate::report::{ContenderReport, Report, TraceReport};
use crate::source::Source;
use crate::sys::available;
use crate::table;

/// Replays all traces and prints what came of it.
pub(crate) fn run(sources: Vec<Result<Source>>, rounds: u32, json: bool) -> Result<()> {
    let traces = load(sources)?;
    let replays = traces.len() * Contender::ALL.len() * (rounds as usize + 1);
    let progress = Progress::new(replays as u64);
    let mut report = Report::new(rounds);
    for (source, trace) in traces {
        let compared = compare(&source, &trace, rounds, &progress)?;
        if !json {
            progress.aside(|| write!(io::stdout(), "{}", table::of(&compared)))?;
        }
        report.traces.push(compared);
    }
    drop(progress);
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{}", table::legend(&report))?;
    }
    Ok(out.flush()?)
}

/// Checks all traces. If any is wrong, the error tells what is wrong with each.
fn load(sources: Vec<Result<Source>>) -> Result<Vec<(Source, Trace)>> {
    let mut traces = Vec::new();
    let mut problems = Vec::new();
    for source in sources {
        match source.and_then(|source| source.trace().map(|trace| (source, trace))) {
            Ok(loaded) => traces.push(loaded),
            Err(error) => problems.push(format!("{error:#}")),
        }
    }
    ensure!(problems.is_empty(), problems.join("\n"));
    Ok(traces)
}

fn compare(source: &Source, trace: &Trace, rounds: u32, progress: &Progress) -> Result<TraceReport> {
    let fits = |contender: &Contender| {
        let available = available().map_or(u64::MAX, |bytes| bytes as u64);
        contender.least_bytes(trace) <= available
    };
    ensure!(
        fits(&Contender::Malloc),
        "{}: its buffers take {} at once, more than this machine has to spare",
        source.name,
        bytes(trace.peak_live_bytes())
    );
    let mut contenders = Vec::new();
    for contender in Contender::ALL.iter().copied().filter(fits) {
        let footprint = progress.replay(source, contender, || contender.footprint(source))?;
        contenders.push((contender, footprint, Vec::new()));
    }
    // In turns, so that whatever else the machine is doing meets all of them.
    for round in 0..rounds {
        for (contender, _, rounds) in &mut contenders {
            rounds.push(progress.replay(source, *contender, || contender.times(source, round))?);
        }
    }
    let malloc_rounds = contenders.first().map(|first| first.2.clone()).unwrap_or_default();
    let reports = contenders.into_iter().map(|(contender, footprint, rounds)| {
        ContenderReport::new(contender, trace, footprint, rounds, &malloc_rounds)
    });
    Ok(TraceReport::new(source, trace, reports.collect()))
}
