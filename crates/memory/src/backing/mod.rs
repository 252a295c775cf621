//! Where memory comes from: the `Backing` trait, the process's malloc, any std-style allocator.
#![allow(unsafe_code)]

mod adaptors;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod pages;

use std::alloc::{GlobalAlloc, Layout};
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use allocator_api2::alloc::Allocator;

use crate::layout::dangling;
pub use adaptors::{Failing, Fault, Limited, Tracking};
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub use pages::Pages;

/// Where a pool or an arena gets its memory from.
///
/// A program can bring its own: pinned memory, shared memory, an arena of its own. References and `Arc`s of a backing are
/// backings too, so that a test can keep an eye on one that a pool uses.
///
/// ```
/// use std::alloc::Layout;
/// use tenzor_memory::{Backing, System};
///
/// let layout = Layout::from_size_align(1 << 20, 64)?;
/// let block = System.obtain_zeroed(layout)?;
/// // SAFETY: `block` came from this backing with this layout and is not used afterwards.
/// unsafe { System.give_back(block, layout) };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Safety
/// A block that `obtain` or `obtain_zeroed` grants
/// - has `layout.size()` bytes at an address that is a multiple of `layout.align()`, disjoint from all other live blocks;
/// - stays valid, also when the backing is moved, until it is given back or the backing is dropped;
/// - is all zero where `obtain_zeroed` granted it.
///
/// No method unwinds. A zero-sized layout is granted with a dangling pointer and costs nothing. `give_back` makes no request
/// of what stands above the backing, which may be waiting for just this block.
pub unsafe trait Backing {
    /// A block of `layout`, its contents undefined.
    ///
    /// # Errors
    /// [`Refused`] when there is no memory.
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused>;

    /// A block of `layout`, all zero. The default writes the zeros; a backing that knows better should do better.
    ///
    /// # Errors
    /// [`Refused`] when there is no memory.
    fn obtain_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        let block = self.obtain(layout)?;
        // SAFETY: `obtain` granted that many bytes (the trait's contract).
        unsafe { block.write_bytes(0, layout.size()) };
        Ok(block)
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// `block` was granted by this backing with this same `layout`, was not given back since, and is not used afterwards.
    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout);
}

/// A backing has no memory to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the backing refused the request")
    }
}

impl std::error::Error for Refused {}

/// The process's malloc.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct System;

// SAFETY: the standard library's `System` keeps these promises for layouts that are not zero-sized, and those are the only
// ones that reach it.
unsafe impl Backing for System {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        // SAFETY: the layout is not zero-sized.
        NonNull::new(unsafe { std::alloc::System.alloc(layout) }).ok_or(Refused)
    }

    fn obtain_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
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

/// Any std-style allocator (allocator-api2 0.2) as a backing. A panic in it aborts the process.
///
/// ```
/// use tenzor_memory::allocator_api2::alloc::Global;
/// use tenzor_memory::{FromAllocator, TensorAllocator};
///
/// let alloc = TensorAllocator::new_in(FromAllocator(Global));
/// let buffer = alloc.alloc_zeroed::<f32>(1024)?;
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct FromAllocator<A>(pub A);

/// Turns a panic into an abort, for code that may panic where nobody can go on after it.
fn without_unwinding<R>(f: impl FnOnce() -> R) -> R {
    struct Abort;
    impl Drop for Abort {
        fn drop(&mut self) {
            std::process::abort();
        }
    }
    let abort = Abort;
    let result = f();
    std::mem::forget(abort);
    result
}

// SAFETY: `Allocator` promises the same: it may grant more than asked, and a block fits the layout it was asked with. Its
// blocks outlive moves of the allocator. It may panic, though; then the process aborts.
unsafe impl<A: Allocator> Backing for FromAllocator<A> {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        without_unwinding(|| self.0.allocate(layout).map(NonNull::cast).map_err(|_| Refused))
    }

    fn obtain_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        without_unwinding(|| self.0.allocate_zeroed(layout).map(NonNull::cast).map_err(|_| Refused))
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: `Backing::give_back` and `Allocator::deallocate` ask the same of the caller.
        without_unwinding(|| unsafe { self.0.deallocate(block, layout) });
    }
}

macro_rules! backing_by_pointer {
    ($($pointer:ty),*) => {$(
        // SAFETY: everything is passed on, to a backing that lives at least as long.
        unsafe impl<B: Backing + ?Sized> Backing for $pointer {
            fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
                (**self).obtain(layout)
            }

            fn obtain_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
                (**self).obtain_zeroed(layout)
            }

            unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
                // SAFETY: the caller's word, passed on.
                unsafe { (**self).give_back(block, layout) };
            }
        }
    )*};
}

backing_by_pointer!(&B, Arc<B>, Box<B>);
