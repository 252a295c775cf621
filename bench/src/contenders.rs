//! Who is compared: allocators, and what they are told by the environment.

/// An allocator in one setting.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// The worker that is built with it.
    pub(crate) worker: &'static str,
    pub(crate) environment: &'static [(&'static str, &'static str)],
    /// Only where it is named.
    pub(crate) is_extra: bool,
}

impl Contender {
    const fn new(
        name: &'static str,
        worker: &'static str,
        environment: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self { name, worker, environment, is_extra: false }
    }

    const fn extra(self) -> Self {
        Self { is_extra: true, ..self }
    }

    /// No allocator at all: buffers that were mapped and touched beforehand.
    pub(crate) fn is_preallocated(&self) -> bool {
        self.name == PREALLOCATED
    }
}

const PREALLOCATED: &str = "preallocated";

/// The worker of an older state, which is not built: who compares with it puts it there.
pub(crate) const BEFORE: &str = "tenzor-before";

/// The worker that counts what a program requests, and is not compared.
pub(crate) const COUNTING: Contender = Contender::new("counting", "counting", &[]);

/// The worker that measures what only one thread at a time can do, and is not compared.
pub(crate) const SERIAL: Contender = Contender::new("serial", "serial", &[]);

pub(crate) const ALL: [Contender; 14] = [
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
    Contender::new("tenzor-always", "tenzor", &[("TENZOR_HUGE_PAGES", "always")]).extra(),
    Contender::new("tenzor-background", "tenzor", &[("TENZOR_BACKGROUND", "1")]).extra(),
    Contender::new(BEFORE, BEFORE, &[]).extra(),
    Contender::new(PREALLOCATED, "glibc", &[]),
];

// Tuned means: keep what is freed, on huge pages. Each comment tells what it changed when it was tried, on `ring`: minor faults a
// step, and the huge pages of the process at the end.

/// 145 faults and no huge page by default, 0 and 108 MiB so; `hugetlb=1` alone leaves mapped requests to be unmapped again.
const GLIBC: &str = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184:\
    glibc.malloc.top_pad=67108864";

/// 236 faults and no huge page by default, 0 and 162 MiB so. Under the name `MALLOC_CONF`, which this build does not read: as by
/// default.
const JEMALLOC: &str = "dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always";

/// Both versions ask for huge pages by themselves, 112 and 154 MiB, and `MIMALLOC_ALLOW_LARGE_OS_PAGES` adds none. On `train`: 4334
/// faults (v2) and 432 (v3) by default, 0 so.
const MIMALLOC: &[(&str, &str)] = &[("MIMALLOC_PURGE_DELAY", "-1")];
