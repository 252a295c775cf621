//! The process's malloc.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::NonNull;

use super::{Backing, Refused};
use crate::layout::dangling;

/// The process's malloc.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct System;

/// Whether such an alignment is asked for. What musl 1.2 grants beyond some GiB, its `free` crashes on.
fn may_ask(layout: Layout) -> bool {
    !cfg!(target_env = "musl") || layout.align() <= 1 << 30
}

// SAFETY: the standard library's `System` keeps these promises for layouts that are not zero-sized, and those are the only
// ones that reach it.
unsafe impl Backing for System {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        if !may_ask(layout) {
            return Err(Refused);
        }
        // SAFETY: the layout is not zero-sized.
        NonNull::new(unsafe { std::alloc::System.alloc(layout) }).ok_or(Refused)
    }

    fn obtain_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        if !may_ask(layout) {
            return Err(Refused);
        }
        // SAFETY: the layout is not zero-sized.
        NonNull::new(unsafe { std::alloc::System.alloc_zeroed(layout) }).ok_or(Refused)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: the block came from `alloc` or `alloc_zeroed` above with this layout (the caller's word).
            unsafe { std::alloc::System.dealloc(block.as_ptr(), layout) };
        }
    }
}
