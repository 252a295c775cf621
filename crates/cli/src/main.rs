//! The program `tenzor`: replays allocation traces of real programs and compares the process's malloc with Tenzor's allocators.

mod args;
mod compare;
mod contender;
mod cycle;
mod demo;
mod picture;
mod plan;
mod progress;
mod replay;
mod report;
mod source;
mod sys;
mod table;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use args::{Args, Command};
use source::Source;

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed as well; then there is nobody left to tell.
            let _ = writeln!(io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let sources: Vec<Result<Source>> = match args.command {
        None => Source::embedded().map(Ok).collect(),
        Some(Command::Replay { files }) => files.iter().map(|file| Source::file(file)).collect(),
        Some(Command::Demo) => return demo::run(),
        Some(Command::Plan(task)) => return plan::run(&task, args.json),
        Some(Command::Contend(task)) => return contender::run(&task),
    };
    compare::run(sources, args.rounds, args.json)
}

/// Whoever read our output has seen enough, as in `tenzor | head`: no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}
