//! Writes a random problem for `tenzor plan`:
//!
//!     cargo run --release -p tenzor-bench --example problems -- KIND BUFFERS SEED > problem.csv
//!
//! | kind | lifetimes | sizes |
//! |---|---|---|
//! | `uniform` | from a random instant to a later one | uniform |
//! | `exponential` | a hundredth of the time on average, exponential | uniform |
//! | `short` | 400 on average, exponential | uniform |
//! | `recent` | up to a twentieth of the time, uniform | their logarithm is uniform |
//! | `tiling` | a rectangle cut at random places again and again: it is the least height | |
//! | `coarse` | the same, of 2^14 by 2^14 instead of 2^20 by 2^20, where much fits by chance | |
#![allow(missing_docs)]

use anyhow::{Context, Result, bail};
use fastrand::Rng;
use tenzor::plan::{BufferSpec, Problem, write_csv};

/// The height of a tiling, and how long it is; that of a coarse one.
const SIDE: u64 = 1 << 20;
const COARSE: u64 = 1 << 14;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("expected KIND BUFFERS SEED");
    let (kind, count, seed) = (next()?, next()?.parse::<u64>()?, next()?.parse()?);
    let mut rng = Rng::with_seed(seed);
    let end = 4 * count;
    let mut problem = Problem::new();
    let exponential = |rng: &mut Rng, mean: u64| (-(mean as f64) * (1.0 - rng.f64()).ln()) as u64;
    let side =
        [("tiling", SIDE), ("coarse", COARSE)].into_iter().find_map(|(tiling, side)| (tiling == kind).then_some(side));
    if let Some(side) = side {
        for (start, end, size) in tiling(side, count as usize, &mut rng) {
            problem.push(BufferSpec::new(size, start..end))?;
        }
    } else {
        for _ in 0..count {
            let start = rng.u64(..end);
            let (length, size) = match &*kind {
                "uniform" => (rng.u64(..end - start), rng.u64(1..1000)),
                "exponential" => (exponential(&mut rng, end / 100), rng.u64(1..1000)),
                "short" => (exponential(&mut rng, 400), rng.u64(1..1000)),
                "recent" => (rng.u64(..end / 20), (20.0 * rng.f64()).exp2() as u64),
                _ => bail!("{kind} is none of uniform, exponential, short, recent, tiling, coarse"),
            };
            problem.push(BufferSpec::new(size, start..(start + length + 1).min(end + 1)))?;
        }
    }
    Ok(write_csv(std::io::stdout().lock(), &problem, None, None)?)
}

/// Start, end and size of each part of a rectangle.
fn tiling(side: u64, count: usize, rng: &mut Rng) -> Vec<(u64, u64, u64)> {
    let mut parts = vec![(0, side, side)];
    while parts.len() < count {
        let part = rng.usize(..parts.len());
        let (start, end, size) = parts[part];
        if rng.bool() && end - start > 1 {
            let middle = rng.u64(start + 1..end);
            parts[part].1 = middle;
            parts.push((middle, end, size));
        } else if size > 1 {
            let lower = rng.u64(1..size);
            parts[part].2 = lower;
            parts.push((start, end, size - lower));
        }
    }
    rng.shuffle(&mut parts);
    parts
}
