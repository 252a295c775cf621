//! The report for people: a table for each trace, and what its columns mean.

use std::fmt::Write;

use comfy_table::{CellAlignment, ColumnConstraint, Table, Width, presets};

use crate::bytes::bytes;
use crate::contender::Contender;
use crate::report::{ContenderReport, Report, TraceReport};

const COLUMNS: [&str; 8] = [
    "\nallocator",
    "time\na step",
    "time /\nmalloc",
    "faults\na step",
    "reserved\n/ live",
    "the same\nless set-up",
    "resident\n/ live",
    "pool\nhits",
];

const LEGEND: &str = "\
time a step      every byte of every buffer is written when it is taken; median
time / malloc    below 1 is faster than malloc; median of the rounds' ratios
faults a step    minor page faults: the system maps a page and zeroes it; median
reserved / live  peak of the memory taken from the layer below, over the peak of
                 the requested bytes in use, which no allocator can do without
less set-up      the same without the bytes in use when the first step begins,
                 such as weights: (reserved - these) / (live - these)
resident / live  peak of the memory that the process really held / peak live
pool hits        share of the steps' requests that pooled memory served

TenzorMalloc is the heap that a program gets by its #[global_allocator].
PlannedAllocator has a plan of each step from the start, made from the trace: it
serves what is freed within its step from one block, and the rest from a pool.
ComputeArena serves what is taken and freed within a step, and takes it all back
at the step's end; malloc serves the rest. Steps are timed in the steady state:
those that leave memory as they found it are replayed once before, untimed.
Each round begins elsewhere in the heap, as malloc's times depend on that a lot.
";

/// The least width of the columns with figures, so that the tables of several traces line up.
const WIDTH: u16 = 9;

/// One trace: what it is, and the row of each contender.
pub(crate) fn of(trace: &TraceReport) -> String {
    let mut text = match trace.description {
        Some(description) => format!("{}: {description}\n", trace.name),
        None => format!("{}\n", trace.name),
    };
    let _ = writeln!(
        text,
        "{}, {} a step in {}; peak live {}, of it activations {}",
        count(trace.steps, "step"),
        count(trace.requests_per_step, "request"),
        count(trace.distinct_sizes, "size"),
        bytes(trace.peak_live_bytes),
        bytes(trace.activation_bytes),
    );
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(COLUMNS);
    for (index, column) in table.column_iter_mut().enumerate() {
        if index == 0 {
            column.set_padding((0, 1));
        } else {
            column.set_cell_alignment(CellAlignment::Right);
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(WIDTH)));
        }
    }
    for contender in &trace.contenders {
        table.add_row(row(contender));
    }
    let _ = writeln!(text, "\n{}", table.trim_fmt());
    for missing in Contender::ALL.iter().skip(trace.contenders.len()) {
        let _ = writeln!(text, "{} is left out: its steps need more memory than there is.", missing.name());
    }
    text.push('\n');
    text
}

fn row(contender: &ContenderReport) -> [String; 8] {
    let ratio = |ratio: Option<f64>| or_none(ratio, |ratio| format!("{ratio:.2}"));
    [
        contender.name.to_owned(),
        time(contender.step_ns),
        ratio(contender.time_to_malloc),
        or_none(contender.minor_faults_per_step, |faults| format!("{faults:.0}")),
        ratio(contender.peak_reserved_to_peak_live),
        ratio(contender.activation_reserved_to_live),
        ratio(contender.peak_resident_to_peak_live),
        or_none(contender.hit_rate, |rate| format!("{:.1} %", rate * 100.0)),
    ]
}

/// What the columns mean, and what they amount to.
pub(crate) fn legend(report: &Report) -> String {
    let mut text = format!("{LEGEND}\n{}.\n\n", count(report.rounds as usize, "round"));
    for contender in Contender::ALL.iter().skip(1) {
        let _ = write!(text, "{}", verdict(report, contender.name()));
    }
    text
}

/// How a contender compares with malloc over all traces, in a sentence.
fn verdict(report: &Report, name: &str) -> String {
    let rows = || {
        let all = report.traces.iter().flat_map(|trace| &trace.contenders);
        all.filter(|contender| contender.name == name)
    };
    let times: Vec<_> = rows().filter_map(|row| row.time_to_malloc).collect();
    let reserved = rows().filter_map(|row| row.peak_reserved_to_peak_live);
    let (Some(least), Some(most), Some(reserved)) =
        (times.iter().copied().reduce(f64::min), times.iter().copied().reduce(f64::max), reserved.reduce(f64::max))
    else {
        return String::new();
    };
    let faster = times.iter().filter(|&&time| time < 1.0).count();
    let range = match (format!("{least:.2}"), format!("{most:.2}")) {
        (least, most) if least == most => least,
        (least, most) => format!("{least} to {most}"),
    };
    format!(
        "{name} took {range} times malloc's time a step, faster on {faster} of {},\n\
         and reserved at most {reserved:.2} times the peak live bytes.\n",
        count(times.len(), "trace"),
    )
}

fn or_none<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}

fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

fn time(nanoseconds: f64) -> String {
    scaled(nanoseconds, &[("ns", 0), ("µs", 1), ("ms", 1), ("s", 2)])
}

/// The value in the largest of `units`, each a thousand of the one before it, that leaves at least 1; with its decimals.
fn scaled(mut value: f64, units: &[(&str, usize)]) -> String {
    let mut units = units.iter().peekable();
    while let Some(&(unit, decimals)) = units.next() {
        if value < 999.95 || units.peek().is_none() {
            return format!("{value:.decimals$} {unit}");
        }
        value /= 1000.0;
    }
    String::new()
}
