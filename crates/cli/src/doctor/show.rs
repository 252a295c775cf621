//! How it is shown.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use super::Report;
use super::library::{Kind, Row};
use super::process::Memory;
use crate::bytes::bytes;

/// How wide lines of prose are.
const WIDTH: usize = 100;

/// How many of those are named that ask for no memory.
const NAMED: usize = 6;

const BY_ADDRESS: &str =
    "Which memory is Tenzor's is told by its addresses. Its tables, some 1/480 of it, are with the other memory.";

const NOT_KNOWN: &str = "No memory lies where Tenzor's does: it has none yet, or the system has chosen its addresses, and they tell nothing.";

pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    let is_active = head(report, &mut text);
    if let Some(memory) = &report.memory {
        let _ = writeln!(text, "\n{}", of_memory(memory).trim_fmt());
        match memory.heap {
            Some(0) => {}
            Some(_) => wrap(&mut text, BY_ADDRESS, "", ""),
            None => wrap(&mut text, NOT_KNOWN, "", ""),
        }
    }
    text.push('\n');
    if report.libraries.iter().any(|row| row.memory != Kind::Nothing) {
        let _ = writeln!(text, "{}", libraries(&report.libraries, is_active).trim_fmt());
    }
    let silent: Vec<_> =
        report.libraries.iter().filter(|row| row.memory == Kind::Nothing).map(|row| &*row.name).collect();
    if !silent.is_empty() {
        let more = if silent.len() > NAMED { ", …" } else { "" };
        let names = silent.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        let ask = if silent.len() == 1 { "asks" } else { "ask" };
        wrap(&mut text, &format!("{} {ask} for no memory: {names}{more}", silent.len()), "", "  ");
    }
    for remark in &report.remarks {
        text.push('\n');
        wrap(&mut text, &format!("{} = {}", remark.setting, remark.value), "", "  ");
        wrap(&mut text, &remark.remark, "  ", "  ");
    }
    text
}

/// What it is about, and the one thing to know. Returns whether Tenzor's heap is there.
fn head(report: &Report, text: &mut String) -> bool {
    let row = |file: &str| report.libraries.iter().find(|row| row.file.as_deref() == Some(file));
    let Some(process) = report.process else {
        let _ = writeln!(text, "{}", report.program);
        let verdict = match &report.obstacle {
            Some(obstacle) => format!("Tenzor's heap cannot serve it: it {obstacle}."),
            None if report.libraries.iter().any(Row::has_tenzor_inside) => {
                "Tenzor's heap is linked in: it needs no library that is preloaded.".to_owned()
            }
            None => "Nothing stands in the way of Tenzor's heap.".to_owned(),
        };
        wrap(text, &verdict, "", "");
        return false;
    };
    let _ = writeln!(text, "process {process}: {}", report.program);
    let loaded = report.libraries.iter().find(|row| row.memory == Kind::Tenzor);
    let malloc = report.malloc.as_deref();
    let (verdict, is_active) = match malloc.and_then(row) {
        Some(row) if row.memory == Kind::Tenzor => {
            (format!("Its malloc is Tenzor's: {}.", malloc.unwrap_or_default()), true)
        }
        owner => {
            let whose = match owner.map(|row| row.memory) {
                Some(Kind::Libc) => "Its malloc is the C library's".to_owned(),
                Some(_) => format!("Its malloc is that of {}", malloc.unwrap_or_default()),
                None => "Whose malloc it has is not known".to_owned(),
            };
            let ours = match loaded {
                Some(_) => "Tenzor's heap is loaded, and serves nothing",
                None if report.libraries.iter().any(Row::has_tenzor_inside) => {
                    "Tenzor's heap is linked in, for the program's own requests"
                }
                None => "Tenzor's heap is not there: `tenzor run` starts a program over it",
            };
            (format!("{whose}; {ours}."), false)
        }
    };
    wrap(text, &verdict, "", "");
    is_active
}

fn libraries(rows: &[Row], is_active: bool) -> Table {
    let has_figures = rows.iter().any(|row| row.resident_bytes.is_some());
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let columns = ["file", "resident", "its memory"];
    table.set_header(columns.iter().filter(|column| has_figures || **column != "resident"));
    for row in rows.iter().filter(|row| row.memory != Kind::Nothing) {
        let resident =
            has_figures.then(|| row.resident_bytes.map(|resident| bytes(resident).to_string()).unwrap_or_default());
        table.add_row([Some(row.name.clone()), resident, Some(row.words(is_active))].into_iter().flatten());
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        if index == 0 {
            column.set_padding((0, 1));
        } else if has_figures && index == 1 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn of_memory(memory: &Memory) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut row = |name: String, size: u64| {
        let share = size as f64 / memory.resident.max(1) as f64 * 100.0;
        table.add_row([name, bytes(size).to_string(), format!("{share:.1} %")]);
    };
    let is_there = memory.heap.is_some_and(|heap| heap > 0);
    if let Some(heap) = memory.heap.filter(|_| is_there) {
        row("Tenzor's heap".to_owned(), heap);
    }
    row("the C library's heap, as [heap]".to_owned(), memory.malloc_heap);
    row("programs, libraries and other files".to_owned(), memory.files);
    row("the first thread's stack".to_owned(), memory.stack);
    let other = if memory.heap.is_none() { "other memory, Tenzor's among it" } else { "other memory without a file" };
    row(other.to_owned(), memory.other);
    row("resident memory".to_owned(), memory.resident);
    row("of it in huge pages".to_owned(), memory.huge);
    if is_there {
        row("of Tenzor's in huge pages".to_owned(), memory.heap_huge);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        if index == 0 {
            column.set_padding((0, 1));
        } else {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Lines that are not too long.
fn wrap(to: &mut String, text: &str, first: &str, next: &str) {
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in text.split_whitespace() {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(to, "{line}");
            line = next.to_owned();
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    let _ = writeln!(to, "{line}");
}
