//! Builds the workers, one for each allocator, and runs them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::contenders::{BEFORE, Contender, SERIAL};
use crate::programs::Program;

/// What a worker prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Figures {
    Pairs { pairs: Vec<Pair> },
    Scaling { scaling: Scaling },
    Serial { serial: Serial },
    Steps(Steps),
}

/// Sizes in bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Steps {
    pub(crate) steps: u32,
    /// Until the first step, and that one.
    #[serde(default)]
    pub(crate) seconds_set_up: Option<f64>,
    #[serde(default)]
    pub(crate) seconds_first: Option<f64>,
    /// Of all steps.
    pub(crate) seconds: f64,
    /// That one thread took alone for what two did at once.
    pub(crate) seconds_alone: Option<f64>,
    pub(crate) faults: u64,
    pub(crate) peak_resident: u64,
    pub(crate) resident_after_setup: u64,
    pub(crate) resident_idle: Option<u64>,
    pub(crate) huge: u64,
    pub(crate) live: Option<Live>,
}

/// Requested bytes in use.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Live {
    pub(crate) peak: u64,
    pub(crate) after_setup: u64,
    pub(crate) idle: u64,
    pub(crate) requests_below_64k: u64,
    pub(crate) requests_from_64k: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pair {
    pub(crate) size: u64,
    pub(crate) mode: String,
    pub(crate) ns: f64,
}

/// What only one thread at a time could do: what, how often, and nanoseconds in all; how many requests there were, and how long all took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Serial {
    pub(crate) seconds: f64,
    pub(crate) requests: u64,
    pub(crate) held: Vec<(String, u64, f64)>,
}

/// Threads that only request and free: nanoseconds of wall time an operation of any thread, and bytes at the peak.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Scaling {
    pub(crate) ns: f64,
    pub(crate) resident: u64,
    pub(crate) live: Option<u64>,
    pub(crate) tail: Option<Tail>,
}

/// In microseconds, what one of 10,000 took, and the longest: of a free and a request, and of a thread's looks at the clock meanwhile.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Tail {
    pub(crate) requests: [f64; 2],
    pub(crate) clock: [f64; 2],
}

/// Where the project is.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

fn binary(worker: &str) -> PathBuf {
    root().join("target/peers").join(worker)
}

/// Builds the workers of these contenders with what these programs need. They share one target folder, so that what they have in
/// common is built once.
pub(crate) fn build(contenders: &[&Contender], programs: &[&Program]) -> Result<()> {
    let workers: BTreeSet<_> = contenders.iter().map(|contender| contender.worker).collect();
    let needs: BTreeSet<_> = programs.iter().filter_map(|program| program.feature()).collect();
    fs::create_dir_all(binary(""))?;
    for worker in workers.into_iter().filter(|&worker| worker != BEFORE) {
        let is_serial = worker == SERIAL.worker;
        let (peer, flags, target) = match is_serial {
            true => ("tenzor", "--cfg tenzor_serial", "target/programs-serial"),
            false => (worker, "", "target/programs"),
        };
        let target = root().join(target);
        let features: Vec<_> = needs.iter().map(|need| (*need).to_owned()).chain([format!("peer-{peer}")]).collect();
        eprintln!("building the worker for {worker}");
        let status = Command::new("cargo")
            .args(["build", "--quiet", "--release", "--no-default-features", "--features", &features.join(",")])
            .arg("--manifest-path")
            .arg(root().join("bench/programs/Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            // Where a loop lies within its cache lines is luck, and can cost it a third of its speed: luck shall not decide between
            // builds that differ in their allocator only.
            .env("RUSTFLAGS", format!("-C llvm-args=-align-loops=64 {flags}"))
            // Without it snmalloc's crate, built without cmake, is a debug build that overwrites what is freed.
            .env("CXXFLAGS", "-DNDEBUG")
            .status()
            .context("cannot start cargo")?;
        ensure!(status.success(), "the worker for {worker} does not build");
        fs::copy(target.join("release/tenzor-programs"), binary(worker))?;
    }
    Ok(())
}

/// How a program is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) quick: bool,
    pub(crate) threads: u32,
    /// Seconds to wait at the end.
    pub(crate) idle: u32,
}

/// A worker on its way.
pub(crate) struct Running {
    what: String,
    child: Child,
}

pub(crate) fn start(contender: &Contender, program: &Program, manner: Manner) -> Result<Running> {
    let what = format!("{} under {}", program.name, contender.name);
    let mut command = Command::new(binary(contender.worker));
    command.arg(program.name).args(["--idle", &manner.idle.to_string()]);
    command.args(manner.quick.then_some("--quick")).args(contender.is_preallocated().then_some("--preallocated"));
    command.env("RAYON_NUM_THREADS", manner.threads.to_string()).envs(contender.environment.iter().copied());
    let child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {what}"))?;
    Ok(Running { what, child })
}

/// Runs one of the programs of threads that only request and free, with what it is told.
pub(crate) fn scale(contender: &Contender, program: &str, wish: &str) -> Result<Scaling> {
    let what = format!("{program} of {wish} under {}", contender.name);
    let mut command = Command::new(binary(contender.worker));
    command.args([program, wish]).envs(contender.environment.iter().copied());
    let child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {what}"))?;
    match (Running { what, child }).wait()? {
        Figures::Scaling { scaling } => Ok(scaling),
        _ => bail!("the worker for {} knows no {program}", contender.worker),
    }
}

impl Running {
    pub(crate) fn wait(self) -> Result<Figures> {
        let Self { what, child } = self;
        let output = child.wait_with_output().with_context(|| format!("cannot wait for {what}"))?;
        ensure!(output.status.success(), "{what}: {}", output.status);
        serde_json::from_slice(&output.stdout).with_context(|| format!("{what}: unreadable figures"))
    }
}

/// Runs a program in the build that measures what only one thread at a time can do.
pub(crate) fn serial(program: &[&str]) -> Result<Serial> {
    let what = program.join(" ");
    let mut command = Command::new(binary(SERIAL.worker));
    command.arg("serial").args(program).env("RAYON_NUM_THREADS", "1");
    let child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {what}"))?;
    match (Running { what, child }).wait()? {
        Figures::Serial { serial } => Ok(serial),
        _ => bail!("the worker measured something else"),
    }
}
