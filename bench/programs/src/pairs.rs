//! One request and its release, over and over: nanoseconds a pair.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

/// So long, at the least, is one size timed in one mode.
const TIMED: Duration = Duration::from_millis(15);

/// 64 B to 256 MiB by fours.
pub(crate) fn measure(quick: bool) -> Result<Value> {
    let mut pairs = Vec::new();
    for size in (6..=28).step_by(2).map(|power| 1 << power) {
        if quick && size > 1 << 20 {
            break;
        }
        let mut add = |mode, ns| pairs.push(json!({ "size": size, "mode": mode, "ns": ns }));
        add("untouched", time(size, 16, |_| ())?);
        add("untouched, aligned to 64", time(size, 64, |_| ())?);
        let byte = MaybeUninit::new(1);
        add("first touch", time(size, 16, |block| block.iter_mut().step_by(4096).for_each(|page| *page = byte))?);
        add("written", time(size, 16, |block| block.fill(byte))?);
    }
    Ok(json!({ "pairs": pairs }))
}

fn time(size: usize, align: usize, touch: impl Fn(&mut [MaybeUninit<u8>])) -> Result<f64> {
    let layout = Layout::from_size_align(size, align)?;
    let mut pairs = 1_u32;
    loop {
        let start = Instant::now();
        for _ in 0..pairs {
            // SAFETY: no size is zero.
            let block = unsafe { alloc(black_box(layout)) };
            if block.is_null() {
                handle_alloc_error(layout);
            }
            // SAFETY: a block of this size that nobody else knows, and that need not be initialised.
            let bytes = unsafe { std::slice::from_raw_parts_mut(black_box(block).cast(), size) };
            touch(black_box(bytes));
            // SAFETY: the block from above, with its layout.
            unsafe { dealloc(black_box(block), layout) };
        }
        let elapsed = start.elapsed();
        // The pairs before the last doubling have warmed the allocator up.
        if elapsed >= TIMED && pairs > 1 {
            return Ok(elapsed.as_nanos() as f64 / f64::from(pairs));
        }
        pairs *= 2;
    }
}
