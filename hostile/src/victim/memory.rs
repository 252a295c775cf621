//! What is resident, committed, dumped.

use std::time::Duration;

use tenzor_hostile::sys::{self, Limit, Mapping};
use tenzor_hostile::{ensure, wrong};

use crate::block::Block;
use crate::heap;
use crate::traffic::{self, Amount, Crew, Traffic};

const MIB: usize = 1 << 20;

fn block(size: usize, stamp: u64) -> Block {
    Block::new(size, 64, stamp).unwrap_or_else(|| wrong!("{size} bytes were refused"))
}

/// Holds 20 MiB until it is ended, for a core dump.
pub fn core() {
    let live = block(20 * MIB, 1);
    live.soil();
    println!("resident={}", sys::status("VmRSS"));
    println!("ready");
    std::thread::sleep(Duration::from_secs(60));
}

/// Memory is freed and trimmed, a GiB at once or half of it in `parts`: what stays committed, and what a limit on data leaves to others.
pub fn uncommitted(how: &str) {
    let committed = || sys::field("/proc/meminfo", "Committed_AS").unwrap_or(0);
    let before = committed();
    if how == "parts" {
        let mut blocks: Vec<_> = (0..1000).map(|number| Some(block(500 << 10, number))).collect();
        blocks.iter().flatten().for_each(Block::soil);
        for rest in 0..2 {
            blocks.iter_mut().skip(rest).step_by(2).for_each(|block| *block = None);
            heap::trim();
        }
    } else {
        let blocks: Vec<Block> = (0..64).map(|number| block(16 * MIB, number)).collect();
        blocks.iter().step_by(8).for_each(Block::soil);
        drop(blocks);
        heap::trim();
    }
    println!("data={}", sys::status("VmData"));
    println!("resident={}", sys::status("VmRSS"));
    println!("committed={}", committed().saturating_sub(before));
    if sys::limit(0, Limit::Data, Some(400 << 20)).is_err() {
        wrong!("no limit on data");
    }
    let both = libc::PROT_READ | libc::PROT_WRITE;
    let host = Mapping::private(256 * MIB, both);
    ensure!(host.is_ok(), "256 MiB of the host's own are refused under 400 MiB of data, with nothing in use");
    drop(host);
    if sys::limit(0, Limit::Data, None).is_err() {
        wrong!("the limit stays");
    }
    traffic::finish(Traffic::new(20, Amount::MUCH), Crew::new(0), 0);
}

/// Much is asked for and little is touched.
pub fn sparse(which: &str, seconds: u64) {
    let resident = || sys::status("VmRSS");
    let show = |bytes: &dyn Fn() -> u64| {
        println!("at-once={}", resident());
        if seconds > 0 {
            std::thread::sleep(Duration::from_secs(seconds));
            println!("later={}", resident());
        }
        std::hint::black_box(bytes());
    };
    match which {
        "zeroed" | "zeroed-again" => {
            let touched = || {
                let mut bytes = vec![0_u8; 4096 * MIB];
                for byte in bytes.iter_mut().step_by(2 * MIB) {
                    ensure!(*byte == 0, "memory that shall be zero is not");
                    *byte = 1;
                }
                bytes
            };
            if which == "zeroed-again" {
                drop(std::hint::black_box(touched()));
            }
            let bytes = touched();
            show(&|| bytes.iter().step_by(2 * MIB).map(|&byte| u64::from(byte)).sum());
        }
        "capacity" => {
            let buffers: Vec<Vec<u8>> = (0..2000)
                .map(|_| {
                    let mut buffer = Vec::with_capacity(MIB);
                    buffer.extend_from_slice(&[1; 100]);
                    buffer
                })
                .collect();
            show(&|| buffers.iter().map(|buffer| buffer.len() as u64).sum());
        }
        other => wrong!("nothing sparse is called {other}"),
    }
    heap::consistent();
}

/// Dense memory, and how much of it lies in huge pages: the environment says what is wanted.
pub fn huge_pages() {
    let blocks: Vec<Block> = (0..16).map(|number| block(8 * MIB, number)).collect();
    blocks.iter().for_each(Block::soil);
    println!("huge={}", sys::field("/proc/self/smaps_rollup", "AnonHugePages").unwrap_or(0));
    drop(blocks);
    heap::consistent();
}
