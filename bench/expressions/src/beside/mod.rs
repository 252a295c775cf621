//! The Rust contenders of `./beside`, which compares Tenzor with libraries of other languages as well: each in a process of its own, that gets its
//! cases from standard input, a line each, as `peers.py` does.
//!
//!     LABEL <TAB> OPERATION <TAB> KIB <TAB> SHAPE...    with the shapes of the inputs: `64x64`, or `+64x64` for positive values
//!     LABEL <TAB> KIB <TAB> NANOSECONDS                 the answer; behind it what the value is like, if `--values` asks
//!
//! An operation that a contender has not got has no answer.

mod arrays;
mod candles;
mod ours;

use std::hint::black_box;
use std::io::BufRead;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The values of an input: the same as in `peers.py`, to the last bit.
fn values(seed: u32, positive: bool) -> impl Fn(usize) -> f32 {
    move |i| {
        let mut bits = (i as u32).wrapping_add(seed.wrapping_mul(1_000_003)).wrapping_mul(2_654_435_761);
        bits = (bits ^ (bits >> 15)).wrapping_mul(2_246_822_519);
        bits ^= bits >> 13;
        let share = (bits >> 8) as f32 / 16_777_216.0;
        share * 4.0 + if positive { 1.0 / 1024.0 } else { -2.0 }
    }
}

/// A case: a line of standard input.
struct Case {
    label: String,
    operation: String,
    kib: usize,
    inputs: Vec<Input>,
}

struct Input {
    shape: Vec<usize>,
    seed: u32,
    positive: bool,
}

impl Input {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn values(&self) -> impl Fn(usize) -> f32 {
        values(self.seed, self.positive)
    }
}

impl Case {
    fn parse(line: &str) -> Result<Self> {
        let mut fields = line.split('\t');
        let mut field = |missing| Ok::<_, anyhow::Error>(fields.next().context(missing)?.to_owned());
        let (label, operation, kib) = (field("no label")?, field("no operation")?, field("no size")?.parse()?);
        let input = |(seed, shape): (usize, &str)| {
            let (positive, sizes) = shape.strip_prefix('+').map_or((false, shape), |sizes| (true, sizes));
            let shape = sizes.split('x').map(|size| Ok(size.parse()?)).collect::<Result<_>>()?;
            Ok(Input { shape, seed: u32::try_from(seed)?, positive })
        };
        let inputs = fields.enumerate().map(input).collect::<Result<_>>()?;
        Ok(Self { label, operation, kib, inputs })
    }
}

/// How a case is timed, and answered.
struct Clock {
    case: String,
    /// For how long a sample runs at least, in seconds.
    least: f64,
    /// Whether the values are asked for.
    values: bool,
}

impl Clock {
    /// The best of three samples' time for a call, after one for caches and pools. `flat` has the elements of what `run` makes, in order.
    fn time<T>(&self, run: impl Fn() -> Result<T>, flat: impl Fn(&T) -> Result<Vec<f32>>) -> Result<()> {
        const SAMPLES: usize = 3;
        let value = if self.values { format!("\t{}", summary(&flat(&run()?)?)) } else { String::new() };
        drop(black_box(run()?));
        let start = Instant::now();
        drop(black_box(run()?));
        let once = start.elapsed().as_secs_f64();
        let repeats = (self.least / once).ceil().clamp(1.0, 1e6) as u32;
        let mut best = once;
        // Another takes long, and says nothing new, where a call is as long as many samples.
        for _ in 0..if once < 20.0 * self.least { SAMPLES } else { 0 } {
            let start = Instant::now();
            for _ in 0..repeats {
                drop(black_box(run()?));
            }
            best = best.min(start.elapsed().as_secs_f64() / f64::from(repeats));
        }
        println!("{}\t{:.1}{value}", self.case, best * 1e9);
        Ok(())
    }
}

/// What a value is like: how many elements, their mean, their size, and some of them.
fn summary(elements: &[f32]) -> String {
    const SOME: usize = 16;
    let len = elements.len();
    let mean = |of: fn(f64) -> f64| elements.iter().map(|&x| of(x.into())).sum::<f64>() / len as f64;
    let some = (0..SOME).map(|i| f64::from(elements[i * (len - 1) / (SOME - 1)]));
    let all = [mean(|x| x), mean(|x| x * x).sqrt()].into_iter().chain(some);
    all.fold(len.to_string(), |line, x| format!("{line} {x:e}"))
}

/// `beside tenzor|ndarray|candle THREADS MILLISECONDS [--values] [--warm]`: the contender, on how many threads, and how long samples run;
/// whether values are asked for, and whether Tenzor's pool is to keep whatever is freed.
pub(crate) fn run(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let contender = arguments.next().context("no contender")?;
    let threads: usize = arguments.next().context("no threads")?.parse()?;
    let least = arguments.next().context("no time")?.parse::<f64>()? / 1e3;
    let options: Vec<String> = arguments.collect();
    let given = |name: &str| options.iter().any(|option| option == name);
    let (values, warm) = (given("--values"), given("--warm"));
    for line in std::io::stdin().lock().lines() {
        let case = Case::parse(&line?)?;
        let clock = Clock { case: format!("{}\t{}", case.label, case.kib), least, values };
        match contender.as_str() {
            "tenzor" => ours::time(&case, &clock, threads, warm)?,
            "ndarray" => arrays::time(&case, &clock, threads)?,
            "candle" => candles::time(&case, &clock)?,
            other => bail!("no contender is called {other}"),
        }
    }
    Ok(())
}
