//! What the host calls by name. Nothing here is undone when the library goes: that is the point.

use std::time::Duration;

#[cfg(feature = "tenzor")]
#[global_allocator]
static GLOBAL: tenzor_memory::TenzorMalloc = tenzor_memory::TenzorMalloc::new();

/// So many buffers of a MiB, each filled with its number, summed up and freed.
// SAFETY: no other symbol of this name is in the library.
#[unsafe(no_mangle)]
pub extern "C" fn work(count: u8) -> u64 {
    let buffers: Vec<Vec<u8>> = (0..count).map(|i| vec![i; 1 << 20]).collect();
    buffers.iter().map(|buffer| buffer.iter().map(|&byte| u64::from(byte)).sum::<u64>()).sum()
}

/// A buffer that is never freed.
// SAFETY: no other symbol of this name is in the library.
#[unsafe(no_mangle)]
pub extern "C" fn keep() {
    std::mem::forget(vec![7_u8; 3 << 20]);
}

/// Four threads that allocate and free for as long as the process lives.
// SAFETY: no other symbol of this name is in the library.
#[unsafe(no_mangle)]
pub extern "C" fn start() {
    for _ in 0..4 {
        std::thread::spawn(|| {
            loop {
                std::hint::black_box(work(20));
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    }
}
