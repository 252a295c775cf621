//! Which allocator the names in a file belong to.

use serde::Serialize;

/// An allocator, or a heap for objects of one language, as its names and its messages tell.
struct Family {
    name: &'static str,
    /// Whether a symbol that a file defines is one of its own.
    defines: fn(&str) -> bool,
    /// What it says on standard error, in files without symbols.
    says: Option<&'static str>,
}

const FAMILIES: [Family; 12] = [
    Family {
        name: "jemalloc",
        // With any prefix: je_, _rjem_ (Rust), duckdb_je_.
        defines: |name| name.ends_with("sdallocx") || name.ends_with("mallctlbymib"),
        says: Some("<jemalloc>: "),
    },
    Family {
        name: "mimalloc",
        defines: |name| name == "mi_malloc" || name == "mi_free" || name.ends_with("mi_malloc_generic"),
        says: Some("mimalloc: "),
    },
    Family {
        name: "tcmalloc",
        defines: |name| name == "tc_malloc" || name.starts_with("TCMallocInternal") || name.starts_with("_ZN8tcmalloc"),
        says: Some("tcmalloc: "),
    },
    Family { name: "snmalloc", defines: |name| name == "sn_malloc" || name.starts_with("_ZN8snmalloc"), says: None },
    Family { name: "rpmalloc", defines: |name| name == "rpmalloc", says: None },
    Family { name: "tbbmalloc", defines: |name| name == "scalable_malloc", says: None },
    Family {
        name: "scudo",
        defines: |name| name == "scudo_malloc" || name.starts_with("_ZN5scudo"),
        says: Some("Scudo ERROR"),
    },
    Family { name: "PartitionAlloc", defines: |name| name.starts_with("_ZN14partition_alloc"), says: None },
    Family { name: "Tenzor, linked in", defines: |name| name.contains("13tenzor_memory"), says: None },
    Family { name: "V8's heap", defines: |name| name.starts_with("_ZN2v87Isolate"), says: None },
    Family { name: "Java's heap", defines: |name| name == "JNI_CreateJavaVM", says: None },
    Family { name: "Go's heap", defines: |name| name == "runtime.mallocgc", says: None },
];

/// How it is known that a file has an allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Evidence {
    /// It defines its functions.
    Symbols,
    /// Its messages are there, and no symbols that would tell: a hint.
    Messages,
}

/// An allocator that a file has for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Own {
    pub(crate) name: &'static str,
    pub(crate) evidence: Evidence,
}

/// What the symbols of one file say about whose memory it uses.
#[derive(Debug, Default)]
pub(crate) struct Allocation {
    /// It asks others for memory: C's functions, C++'s operators.
    pub(crate) imports: bool,
    /// Others find a `malloc` in it.
    pub(crate) exports_malloc: bool,
    /// It is built to be watched by a sanitizer, which has to have `malloc` for itself.
    pub(crate) sanitizer: Option<&'static str>,
    /// Python's objects of up to 512 bytes lie in pages that it maps for itself.
    pub(crate) has_pymalloc: bool,
    pub(crate) own: Vec<Own>,
}

/// How symbols and libraries of sanitizers begin that take `malloc` for themselves.
const SANITIZERS: [(&str, [&str; 3]); 5] = [
    ("address sanitizer", ["__asan_init", "libasan.so", "libclang_rt.asan"]),
    ("thread sanitizer", ["__tsan_init", "libtsan.so", "libclang_rt.tsan"]),
    ("memory sanitizer", ["__msan_init", "libmsan.so", "libclang_rt.msan"]),
    ("leak sanitizer", ["__lsan_init", "liblsan.so", "libclang_rt.lsan"]),
    ("hardware address sanitizer", ["__hwasan_init", "libhwasan.so", "libclang_rt.hwasan"]),
];

impl Allocation {
    /// A symbol that others see or are to provide.
    pub(crate) fn note_dynamic(&mut self, name: &str, is_defined: bool) {
        self.note_sanitizer(name);
        if is_defined {
            self.exports_malloc |= name == "malloc";
            self.note_defined(name);
        } else {
            let operators = ["_Znw", "_Zna", "_Zdl", "_Zda"];
            self.imports |= matches!(
                name,
                "malloc" | "calloc" | "realloc" | "free" | "posix_memalign" | "aligned_alloc" | "memalign" | "strdup"
            ) || operators.iter().any(|operator| name.starts_with(operator));
        }
    }

    /// A symbol that is defined, for others or for the file itself.
    pub(crate) fn note_defined(&mut self, name: &str) {
        self.has_pymalloc |= name == "PyObject_Malloc";
        for family in FAMILIES.iter().filter(|family| (family.defines)(name)) {
            self.note(family.name, Evidence::Symbols);
        }
    }

    /// A library that is needed.
    pub(crate) fn note_needed(&mut self, name: &str) {
        self.note_sanitizer(name);
    }

    fn note_sanitizer(&mut self, name: &str) {
        let found = SANITIZERS.iter().find(|(_, starts)| starts.iter().any(|start| name.starts_with(start)));
        self.sanitizer = self.sanitizer.or(found.map(|(sanitizer, _)| *sanitizer));
    }

    /// A piece of what the file keeps constant: the messages in it.
    pub(crate) fn note_constants(&mut self, bytes: &[u8]) {
        for family in &FAMILIES {
            if let Some(says) = family.says
                && memchr::memmem::find(bytes, says.as_bytes()).is_some()
            {
                self.note(family.name, Evidence::Messages);
            }
        }
    }

    fn note(&mut self, name: &'static str, evidence: Evidence) {
        if !self.own.iter().any(|own| own.name == name) {
            self.own.push(Own { name, evidence });
        }
    }
}
