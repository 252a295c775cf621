//! The process's heap as a contender.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::NonNull;

use tenzor::memory::TenzorMalloc;
use tenzor::memory::allocator_api2::alloc::{AllocError, Allocator, System};

use super::Heap;

/// The process's heap, as `TenzorMalloc` serves it.
#[derive(Debug, Default)]
pub(crate) struct ProcessHeap {
    /// Bytes held when the replay began.
    own: usize,
}

static HEAP: TenzorMalloc = TenzorMalloc::new();

/// [`TenzorMalloc`] as a std-style allocator.
struct OfHeap;

// SAFETY: all of it is the one heap's, whose blocks stay until they are freed; `GlobalAlloc` and `Allocator` promise and ask the same
// for what has a size, and nothing else reaches the heap.
unsafe impl Allocator for OfHeap {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: it is asked for what has a size.
        granted(layout, |layout| unsafe { HEAP.alloc(layout) })
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: as above.
        granted(layout, |layout| unsafe { HEAP.alloc_zeroed(layout) })
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() > 0 {
            // SAFETY: the caller's word.
            unsafe { HEAP.dealloc(block.as_ptr(), layout) };
        }
    }

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's word.
        unsafe { resize(block, old, new) }
    }

    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's word.
        unsafe { resize(block, old, new) }
    }
}

/// What the heap is asked for, unless it has no size.
fn granted(layout: Layout, ask: impl FnOnce(Layout) -> *mut u8) -> Result<NonNull<[u8]>, AllocError> {
    if layout.size() == 0 {
        return System.allocate(layout);
    }
    let block = NonNull::new(ask(layout)).ok_or(AllocError)?;
    Ok(NonNull::slice_from_raw_parts(block, layout.size()))
}

/// # Safety
/// As [`Allocator::grow`] and [`Allocator::shrink`].
unsafe fn resize(block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
    if old.align() != new.align() || old.size() == 0 || new.size() == 0 {
        let moved = OfHeap.allocate(new)?;
        // SAFETY: two blocks with so many bytes each; the old one is the caller's to give up.
        unsafe {
            block.copy_to_nonoverlapping(moved.cast(), old.size().min(new.size()));
            OfHeap.deallocate(block, old);
        }
        return Ok(moved);
    }
    // SAFETY: the caller's word; both have a size.
    granted(new, |new| unsafe { HEAP.realloc(block.as_ptr(), old, new.size()) })
}

// SAFETY: the heap is the process's, whichever value of this is used.
unsafe impl Heap for ProcessHeap {
    fn lasting(&self) -> impl Allocator {
        OfHeap
    }

    fn scratch(&self) -> impl Allocator {
        OfHeap
    }

    fn start(&mut self) {
        self.own = HEAP.stats().reserved_bytes;
    }

    fn reserved(&self, _: usize) -> Option<usize> {
        Some(HEAP.stats().peak_reserved_bytes.saturating_sub(self.own))
    }

    fn hits_and_misses(&self) -> Option<(u64, u64)> {
        let stats = HEAP.stats();
        Some((stats.pool_hits, stats.pool_misses))
    }
}
