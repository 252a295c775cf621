//! `tenzor doctor`: what of a program's memory is, or would be, Tenzor's, and what stands in the way.
//!
//! | module | decides |
//! |---|---|
//! | `library` | what is said of one library |
//! | `process` | what a process says of its memory: which is the heap's |
//! | `settings` | which settings are told of, and in which words |
//! | `show` | how it is shown |

mod library;
mod process;
mod settings;
mod show;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::args::DoctorTask;
use crate::elf::Elf;
use crate::libraries;
use crate::program::{Binary, Program, obstacle, obstacle_of_code};
use library::{Kind, Row};
use process::{Memory, Process};
use settings::Remark;

/// What was found; the names are those of `--json`.
#[derive(Debug, Serialize)]
struct Report {
    target: String,
    process: Option<u32>,
    program: String,
    obstacle: Option<String>,
    malloc: Option<String>,
    libraries: Vec<Row>,
    memory: Option<Memory>,
    remarks: Vec<Remark>,
}

pub(crate) fn run(task: &DoctorTask) -> Result<()> {
    let report = match process_of(&task.target) {
        Some(process) => of_process(process).with_context(|| format!("process {process}"))?,
        None => of_file(&task.target)?,
    };
    let mut out = io::stdout().lock();
    if task.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{}", show::text(&report))?;
    }
    Ok(out.flush()?)
}

fn process_of(target: &OsStr) -> Option<u32> {
    target.to_str()?.parse().ok()
}

/// A program, or a library.
fn of_file(target: &OsStr) -> Result<Report> {
    let here = Path::new(target);
    // A library needs no slash to be meant.
    let (binary, remark) = match Program::find(target) {
        Err(_) if here.is_file() => {
            let elf = Elf::read(here).with_context(|| here.display().to_string())?;
            (Binary { path: here.to_owned(), elf }, None)
        }
        found => {
            let mut program = found?;
            let remark = program.is_script().then(|| settings::of_script(&program));
            let binary = program.binaries.pop().context("nothing would run")?;
            (binary, remark)
        }
    };
    let is_library =
        binary.elf.interpreter.is_none() && binary.elf.soname.is_some() || is_named_as_library(&binary.path);
    // Tenzor's library is for the machine that this program is for.
    let machine = Elf::read(Path::new("/proc/self/exe"))?.machine;
    let obstacle = if is_library { obstacle_of_code(&binary.elf, machine) } else { obstacle(&binary, machine) };
    let needed = libraries::needed_by(&binary.path, &binary.elf);
    let mut rows = vec![Row::of(&binary.path, &Ok(binary.elf), !is_library)];
    rows.extend(needed.iter().map(|library| match &library.path {
        Some(path) => Row::of(path, &library.elf, false),
        None => Row::missing(&library.name),
    }));
    let has_python = rows.iter().any(|row| row.has_pymalloc);
    // The file that was named stays the first.
    rows.get_mut(1..).unwrap_or_default().sort_by_key(Row::place);
    let mut remarks: Vec<_> = remark.into_iter().chain(has_python.then(|| settings::of_python(false))).collect();
    remarks.extend(settings::remarks(None, None));
    Ok(Report {
        target: target.display().to_string(),
        process: None,
        program: binary.path.display().to_string(),
        obstacle,
        malloc: None,
        libraries: rows,
        memory: None,
        remarks,
    })
}

fn is_named_as_library(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name.ends_with(".so") || name.contains(".so.")
    })
}

fn of_process(number: u32) -> Result<Report> {
    let process = Process::read(number)?;
    let mut files: Vec<(PathBuf, Result<Elf>, u64)> = Vec::new();
    for (path, resident) in process.code() {
        let elf = Elf::read(&process.readable(&path));
        files.push((path, elf, resident));
    }
    let malloc = process.malloc(&files);
    let mut rows: Vec<_> = files
        .iter()
        .map(|(path, elf, resident)| {
            let mut row = Row::of(path, elf, *path == process.program);
            row.resident_bytes = Some(*resident);
            row
        })
        .collect();
    let is_ours = |row: &&Row| row.file.as_deref() == malloc.as_deref().and_then(Path::to_str);
    let is_active = rows.iter().find(is_ours).is_some_and(|row| row.memory == Kind::Tenzor)
        || rows.iter().any(Row::has_tenzor_inside);
    let memory = process.memory(is_active);
    let has_python = rows.iter().any(|row| row.has_pymalloc);
    rows.sort_by_key(Row::place);
    let mut remarks: Vec<_> = has_python.then(|| settings::of_python(true)).into_iter().collect();
    remarks.extend(settings::remarks(Some(&process), Some(&memory)));
    Ok(Report {
        target: number.to_string(),
        process: Some(number),
        program: process.program.display().to_string(),
        obstacle: None,
        malloc: malloc.map(|path| path.display().to_string()),
        libraries: rows,
        memory: Some(memory),
        remarks,
    })
}
