//! What is said of one library.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::allocators::{Evidence, Own};
use crate::elf::Elf;

/// Where what a file asks for comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// The heap itself, as a library.
    Tenzor,
    /// It asks for memory by C's functions or C++'s operators.
    Reaches,
    /// It has an allocator of its own.
    Own,
    /// It has a `malloc` that others are to find.
    Malloc,
    /// The C library.
    Libc,
    /// It asks nobody.
    Nothing,
    /// It could not be read, or has no symbols at all.
    Unknown,
}

#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) file: Option<String>,
    pub(super) problem: Option<String>,
    pub(super) memory: Kind,
    pub(super) imports: bool,
    pub(super) own: Vec<Own>,
    pub(super) resident_bytes: Option<u64>,
    #[serde(skip)]
    pub(super) has_pymalloc: bool,
    #[serde(skip)]
    is_symbolic: bool,
    #[serde(skip)]
    is_program: bool,
    #[serde(skip)]
    is_static: bool,
}

/// How the library is called, whatever its file is.
const SONAME: &str = "libtenzor-malloc.so.0";

impl Row {
    pub(super) fn of(path: &Path, elf: &Result<Elf>, is_program: bool) -> Self {
        let mut row = Self {
            name: path.file_name().unwrap_or_default().display().to_string(),
            file: Some(path.display().to_string()),
            problem: elf.as_ref().err().map(|error| format!("{error:#}")),
            memory: Kind::Unknown,
            imports: false,
            own: Vec::new(),
            resident_bytes: None,
            has_pymalloc: false,
            is_symbolic: false,
            is_program,
            is_static: false,
        };
        if let Ok(elf) = elf {
            let allocation = &elf.allocation;
            row.imports = allocation.imports;
            row.own.clone_from(&allocation.own);
            row.has_pymalloc = allocation.has_pymalloc;
            row.is_symbolic = elf.is_symbolic;
            row.is_static = is_program && elf.interpreter.is_none();
            let soname = elf.soname.as_deref();
            row.memory = if soname == Some(SONAME) {
                // Of what it is made of, nothing is another allocator.
                row.own.clear();
                Kind::Tenzor
            } else if soname.is_some_and(|name| name.starts_with("libc.so")) {
                Kind::Libc
            } else if allocation.exports_malloc || row.is_static {
                Kind::Malloc
            } else if !allocation.own.is_empty() {
                Kind::Own
            } else if allocation.imports {
                Kind::Reaches
            } else if elf.has_symbols {
                Kind::Nothing
            } else {
                Kind::Unknown
            };
        }
        row
    }

    /// One that is needed, and that the loader would not find.
    pub(super) fn missing(name: &str) -> Self {
        let error = Err(anyhow::anyhow!("is not found"));
        Self { file: None, ..Self::of(Path::new(name), &error, false) }
    }

    /// A Rust program whose global allocator is Tenzor's.
    pub(super) fn has_tenzor_inside(&self) -> bool {
        self.own.iter().any(|own| own.name.starts_with("Tenzor"))
    }

    /// Where it stands among others: the program first, then what has more to it than that it asks for memory.
    pub(super) fn place(&self) -> (bool, u8) {
        let kind = match self.memory {
            Kind::Tenzor => 0,
            Kind::Own => 1,
            Kind::Malloc => 2,
            Kind::Unknown => 3,
            Kind::Libc => 4,
            Kind::Reaches => 5,
            Kind::Nothing => 6,
        };
        (!self.is_program, kind)
    }

    /// In words. `is` says that Tenzor's heap is there, and not only would be.
    pub(super) fn words(&self, is: bool) -> String {
        let reaches = if is { "reaches Tenzor" } else { "would reach Tenzor" };
        let gives_way = if is { "gives way to Tenzor's" } else { "would give way to Tenzor's" };
        let own: Vec<_> = self.own.iter().map(|own| own.name).collect();
        let own = own.join(" and ");
        match self.memory {
            Kind::Tenzor => "is Tenzor's heap".to_owned(),
            Kind::Reaches => reaches.to_owned(),
            Kind::Own => {
                let rest = if self.imports { format!("; the rest {reaches}") } else { String::new() };
                match self.own.iter().any(|own| own.evidence == Evidence::Symbols) {
                    true => format!("has its own: {own}{rest}"),
                    false => format!(
                        "has its own, it seems: messages of {own} are in it, and no symbols that would tell{rest}"
                    ),
                }
            }
            Kind::Malloc => {
                let of = if own.is_empty() { String::new() } else { format!(" ({own})") };
                match (self.is_program, self.is_symbolic) {
                    _ if self.is_static => "is static: what it allocates with is in it".to_owned(),
                    (true, _) => format!("has a malloc of its own{of}, for all its libraries"),
                    (false, true) => format!("has a malloc of its own{of}, and prefers it"),
                    (false, false) => format!("has a malloc{of}, which {gives_way}"),
                }
            }
            Kind::Libc => format!("the C library: its malloc {gives_way}"),
            Kind::Nothing => "asks for no memory".to_owned(),
            Kind::Unknown => match &self.problem {
                Some(problem) => problem.clone(),
                None => "is not known: it has no tables of symbols".to_owned(),
            },
        }
    }
}
