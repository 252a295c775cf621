//! Who is compared: allocators, and what they are told by the environment.

/// An allocator in one setting.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// The worker that is built with it.
    pub(crate) worker: &'static str,
    pub(crate) environment: &'static [(&'static str, &'static str)],
}

impl Contender {
    const fn new(
        name: &'static str,
        worker: &'static str,
        environment: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self { name, worker, environment }
    }

    /// No allocator at all: buffers that were mapped and touched beforehand.
    pub(crate) fn is_preallocated(&self) -> bool {
        self.name == PREALLOCATED
    }
}

const PREALLOCATED: &str = "preallocated";

/// The worker that counts what a program requests, and is not compared.
pub(crate) const COUNTING: Contender = Contender::new("counting", "counting", &[]);

pub(crate) const ALL: [Contender; 11] = [
    Contender::new("glibc", "glibc", &[]),
    Contender::new("glibc-tuned", "glibc", &[("GLIBC_TUNABLES", GLIBC)]),
    Contender::new("jemalloc", "jemalloc", &[]),
    Contender::new("jemalloc-tuned", "jemalloc", &[("_RJEM_MALLOC_CONF", JEMALLOC)]),
    Contender::new("mimalloc-v2", "mimalloc-v2", &[]),
    Contender::new("mimalloc-v2-tuned", "mimalloc-v2", MIMALLOC),
    Contender::new("mimalloc-v3", "mimalloc-v3", &[]),
    Contender::new("mimalloc-v3-tuned", "mimalloc-v3", MIMALLOC),
    Contender::new("snmalloc", "snmalloc", &[]),
    Contender::new("tenzor", "tenzor", &[]),
    Contender::new(PREALLOCATED, "glibc", &[]),
];

// Tuned means: keep what is freed, on huge pages.

const GLIBC: &str = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.mmap_threshold=4294967296:\
    glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=67108864";

const JEMALLOC: &str = "dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always";

const MIMALLOC: &[(&str, &str)] = &[("MIMALLOC_PURGE_DELAY", "-1"), ("MIMALLOC_ALLOW_LARGE_OS_PAGES", "1")];
