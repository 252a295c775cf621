//! Standard error: what is said there, and when nothing is.
//!
//! A line goes to descriptor 2 only while that is the file that it was when the process started: a program may have closed it, and
//! have a file of its own under that number. Nothing is allocated, no signal is raised, and nobody waits for a reader.
#![allow(unsafe_code)]

use std::fmt::{self, Write};
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::calls;

/// The device and the number of the file, once they are known.
static KNOWN: AtomicBool = AtomicBool::new(false);
static DEVICE: AtomicU64 = AtomicU64::new(0);
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Only what ends the process is said.
static QUIET: AtomicBool = AtomicBool::new(false);

/// From now on, what descriptor 2 is at this moment is standard error.
pub(crate) fn remember_standard_error() {
    if let Some((device, number)) = standard_error() {
        DEVICE.store(device, Relaxed);
        NUMBER.store(number, Relaxed);
        KNOWN.store(true, Release);
    }
}

pub(crate) fn be_quiet(quiet: bool) {
    QUIET.store(quiet, Relaxed);
}

/// Says a line, unless the process wants it quiet.
pub(crate) fn complain(what: fmt::Arguments<'_>) {
    if !QUIET.load(Relaxed) {
        say(what);
    }
}

/// As [`complain`], the first time only.
pub(crate) fn complain_once(said: &AtomicBool, what: fmt::Arguments<'_>) {
    if !said.swap(true, Relaxed) {
        complain(what);
    }
}

/// Says a line, and ends the process.
#[cold]
pub(crate) fn die(what: fmt::Arguments<'_>) -> ! {
    say(what);
    std::process::abort();
}

fn standard_error() -> Option<(u64, u64)> {
    // SAFETY: a query into a local, of which all zero is a value.
    unsafe {
        let mut file: libc::stat = std::mem::zeroed();
        (calls::fstat(libc::STDERR_FILENO, &raw mut file) == 0).then_some((file.st_dev, file.st_ino))
    }
}

/// A line that was full of ends at first; what does not fit is left out.
struct Line {
    text: [u8; 256],
    end: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.end == self.text.len() - 1 {
                return Err(fmt::Error);
            }
            self.text[self.end] = byte;
            self.end += 1;
        }
        Ok(())
    }
}

fn say(what: fmt::Arguments<'_>) {
    let _errno = super::Errno::kept();
    let start = KNOWN.load(Acquire).then(|| (DEVICE.load(Relaxed), NUMBER.load(Relaxed)));
    if start.is_none() || standard_error() != start {
        return;
    }
    let mut line = Line { text: [b'\n'; 256], end: 0 };
    _ = line.write_fmt(format_args!("tenzor: {what}"));
    // What follows was never written.
    line.end += 1;
    debug_assert!(line.end <= line.text.len());
    without_a_signal(|| {
        let mut room = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
        // SAFETY: the line is as long as it says, and is only read. What cannot be written, nobody can be told.
        unsafe {
            if calls::poll(&raw mut room, 1, 0) == 1 {
                calls::write(libc::STDERR_FILENO, line.text.as_ptr().cast(), line.end);
            }
        }
    });
}

/// A pipe without a reader would raise SIGPIPE, which ends a process that does not expect it.
fn without_a_signal(write: impl FnOnce()) {
    // SAFETY: all pointers are to locals; sets of signals may be all zero before they are emptied.
    unsafe {
        let (mut pipe, mut before, mut pending) = (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed());
        libc::sigemptyset(&raw mut pipe);
        libc::sigaddset(&raw mut pipe, libc::SIGPIPE);
        libc::sigpending(&raw mut pending);
        let had_one = libc::sigismember(&raw const pending, libc::SIGPIPE) == 1;
        if libc::pthread_sigmask(libc::SIG_BLOCK, &raw const pipe, &raw mut before) != 0 {
            return;
        }
        write();
        if !had_one {
            let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            calls::sigtimedwait(&raw const pipe, ptr::null_mut(), &raw const none);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
    }
}
