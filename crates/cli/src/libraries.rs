//! Which files the loader would load with a program: what it needs, and what that needs. Nothing is run.

use std::collections::HashMap;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

use crate::elf::{Elf, Machine};

/// A library that is needed, under the name by which it is.
#[derive(Debug)]
pub(crate) struct Library {
    pub(crate) name: String,
    /// `None` if it is not found.
    pub(crate) path: Option<PathBuf>,
    pub(crate) elf: Result<Elf>,
    /// Where those look that it needs: its own `DT_RPATH`s and those of who needs it.
    rpaths: Vec<PathBuf>,
}

/// The most libraries that are followed; no program has so many.
const MOST: usize = 4096;

/// What is loaded with a program or library, in the order in which the loader does, each once.
pub(crate) fn needed_by(path: &Path, elf: &Elf) -> Vec<Library> {
    let search = Search::new(elf.machine);
    let mut all: Vec<Library> = Vec::new();
    let rpaths = search.rpaths(path, elf);
    search.add(path, elf, &rpaths, &mut all);
    let mut next = 0;
    while let Some(library) = all.get(next).filter(|_| next < MOST) {
        let mut more = Vec::new();
        if let (Some(path), Ok(elf)) = (&library.path, &library.elf) {
            search.add(path, elf, &library.rpaths, &mut more);
        }
        for library in more {
            let is_new = all.iter().all(|other| {
                let soname = other.elf.as_ref().ok().and_then(|elf| elf.soname.as_deref());
                other.name != library.name && soname != Some(&library.name)
            });
            if is_new {
                all.push(library);
            }
        }
        next += 1;
    }
    all
}

/// Where libraries are looked for.
struct Search {
    machine: Machine,
    /// `LD_LIBRARY_PATH`.
    asked: Vec<PathBuf>,
    /// What `ldconfig` has found.
    cached: HashMap<Vec<u8>, Vec<PathBuf>>,
}

/// Where the loader looks at last, on the systems that there are.
const FOLDERS: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];

impl Search {
    fn new(machine: Machine) -> Self {
        let asked = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let asked = asked.as_bytes().split(|byte| b":;".contains(byte)).filter(|folder| !folder.is_empty());
        let asked = asked.map(|folder| PathBuf::from(OsStr::from_bytes(folder))).collect();
        Self { machine, asked, cached: cache(&fs::read("/etc/ld.so.cache").unwrap_or_default()) }
    }

    /// The folders of a `DT_RPATH` with a `DT_RUNPATH` there is none.
    fn rpaths(&self, path: &Path, elf: &Elf) -> Vec<PathBuf> {
        match (&elf.rpath, &elf.runpath) {
            (Some(rpath), None) => folders(rpath, path),
            _ => Vec::new(),
        }
    }

    /// Adds what a file needs itself.
    fn add(&self, path: &Path, elf: &Elf, rpaths: &[PathBuf], to: &mut Vec<Library>) {
        let runpaths = elf.runpath.as_ref().map(|runpath| folders(runpath, path)).unwrap_or_default();
        // With a DT_RUNPATH, no DT_RPATH counts, whoever's.
        let rpaths = if elf.runpath.is_some() { &[] } else { rpaths };
        for name in &elf.needed {
            let beside = [rpaths, &self.asked, &runpaths].into_iter().flatten().map(|folder| folder.join(name));
            let cached = self.cached.get(name.as_bytes()).into_iter().flatten().cloned();
            let last = FOLDERS.iter().map(|folder| Path::new(folder).join(name));
            let direct = name.contains('/').then(|| PathBuf::from(name));
            let places = direct.into_iter().chain(beside).chain(cached).chain(last);
            let mut found = places.filter(|path| path.is_file()).map(|path| {
                let elf = Elf::read(&path);
                (path, elf)
            });
            // Those for other machines are passed over.
            let found = found.find(|(_, elf)| elf.as_ref().map_or(true, |elf| elf.machine == self.machine));
            to.push(match found {
                Some((path, elf)) => {
                    let own = elf.as_ref().map(|elf| self.rpaths(&path, elf)).unwrap_or_default();
                    let rpaths = own.into_iter().chain(rpaths.iter().cloned()).collect();
                    Library { name: name.clone(), path: Some(path), elf, rpaths }
                }
                None => {
                    Library { name: name.clone(), path: None, elf: Err(anyhow!("is not found")), rpaths: Vec::new() }
                }
            });
        }
    }
}

/// The folders of a `DT_RPATH` or `DT_RUNPATH` in the file at `path`.
fn folders(list: &str, path: &Path) -> Vec<PathBuf> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let origin = path.parent().unwrap_or(Path::new("/")).display().to_string();
    let folders = list.split(':').filter(|folder| !folder.is_empty());
    let folders = folders.map(|folder| folder.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin));
    folders.map(|folder| PathBuf::from(folder.replace("$LIB", "lib").replace("${LIB}", "lib"))).collect()
}

/// What the loader's cache has for each name; nothing if it is of another form.
fn cache(bytes: &[u8]) -> HashMap<Vec<u8>, Vec<PathBuf>> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    const HEADER: usize = 48;
    const ENTRY: usize = 24;
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    let Some(start) = memchr::memmem::find(bytes, MAGIC) else { return all };
    let bytes = bytes.get(start..).unwrap_or_default();
    let number = |at: usize| {
        let field = bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_ne_bytes(field.try_into().ok()?) as usize)
    };
    let string = |at: usize| bytes.get(at..)?.split(|&byte| byte == 0).next();
    let entries = number(MAGIC.len()).unwrap_or(0).min(bytes.len() / ENTRY);
    for entry in 0..entries {
        let at = HEADER + entry * ENTRY;
        let name = number(at + 4).and_then(string);
        let path = number(at + 8).and_then(string);
        if let (Some(name), Some(path)) = (name, path) {
            all.entry(name.to_owned()).or_default().push(PathBuf::from(OsStr::from_bytes(path)));
        }
    }
    all
}
