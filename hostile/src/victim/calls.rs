//! Sandboxes: system calls that are refused, do nothing, or end the process.

use std::alloc::{Layout, alloc, dealloc};
use std::hint::black_box;

use tenzor_hostile::{ensure, filter, sys, wrong};

use crate::block::Block;
use crate::refusals;
use crate::traffic::{self, Amount, Crew, Refusals, Traffic};

/// Traffic, then a filter, then more traffic: it stays for ever.
pub fn filtered(rules: &str, crew: usize, word: &str) {
    let (mut traffic, crew) = (Traffic::new(3, Amount::MEDIUM), Crew::new(crew));
    traffic::round(&mut traffic, &crew, 0, Refusals::None);
    if let Err(error) = filter::install(rules) {
        wrong!("no filter {rules}: {error}");
    }
    for number in 1..2 {
        traffic::round(&mut traffic, &crew, number, refusals(word));
    }
    // What was held when the filter came still serves.
    traffic.free();
    ensure!(Block::new(100 << 10, 8, 4).is_some(), "with everything free, 100 KiB are refused");
    crew.end();
    crate::heap::consistent();
    crate::heap::trim();
    crate::heap::consistent();
}

/// The filter is there, and then 256 MiB are freed: they go back all the same.
pub fn gives_back(rules: &str) {
    if rules != "none"
        && let Err(error) = filter::install(rules)
    {
        wrong!("no filter {rules}: {error}");
    }
    let before = sys::status("VmRSS");
    let blocks: Vec<Block> =
        (0..64).map(|number| Block::new(4 << 20, 64, number).unwrap_or_else(|| wrong!("4 MiB were refused"))).collect();
    blocks.iter().for_each(Block::soil);
    let full = sys::status("VmRSS");
    ensure!(full > before + (250 << 20), "256 MiB were filled, and {full} bytes are resident");
    drop(blocks);
    crate::heap::trim();
    let after = sys::status("VmRSS");
    println!("after={after}");
    ensure!(after < before + (64 << 20), "of 256 MiB that were freed and trimmed, {} MiB stay", (after - before) >> 20);
    crate::heap::consistent();
    let again = Block::zeroed(200 << 20, 5);
    ensure!(again.is_some(), "200 MiB are refused afterwards");
}

/// Nothing can be given back by any call: that is said on standard error, once. `file`: `-`, or a file that has its place by then.
pub fn says_once(file: &str) {
    let blocks: Vec<Option<Block>> = (0..64).map(|number| Block::new(4 << 20, 64, number)).collect();
    ensure!(blocks.iter().all(Option::is_some), "4 MiB were refused");
    let opened = (file != "-").then(|| crate::misuse::instead_of_standard_error(file));
    if let Err(error) = filter::install("madvise=EPERM,mmap=EPERM,mremap=EPERM,munmap=EPERM,mprotect=EPERM") {
        wrong!("no filter: {error}");
    }
    drop(blocks);
    for _ in 0..3 {
        crate::heap::trim();
        ensure!(Block::new(100 << 20, 64, 1).is_some(), "100 MiB of 256 free ones are refused");
    }
    drop(opened);
}

/// With `HOSTILE_FIRST` set: the program is over before `main`, for which std needs calls that a sandbox refuses. `none`: traffic, of
/// which nothing is refused. `fine`: requests in a process that may get no memory at all; each is refused or it is good.
pub fn before_main() {
    let Some(word) = sys::variable(c"HOSTILE_FIRST") else { return };
    if word == "none" {
        let mut traffic = Traffic::new(90, Amount::MEDIUM);
        traffic.round(Refusals::None);
        crate::heap::trim();
        traffic.round(Refusals::None);
        traffic.free();
        crate::heap::consistent();
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) }
    }
    for round in 0..3 {
        for shift in 4..28 {
            let Ok(layout) = Layout::from_size_align(1 << shift, 8 << (round * 3)) else { continue };
            // SAFETY: the layout is not empty.
            let at = black_box(unsafe { alloc(layout) });
            if !at.is_null() {
                // SAFETY: the block is ours for its size, and freed once.
                unsafe {
                    at.write_bytes(7, layout.size());
                    dealloc(at, layout);
                }
            }
        }
    }
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}
