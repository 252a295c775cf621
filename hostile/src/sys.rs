//! The system, as the programs need it: each call in a safe coat. Nothing here allocates, so all of it works where nothing is granted.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::{null, null_mut};

/// A page of the kernel's.
pub const PAGE: usize = 4096;

/// Which limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Addresses,
    Data,
    Locked,
}

impl Limit {
    fn number(self) -> libc::__rlimit_resource_t {
        match self {
            Limit::Addresses => libc::RLIMIT_AS,
            Limit::Data => libc::RLIMIT_DATA,
            Limit::Locked => libc::RLIMIT_MEMLOCK,
        }
    }

    /// What of the process counts against it, in bytes.
    pub fn used(self) -> u64 {
        status(match self {
            Limit::Addresses => "VmSize",
            Limit::Data => "VmData",
            Limit::Locked => "VmLck",
        })
    }
}

fn outcome(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets a soft limit of process `pid` (0: this one), or lifts it.
pub fn limit(pid: i32, which: Limit, bytes: Option<u64>) -> io::Result<()> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is written, nothing is read.
    outcome(unsafe { libc::prlimit(pid, which.number(), null(), &raw mut now) })?;
    now.rlim_cur = bytes.unwrap_or(now.rlim_max).min(now.rlim_max);
    // SAFETY: `now` is read, nothing is written.
    outcome(unsafe { libc::prlimit(pid, which.number(), &raw const now, null_mut()) })
}

/// The most that a limit of this process can be raised to without privilege.
pub fn most(which: Limit) -> u64 {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is written.
    unsafe { libc::getrlimit(which.number(), &raw mut now) };
    now.rlim_max
}

/// Ends the process by SIGALRM after so many seconds, unless this is called again; 0: never.
pub fn alarm(seconds: u32) {
    // SAFETY: no memory is involved.
    unsafe { libc::alarm(seconds) };
}

/// Sets a limit of this process for good, the hard one too.
pub fn limit_for_good(which: Limit, bytes: u64) -> io::Result<()> {
    let both = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: `both` is read.
    outcome(unsafe { libc::setrlimit(which.number(), &raw const both) })
}

/// The contents of a small file under /proc, in a buffer of the caller's.
pub fn read<'buffer>(path: &str, buffer: &'buffer mut [u8]) -> io::Result<&'buffer str> {
    let mut file = File::open(path)?;
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            more => filled += more,
        }
    }
    std::str::from_utf8(&buffer[..filled]).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// A field of a file in /proc whose lines read `name: number kB`, in bytes (in the file's own unit where there is no `kB`).
pub fn field(path: &str, name: &str) -> Option<u64> {
    let mut buffer = [0; 8192];
    let text = read(path, &mut buffer).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let mut words = line.split_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    Some(if words.next() == Some("kB") { number << 10 } else { number })
}

/// A field of this process's status: `VmRSS`, `VmSize`, `VmData`, `VmLck`, `Threads`.
pub fn status(name: &str) -> u64 {
    field("/proc/self/status", name).unwrap_or(0)
}

/// How many mappings the process has.
pub fn mappings() -> usize {
    let Ok(mut file) = File::open("/proc/self/maps") else { return 0 };
    let mut buffer = [0; 8192];
    let mut lines = 0;
    while let Ok(filled @ 1..) = file.read(&mut buffer) {
        lines += buffer[..filled].iter().filter(|&&byte| byte == b'\n').count();
    }
    lines
}

/// Page faults of this process so far that needed no disk.
pub fn faults() -> u64 {
    // SAFETY: all zeroes is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is written.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    usage.ru_minflt as u64
}

/// What the machine has of memory and swap together, in bytes.
pub fn memory_and_swap() -> u64 {
    field("/proc/meminfo", "MemTotal").unwrap_or(0) + field("/proc/meminfo", "SwapTotal").unwrap_or(0)
}

/// A mapping of the program's own, gone when dropped.
#[derive(Debug)]
pub struct Mapping {
    at: *mut u8,
    bytes: usize,
}

// SAFETY: the mapping is owned; who has it may use it on any thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Private memory, at the kernel's choice.
    pub fn private(bytes: usize, protection: i32) -> io::Result<Self> {
        Self::new(bytes, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// Pages of a file, shared with it, at the kernel's choice.
    pub fn shared(file: &OwnedFd, at: i64, bytes: usize) -> io::Result<Self> {
        Self::new(bytes, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file.as_raw_fd(), at)
    }

    fn new(bytes: usize, protection: i32, flags: i32, file: i32, offset: i64) -> io::Result<Self> {
        // SAFETY: without MAP_FIXED nothing that is mapped is touched.
        let at = unsafe { libc::mmap(null_mut(), bytes, protection, flags, file, offset) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { at: at.cast(), bytes })
    }

    /// Where it starts.
    pub fn at(&self) -> *mut u8 {
        self.at
    }

    /// Reads a byte of it.
    pub fn byte(&self, offset: usize) -> u8 {
        crate::ensure!(offset < self.bytes, "offset beyond the mapping");
        // SAFETY: within the mapping, which its makers here leave readable where they read it.
        unsafe { self.at.add(offset).read_volatile() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody has it any more.
        unsafe { libc::munmap(self.at.cast(), self.bytes) };
    }
}

/// What is done to the pages of a block, behind the allocator's back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Locked,
    NotDumped,
    NotForked,
    Merged,
}

/// Marks one page of memory; whether the kernel did it.
pub fn mark(page: *mut u8, mark: Mark) -> bool {
    let page = page.cast();
    // SAFETY: none of these changes contents.
    let result = unsafe {
        match mark {
            Mark::Locked => libc::mlock(page, PAGE),
            Mark::NotDumped => libc::madvise(page, PAGE, libc::MADV_DONTDUMP),
            Mark::NotForked => libc::madvise(page, PAGE, libc::MADV_DONTFORK),
            Mark::Merged => libc::madvise(page, PAGE, libc::MADV_MERGEABLE),
        }
    };
    result == 0
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Exit(i32),
    Signal(i32),
}

/// Runs `child` in a fork of this process, which ends with what it returns, or by SIGALRM after `seconds`.
pub fn fork(seconds: u32, child: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: what the child may do is what is tried here.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            alarm(seconds);
            // SAFETY: the end of the process.
            unsafe { libc::_exit(child()) }
        }
        pid => Ok(pid),
    }
}

/// Waits for a child.
pub fn wait(pid: i32) -> io::Result<End> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is written.
        if unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(if libc::WIFSIGNALED(status) {
        End::Signal(libc::WTERMSIG(status))
    } else {
        End::Exit(libc::WEXITSTATUS(status))
    })
}

/// Becomes another user for good.
pub fn become_user(id: u32) -> io::Result<()> {
    // SAFETY: changes who we are, no memory.
    outcome(unsafe { libc::setgid(id) })?;
    // SAFETY: as above.
    outcome(unsafe { libc::setuid(id) })
}

/// Whether the process may do everything.
pub fn is_root() -> bool {
    // SAFETY: asks only.
    unsafe { libc::geteuid() == 0 }
}

/// Whether the process was started as another user than its caller's.
pub fn is_set_uid() -> bool {
    // SAFETY: asks only.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Locks everything that is mapped and will be.
pub fn lock_everything() -> io::Result<()> {
    // SAFETY: changes no contents.
    outcome(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) })
}

/// Enters a user namespace of its own, as sandboxes do: refused for a process with several threads.
pub fn unshare_user() -> io::Result<()> {
    // SAFETY: changes no memory.
    outcome(unsafe { libc::unshare(libc::CLONE_NEWUSER) })
}

/// A variable of the environment as the system keeps it, before std has looked at it.
pub fn variable(name: &CStr) -> Option<&'static str> {
    // SAFETY: the name is a C string; nobody changes the environment in these programs.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    // SAFETY: what `getenv` returns is null or a C string that stays.
    (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) })?.to_str().ok()
}

/// Sends a signal to a process, or to a group of them where `pid` is negative.
pub fn signal(pid: i32, number: i32) -> io::Result<()> {
    // SAFETY: no memory of ours is involved.
    outcome(unsafe { libc::kill(pid, number) })
}
