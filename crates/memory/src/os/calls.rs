//! System calls: by the C library, or directly.
//!
//! Where the heap is what a program of C has for `malloc`, the C library's functions will not do. Some of them are where a thread is cancelled (`pthread_cancel`), which would leave a lock for ever;
//! and other libraries stand before some, and ask for memory in the midst of ours. So libraries for C are built with `--cfg tenzor_shared` or `tenzor_direct`,
//! and ask the system directly. A program in Rust knows neither, and who watches over it, as sanitizers do, sees the C library's functions.
#![allow(unsafe_code)]

#[cfg(not(all(any(tenzor_shared, tenzor_direct), any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod chosen {
    use std::time::Duration;

    pub(in crate::os) use libc::{
        close, fstat, getrlimit, madvise, mincore, mmap, mremap, munlock, munmap, open, poll, read, sigtimedwait,
        sysinfo, write,
    };

    /// Any other call.
    ///
    /// # Safety
    /// As the call has it.
    pub(in crate::os) unsafe fn syscall(number: libc::c_long, arguments: [usize; 4]) -> libc::c_long {
        let [a, b, c, d] = arguments;
        // SAFETY: the caller's word.
        unsafe { libc::syscall(number, a, b, c, d) }
    }

    pub(in crate::os) fn sleep(time: Duration) {
        std::thread::sleep(time);
    }
}

#[cfg(all(any(tenzor_shared, tenzor_direct), any(target_arch = "x86_64", target_arch = "aarch64")))]
#[allow(clippy::missing_safety_doc)]
mod chosen {
    use std::arch::asm;
    use std::time::Duration;

    use libc::{c_char, c_int, c_long, c_void, off_t, pollfd, rlimit, siginfo_t, sigset_t, size_t, ssize_t, timespec};

    /// The bytes of a set of signals, as the system has it.
    const SIGNALS: usize = 8;

    /// # Safety
    /// As the call has it.
    #[inline]
    unsafe fn call(number: c_long, [a, b, c, d, e, f]: [usize; 6]) -> c_long {
        let answer: isize;
        // SAFETY: the caller's word; the system changes these registers only.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") number as isize => answer,
                in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
                lateout("rcx") _, lateout("r11") _,
                options(nostack),
            );
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            asm!(
                "svc #0",
                in("x8") number,
                inlateout("x0") a => answer,
                in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
                options(nostack),
            );
        }
        if (-4095..0).contains(&answer) {
            // SAFETY: the calling thread's own.
            unsafe { *libc::__errno_location() = -answer as c_int };
            return -1;
        }
        answer as c_long
    }

    /// Any other call.
    ///
    /// # Safety
    /// As the call has it.
    pub(in crate::os) unsafe fn syscall(number: c_long, [a, b, c, d]: [usize; 4]) -> c_long {
        // SAFETY: the caller's word.
        unsafe { call(number, [a, b, c, d, 0, 0]) }
    }

    macro_rules! calls {
        ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty = $number:ident [$($given:expr),*];)*) => {$(
            /// # Safety
            /// As the C library's.
            pub(in crate::os) unsafe fn $name($($argument: $type),*) -> $answer {
                let mut all = [0; 6];
                let given = [$($given as usize),*];
                all[..given.len()].copy_from_slice(&given);
                // SAFETY: the caller's word.
                unsafe { call(libc::$number, all) as $answer }
            }
        )*};
    }

    calls! {
        mmap(at: *mut c_void, bytes: size_t, access: c_int, flags: c_int, file: c_int, offset: off_t) -> *mut c_void
            = SYS_mmap [at, bytes, access, flags, file, offset];
        munmap(at: *mut c_void, bytes: size_t) -> c_int = SYS_munmap [at, bytes];
        madvise(at: *mut c_void, bytes: size_t, advice: c_int) -> c_int = SYS_madvise [at, bytes, advice];
        mremap(at: *mut c_void, old: size_t, new: size_t, flags: c_int, to: *mut u8) -> *mut c_void
            = SYS_mremap [at, old, new, flags, to];
        mincore(at: *mut c_void, bytes: size_t, pages: *mut u8) -> c_int = SYS_mincore [at, bytes, pages];
        munlock(at: *const c_void, bytes: size_t) -> c_int = SYS_munlock [at, bytes];
        open(path: *const c_char, flags: c_int) -> c_int = SYS_openat [libc::AT_FDCWD, path, flags];
        close(file: c_int) -> c_int = SYS_close [file];
        read(file: c_int, to: *mut c_void, bytes: size_t) -> ssize_t = SYS_read [file, to, bytes];
        write(file: c_int, from: *const c_void, bytes: size_t) -> ssize_t = SYS_write [file, from, bytes];
        fstat(file: c_int, to: *mut libc::stat) -> c_int = SYS_fstat [file, to];
        sysinfo(to: *mut libc::sysinfo) -> c_int = SYS_sysinfo [to];
        sigtimedwait(set: *const sigset_t, told: *mut siginfo_t, at_most: *const timespec) -> c_int
            = SYS_rt_sigtimedwait [set, told, at_most, SIGNALS];
    }

    /// C libraries have the number of another type.
    ///
    /// # Safety
    /// As the C library's.
    pub(in crate::os) unsafe fn getrlimit(which: impl Into<i64>, to: *mut rlimit) -> c_int {
        // SAFETY: the caller's word.
        unsafe { syscall(libc::SYS_prlimit64, [0, which.into() as usize, 0, to as usize]) as c_int }
    }

    /// Without waiting.
    ///
    /// # Safety
    /// As the C library's.
    pub(in crate::os) unsafe fn poll(files: *mut pollfd, count: libc::nfds_t, at_most: c_int) -> c_int {
        debug_assert!(at_most == 0);
        let at_once = timespec { tv_sec: 0, tv_nsec: 0 };
        let all = [files as usize, count as usize, (&raw const at_once) as usize, 0, SIGNALS, 0];
        // SAFETY: the caller's word; the time is a local.
        unsafe { call(libc::SYS_ppoll, all) as c_int }
    }

    pub(in crate::os) fn sleep(time: Duration) {
        let mut rest =
            timespec { tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() };
        let place = (&raw mut rest) as usize;
        // SAFETY: the system reads and writes a local. Where it was interrupted, the rest is left.
        while unsafe { call(libc::SYS_nanosleep, [place, place, 0, 0, 0, 0]) } != 0
            // SAFETY: the calling thread's own.
            && unsafe { *libc::__errno_location() } == libc::EINTR
        {}
    }
}

pub(super) use chosen::*;

/// By which it is tried whether addresses may be had: who watches over them, as sanitizers do, is asked as well, where that may be.
#[cfg(tenzor_shared)]
pub(super) use chosen::{mmap as try_mmap, munmap as try_munmap};
#[cfg(not(tenzor_shared))]
pub(super) use libc::{mmap as try_mmap, munmap as try_munmap};
