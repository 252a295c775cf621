//! The process's malloc.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::NonNull;

use super::{Backing, Grounds, Refused};
use crate::layout::dangling;
use crate::os;
use crate::pressure::MALLOC;

/// The process's malloc.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct System;

/// What malloc is asked for, unless it has no size, or an alignment at which malloc fails: what musl 1.2 grants beyond some GiB, its `free`
/// crashes on. Where it has none, others give up what they keep.
fn granted(layout: Layout, ask: impl Fn(Layout) -> *mut u8) -> Result<NonNull<u8>, Refused> {
    if layout.size() == 0 {
        return Ok(dangling(layout));
    }
    if cfg!(target_env = "musl") && layout.align() > 1 << 30 {
        return Err(Refused);
    }
    // Nothing is given up for what cannot be had.
    let again =
        || (!os::is_beyond(layout.size()) && MALLOC.reclaim(usize::MAX) > 0).then(|| NonNull::new(ask(layout)))?;
    NonNull::new(ask(layout)).or_else(again).ok_or(Refused)
}

// SAFETY: the standard library's `System` keeps these promises for layouts that are not zero-sized, and those are the only
// ones that reach it.
unsafe impl Backing for System {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        // SAFETY: it is asked for what has a size.
        granted(layout, |layout| unsafe { std::alloc::System.alloc(layout) })
    }

    fn obtain_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        // SAFETY: as above.
        granted(layout, |layout| unsafe { std::alloc::System.alloc_zeroed(layout) })
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        debug_assert!(block.addr().get().is_multiple_of(layout.align()));
        if layout.size() != 0 {
            // SAFETY: the block came from `alloc` or `alloc_zeroed` above with this layout (the caller's word).
            unsafe { std::alloc::System.dealloc(block.as_ptr(), layout) };
        }
    }

    fn grounds(&self, grounds: &mut Grounds) {
        grounds.add(&MALLOC);
    }
}
