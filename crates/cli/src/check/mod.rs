//! `tenzor check`: a recording is held to limits, and to a baseline.

mod github;
mod junit;

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use tenzor::memory::PoolConfig;
use tenzor::trace::Trace;
use tenzor::trace::recording::Recording;
use tenzor_report::{Baseline, Contract, Figure, Figures, Strictness, Verdict, figures, simulate};

use crate::args::{CheckTask, Format};
use crate::recordings;
use crate::source;

/// Limits are broken.
#[derive(Debug)]
pub(crate) struct Broken {
    file: String,
    strictness: Strictness,
    /// So many, of so many.
    count: (usize, usize),
}

impl Broken {
    /// What the program ends with.
    pub(crate) fn status(&self) -> u8 {
        match self.strictness {
            Strictness::Hard => 3,
            Strictness::Soft => 4,
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (broken, all) = self.count;
        write!(f, "{}: {broken} of {all} limits {} broken", self.file, if broken == 1 { "is" } else { "are" })
    }
}

impl std::error::Error for Broken {}

/// What is told, whatever the format.
#[derive(Debug, Serialize)]
struct Told {
    file: String,
    broken: Option<Strictness>,
    #[serde(flatten)]
    verdict: Verdict,
    figures: Figures,
    /// The baseline that was written.
    blessed: Option<String>,
}

pub(crate) fn run(task: &CheckTask) -> Result<()> {
    let file = source::name(&task.file);
    let mut recording = recordings::open_or_make(&task.file)?;
    let recorded = figures(&mut recording);
    let doubts = recorded.doubts();
    if !doubts.is_empty() && !task.allow_lossy {
        bail!(
            "{file}: what is counted in it is not exact: {}\n--allow-lossy takes the counts as they are",
            doubts.join("; ")
        );
    }
    let figures = match task.simulate {
        Some(config) => simulated(&mut recording, &file, config, recorded)?,
        None => recorded,
    };
    let verdict = contract(task, &figures)?.check(&figures);
    let verdict = verdict.map_err(|untold| match task.simulate {
        None if untold.figure != Figure::PeakLiveBytes => anyhow!("{file}: {untold}\n{SIMULATE}"),
        _ => anyhow!("{file}: {untold}"),
    })?;
    let broken = verdict.broken();
    let blessed = match &task.against {
        // Beside a baseline that is its own, none but those that were named can be broken.
        Some(path) if task.bless && broken.is_none() => {
            let text = Baseline::of(&figures).to_string();
            recordings::written(path, |out| Ok(out.write_all(text.as_bytes())?))?;
            Some(path.display().to_string())
        }
        _ => None,
    };
    let told = Told { file, broken, verdict, figures, blessed };
    let printed = tell(&told, task);
    let Some(strictness) = broken else { return printed };
    if let Err(error) = printed {
        // That limits are broken is what the status says, whoever reads the rest.
        let _ = writeln!(io::stderr(), "{error:#}");
    }
    let count = (told.verdict.breaches().count(), told.verdict.checks.len());
    Err(Broken { file: told.file, strictness, count }.into())
}

/// For who has a recording that does not tell.
const SIMULATE: &str = "--simulate CONFIG tells what a TensorAllocator of that configuration would do";

/// The figures of a pool that serves the requests of a recording, which are as exact as those that were `recorded`.
fn simulated<R: Read + Seek>(
    recording: &mut Recording<R>,
    file: &str,
    config: PoolConfig,
    recorded: Figures,
) -> Result<Figures> {
    let mut text = Vec::new();
    recording.write_csv(&mut text).map_err(|error| anyhow!("{file}: {error}"))?;
    let trace = Trace::parse(&*text).map_err(|error| anyhow!("{file}: as text, {error}"))?;
    let mut figures = simulate(&trace, config).map_err(|error| anyhow!("{file}: {error}"))?.figures();
    figures.flaws = recorded.flaws;
    Ok(figures)
}

/// The limits that were named, and those of the baseline.
fn contract(task: &CheckTask, figures: &Figures) -> Result<Contract> {
    let mut contract = Contract::default();
    if let Some(bytes) = task.max_peak {
        contract = contract.with_max_peak(bytes.0 as u64);
    }
    if let Some(bytes) = task.max_reserved {
        contract = contract.with_max_reserved(bytes.0 as u64);
    }
    if let Some(misses) = task.max_misses_per_step {
        contract = contract.with_max_misses_per_step(misses);
    }
    if let Some(share) = task.min_hit_rate {
        contract = contract.with_min_hit_rate(share);
    }
    match &task.against {
        Some(path) if !task.bless => Ok(contract.with_baseline(&baseline(path)?, task.within)),
        Some(_) => Ok(contract.with_baseline(&Baseline::of(figures), task.within)),
        None => Ok(contract),
    }
}

fn baseline(path: &Path) -> Result<Baseline> {
    /// More than there is in any.
    const MOST: u64 = 1 << 20;
    let shown = path.display();
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            anyhow!(
                "{shown}: there is no such baseline; with --bless beside --against, it is written from the recording"
            )
        }
        _ => anyhow!("{shown}: {error}"),
    })?;
    file.take(MOST).read_to_end(&mut text).with_context(|| shown.to_string())?;
    Baseline::parse(&text).map_err(|error| anyhow!("{shown}:{}: {}", error.line(), error.problem()))
}

fn tell(told: &Told, task: &CheckTask) -> Result<()> {
    if let Some(path) = &task.junit {
        recordings::written(path, |out| Ok(out.write_all(junit::report(told).as_bytes())?))?;
    }
    let text = match if task.json { Format::Json } else { task.format } {
        Format::Text => text(told),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(told)?),
        Format::Junit => junit::report(told),
        Format::Github => github::annotations(told),
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn text(told: &Told) -> String {
    let mut text = format!("{}\n{}", told.file, told.verdict);
    for remark in remarks(told) {
        text += &format!("  {remark}\n");
    }
    text
}

/// What is to be known beside the limits.
fn remarks(told: &Told) -> Vec<String> {
    let mut remarks: Vec<String> =
        told.figures.doubts().iter().map(|doubt| format!("the counts are not exact: {doubt}")).collect();
    let out_of_order = told.figures.flaws.out_of_order;
    if out_of_order > 0 {
        remarks.push(format!("{out_of_order} events happened without what would explain them"));
    }
    remarks.extend(told.blessed.as_ref().map(|baseline| format!("{baseline}: written anew")));
    remarks
}
