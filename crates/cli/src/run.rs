//! `tenzor run`: another program over Tenzor's heap.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::args::RunTask;
use crate::elf::Elf;
use crate::program::{Failure, Program, obstacle};

/// What goes beside it, and why. What the user has set stays.
///
/// Only what is documented by those who read it, and does what is wanted whatever the program is: many have an allocator of their own that no variable
/// switches off (polars, DuckDB), and one that is as good as it was (CPython's, for objects of up to 512 bytes).
const BESIDE: [(&str, &str, &str); 1] = [(
    "ARROW_DEFAULT_MEMORY_POOL",
    "system",
    "Arrow takes its memory from malloc, not from the mimalloc or jemalloc in it",
)];

/// What the library is called: as it is built, and as it is installed.
const NAMES: [&str; 3] = ["libtenzor_malloc.so", "libtenzor-malloc.so", "libtenzor-malloc.so.0"];

/// Becomes the program: its process, signals and status are this one's. Returns only if that fails.
pub(crate) fn run(task: &RunTask) -> Result<()> {
    let Some((name, arguments)) = task.command.split_first() else {
        return Err(Failure::of_ours("no program was named").into());
    };
    let program = Program::find(name)?;
    let library = library(task.library.as_deref())?;
    let machine = Elf::read(&library)
        .map_err(|error| Failure::of_ours(format!("{}: {error:#}", library.display())))
        .and_then(|elf| {
            let is_one = elf.allocation.exports_malloc;
            let why = || Failure::of_ours(format!("{}: is a library that has no malloc", library.display()));
            is_one.then_some(elf.machine).ok_or_else(why)
        })?;
    for binary in &program.binaries {
        if let Some(why) = obstacle(binary, machine) {
            return Err(Failure::not_run(&binary.path, why).into());
        }
    }
    let set = variables(task, &library)?;
    if task.verbose {
        let mut err = io::stderr().lock();
        for binary in &program.binaries {
            writeln!(err, "tenzor run: {}", binary.path.display())?;
            for own in &binary.elf.allocation.own {
                writeln!(err, "  has {} for itself, whose memory is not Tenzor's", own.name)?;
            }
        }
        for (name, value, why) in &set {
            writeln!(err, "  {name}={}: {why}", value.display())?;
        }
    }
    let mut command = Command::new(&program.file);
    command.arg0(name).args(arguments).envs(set.into_iter().map(|(name, value, _)| (name, value)));
    let error = command.exec();
    Err(match error.kind() {
        ErrorKind::NotFound => Failure::not_found(program.file.as_os_str(), error),
        _ => Failure::not_run(&program.file, error),
    }
    .into())
}

/// The variables that the program gets, each with the reason.
fn variables(task: &RunTask, library: &Path) -> Result<Vec<(&'static str, OsString, &'static str)>, Failure> {
    let mut set = vec![("LD_PRELOAD", preloaded(library)?, "Tenzor's heap in place of malloc")];
    if task.stats {
        // It keeps the number.
        set.push(("TENZOR_STATS", std::process::id().to_string().into(), "tables of its memory when it ends"));
    }
    if task.only_this_process {
        set.push(("TENZOR_ONLY_THIS_PROCESS", "1".into(), "what it starts has its own malloc"));
    }
    if let Some(limit) = task.limit {
        set.push(("TENZOR_LIMIT", limit.0.to_string().into(), "no more may be in use"));
    }
    let beside = BESIDE.iter().filter(|(name, ..)| env::var_os(name).is_none());
    set.extend(beside.map(|&(name, value, why)| (name, value.into(), why)));
    Ok(set)
}

/// `LD_PRELOAD` with the library before what is there.
fn preloaded(library: &Path) -> Result<OsString, Failure> {
    let library = library.as_os_str();
    if let Some(bad) = library.as_bytes().iter().find(|byte| b" :\t\n$".contains(byte)) {
        let bad = char::from(*bad);
        return Err(Failure::of_ours(format!(
            "{}: the loader cannot be given a path with {bad:?} in it; copy the library elsewhere, and name it by --library",
            library.display()
        )));
    }
    let mut all = library.to_owned();
    let others = env::var_os("LD_PRELOAD").unwrap_or_default();
    for other in others.as_bytes().split(|byte| b" :".contains(byte)) {
        if !other.is_empty() && other != library.as_bytes() {
            all.push(":");
            all.push(OsStr::from_bytes(other));
        }
    }
    Ok(all)
}

/// Where the library is, as an absolute path.
fn library(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let absolute = |path: &Path, by: &str| {
        let found = std::path::absolute(path).ok().filter(|path| path.is_file());
        found.ok_or_else(|| Failure::of_ours(format!("{}: there is no such library ({by})", path.display())))
    };
    if let Some(path) = named {
        return absolute(path, "--library");
    }
    if let Some(path) = env::var_os("TENZOR_LIBRARY").filter(|path| !path.is_empty()) {
        return absolute(Path::new(&path), "TENZOR_LIBRARY");
    }
    let program = env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_default();
    let here = program.parent().unwrap_or(Path::new("."));
    let lib = here.parent().unwrap_or(here).join("lib");
    let found =
        [here, &lib].into_iter().flat_map(|folder| NAMES.map(|name| folder.join(name))).find(|path| path.is_file());
    found.ok_or_else(|| {
        Failure::of_ours(format!(
            "there is no libtenzor_malloc.so in {} or {}.\n\
             It is built by `cd crates/preload && cargo build --release`, into target/release there; name it by --library or TENZOR_LIBRARY.",
            here.display(),
            lib.display()
        ))
    })
}
