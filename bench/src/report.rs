//! The section of RESULTS.md, which is what the terminal shows as well.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};

use crate::contenders::{self, Contender};
use crate::programs::Kind;
use crate::summary::{ProgramResult, Results, Row, geometric_mean};

const INTRODUCTION: &str = "\
## Real programs under every allocator

    cargo run --release -p tenzor-bench

Written by that command. Every program runs in a process of its own under each allocator, in turns; libraries on one thread
(`RAYON_NUM_THREADS=1`), in the versions of `bench/programs/Cargo.lock`. `time / best` is against the fastest allocator. Live bytes
are what the program requests, resident ones what the process holds, program text included; `without weights` is the peak above
what the set-up left, resident over live; `idle` is ten seconds after the last step, with one small request a second. Tuned allocators
keep what is freed, on huge pages: their settings stand in `bench/src/contenders.rs`.";

/// Puts a section between its markers, or at the end if there are none yet.
pub(crate) fn write_between(file: &Path, name: &str, section: &str) -> Result<()> {
    let context = || file.display().to_string();
    let text = fs::read_to_string(file).with_context(context)?;
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->\n"));
    let (before, rest) = text.split_once(&begin).unwrap_or((&text, ""));
    let after = rest.split_once(&end).map_or(rest, |(_, after)| after);
    let gap = if before.ends_with("\n\n") { "" } else { "\n" };
    fs::write(file, format!("{before}{gap}{begin}{section}{end}{after}")).with_context(context)
}

pub(crate) fn section(results: &Results) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{INTRODUCTION} Medians of {} rounds.\n", results.rounds);
    if results.programs.iter().any(|result| result.program.kind == Kind::Whole) {
        let _ = writeln!(text, "![time and memory of each program under each allocator](results.svg)\n");
        let _ = writeln!(text, "### All whole programs together, geometric means\n\n{}\n", summary(results));
    }
    let (chains, others): (Vec<_>, Vec<_>) =
        results.programs.iter().partition(|result| result.program.kind == Kind::Chain);
    for result in others {
        let _ = writeln!(text, "### {}\n\n{}\n\n{}\n", result.program.name, description(result), table(result));
    }
    if let Some(first) = chains.first() {
        let what = first.program.description;
        let _ = writeln!(text, "### Chains\n\n{what}; `preallocated`: over buffers mapped and touched beforehand.\n");
        let to_preallocated = |row: &Row| row.time_to_preallocated.map(ratio);
        let _ = writeln!(text, "{}\n", across("time / preallocated", &chains, to_preallocated));
        let _ = writeln!(text, "{}\n", across("faults a step", &chains, |row| Some(faults(row.faults_per_step))));
    }
    if !results.pairs.is_empty() {
        let _ = writeln!(text, "### Pairs of one request and its release\n\n{}", pairs(results));
    }
    text
}

fn description(result: &ProgramResult) -> String {
    let mut text = format!("{}.", result.program.description);
    if let Some(live) = result.live {
        let _ = write!(
            text,
            " Live: {} at the peak, {} after the set-up. Requests: {} below 64 KiB, {} others.",
            mebibytes(live.peak as f64),
            mebibytes(live.after_setup as f64),
            live.requests_below_64k,
            live.requests_from_64k,
        );
    }
    text
}

type Column = (&'static str, fn(&Row) -> Option<String>);

const COLUMNS: [Column; 13] = [
    ("time / best", |row| (!row.contender.is_preallocated()).then(|| ratio(row.time_to_best))),
    ("time / preallocated", |row| row.time_to_preallocated.map(ratio)),
    ("set-up", |row| row.set_up_seconds.map(time)),
    ("first step", |row| row.first_seconds.map(time)),
    ("a step", |row| Some(time(row.step_seconds))),
    ("faults a step", |row| Some(faults(row.faults_per_step))),
    ("2 threads / 1", |row| row.scaling.map(ratio)),
    ("peak / live", |row| row.peak_to_live.map(ratio)),
    ("without weights", |row| row.activations_to_live.map(ratio)),
    ("idle / live", |row| row.idle_to_live.map(ratio)),
    ("peak", |row| Some(mebibytes(row.peak_resident))),
    ("idle", |row| row.resident_idle.map(mebibytes)),
    ("huge pages", |row| Some(mebibytes(row.huge))),
];

fn table(result: &ProgramResult) -> Table {
    let has = |column: &&Column| result.rows.iter().any(|row| column.1(row).is_some());
    let columns: Vec<_> = COLUMNS.iter().filter(has).collect();
    let rows = result.rows.iter().map(|row| {
        let cells = columns.iter().map(|column| column.1(row).unwrap_or_else(missing));
        [row.contender.name.to_owned()].into_iter().chain(cells).collect()
    });
    markdown(["allocator"].into_iter().chain(columns.iter().map(|column| column.0)), rows)
}

/// One figure of many programs: a row for each of them, a column for each contender.
fn across(what: &str, results: &[&ProgramResult], figure: impl Fn(&Row) -> Option<String>) -> Table {
    let contenders = present(results);
    let rows = results.iter().map(|result| {
        let figures =
            contenders.iter().map(|contender| result.row(contender.name).and_then(&figure).unwrap_or_else(missing));
        [result.program.name.to_owned()].into_iter().chain(figures).collect()
    });
    markdown([what].into_iter().chain(contenders.iter().map(|contender| contender.name)), rows)
}

fn present(results: &[&ProgramResult]) -> Vec<&'static Contender> {
    let there = |contender: &&Contender| results.iter().any(|result| result.row(contender.name).is_some());
    contenders::ALL.iter().filter(there).collect()
}

fn summary(results: &Results) -> Table {
    let whole: Vec<_> = results.programs.iter().filter(|result| result.program.kind == Kind::Whole).collect();
    let rows = present(&whole).into_iter().map(|contender| {
        let of_all = |figure: &dyn Fn(&ProgramResult, &Row) -> Option<f64>| -> Option<Vec<f64>> {
            whole.iter().map(|result| figure(result, result.row(contender.name)?)).collect()
        };
        let mean = |figure: &dyn Fn(&ProgramResult, &Row) -> Option<f64>| {
            of_all(figure).and_then(geometric_mean).map_or_else(missing, ratio)
        };
        let peak_to =
            |other: &'static str| mean(&|result, row| Some(row.peak_resident / result.row(other)?.peak_resident));
        let worst =
            of_all(&|_, row| Some(row.time_to_best)).and_then(|ratios| ratios.into_iter().max_by(f64::total_cmp));
        vec![
            contender.name.to_owned(),
            mean(&|_, row| Some(row.time_to_best)),
            worst.map_or_else(missing, ratio),
            mean(&|_, row| row.peak_to_live),
            mean(&|_, row| row.idle_to_live),
            peak_to("glibc"),
            peak_to("mimalloc-v3"),
        ]
    });
    let header =
        ["allocator", "time / best", "worst", "peak / live", "idle / live", "peak / glibc's", "peak / mimalloc-v3's"];
    markdown(header, rows)
}

fn pairs(results: &Results) -> String {
    let Some((_, first)) = results.pairs.first() else { return String::new() };
    let mut text = String::new();
    for mode in ["untouched", "untouched, aligned to 64", "first touch", "written"] {
        let rows = first.iter().filter(|pair| pair.mode == mode).map(|of_size| {
            let same = |pair: &&crate::worker::Pair| pair.mode == mode && pair.size == of_size.size;
            let times = results
                .pairs
                .iter()
                .map(|(_, pairs)| pairs.iter().find(same).map_or_else(missing, |pair| time(pair.ns * 1e-9)));
            [size(of_size.size)].into_iter().chain(times).collect()
        });
        let header = [mode].into_iter().chain(results.pairs.iter().map(|(contender, _)| contender.name));
        let _ = writeln!(text, "{}\n", markdown(header, rows));
    }
    text
}

fn markdown<'a>(header: impl IntoIterator<Item = &'a str>, rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn missing() -> String {
    "–".to_owned()
}

fn ratio(value: f64) -> String {
    format!("{value:.2}")
}

fn faults(number: f64) -> String {
    format!("{number:.*}", usize::from(number < 100.0))
}

fn time(seconds: f64) -> String {
    match seconds {
        1.0.. => format!("{seconds:.2} s"),
        1e-3.. => format!("{:.2} ms", seconds * 1e3),
        1e-6.. => format!("{:.1} µs", seconds * 1e6),
        _ => format!("{:.1} ns", seconds * 1e9),
    }
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / f64::from(1 << 20))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}
