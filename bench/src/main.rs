//! Real programs under Tenzor and its peers: builds a worker for each allocator, runs every program under every one of them in
//! turns, each time in a process of its own, and writes what came of it to `bench/RESULTS.md` and `bench/results.svg`.

mod chart;
mod contenders;
mod programs;
mod report;
mod scaling;
mod serial;
mod summary;
mod worker;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde::{Deserialize, Serialize};

use contenders::{COUNTING, Contender};
use programs::Program;
use worker::{Figures, Manner};

#[derive(Debug, Parser)]
#[command(name = "tenzor-bench", about = "Runs real programs under Tenzor and its peers")]
struct Args {
    /// How often each allocator runs each program for its times
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Only these programs
    #[arg(long, value_name = "PROGRAM", value_delimiter = ',')]
    only: Vec<String>,

    /// Only these allocators
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    peers: Vec<String>,

    /// Threads of the libraries' thread pools
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: u32,

    /// In one run for each allocator, wait so long at the end and see what is still resident; 0: do without
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    idle: u32,

    /// Write the figures of every run to a file, a line of JSON each
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Run nothing, and report what --json wrote
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    from: Option<PathBuf>,

    /// Instead of programs: threads that do nothing but request and free, as many as there are processors, fewer and more
    #[arg(long, conflicts_with_all = ["only", "threads", "idle", "json", "from"])]
    scaling: bool,

    /// Instead of programs: for how long locks are held for each request, and what that means on larger machines
    #[arg(long, conflicts_with_all = ["only", "peers", "threads", "idle", "json", "from", "scaling"])]
    serial: bool,

    /// Tiny sizes, one round, writes nothing: shows that everything runs
    #[arg(long)]
    quick: bool,

    /// Print the report, but leave RESULTS.md and results.svg alone, as do --only, --peers, --threads and --quick
    #[arg(long)]
    no_write: bool,
}

impl Args {
    /// Whether what comes of it is what RESULTS.md should tell.
    fn is_complete(&self) -> bool {
        self.only.is_empty() && self.peers.is_empty() && self.threads == 1 && !self.quick
    }
}

/// One run of one program.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    program: String,
    contender: String,
    /// None: not for its times.
    round: Option<u32>,
    figures: Figures,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if args.scaling {
        return scaling::run(args);
    }
    if args.serial {
        return serial::run(args);
    }
    let runs = match &args.from {
        Some(file) => {
            let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
            text.lines().map(serde_json::from_str).collect::<Result<Vec<_>, _>>()?
        }
        None => {
            let programs = chosen(programs::ALL.iter(), &args.only, |program| program.name)?;
            let offered = contenders::ALL.iter().filter(|contender| !(contender.is_extra && args.peers.is_empty()));
            let contenders = chosen(offered, &args.peers, |contender| contender.name)?;
            compare(args, &programs, &contenders)?
        }
    };
    let results = summary::results(&runs);
    let section = report::section(&results);
    println!("{section}");
    if args.is_complete() && !args.no_write {
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        report::write_between(&home.join("RESULTS.md"), "programs", &section)?;
        chart::draw(&home.join("results.svg"), &results)?;
    }
    Ok(())
}

/// Those with these names, or all if there are none.
fn chosen<T>(all: impl Iterator<Item = T> + Clone, names: &[String], name: fn(&T) -> &'static str) -> Result<Vec<T>> {
    if let Some(unknown) = names.iter().find(|wanted| !all.clone().any(|one| name(&one) == **wanted)) {
        bail!("there is no {unknown}; there are: {}", all.map(|one| name(&one)).collect::<Vec<_>>().join(", "));
    }
    Ok(all.filter(|one| names.is_empty() || names.iter().any(|wanted| wanted == name(one))).collect())
}

fn compare(args: &Args, programs: &[&'static Program], contenders: &[&'static Contender]) -> Result<Vec<Run>> {
    let workers: Vec<_> = contenders.iter().copied().chain([&COUNTING]).collect();
    worker::build(&workers, programs)?;
    let manner = Manner { quick: args.quick, threads: args.threads, idle: 0 };
    let mut json: Box<dyn Write> = match &args.json {
        Some(file) => Box::new(File::create(file).with_context(|| file.display().to_string())?),
        None => Box::new(io::sink()),
    };
    let mut runs = Vec::new();
    for program in programs {
        let able: Vec<_> =
            contenders.iter().filter(|contender| program.preallocates() || !contender.is_preallocated()).collect();
        let mut add = |contender: &Contender, round: Option<u32>, figures: Figures| {
            eprintln!("{} {}", program.name, contender.name);
            let run = Run { program: program.name.into(), contender: contender.name.into(), round, figures };
            writeln!(json, "{}", serde_json::to_string(&run)?)?;
            runs.push(run);
            anyhow::Ok(())
        };
        // In turns, so that whatever else the machine is doing meets all of them; and nobody is always first.
        for round in 0..if args.quick { 1 } else { args.rounds } {
            let turns = able.iter().cycle().skip(round as usize).take(able.len());
            for contender in turns {
                add(contender, Some(round), worker::start(contender, program, manner)?.wait()?)?;
            }
        }
        if program.idles() {
            add(&COUNTING, None, worker::start(&COUNTING, program, manner)?.wait()?)?;
        }
        if program.idles() && args.idle > 0 && !args.quick {
            // No times are taken of these, so they may all run, and wait, at once.
            let manner = Manner { idle: args.idle, ..manner };
            let started = able.iter().map(|contender| Ok((contender, worker::start(contender, program, manner)?)));
            for (contender, running) in started.collect::<Result<Vec<_>>>()? {
                add(contender, None, running.wait()?)?;
            }
        }
    }
    Ok(runs)
}
