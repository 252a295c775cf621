//! Where memory comes from: the `Backing` trait, and an adaptor a file.
#![allow(unsafe_code)]

mod failing;
mod from_allocator;
mod limited;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod pages;
mod system;
mod tracking;

use std::alloc::Layout;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

pub use failing::Failing;
pub use from_allocator::FromAllocator;
pub use limited::Limited;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub use pages::Pages;
pub use system::System;
pub use tracking::{Fault, Tracking};

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
