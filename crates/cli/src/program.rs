//! Which file runs when a program is started, and what stands in the way of a library that is preloaded.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::elf::{Elf, MAGIC, Machine};
use crate::sys::privileges;

/// Why a program does not run, with the status that `env` and shells give for it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: u8,
    why: String,
}

impl Failure {
    /// Nothing was tried yet: what the command itself lacks.
    pub(crate) fn of_ours(why: impl Into<String>) -> Self {
        Self { status: 125, why: why.into() }
    }

    pub(crate) fn not_run(path: &Path, why: impl fmt::Display) -> Self {
        Self { status: 126, why: format!("{}: {why}", path.display()) }
    }

    pub(crate) fn not_found(name: &OsStr, why: impl fmt::Display) -> Self {
        Self { status: 127, why: format!("{}: {why}", name.display()) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Failure {}

/// A file of machine code.
#[derive(Debug)]
pub(crate) struct Binary {
    pub(crate) path: PathBuf,
    pub(crate) elf: Elf,
}

/// What runs in the end.
#[derive(Debug)]
pub(crate) struct Program {
    /// The file that was named.
    pub(crate) file: PathBuf,
    /// If that is a script: its interpreter, and `env` before it.
    pub(crate) binaries: Vec<Binary>,
}

/// How many scripts may be the interpreters of scripts; the system allows a few.
const MOST_SCRIPTS: usize = 4;

impl Program {
    /// Looks for it as `exec` does, and follows scripts to who reads them.
    pub(crate) fn find(name: &OsStr) -> Result<Self, Failure> {
        let file = look_up(name)?;
        let mut binaries = Vec::new();
        let mut next = file.clone();
        for _ in 0..=MOST_SCRIPTS {
            let start = start_of(&next).map_err(|error| Failure::not_run(&next, error))?;
            let Some(line) = start.strip_prefix(b"#!") else {
                if !start.starts_with(&MAGIC) {
                    return Err(Failure::not_run(&next, "is neither an ELF program nor a script that begins with #!"));
                }
                let elf = Elf::read(&next).map_err(|error| Failure::not_run(&next, format!("{error:#}")))?;
                binaries.push(Binary { path: next, elf });
                return Ok(Self { file, binaries });
            };
            let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
            let (interpreter, argument) = match line.iter().position(|byte| b" \t".contains(byte)) {
                Some(end) => line.split_at(end),
                None => (line, &[][..]),
            };
            let interpreter = PathBuf::from(OsStr::from_bytes(interpreter));
            if !interpreter.is_file() {
                let why = format!("its interpreter {} does not exist", interpreter.display());
                return Err(Failure::not_run(&next, why));
            }
            next = match started_by_env(argument).filter(|_| interpreter.ends_with("env")) {
                Some(started) => {
                    let elf = Elf::read(&interpreter);
                    let elf = elf.map_err(|error| Failure::not_run(&interpreter, format!("{error:#}")))?;
                    binaries.push(Binary { path: interpreter, elf });
                    look_up(OsStr::from_bytes(started))?
                }
                None => interpreter,
            };
        }
        Err(Failure::not_run(&file, "is a script of a script of a script …"))
    }

    pub(crate) fn is_script(&self) -> bool {
        self.binaries.last().is_some_and(|binary| binary.path != self.file)
    }
}

/// The file of a program: looked for in `PATH`, unless its name has a slash.
fn look_up(name: &OsStr) -> Result<PathBuf, Failure> {
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match path.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Failure::not_found(name, error)),
            Err(error) => Err(Failure::not_run(&path, error)),
            Ok(file) if file.is_dir() => Err(Failure::not_run(&path, "is a folder")),
            Ok(file) if file.permissions().mode() & 0o111 == 0 => Err(Failure::not_run(&path, "may not be run")),
            Ok(_) => Ok(path),
        };
    }
    let folders = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let found = env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|path| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0));
    found.ok_or_else(|| Failure::not_found(name, "there is no such program in PATH"))
}

/// The first bytes of a file: as many as the system looks at.
fn start_of(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path)?.take(256).read_to_end(&mut start)?;
    Ok(start)
}

/// The program that `env` starts for a line `#!/usr/bin/env …`.
fn started_by_env(argument: &[u8]) -> Option<&[u8]> {
    let mut words = argument.split(|byte| b" \t".contains(byte)).filter(|word| !word.is_empty());
    loop {
        match words.next()? {
            b"-u" | b"-C" | b"--unset" | b"--chdir" => _ = words.next(),
            word if word.starts_with(b"-S") && word.len() > 2 => return word.get(2..),
            word if word.starts_with(b"-") || word.contains(&b'=') => {}
            word => return Some(word),
        }
    }
}

/// Why code cannot be in a process with a library for `machine`; in words, for after the file's name.
pub(crate) fn obstacle_of_code(elf: &Elf, machine: Machine) -> Option<String> {
    if elf.machine != machine {
        return Some(format!("is for {}, and the library is for {}", elf.machine.name(), machine.name()));
    }
    let sanitizer = elf.allocation.sanitizer?;
    Some(format!("is built with the {sanitizer}, which has to have malloc for itself"))
}

/// Why a library for `machine` cannot be preloaded into it, or would serve nothing there; in words, for after the file's name.
pub(crate) fn obstacle(binary: &Binary, machine: Machine) -> Option<String> {
    let Binary { path, elf } = binary;
    if let Some(obstacle) = obstacle_of_code(elf, machine) {
        return Some(obstacle);
    }
    let Some(interpreter) = &elf.interpreter else {
        return Some("is static: no loader runs that would load a library before it".to_owned());
    };
    if interpreter.contains("ld-musl") {
        return Some("stands on the C library musl, and the library is for glibc".to_owned());
    }
    if let Some(privileges) = privileges(path) {
        return Some(format!("{privileges}: the loader heeds no LD_PRELOAD then"));
    }
    if elf.allocation.exports_malloc {
        let own = elf.allocation.own.first().map(|own| format!(" ({})", own.name)).unwrap_or_default();
        return Some(format!("has a malloc of its own{own}, which its libraries find before any other"));
    }
    None
}
