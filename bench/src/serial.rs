//! `--serial`: what only one thread at a time can do, for each request; and what that means on larger machines.

use std::fmt::Write;
use std::num::NonZero;
use std::path::Path;
use std::thread;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};

use crate::contenders::SERIAL;
use crate::worker::{self, Serial};
use crate::{Args, programs, report};

/// Sizes in bytes, and operations of all threads.
const ROWS: [(&str, &str, u32); 3] = [
    ("16 B–4 KiB", "16-4096", 4_000_000),
    ("4–64 KiB", "4096-65536", 2_000_000),
    ("64 KiB–1 MiB", "65536-1048576", 400_000),
];

/// Programs, and their threads.
const PROGRAMS: [(&str, usize); 2] = [("producer-consumer", 2), ("bert1", 1)];

/// Processors that the model is asked for.
const MACHINES: [u32; 5] = [8, 16, 32, 64, 128];

pub(crate) fn run(args: &Args) -> Result<()> {
    let chosen: Vec<_> =
        programs::ALL.iter().filter(|program| PROGRAMS.iter().any(|(name, _)| *name == program.name)).collect();
    worker::build(&[&SERIAL], if args.quick { &[] } else { &chosen })?;
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let mut rows = Vec::new();
    for (name, sizes, operations) in ROWS {
        for threads in [1, processors] {
            let operations = operations as usize / threads / if args.quick { 1000 } else { 1 };
            let wish = format!("{sizes},{threads},{operations},first");
            rows.push((format!("{name}, {threads} threads"), threads, worker::serial(&["scaling", &wish])?));
        }
    }
    for (program, threads) in PROGRAMS.into_iter().filter(|_| !args.quick) {
        rows.push((program.to_owned(), threads, worker::serial(&[program])?));
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["program", "requests", "busiest heap", "threads", "common", "mappings"]);
    let mut model = Table::new();
    model.load_style(presets::ASCII_MARKDOWN);
    model.set_header(["program".to_owned()].into_iter().chain(MACHINES.map(|machine| machine.to_string())));
    for (name, threads, serial) in &rows {
        let [heap, rest @ ..] = per_request(serial);
        let cells = [name.clone(), serial.requests.to_string(), format!("{heap:.2}")];
        table.add_row(cells.into_iter().chain(rest.map(|ns| format!("{ns:.2}"))));
        let shared = rest.into_iter().fold(0.0, f64::max);
        let rate = serial.requests as f64 / serial.seconds / *threads as f64;
        let busy = MACHINES.map(|machine| format!("{:.3}", f64::from(machine) * rate * shared / 1e9));
        model.add_row([name.clone()].into_iter().chain(busy));
    }
    for table in [&mut table, &mut model] {
        table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    }
    let mut text = format!("{INTRODUCTION} {processors} processors.\n\n{table}\n");
    let _ = writeln!(text, "\n{MODEL}\n\n{model}");
    println!("{text}");
    if !args.quick && !args.no_write {
        report::write_between(&Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md"), "serial", &text)?;
    }
    Ok(())
}

/// Nanoseconds a request: of the heap whose lock was held longest, and of what all threads share.
fn per_request(serial: &Serial) -> [f64; 4] {
    ["a heap", "threads", "common", "mappings"].map(|wanted| {
        let longest = serial.held.iter().filter(|(what, ..)| what == wanted).map(|&(_, _, ns)| ns).fold(0.0, f64::max);
        longest / serial.requests.max(1) as f64
    })
}

const INTRODUCTION: &str = "\
## What only one thread at a time can do

    cargo run --release -p tenzor-bench -- --serial

Written by that command, with a build that measures it. Nanoseconds for each request of the program: how long the lock of the heap that was held longest
was held; the lock over the threads' caches; that over the common budget; and how long calls took that change the process's mappings, each of which holds
the system's lock for them at most so long. Each hold has some 10 ns of the measurement in it.";

const MODEL: &str = "\
The model: a heap is opened for each processor whose threads wait, so heaps' locks grow in number with the machine, and what all share does not. Of
that, the part of its time for which the busiest is held, if each processor did what each thread of the program did here, by the number of processors.
From 1 on it would decide the speed. What moving a cache line from socket to socket costs is not in it: two processors cannot show it.";
