//! Memory straight from the operating system.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;

use super::{Backing, Grounds, Refused};
use crate::layout::dangling;
use crate::pressure::HEAP;
use crate::process::{self, Footprint};
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

    /// Where the process's resident memory is, in one table that adds up.
    ///
    /// The system is asked which pages are resident, 2 MiB a call and without the heap's lock: this takes one to fifteen milliseconds for each GiB, huge pages or small. What other threads
    /// do meanwhile may be in one row and not in another.
    ///
    /// ```
    /// use tenzor_memory::{Pages, TensorAllocator};
    ///
    /// let alloc = TensorAllocator::new_in(Pages);
    /// drop(alloc.alloc_filled(1 << 20, 1.0_f32)?);
    /// let footprint = Pages.footprint();
    /// assert!(footprint.pooled_bytes >= 4 << 20);
    /// println!("{footprint}");
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    pub fn footprint(&self) -> Footprint {
        process::footprint()
    }

    /// As [`stats`](Self::stats); the peaks are taken anew from now on.
    ///
    /// ```
    /// use tenzor_memory::Pages;
    ///
    /// drop(tenzor_memory::TensorAllocator::new_in(Pages).alloc_filled(1 << 24, 1_u8)?);
    /// assert!(Pages.take_peaks().peak_bytes_in_use >= 1 << 24);
    /// assert!(Pages.stats().peak_bytes_in_use < 1 << 24);
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    pub fn take_peaks(&self) -> Stats {
        process::take_peaks()
    }

    /// Gives the free memory of the heap, what the threads' caches hold, and what pools, arenas that were reset and planned allocators between two
    /// steps keep of it, back to the operating system; returns how many bytes.
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

    unsafe fn refit(&self, block: NonNull<u8>, old: Layout, new: Layout, zeroed: bool) -> Option<NonNull<u8>> {
        if process::resize(block, old, new, zeroed) {
            return Some(block);
        }
        let moved = process::relocate(block, old, new)?;
        if zeroed && new.size() > old.size() {
            // SAFETY: the block is as large as asked, and the caller's.
            unsafe { moved.add(old.size()).write_bytes(0, new.size() - old.size()) };
        }
        Some(moved)
    }

    fn is_pool(&self) -> bool {
        true
    }

    fn grounds(&self, grounds: &mut Grounds) {
        grounds.add(&HEAP);
    }
}
