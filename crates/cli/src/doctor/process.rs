//! What a process says of its memory, from `/proc`: whose `malloc` it has, and which of its mappings are the heap's.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::elf::Elf;

/// What lies at some addresses.
#[derive(Debug)]
struct Mapping {
    start: u64,
    end: u64,
    is_code: bool,
    /// A path, a name in brackets, or nothing.
    name: String,
    resident: u64,
    huge: u64,
}

impl Mapping {
    fn file(&self) -> Option<&str> {
        self.name.starts_with('/').then_some(&*self.name)
    }
}

#[derive(Debug)]
pub(super) struct Process {
    number: u32,
    pub(super) program: PathBuf,
    mappings: Vec<Mapping>,
    environment: Vec<(String, String)>,
    /// `status` and `limits`, as they are.
    pub(super) status: String,
    pub(super) limits: String,
}

/// Where the resident memory of a process is, in bytes: `heap` to `other` add up to it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Memory {
    pub(super) resident: u64,
    /// Tenzor's, but for its tables; `None` where it is not known which mappings are the heap's.
    pub(super) heap: Option<u64>,
    /// Where the C library's `malloc` has its small blocks.
    pub(super) malloc_heap: u64,
    pub(super) files: u64,
    pub(super) stack: u64,
    pub(super) other: u64,
    /// Of all, in huge pages; of the heap.
    pub(super) huge: u64,
    pub(super) heap_huge: u64,
}

impl Process {
    pub(super) fn read(number: u32) -> Result<Self> {
        let folder = PathBuf::from(format!("/proc/{number}"));
        let text = |name: &str| fs::read(folder.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let smaps = match text("smaps") {
            Ok(smaps) => smaps,
            Err(error) if error.kind() == ErrorKind::NotFound => bail!("there is none of this number"),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                bail!("its memory may not be looked at: that is for its user, or root")
            }
            Err(error) => return Err(error).context("its memory is not told of"),
        };
        let mappings = mappings(&smaps);
        let Ok(program) = fs::read_link(folder.join("exe")) else { bail!("it belongs to the system, or has ended") };
        let environment = text("environ").unwrap_or_default();
        let environment = environment.split('\0').filter_map(|entry| entry.split_once('='));
        Ok(Self {
            number,
            program,
            mappings,
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            status: text("status").unwrap_or_default(),
            limits: text("limits").unwrap_or_default(),
        })
    }

    /// A variable of the environment that it was started with.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(variable, _)| variable == name).map(|(_, value)| &**value)
    }

    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment.iter().map(|(name, value)| (&**name, &**value))
    }

    pub(super) fn mappings(&self) -> usize {
        self.mappings.len()
    }

    /// The control group that limits its memory, if there is one: of this sort are the folders' names.
    pub(super) fn groups(&self) -> String {
        fs::read_to_string(format!("/proc/{}/cgroup", self.number)).unwrap_or_default()
    }

    /// The files that it runs code of, each with what of it is resident, in the order of their names.
    pub(super) fn code(&self) -> Vec<(PathBuf, u64)> {
        let mut files: BTreeMap<&str, (bool, u64)> = BTreeMap::new();
        for mapping in &self.mappings {
            if let Some(name) = mapping.file() {
                let file = files.entry(name).or_default();
                file.0 |= mapping.is_code;
                file.1 += mapping.resident;
            }
        }
        let code = files.into_iter().filter(|(_, (is_code, _))| *is_code);
        code.map(|(name, (_, resident))| (PathBuf::from(name), resident)).collect()
    }

    /// The file by which to read a file of the process's, which may see other folders than this one.
    pub(super) fn readable(&self, path: &Path) -> PathBuf {
        if path == self.program {
            return PathBuf::from(format!("/proc/{}/exe", self.number));
        }
        // The one that is mapped, also where another has its name by now; for whoever may follow it.
        let mapping = self.mappings.iter().find(|mapping| mapping.file() == path.to_str());
        let mapped = mapping.map(|mapping| {
            PathBuf::from(format!("/proc/{}/map_files/{:x}-{:x}", self.number, mapping.start, mapping.end))
        });
        let named = || PathBuf::from(format!("/proc/{}/root{}", self.number, path.display()));
        mapped.filter(|mapped| mapped.metadata().is_ok()).unwrap_or_else(named)
    }

    /// The file whose `malloc` the program and its libraries find: the program's own, that of a library that is preloaded, or the first in the order in which
    /// they are needed.
    pub(super) fn malloc(&self, files: &[(PathBuf, Result<Elf>, u64)]) -> Option<PathBuf> {
        let known = || files.iter().filter_map(|(path, elf, _)| Some((path, elf.as_ref().ok()?)));
        let (_, program) = known().find(|(path, _)| **path == self.program)?;
        if program.allocation.exports_malloc {
            return Some(self.program.clone());
        }
        let named = |wanted: &str| {
            let name = Path::new(wanted).file_name()?;
            known().find(|(path, elf)| {
                path.file_name() == Some(name) || elf.soname.as_deref() == name.to_str() || is_same(path, wanted)
            })
        };
        let preloaded = self.variable("LD_PRELOAD").unwrap_or_default();
        let preloaded = preloaded.split([' ', ':']).filter(|name| !name.is_empty()).filter_map(named);
        if let Some((path, _)) = preloaded.into_iter().find(|(_, elf)| elf.allocation.exports_malloc) {
            return Some(path.clone());
        }
        let mut order: Vec<&str> = program.needed.iter().map(|name| &**name).collect();
        let mut next = 0;
        while let Some(name) = order.get(next) {
            if let Some((path, elf)) = named(name) {
                if elf.allocation.exports_malloc {
                    return Some(path.clone());
                }
                let more = elf.needed.iter().filter(|name| !order.contains(&&***name)).map(|name| &**name);
                let more: Vec<_> = more.collect();
                order.extend(more);
            }
            next += 1;
        }
        None
    }

    /// Where its memory is. `is_active` says that Tenzor's heap is in it.
    pub(super) fn memory(&self, is_active: bool) -> Memory {
        let mut memory = Memory::default();
        let place = self.place();
        // Where what belongs to the program ends, as far as was looked.
        let mut program = 0;
        for mapping in &self.mappings {
            memory.resident += mapping.resident;
            memory.huge += mapping.huge;
            if mapping.start == program || mapping.name == "[heap]" || self.program.to_str() == mapping.file() {
                program = mapping.end;
            } else if is_active && mapping.name.is_empty() && place.contains(&mapping.start) {
                *memory.heap.get_or_insert(0) += mapping.resident;
                memory.heap_huge += mapping.huge;
                continue;
            }
            *match &*mapping.name {
                "[heap]" => &mut memory.malloc_heap,
                name if name.starts_with("[stack") => &mut memory.stack,
                name if name.starts_with('/') => &mut memory.files,
                _ => &mut memory.other,
            } += mapping.resident;
        }
        // Where the system chooses its addresses, they tell nothing.
        if !is_active {
            memory.heap = Some(0);
        }
        memory
    }

    /// The addresses between which Tenzor's heap lies: it begins at 87/128 of those that the system gives, or a little after, and has room for others behind
    /// it, up to 104/128. Programs end before, but for what follows on one.
    fn place(&self) -> Range<u64> {
        let top = self.mappings.iter().filter(|mapping| mapping.file().is_some()).map(|mapping| mapping.end).max();
        // What the heap takes for the top is below this one, by less than a part.
        let part = top.unwrap_or(0) / 128;
        part * 86..part * 105
    }
}

/// Whether a path that was given to the loader is that of a file that is mapped.
fn is_same(path: &Path, wanted: &str) -> bool {
    Path::new(wanted).canonicalize().is_ok_and(|wanted| wanted == path)
}

/// What `smaps` says: of each mapping a line, and then what is known of it, in KiB.
fn mappings(smaps: &str) -> Vec<Mapping> {
    let mut all: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        if let Some(mapping) = mapping(line) {
            all.push(mapping);
        } else if let Some((name, value)) = line.split_once(':')
            && let Some(last) = all.last_mut()
        {
            let bytes = || value.trim().trim_end_matches(" kB").parse().unwrap_or(0) * 1024;
            match name {
                "Rss" => last.resident = bytes(),
                "AnonHugePages" => last.huge = bytes(),
                _ => {}
            }
        }
    }
    all
}

/// The line with which one begins: `start-end rights offset device inode name`.
fn mapping(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || {
        let (field, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = after.trim_start();
        field
    };
    let (start, end) = field().split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let rights = field();
    for _ in 0..3 {
        field();
    }
    Some(Mapping { start, end, is_code: rights.contains('x'), name: rest.to_owned(), resident: 0, huge: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(smaps: &str) -> Process {
        let mappings = mappings(smaps);
        let program = PathBuf::from("/bin/program");
        Process { number: 1, program, mappings, environment: Vec::new(), status: String::new(), limits: String::new() }
    }

    #[test]
    fn addresses_tell_which_memory_is_the_heaps() {
        // A program that ends where the heap may begin, its memory that follows on it, and a copy of its code further up, as node makes.
        let lines = [
            "001000000000-001000001000 rw-p 00000000 00:00 0",
            "565400000000-565400001000 r-xp 00000000 fe:00 1    /bin/program",
            "565400001000-565400002000 rw-p 00000000 00:00 0",
            "565400004000-565400005000 rw-p 00000000 00:00 0    [heap]",
            "576744e00000-576745200000 rw-p 00000000 00:00 0",
            "67a746000000-67a746200000 rw-p 00000000 00:00 0",
            "7f6d61b43000-7f6d61b7f000 r-xp 00000000 fe:00 1    /bin/program",
            "7f6d81b54000-7f6d81b74000 rw-p 00000000 00:00 0",
            "7f6d84720000-7f6d84730000 r--p 00000000 fe:00 2    /lib/with a space.so",
            "7ffea3851000-7ffea3872000 rw-p 00000000 00:00 0    [stack]",
        ];
        let smaps: Vec<_> = (0..)
            .zip(lines)
            .map(|(bit, line)| format!("{line}\nRss: {} kB\nAnonHugePages: {bit} kB\n", 1 << bit))
            .collect();
        let process = process(&smaps.concat());
        let memory = process.memory(true);
        let kib = |bits: &[u32]| bits.iter().map(|bit| 1024 << bit).sum::<u64>();
        assert_eq!(memory.heap, Some(kib(&[4, 5])));
        assert_eq!((memory.malloc_heap, memory.stack), (kib(&[3]), kib(&[9])));
        assert_eq!((memory.files, memory.other), (kib(&[1, 6, 8]), kib(&[0, 2, 7])));
        assert_eq!((memory.resident, memory.huge, memory.heap_huge), ((1 << 20) - 1024, 45 << 10, 9 << 10));
        assert_eq!(process.memory(false).heap, Some(0));
        assert_eq!(process.code(), [(PathBuf::from("/bin/program"), kib(&[1, 6]))]);
    }
}
