//! One tensor program under one allocator: `tenzor-programs PROGRAM` runs it and prints its figures as one line of JSON.

mod arrays;
mod chain;
mod map;
mod measure;
#[cfg(feature = "candle")]
mod models;
#[cfg(feature = "burn")]
mod net;
mod pairs;
mod patterns;
mod peer;
mod random;
mod ring;
mod scaling;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use measure::{Program, measure};

/// What the command line says besides the program's name.
#[derive(Debug, Default, Clone, Copy)]
struct Options {
    /// Tiny sizes and few steps: shows that the program runs, and nothing else.
    quick: bool,
    /// Buffers that were mapped and touched beforehand in place of allocation, for programs that can.
    preallocated: bool,
    /// Wait so long after the last step, and see what is resident then.
    idle: Duration,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let start = Instant::now();
    let mut name = arguments.next().context("which program?")?;
    // What one thread at a time could do, instead of figures.
    let is_serial = name == "serial";
    if is_serial {
        name = arguments.next().context("which program?")?;
    }
    let figures = match name.as_str() {
        "scaling" => scaling::measure(&arguments.next().context("scaling of what?")?)?,
        "patterns" => patterns::measure(&arguments.next().context("patterns of what?")?)?,
        _ => figures(&name, options(arguments)?)?,
    };
    if is_serial {
        let seconds = start.elapsed().as_secs_f64();
        let [requests, held] = peer::serial().context("this build does not measure it")?;
        println!("{}", json!({ "serial": { "seconds": seconds, "requests": requests, "held": held } }));
    } else {
        println!("{figures}");
    }
    Ok(())
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => options.quick = true,
            "--preallocated" => options.preallocated = true,
            "--idle" => {
                let seconds = arguments.next().context("--idle how many seconds?")?;
                options.idle = Duration::from_secs(seconds.parse()?);
            }
            other => bail!("unknown argument {other}"),
        }
    }
    Ok(options)
}

fn figures(name: &str, options: Options) -> Result<Value> {
    if name == "pairs" {
        return pairs::measure(options.quick);
    }
    measure(options.idle, || program(name, options))
}

fn program(name: &str, Options { quick, preallocated, .. }: Options) -> Result<Program> {
    match name {
        #[cfg(feature = "candle")]
        "bert1" => models::bert(1, quick),
        #[cfg(feature = "candle")]
        "bert8" => models::bert(8, quick),
        #[cfg(feature = "candle")]
        "llama" => models::llama(quick),
        #[cfg(feature = "candle")]
        "resnet50" => models::resnet50(quick),
        #[cfg(feature = "candle")]
        "train" => models::train(quick),
        #[cfg(feature = "burn")]
        "burn" => Ok(net::program(quick)),
        "ndarray" => Ok(arrays::program(quick)),
        "ring" => Ok(ring::log_uniform(quick)),
        "ring-uniform" => Ok(ring::uniform(quick)),
        "two-threads" => ring::two_threads(quick, preallocated),
        "producer-consumer" => Ok(ring::producer_consumer(quick)),
        _ => match name.strip_prefix("chain-").and_then(kibibytes) {
            Some(kibibytes) => chain::program(kibibytes << 10, quick, preallocated),
            None => bail!("unknown program {name}"),
        },
    }
}

/// `256K` or `4M`.
fn kibibytes(size: &str) -> Option<usize> {
    match size.strip_suffix('M') {
        Some(mebibytes) => mebibytes.parse::<usize>().ok().map(|size| size << 10),
        None => size.strip_suffix('K')?.parse().ok(),
    }
}
