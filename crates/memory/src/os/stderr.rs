//! Standard error: what is said there, and when nothing is.
//!
//! A line goes to descriptor 2 only while that is the file that it was when the process started: a program may have closed it, and
//! have a file of its own under that number. Nothing is allocated, no signal is raised, and nobody waits for a reader.
#![allow(dead_code)] // Until the heap says what was freed twice.

use std::ops::Deref;
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

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
pub(crate) fn complain(parts: &[&[u8]]) {
    if !QUIET.load(Relaxed) {
        say(parts);
    }
}

/// As [`complain`], the first time only.
pub(crate) fn complain_once(said: &AtomicBool, parts: &[&[u8]]) {
    if !said.swap(true, Relaxed) {
        complain(parts);
    }
}

/// Says a line, and ends the process.
#[cold]
pub(crate) fn die(parts: &[&[u8]]) -> ! {
    say(parts);
    std::process::abort();
}

fn standard_error() -> Option<(u64, u64)> {
    // SAFETY: a query into a local, of which all zero is a value.
    unsafe {
        let mut file: libc::stat = std::mem::zeroed();
        (libc::fstat(libc::STDERR_FILENO, &raw mut file) == 0).then_some((file.st_dev, file.st_ino))
    }
}

/// The most parts of a line.
const PARTS: usize = 16;

fn say(parts: &[&[u8]]) {
    let _errno = super::Errno::kept();
    let start = KNOWN.load(Acquire).then(|| (DEVICE.load(Relaxed), NUMBER.load(Relaxed)));
    if start.is_none() || standard_error() != start {
        return;
    }
    let mut line = [const { libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 } }; PARTS];
    let whole =
        [b"tenzor: ".as_slice()].into_iter().chain(parts.iter().copied().take(PARTS - 2)).chain([b"\n".as_slice()]);
    let mut count = 0;
    for (slot, part) in line.iter_mut().zip(whole) {
        *slot = libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
        count += 1;
    }
    without_a_signal(|| {
        let mut room = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
        // SAFETY: each part is as long as it says, and is only read. What cannot be written, nobody can be told.
        unsafe {
            if libc::poll(&raw mut room, 1, 0) == 1 {
                libc::writev(libc::STDERR_FILENO, line.as_ptr(), count);
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
            libc::sigtimedwait(&raw const pipe, ptr::null_mut(), &raw const none);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
    }
}

/// A number as text.
#[derive(Debug)]
pub(crate) struct Digits {
    text: [u8; 20],
    start: usize,
}

/// In decimal.
pub(crate) fn decimal(number: usize) -> Digits {
    digits(number, 10, b"")
}

/// In hexadecimal, as addresses are written.
pub(crate) fn hex(number: usize) -> Digits {
    digits(number, 16, b"0x")
}

fn digits(mut number: usize, base: usize, prefix: &[u8]) -> Digits {
    let (mut text, mut start) = ([0; 20], 20);
    loop {
        start -= 1;
        text[start] = b"0123456789abcdef"[number % base];
        number /= base;
        if number == 0 {
            break;
        }
    }
    start -= prefix.len();
    text[start..start + prefix.len()].copy_from_slice(prefix);
    Digits { text, start }
}

impl Deref for Digits {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 1, 9, 10, 4096, usize::MAX / 2, usize::MAX] {
            assert_eq!(*decimal(number), *number.to_string().as_bytes());
            assert_eq!(*hex(number), *format!("{number:#x}").as_bytes());
        }
    }
}
