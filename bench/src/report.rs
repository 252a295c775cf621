//! The section of RESULTS.md, which is what the terminal shows as well.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};

use crate::contenders::{self, Contender};
use crate::programs::Kind;
use crate::summary::{ProgramResult, Results, Row, geometric_mean};

const BEGIN: &str = "<!-- programs:begin -->\n";
const END: &str = "<!-- programs:end -->\n";

/// Puts the section between its markers, or at the end if there are none yet.
pub(crate) fn write(file: &Path, section: &str) -> Result<()> {
    let context = || file.display().to_string();
    let text = fs::read_to_string(file).with_context(context)?;
    let (before, rest) = text.split_once(BEGIN).unwrap_or((&text, ""));
    let after = rest.split_once(END).map_or(rest, |(_, after)| after);
    let gap = if before.ends_with("\n\n") { "" } else { "\n" };
    fs::write(file, format!("{before}{gap}{BEGIN}{section}{END}{after}")).with_context(context)
}

pub(crate) fn section(results: &Results) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "## Real programs under every allocator\n");
    let _ = writeln!(text, "    cargo run --release -p tenzor-bench\n");
    let _ = writeln!(
        text,
        "Written by that command. Every program in a process of its own under each allocator, in turns; medians of {} rounds. \
         Libraries run on one thread. `time / best` is against the fastest allocator; live bytes are what the program requests, \
         resident ones what the process holds, program text included; `without weights` is the peak above what the set-up left, \
         both resident and live; `idle` is ten seconds after the last step. Tuned allocators keep what is freed, on huge pages: \
         their settings stand in `bench/src/contenders.rs`.\n",
        results.rounds
    );
    if results.programs.iter().any(|result| result.program.kind == Kind::Whole) {
        let _ = writeln!(text, "![time and memory of each program under each allocator](results.svg)\n");
        let _ = writeln!(text, "### All whole programs together, geometric means\n\n{}\n", summary(results));
    }
    for result in &results.programs {
        let _ = writeln!(text, "### {}\n\n{}\n\n{}\n", result.program.name, description(result), table(result));
    }
    if !results.pairs.is_empty() {
        let _ = writeln!(text, "### Pairs of one request and its release, nanoseconds\n\n{}", pairs(results));
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

const COLUMNS: [Column; 10] = [
    ("time / best", |row| (!row.contender.is_preallocated()).then(|| ratio(row.time_to_best))),
    ("time / preallocated", |row| row.time_to_preallocated.map(ratio)),
    ("a step", |row| Some(time(row.step_seconds))),
    ("faults a step", |row| Some(format!("{:.1}", row.faults_per_step))),
    ("2 threads / 1", |row| row.scaling.map(ratio)),
    ("peak / live", |row| row.peak_to_live.map(ratio)),
    ("without weights", |row| row.activations_to_live.map(ratio)),
    ("idle / live", |row| row.idle_to_live.map(ratio)),
    ("peak", |row| Some(mebibytes(row.peak_resident))),
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

fn summary(results: &Results) -> Table {
    let whole = || results.programs.iter().filter(|result| result.program.kind == Kind::Whole);
    let row_of = |result: &'_ ProgramResult, name: &str| -> Option<usize> {
        result.rows.iter().position(|row| row.contender.name == name)
    };
    let mean = |contender: &Contender, figure: &dyn Fn(&ProgramResult, &Row) -> Option<f64>| {
        let figures = whole().map(|result| figure(result, &result.rows[row_of(result, contender.name)?]));
        figures.collect::<Option<Vec<_>>>().and_then(geometric_mean).map_or_else(missing, ratio)
    };
    let against = |name: &'static str| {
        move |result: &ProgramResult, row: &Row| {
            let other = result.rows.iter().find(|row| row.contender.name == name)?;
            Some(row.peak_resident / other.peak_resident)
        }
    };
    let contenders = contenders::ALL.iter().filter(|one| whole().any(|result| row_of(result, one.name).is_some()));
    let rows = contenders.map(|contender| {
        vec![
            contender.name.to_owned(),
            mean(contender, &|_, row| Some(row.time_to_best)),
            mean(contender, &|_, row| row.peak_to_live),
            mean(contender, &|_, row| row.idle_to_live),
            mean(contender, &against("glibc")),
            mean(contender, &against("mimalloc-v3")),
        ]
    });
    markdown(["allocator", "time / best", "peak / live", "idle / live", "peak / glibc's", "peak / mimalloc-v3's"], rows)
}

fn pairs(results: &Results) -> String {
    let Some((_, first)) = results.pairs.first() else { return String::new() };
    let mut modes: Vec<_> = first.iter().map(|pair| pair.mode.as_str()).collect();
    modes.sort_unstable();
    modes.dedup();
    let mut text = String::new();
    for mode in modes {
        let rows = first.iter().filter(|pair| pair.mode == mode).map(|of_size| {
            let same = |pair: &&crate::worker::Pair| pair.mode == mode && pair.size == of_size.size;
            let times = results.pairs.iter().map(|(_, pairs)| {
                pairs
                    .iter()
                    .find(same)
                    .map_or_else(missing, |pair| format!("{:.*}", usize::from(pair.ns < 100.0), pair.ns))
            });
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

fn time(seconds: f64) -> String {
    match seconds {
        1.0.. => format!("{seconds:.2} s"),
        1e-3.. => format!("{:.2} ms", seconds * 1e3),
        _ => format!("{:.1} µs", seconds * 1e6),
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
