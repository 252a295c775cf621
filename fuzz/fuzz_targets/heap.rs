//! Operations on the heap against a naive model: see `operations.rs`. Says how many there were after each ten million.
//!
//!     RUSTC_BOOTSTRAP=1 cargo fuzz run -s none heap -- -max_len=8000 -len_control=0
//!
//! What it found goes to `tests/corpus` in parts of 320 bytes: `cargo fuzz run -s none heap NEW corpus/heap -- -merge=1 -max_len=320`.
#![no_main]

use std::sync::atomic::{AtomicUsize, Ordering};

#[path = "../../crates/memory/tests/common/operations.rs"]
mod operations;

static DONE: AtomicUsize = AtomicUsize::new(0);
const REPORT: usize = 10_000_000;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let operations = operations::run(data);
    let before = DONE.fetch_add(operations, Ordering::Relaxed);
    if before / REPORT < (before + operations) / REPORT {
        eprintln!("{} operations", before + operations);
    }
});
