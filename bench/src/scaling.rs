//! `--scaling`: what an operation takes, and what is resident, with ever more threads.

use std::fmt::Write;
use std::num::NonZero;
use std::path::Path;
use std::thread;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};

use crate::contenders::{self, Contender};
use crate::worker::{self, Scaling, Tail};
use crate::{Args, chosen, report};

/// What is shown for it, sizes in bytes, how many operations all threads together make in a run, and in which manner.
type Row = (&'static str, usize, usize, u32, &'static str);

const SIZES: [(&str, usize, usize); 4] = [
    ("16 B–4 KiB", 16, 4 << 10),
    ("4–64 KiB", 4 << 10, 64 << 10),
    ("64 KiB–1 MiB", 64 << 10, 1 << 20),
    ("1–16 MiB", 1 << 20, 16 << 20),
];

/// For each range of sizes, how many operations.
const FIRST: [u32; 4] = [4_000_000, 2_000_000, 1_000_000, 40_000];
const ALL: [u32; 4] = [1_000_000, 200_000, 20_000, 1_000];
const TIMED: [u32; 4] = [1_000_000, 500_000, 250_000, 10_000];

const RESIZED: Row = ("realloc within a size class", 16, 4 << 10, 10_000_000, "resized");

fn rows(operations: [u32; 4], manner: &'static str) -> impl Iterator<Item = Row> {
    SIZES.into_iter().zip(operations).map(move |((name, low, high), operations)| (name, low, high, operations, manner))
}

/// And how many operations all threads together make in a run, for each range of sizes.
const PATTERNS: [(&str, [u32; 2]); 5] = [
    ("burst", [3_000_000, 500_000]),
    ("hand-over", [1_000_000, 200_000]),
    ("phases", [1_500_000, 150_000]),
    ("come-and-go", [700_000, 250_000]),
    ("shift", [2_000_000, 300_000]),
];

const PATTERNS_SIZES: [(&str, usize, usize); 2] = [("16 B–64 KiB", 16, 64 << 10), ("64 KiB–1 MiB", 64 << 10, 1 << 20)];

const PATTERNS_THREADS: [usize; 2] = [2, 4];

const PEERS: [&str; 4] = ["tenzor", "mimalloc-v3", "jemalloc", "glibc"];

/// Threads that are tried: fewer than processors, as many, and more.
fn threads() -> Vec<usize> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let mut all: Vec<_> = std::iter::successors(Some(1), |threads| Some(threads * 2))
        .take_while(|&threads| threads < processors)
        .chain([processors, 2 * processors, 4 * processors, 8 * processors])
        .collect();
    all.dedup();
    all
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let names = if args.peers.is_empty() { PEERS.map(String::from).to_vec() } else { args.peers.clone() };
    let contenders = chosen(contenders::ALL.iter(), &names, |contender| contender.name)?;
    worker::build(&contenders, &[])?;
    let (threads, rounds) = if args.quick { (vec![2], 1) } else { (threads(), args.rounds) };
    let mut text = format!("{INTRODUCTION} Medians of {rounds} rounds, {} processors.\n", processors());
    let measure = |program: &str, (_, low, high, operations, manner): Row, threads: usize| {
        let operations = (operations as usize / if args.quick { 1000 } else { 1 } / threads).max(10);
        measure(&contenders, program, &format!("{low}-{high},{threads},{operations},{manner}"), rounds)
    };
    let names = || contenders.iter().map(|contender| contender.name);
    let first: Vec<Row> = rows(FIRST, "first").chain([RESIZED]).collect();
    let all: Vec<Row> = rows(ALL, "all").collect();
    for (title, rows) in [("The first byte of each block written", first), ("All bytes written", all)] {
        let heads = ["sizes", "threads"].into_iter().chain(names()).chain(names().map(|_| "MiB"));
        let mut table = table(heads, 1);
        for row in rows {
            for &threads in &threads {
                let figures = measure("scaling", row, threads)?;
                table.add_row([row.0.to_owned(), threads.to_string()].into_iter().chain(cells(&figures)));
            }
        }
        let _ = writeln!(text, "\n### {title}\n\n{table}");
    }
    let mut tails = table(["sizes"].into_iter().chain(names()), usize::MAX);
    for row in rows(TIMED, "timed") {
        // A thread less than processors, which the clock's has; one at least.
        let figures = measure("scaling", row, processors().saturating_sub(1).max(1))?;
        let cells = figures.iter().map(|figures| match figures.tail {
            Some(Tail { requests: [most, worst], clock: [ticks, gap] }) => {
                format!("{most:.1} / {worst:.0} ({ticks:.1} / {gap:.0})")
            }
            None => String::new(),
        });
        tails.add_row([row.0.to_owned()].into_iter().chain(cells));
    }
    let _ = writeln!(text, "\n### The longest replacements\n\n{TAILS}\n\n{tails}");
    let heads = ["pattern", "sizes", "threads"].into_iter().chain(names()).chain(names().map(|_| "MiB"));
    let mut patterns = table(heads, 2);
    for (pattern, operations) in PATTERNS {
        for ((sizes, low, high), operations) in PATTERNS_SIZES.into_iter().zip(operations) {
            for &threads in if args.quick { &PATTERNS_THREADS[..1] } else { &PATTERNS_THREADS } {
                let figures = measure("patterns", (sizes, low, high, operations, pattern), threads)?;
                let row = [pattern.to_owned(), sizes.to_owned(), threads.to_string()];
                patterns.add_row(row.into_iter().chain(cells(&figures)));
            }
        }
    }
    let _ = writeln!(text, "\n### Other patterns\n\n{OTHERS}\n\n{patterns}");
    println!("{text}");
    if args.peers.is_empty() && !args.quick && !args.no_write {
        report::write_between(&Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md"), "scaling", &text)?;
    }
    Ok(())
}

/// With numbers in what follows the first columns.
fn table<'a>(heads: impl Iterator<Item = &'a str>, first: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(heads);
    table.column_iter_mut().skip(first).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// Times, and then what was resident.
fn cells(figures: &[Scaling]) -> Vec<String> {
    let times = figures.iter().map(|figures| format!("{:.0}", figures.ns));
    let memory = figures.iter().map(|figures| match figures.live {
        Some(live) => format!("{:.2}", figures.resident as f64 / live as f64),
        None => format!("{:.0}", figures.resident as f64 / f64::from(1 << 20)),
    });
    times.chain(memory).collect()
}

const INTRODUCTION: &str = "\
## Threads that do nothing but request and free

    cargo run --release -p tenzor-bench -- --scaling

Written by that command. Each thread has 64 live blocks of log-uniform sizes, and replaces one at random; nanoseconds of wall time
an operation of any thread, each run in a process of its own, in turns. Beside them what was resident at the peak, less what was before the first
block: in MiB, and where all bytes are written in proportion to the bytes that were live. `realloc within a size class`: blocks of 16 B to 4 KiB, of
which one at random becomes larger or smaller within the same eighth between two powers of two, and so within one of Tenzor's classes.";

const TAILS: &str = "\
Microseconds for a free and a request; the first byte is written after that, so that a page fault on it does not count. What one of 10,000 took, and
the longest; in brackets the same of a thread that only looked at the clock meanwhile: what the machine did.";

const OTHERS: &str = "\
Nanoseconds and MiB as above, from the first request to the last free; an operation is a request and a free. The first, the middle and the last eight
bytes of each block are written, and looked at before it is freed: a wrong one ends the command. `burst`: each thread requests 500 blocks and frees them
in random order. `hand-over`: one thread requests, the next one frees, with a channel for 64 blocks between them. `phases`: one thread requests 500
blocks, another one frees them; then the other way round. `come-and-go`: a thread replaces one of 64 blocks at random, ends after 200 replacements, and
leaves the blocks to a new one. `shift`: a thread that stays does the same, with sizes in a range of a factor of 4 that moves up by a factor of 1.5 every
2,000 operations, and begins again.";

fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// The medians, in turns.
fn measure(contenders: &[&Contender], program: &str, wish: &str, rounds: u32) -> Result<Vec<Scaling>> {
    let mut runs: Vec<Vec<Scaling>> = vec![vec![]; contenders.len()];
    for round in 0..rounds as usize {
        for turn in 0..contenders.len() {
            let contender = (round + turn) % contenders.len();
            eprintln!("{program} {wish} {}", contenders[contender].name);
            runs[contender].push(worker::scale(contenders[contender], program, wish)?);
        }
    }
    Ok(runs.iter().map(|runs| median(runs)).collect())
}

/// Figure by figure.
fn median(runs: &[Scaling]) -> Scaling {
    let middle = runs.len() / 2;
    let by = |key: fn(&Scaling) -> f64| {
        let mut all: Vec<f64> = runs.iter().map(key).collect();
        all.sort_by(f64::total_cmp);
        all[middle]
    };
    let live = runs.first().and_then(|run| run.live);
    Scaling {
        ns: by(|run| run.ns),
        resident: by(|run| run.resident as f64) as u64,
        live: live.map(|_| by(|run| run.live.unwrap_or(0) as f64) as u64),
        tail: runs.first().and_then(|run| run.tail).map(|_| {
            let by = |key: fn(Tail) -> f64| {
                let mut all: Vec<f64> = runs.iter().filter_map(|run| run.tail.map(key)).collect();
                all.sort_by(f64::total_cmp);
                all.get(middle).copied().unwrap_or(f64::NAN)
            };
            Tail {
                requests: [by(|tail| tail.requests[0]), by(|tail| tail.requests[1])],
                clock: [by(|tail| tail.clock[0]), by(|tail| tail.clock[1])],
            }
        }),
    }
}
