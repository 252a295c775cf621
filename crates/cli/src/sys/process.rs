//! What the operating system and the C library know of this process. `None` where they do not tell.
#![allow(unsafe_code)]

/// What the process's malloc holds, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MallocFigures {
    /// Obtained from the operating system.
    pub(crate) reserved: usize,
    /// Of these, handed out.
    pub(crate) in_use: usize,
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn malloc_figures() -> Option<MallocFigures> {
    // SAFETY: it takes no arguments and only reads malloc's state, under malloc's locks.
    let info = unsafe { libc::mallinfo2() };
    // `hblkhd` is what malloc mapped for single large buffers, all of it in use; the other two are about its heaps.
    Some(MallocFigures { reserved: info.arena + info.hblkhd, in_use: info.uordblks + info.hblkhd })
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn malloc_figures() -> Option<MallocFigures> {
    None
}

/// Page faults of this process that needed no input or output, since it began.
#[cfg(unix)]
pub(crate) fn minor_faults() -> Option<u64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is a place for one `rusage`, which the call fills.
    let status = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    // SAFETY: `rusage` consists of integers, and all of it was zeroed above at the least.
    let usage = unsafe { usage.assume_init() };
    (status == 0).then_some(usage.ru_minflt as u64)
}

#[cfg(not(unix))]
pub(crate) fn minor_faults() -> Option<u64> {
    None
}

/// Bytes resident now.
pub(crate) fn resident() -> Option<usize> {
    figure("/proc/self/status", "VmRSS:")
}

/// The most bytes resident up to now. `getrusage` has such a figure too, but a new process inherits it from its parent.
pub(crate) fn peak_resident() -> Option<usize> {
    figure("/proc/self/status", "VmHWM:")
}

/// Bytes that the system can give to processes before it has to kill one.
pub(crate) fn available() -> Option<usize> {
    figure("/proc/meminfo", "MemAvailable:")
}

/// A size from a file of Linux's, which gives them in KiB. Other systems have no such files.
fn figure(file: &str, name: &str) -> Option<usize> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}
