//! What the runs say: medians and ratios.

use std::collections::BTreeMap;

use crate::Run;
use crate::contenders::{self, COUNTING, Contender};
use crate::programs::{self, Kind, Program};
use crate::worker::{Figures, Live, Pair, Steps};

/// All programs that were run, in the order of [`programs::ALL`].
pub(crate) struct Results {
    pub(crate) programs: Vec<ProgramResult>,
    pub(crate) pairs: Vec<(&'static Contender, Vec<Pair>)>,
    pub(crate) rounds: u32,
}

pub(crate) struct ProgramResult {
    pub(crate) program: &'static Program,
    pub(crate) live: Option<Live>,
    pub(crate) rows: Vec<Row>,
}

/// One contender in one program.
pub(crate) struct Row {
    pub(crate) contender: &'static Contender,
    pub(crate) step_seconds: f64,
    pub(crate) set_up_seconds: Option<f64>,
    pub(crate) first_seconds: Option<f64>,
    /// Time over the best allocator's.
    pub(crate) time_to_best: f64,
    pub(crate) time_to_preallocated: Option<f64>,
    pub(crate) faults_per_step: f64,
    pub(crate) peak_resident: f64,
    /// Resident bytes at the peak over requested ones.
    pub(crate) peak_to_live: Option<f64>,
    /// The same above what the set-up left.
    pub(crate) activations_to_live: Option<f64>,
    pub(crate) idle_to_live: Option<f64>,
    pub(crate) resident_idle: Option<f64>,
    /// Throughput of two threads over that of one.
    pub(crate) scaling: Option<f64>,
    pub(crate) huge: f64,
}

pub(crate) fn results(runs: &[Run]) -> Results {
    Results {
        programs: programs::ALL.iter().filter_map(|program| program_result(program, runs)).collect(),
        pairs: contenders::ALL.iter().filter_map(|contender| Some((contender, pairs(contender, runs)?))).collect(),
        rounds: runs.iter().filter_map(|run| run.round).max().map_or(0, |last| last + 1),
    }
}

impl ProgramResult {
    pub(crate) fn row(&self, contender: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.contender.name == contender)
    }
}

fn program_result(program: &'static Program, runs: &[Run]) -> Option<ProgramResult> {
    let of = |contender: &Contender| -> Vec<(&Run, &Steps)> {
        let both = runs.iter().filter(|run| run.program == program.name && run.contender == contender.name);
        both.filter_map(|run| match &run.figures {
            Figures::Steps(steps) => Some((run, steps)),
            Figures::Pairs { .. } | Figures::Scaling { .. } | Figures::Serial { .. } => None,
        })
        .collect()
    };
    let live = of(&COUNTING).into_iter().find_map(|(_, steps)| steps.live);
    let mut rows: Vec<_> =
        contenders::ALL.iter().filter_map(|contender| row(contender, program.kind, live, &of(contender))).collect();
    let allocators = rows.iter().filter(|row| !row.contender.is_preallocated());
    let best = allocators.map(|row| row.step_seconds).min_by(f64::total_cmp)?;
    let preallocated = rows.iter().find(|row| row.contender.is_preallocated()).map(|row| row.step_seconds);
    for row in &mut rows {
        row.time_to_best = row.step_seconds / best;
        row.time_to_preallocated = preallocated.map(|preallocated| row.step_seconds / preallocated);
    }
    Some(ProgramResult { program, live, rows })
}

fn row(contender: &'static Contender, kind: Kind, live: Option<Live>, runs: &[(&Run, &Steps)]) -> Option<Row> {
    let timed = || runs.iter().filter(|(run, _)| run.round.is_some()).map(|(_, steps)| *steps);
    let median_of = |figure: fn(&Steps) -> f64| median(timed().map(figure));
    let peak_resident = median_of(|steps| steps.peak_resident as f64)?;
    let activations = median_of(|steps| steps.peak_resident as f64 - steps.resident_after_setup as f64)?;
    let resident_idle = runs.iter().find_map(|(_, steps)| steps.resident_idle).map(|bytes| bytes as f64);
    // What was there before is no use of an allocator.
    let live = live.filter(|_| !contender.is_preallocated());
    Some(Row {
        contender,
        set_up_seconds: median(timed().filter_map(|steps| steps.seconds_set_up)),
        first_seconds: median(timed().filter_map(|steps| steps.seconds_first)),
        step_seconds: median_of(|steps| steps.seconds / f64::from(steps.steps))?,
        time_to_best: 1.0,
        time_to_preallocated: None,
        faults_per_step: median_of(|steps| steps.faults as f64 / f64::from(steps.steps))?,
        peak_resident,
        peak_to_live: live.map(|live| peak_resident / live.peak as f64),
        activations_to_live: live
            .filter(|_| kind == Kind::Whole)
            .map(|live| activations / live.peak.saturating_sub(live.after_setup).max(1) as f64),
        // A program that holds nothing when it is idle has no such ratio.
        idle_to_live: live
            .filter(|live| live.idle > 1 << 20)
            .zip(resident_idle)
            .map(|(live, resident)| resident / live.idle as f64),
        resident_idle,
        scaling: median(timed().filter_map(|steps| Some(2.0 * steps.seconds_alone? / steps.seconds))),
        huge: median_of(|steps| steps.huge as f64)?,
    })
}

/// The medians of the rounds.
fn pairs(contender: &Contender, runs: &[Run]) -> Option<Vec<Pair>> {
    let mut times: BTreeMap<(u64, &str), Vec<f64>> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.contender == contender.name) {
        if let Figures::Pairs { pairs } = &run.figures {
            for pair in pairs {
                times.entry((pair.size, &pair.mode)).or_default().push(pair.ns);
            }
        }
    }
    let medians =
        times.into_iter().map(|((size, mode), times)| Some(Pair { size, mode: mode.into(), ns: median(times)? }));
    medians.collect::<Option<Vec<_>>>().filter(|pairs| !pairs.is_empty())
}

/// The middle value, or the mean of the two middle ones; none of nothing.
fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    Some((values.get(values.len().checked_sub(1)? / 2)? + values.get(values.len() / 2)?) / 2.0)
}

/// None of nothing.
pub(crate) fn geometric_mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let logarithms: Vec<_> = values.into_iter().map(f64::ln).collect();
    (!logarithms.is_empty()).then(|| (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp())
}
