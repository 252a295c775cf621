//! Frees that are wrong, and signals all over.

use std::alloc::{Layout, alloc, dealloc, realloc};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tenzor_hostile::sys::Mapping;
use tenzor_hostile::{cannot, ensure, wrong};

use crate::traffic::{self, Amount, Crew, Refusals, Traffic};

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap_or_else(|_| wrong!("no layout of {size}"))
}

/// Says which address is freed wrongly, and frees it: this is to be the end.
fn free_wrongly(at: *mut u8, layout: Layout) -> ! {
    println!("address={:x}", at as usize);
    // SAFETY: none: this is the misuse that is to be noticed before anything comes of it.
    unsafe { dealloc(at, layout) };
    wrong!("a wrong free of {at:?} was not noticed")
}

/// Standard error is closed, and a file of the program's gets its number, as the next file that is opened does.
pub fn instead_of_standard_error(path: &str) -> File {
    let opened = File::create(path).unwrap_or_else(|error| cannot!("no file: {error}"));
    // SAFETY: descriptors only.
    unsafe {
        libc::close(2);
        libc::dup(opened.as_raw_fd());
    }
    opened
}

/// A wrong free of the kind that `word` says. `file`: `-`, or a file that has taken the place of standard error by then.
pub fn misuse(word: &str, file: &str) {
    let run = layout(300 << 10, 64);
    let take = |layout: Layout| {
        // SAFETY: the layout is not empty.
        let at = std::hint::black_box(unsafe { alloc(layout) });
        ensure!(!at.is_null(), "refused");
        at
    };
    let (first, at, last) = (take(run), take(run), take(run));
    // SAFETY: blocks of ours.
    unsafe {
        at.write_bytes(1, run.size());
        first.write_bytes(2, run.size());
        last.write_bytes(3, run.size());
    }
    let _opened = (file != "-").then(|| instead_of_standard_error(file));
    match word {
        "double" => {
            // SAFETY: the first free is right.
            unsafe { dealloc(at, run) };
            free_wrongly(at, run)
        }
        "double-beside" => {
            // What lies before is free too, so that the block is no longer the start of anything.
            // SAFETY: these frees are right.
            unsafe {
                dealloc(first, run);
                dealloc(at, run);
            }
            free_wrongly(at, run)
        }
        "double-large" => {
            let large = layout(70 << 20, 64);
            let at = take(large);
            // SAFETY: the first free is right.
            unsafe { dealloc(at, large) };
            free_wrongly(at, large)
        }
        "resized" => {
            println!("address={:x}", at as usize);
            // SAFETY: none: the block is resized after it was freed.
            unsafe {
                dealloc(at, run);
                std::hint::black_box(realloc(at, run, run.size()));
            }
            wrong!("a resize of freed {at:?} was not noticed")
        }
        "interior" => free_wrongly(at.wrapping_add(64 << 10), layout(128 << 10, 64)),
        "interior-odd" => free_wrongly(at.wrapping_add(4097), layout(128 << 10, 1)),
        "stack" => {
            let mut here = [0_u8; 1];
            free_wrongly(here.as_mut_ptr(), run)
        }
        "static" => {
            static HERE: AtomicUsize = AtomicUsize::new(0);
            free_wrongly((&raw const HERE).cast_mut().cast(), run)
        }
        "mapping" => match Mapping::private(1 << 20, libc::PROT_READ | libc::PROT_WRITE) {
            Ok(mapping) => free_wrongly(mapping.at(), run),
            Err(error) => cannot!("no mapping: {error}"),
        },
        "nowhere" => free_wrongly(0x1234_5678_9000 as *mut u8, run),
        "far" => free_wrongly(0x00ff_ffff_ffff_f000 as *mut u8, run),
        "larger" => free_wrongly(at, layout(900 << 10, 64)),
        "smaller" => free_wrongly(at, layout(100 << 10, 64)),
        "small-as-run" => free_wrongly(take(layout(1000, 8)), run),
        other => wrong!("no misuse {other}"),
    }
}

static ALARMS: AtomicUsize = AtomicUsize::new(0);

/// Alarms at a high rate, whose handler does not allocate and interrupts whatever the system is doing.
pub fn alarms() {
    extern "C" fn handler(_: i32) {
        ALARMS.fetch_add(1, SeqCst);
    }
    let often = libc::timeval { tv_sec: 0, tv_usec: 200 };
    let timer = libc::itimerval { it_interval: often, it_value: often };
    // SAFETY: all zeroes is a valid action, with no flags: calls end with EINTR.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // SAFETY: the handler only counts.
    unsafe {
        libc::sigaction(libc::SIGALRM, &raw const action, null_mut());
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, null_mut());
    }
    let (mut traffic, crew) = (Traffic::new(70, Amount::MUCH), Crew::new(3));
    for number in 0..5 {
        traffic::round(&mut traffic, &crew, number, Refusals::None);
        crate::heap::trim();
    }
    println!("alarms={}", ALARMS.load(SeqCst));
    traffic::finish(traffic, crew, 5);
}
