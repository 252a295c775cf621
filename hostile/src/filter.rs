//! Sandboxes: a filter that refuses some system calls of this process, and of all that it becomes, for good.

use std::io;

use crate::sys;

/// What the calls of a name are by number. `clone` stands for every way to make a thread.
fn numbers(call: &str) -> Option<&'static [i64]> {
    Some(match call {
        "brk" => &[libc::SYS_brk],
        "clone" => &[libc::SYS_clone, libc::SYS_clone3],
        "fstat" => &[libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx],
        "getrandom" => &[libc::SYS_getrandom],
        "madvise" => &[libc::SYS_madvise],
        "membarrier" => &[libc::SYS_membarrier],
        "mincore" => &[libc::SYS_mincore],
        "mmap" => &[libc::SYS_mmap],
        "mprotect" => &[libc::SYS_mprotect],
        "mremap" => &[libc::SYS_mremap],
        "munmap" => &[libc::SYS_munmap],
        "open" => &[libc::SYS_open, libc::SYS_openat],
        "prctl" => &[libc::SYS_prctl],
        "prlimit" => &[libc::SYS_getrlimit, libc::SYS_prlimit64],
        "read" => &[libc::SYS_read, libc::SYS_pread64],
        "rseq" => &[libc::SYS_rseq],
        "sched" => &[
            libc::SYS_sched_getaffinity,
            libc::SYS_sched_setaffinity,
            libc::SYS_sched_setscheduler,
            libc::SYS_sched_getscheduler,
            libc::SYS_sched_setattr,
            libc::SYS_sched_getattr,
            libc::SYS_sched_getparam,
            libc::SYS_sched_get_priority_max,
            libc::SYS_sched_get_priority_min,
        ],
        "signals" => &[libc::SYS_rt_sigprocmask],
        "sysinfo" => &[libc::SYS_sysinfo],
        "times" => &[libc::SYS_getrusage, libc::SYS_times],
        "yield" => &[libc::SYS_sched_yield],
        _ => return None,
    })
}

/// What happens at a call: an error, success without acting, or the end of the process.
fn action(name: &str) -> Option<u32> {
    let errno = match name {
        "KILL" => return Some(libc::SECCOMP_RET_KILL_PROCESS),
        "NOTHING" => 0,
        "EAGAIN" => libc::EAGAIN,
        "EINVAL" => libc::EINVAL,
        "ENOMEM" => libc::ENOMEM,
        "ENOSYS" => libc::ENOSYS,
        "EPERM" => libc::EPERM,
        _ => return None,
    };
    Some(libc::SECCOMP_RET_ERRNO | errno as u32)
}

/// Installs the filter that `rules` describes, for all threads: `madvise=EPERM,clone=KILL`. The first rule that names a call holds;
/// `noreplace` is `mmap` with MAP_FIXED_NOREPLACE.
pub fn install(rules: &str) -> io::Result<()> {
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const ALL: u16 = 0x45;
    const RETURN: u16 = 0x06;
    /// Where the flags of `mmap` are: the lower half of the fourth argument.
    const FLAGS: u32 = 16 + 3 * 8;
    let line = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [line(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW); 128];
    filter[0] = line(LOAD, 0, 0, 0);
    let mut length = 1;
    for rule in rules.split(',') {
        if let Some(action) = rule.strip_prefix("noreplace=").and_then(action) {
            // One flag alone, and no other `mmap`.
            filter[length] = line(EQUAL, 0, 4, libc::SYS_mmap as u32);
            filter[length + 1] = line(LOAD, 0, 0, FLAGS);
            filter[length + 2] = line(ALL, 0, 1, libc::MAP_FIXED_NOREPLACE as u32);
            filter[length + 3] = line(RETURN, 0, 0, action);
            filter[length + 4] = line(LOAD, 0, 0, 0);
            length += 5;
            continue;
        }
        let parsed = rule.split_once('=').and_then(|(call, name)| Some((numbers(call)?, action(name)?)));
        let Some((numbers, action)) = parsed else { return Err(io::ErrorKind::InvalidInput.into()) };
        for &number in numbers {
            filter[length] = line(EQUAL, 0, 1, number as u32);
            filter[length + 1] = line(RETURN, 0, 0, action);
            length += 2;
        }
    }
    let program = libc::sock_fprog { len: length as u16 + 1, filter: filter.as_mut_ptr() };
    // SAFETY: asks for less, changes no memory.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let all = libc::SECCOMP_FILTER_FLAG_TSYNC;
    // SAFETY: the program is read; it lives until after the call.
    match unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, all, &raw const program) } {
        0 => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        _ => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// The filter that the environment's `HOSTILE_FILTER` describes, where there is one: for before `main`.
pub fn from_environment() {
    if let Some(rules) = sys::variable(c"HOSTILE_FILTER")
        && let Err(error) = install(rules)
    {
        crate::wrong!("no filter {rules}: {error}");
    }
}
