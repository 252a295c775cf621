//! The program `tenzor`: replays recorded allocations of real programs over malloc and Tenzor's allocators, plans memory, and runs other
//! programs over Tenzor's heap.

#[cfg(target_os = "linux")]
mod allocators;
mod args;
mod bytes;
mod check;
mod compare;
mod contender;
mod cycle;
mod demo;
#[cfg(target_os = "linux")]
mod doctor;
#[cfg(target_os = "linux")]
mod elf;
mod explain;
#[cfg(target_os = "linux")]
mod libraries;
mod picture;
mod plan;
mod pool_config;
#[cfg(target_os = "linux")]
mod program;
mod progress;
mod recordings;
mod replay;
mod report;
#[cfg(target_os = "linux")]
mod run;
mod source;
mod sys;
mod table;

use std::io::{self, Write};
use std::process::ExitCode;

#[cfg(target_os = "linux")]
use anyhow::Context;
use anyhow::Result;
use clap::{CommandFactory, Parser};

use args::{Args, Command, ReplayTask};
use source::Source;

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed as well; then there is nobody left to tell.
            let _ = writeln!(io::stderr(), "{error:#}");
            status(&error)
        }
    }
}

fn run(args: Args) -> Result<()> {
    let text = match args.command {
        None => Args::command().render_long_help().to_string().into_bytes(),
        Some(Command::Replay(ReplayTask { files, rounds, json })) => {
            let sources: Vec<_> = match &files[..] {
                [] => Source::embedded().map(Ok).collect(),
                files => files.iter().map(|file| Source::file(file)).collect(),
            };
            return compare::run(sources, rounds, json);
        }
        Some(Command::Plan(task)) => return plan::run(&task),
        Some(Command::Demo { json }) => return demo::run(json),
        Some(Command::Trace(command)) => return recordings::run(&command),
        Some(Command::Explain(task)) => return explain::run(&task),
        Some(Command::Check(task)) => return check::run(&task),
        #[cfg(target_os = "linux")]
        Some(Command::Run(task)) => return run::run(&task).context("tenzor run"),
        #[cfg(target_os = "linux")]
        Some(Command::Doctor(task)) => return doctor::run(&task),
        #[cfg(not(target_os = "linux"))]
        Some(Command::Run(_) | Command::Doctor(_)) => {
            anyhow::bail!("libraries are preloaded on Linux only: there is nothing to run or to tell of here")
        }
        Some(Command::Contend(task)) => return contender::run(&task),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "tenzor", &mut script);
            script
        }
        Some(Command::Man) => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Args::command()).render(&mut page)?;
            page
        }
    };
    Ok(io::stdout().lock().write_all(&text)?)
}

fn status(error: &anyhow::Error) -> ExitCode {
    if let Some(broken) = error.downcast_ref::<check::Broken>() {
        return ExitCode::from(broken.status());
    }
    #[cfg(target_os = "linux")]
    if let Some(failure) = error.downcast_ref::<program::Failure>() {
        return ExitCode::from(failure.status);
    }
    ExitCode::FAILURE
}

/// Whoever read our output has seen enough, as in `tenzor | head`: no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}
