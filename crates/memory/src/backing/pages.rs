//! Memory straight from the operating system.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;

use super::{Backing, Refused};
use crate::layout::dangling;
use crate::process;
use crate::stats::Stats;

/// The process's own heap of pages: memory from the operating system, in one large address range.
///
/// Free memory coalesces and serves requests of every size, without system calls; huge pages where they pay; what the
/// recent working set does not need goes back to the system. All users of `Pages` in a process share the one heap, that of
/// [`TenzorMalloc`](crate::TenzorMalloc).
///
/// ```
/// use tenzor_memory::{Pages, TensorAllocator};
///
/// let alloc = TensorAllocator::new_in(Pages);
/// let weights = alloc.alloc_zeroed::<f32>(1 << 20)?; // fresh pages are zero: nothing is written
/// assert!(weights.iter().all(|w| *w == 0.0));
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages;

impl Pages {
    /// What the whole process requested of the heap so far. What is reserved are the resident bytes, in whole pages, a block's
    /// from when it is granted, touched or not; what of
    /// them is not in use is pooled: free ranges, free blocks, those in the threads' caches.
    ///
    /// ```
    /// use tenzor_memory::{Pages, TensorAllocator};
    ///
    /// let alloc = TensorAllocator::new_in(Pages);
    /// let buffer = alloc.alloc::<u8>(1 << 20)?;
    /// assert!(Pages.stats().bytes_in_use >= 1 << 20);
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    pub fn stats(&self) -> Stats {
        process::stats()
    }

    /// Gives the free memory of the heap, and what the calling thread's cache holds, back to the operating system; returns
    /// how many bytes.
    ///
    /// ```
    /// use tenzor_memory::{Pages, TensorAllocator};
    ///
    /// let alloc = TensorAllocator::new_in(Pages);
    /// drop(alloc.alloc_filled(1 << 24, 1_u8)?);
    /// alloc.clear_pool();
    /// assert!(Pages.trim() >= 1 << 24);
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    pub fn trim(&self) -> usize {
        process::trim()
    }
}

// SAFETY: the heap grants disjoint ranges of memory that is never unmapped, as aligned as asked (`heap::classes`), and
// what it does not name as dirty is zero (`heap::units`). It does not unwind and asks nobody above it.
unsafe impl Backing for Pages {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        process::obtain(layout).ok_or(Refused)
    }

    fn obtain_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        process::obtain_zeroed(layout).ok_or(Refused)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            process::give_back(block, layout);
        }
    }
}
