//! What the program found out: the figures of `--json`, under the names that its help explains.

use serde::Serialize;
use tenzor::trace::Trace;

use crate::contender::Contender;
use crate::replay::{Footprint, Times, median};
use crate::source::Source;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) version: &'static str,
    pub(crate) rounds: u32,
    pub(crate) traces: Vec<TraceReport>,
}

impl Report {
    pub(crate) fn new(rounds: u32) -> Self {
        Self { version: env!("CARGO_PKG_VERSION"), rounds, traces: Vec::new() }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct TraceReport {
    pub(crate) name: String,
    pub(crate) description: Option<&'static str>,
    pub(crate) requests: usize,
    pub(crate) requests_per_step: usize,
    pub(crate) distinct_sizes: usize,
    pub(crate) steps: usize,
    pub(crate) peak_live_bytes: u64,
    pub(crate) setup_live_bytes: u64,
    pub(crate) activation_bytes: u64,
    pub(crate) contenders: Vec<ContenderReport>,
}

impl TraceReport {
    pub(crate) fn new(source: &Source, trace: &Trace, contenders: Vec<ContenderReport>) -> Self {
        Self {
            name: source.name.clone(),
            description: source.description,
            requests: trace.requests(),
            requests_per_step: trace.requests_per_step(),
            distinct_sizes: trace.distinct_sizes(),
            steps: trace.steps().len(),
            peak_live_bytes: trace.peak_live_bytes(),
            setup_live_bytes: trace.setup_live_bytes(),
            activation_bytes: trace.peak_live_bytes() - trace.setup_live_bytes(),
            contenders,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ContenderReport {
    pub(crate) name: &'static str,
    pub(crate) step_ns: f64,
    pub(crate) time_to_malloc: Option<f64>,
    pub(crate) minor_faults_per_step: Option<f64>,
    pub(crate) peak_reserved_bytes: Option<u64>,
    pub(crate) peak_reserved_to_peak_live: Option<f64>,
    pub(crate) activation_reserved_to_live: Option<f64>,
    pub(crate) peak_resident_bytes: Option<u64>,
    pub(crate) peak_resident_to_peak_live: Option<f64>,
    pub(crate) hit_rate: Option<f64>,
    pub(crate) rounds: Vec<Times>,
}

impl ContenderReport {
    pub(crate) fn new(
        contender: Contender,
        trace: &Trace,
        footprint: Footprint,
        rounds: Vec<Times>,
        malloc_rounds: &[Times],
    ) -> Self {
        let (live, setup) = (trace.peak_live_bytes() as f64, trace.setup_live_bytes() as f64);
        let reserved = footprint.peak_reserved_bytes.map(|bytes| bytes as f64);
        let resident = footprint.peak_resident_bytes.map(|bytes| bytes as f64);
        let ratios = rounds.iter().zip(malloc_rounds);
        let ratios = ratios.filter_map(|(this, malloc)| ratio(this.step_ns, malloc.step_ns));
        let faults = rounds.iter().filter_map(|round| round.minor_faults_per_step);
        Self {
            name: contender.name(),
            step_ns: median(rounds.iter().map(|round| round.step_ns)).unwrap_or(0.0),
            time_to_malloc: median(ratios),
            minor_faults_per_step: median(faults),
            peak_reserved_bytes: footprint.peak_reserved_bytes,
            peak_reserved_to_peak_live: reserved.and_then(|reserved| ratio(reserved, live)),
            activation_reserved_to_live: reserved.and_then(|reserved| ratio(reserved - setup, live - setup)),
            peak_resident_bytes: footprint.peak_resident_bytes,
            peak_resident_to_peak_live: resident.and_then(|resident| ratio(resident, live)),
            hit_rate: footprint.hit_rate,
            rounds,
        }
    }
}

/// The quotient, unless there is nothing to divide by.
fn ratio(this: f64, that: f64) -> Option<f64> {
    (that > 0.0).then(|| this / that)
}
