//! Where memory comes from: the `Backing` trait, and an adaptor a file.
#![allow(unsafe_code)]

mod budget;
mod failing;
mod from_allocator;
mod limit;
mod limited;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod pages;
mod spill;
mod standby;
mod system;
mod tracking;

use std::alloc::Layout;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::error::{AllocError, AllocErrorKind};
pub use crate::pressure::Grounds;

pub(crate) use budget::Count;
pub use budget::{Budget, BudgetUsage};
pub use failing::Failing;
pub use from_allocator::FromAllocator;
pub(crate) use limit::OneRequest;
pub use limited::Limited;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub use pages::Pages;
pub(crate) use spill::without_lock;
pub(crate) use standby::Standby;
pub use system::System;
pub use tracking::{Fault, Tracking};

/// What `new()` stands on: the process's heap, where there is one, else malloc.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub type DefaultBacking = Pages;

/// What `new()` stands on: malloc, where the process has no heap of ours.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub type DefaultBacking = System;

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
/// A backing that names [`grounds`](Self::grounds) keeps these promises whichever thread calls it.
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

    /// Makes a block fit another size, in place or by moving its memory without copying it; returns where it is then. The first
    /// `min(old.size(), new.size())` bytes stay as they are; with `zeroed`, the bytes beyond the old size are zero. `None`, the default, if it cannot: the
    /// block is as before.
    ///
    /// # Safety
    /// As for [`give_back`](Self::give_back), with the layout `old`, should it be moved; `new` has the same alignment, and neither is zero-sized.
    unsafe fn refit(&self, block: NonNull<u8>, old: Layout, new: Layout, zeroed: bool) -> Option<NonNull<u8>> {
        _ = (block, old, new, zeroed);
        None
    }

    /// Whether it has memory that was given back at hand for other requests, of any size, without asking the system. A pool over it keeps
    /// large buffers of its own no longer than they are asked for again at once.
    fn is_pool(&self) -> bool {
        false
    }

    /// Names the [`Grounds`] that its memory comes from: there, whoever keeps some of it for reuse is known, and gives it up before a request
    /// is refused. An adaptor names those of what it stands over. The default names none, and then nothing is asked back.
    ///
    /// A backing that names any bears to be called by any thread, as long as it lives: a thread whose request stands in need of room gives back what
    /// others keep. None of its own locks may be held during such a request.
    fn grounds(&self, grounds: &mut Grounds) {
        _ = grounds;
    }
}

/// A backing has no memory to give.
///
/// It carries no reason. A backing that has one [says so](Self::over_limit) when it refuses; then it is in the [`AllocError`] of whoever asked,
/// and in [`AllocError::last`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refused;

impl Refused {
    /// The refusal of `request` by what `name` is the name of, as it would exceed its limit beside what is in use; all in bytes.
    ///
    /// ```
    /// use std::alloc::Layout;
    /// use std::ptr::NonNull;
    /// use tenzor_memory::{Backing, Refused, TensorAllocator};
    ///
    /// struct Pinned;
    ///
    /// // SAFETY: it grants nothing.
    /// unsafe impl Backing for Pinned {
    ///     fn obtain(&self, request: Layout) -> Result<NonNull<u8>, Refused> {
    ///         Err(Refused::over_limit("pinned memory", request, 1 << 20, 1 << 20))
    ///     }
    ///
    ///     unsafe fn give_back(&self, _: NonNull<u8>, _: Layout) {}
    /// }
    ///
    /// let error = TensorAllocator::new_in(Pinned).alloc::<u8>(1000).unwrap_err();
    /// assert_eq!(error.limit(), Some(1 << 20));
    /// assert!(error.to_string().ends_with(
    ///     "over the limit of 1 MiB of pinned memory, with 1 MiB in use and 0 B pooled; who asked there has 0 B in use and 0 B pooled"
    /// ));
    /// ```
    pub fn over_limit(name: &str, request: Layout, limit: usize, in_use: usize) -> Self {
        let kind = if request.size() > limit { AllocErrorKind::NeverFits } else { AllocErrorKind::OverLimit };
        AllocError::refused(request).of_kind(kind).with_account(in_use, 0, Some(limit)).owned_by(name).note();
        Self
    }
}

impl From<AllocError> for Refused {
    fn from(reason: AllocError) -> Self {
        reason.note();
        Self
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the backing refused the request")
    }
}

impl std::error::Error for Refused {}

/// From now on, the child of a fork finds the backings' books whole.
pub(crate) fn survive_forks() {
    budget::survive();
    tracking::survive();
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

            unsafe fn refit(&self, block: NonNull<u8>, old: Layout, new: Layout, zeroed: bool) -> Option<NonNull<u8>> {
                // SAFETY: the caller's word, passed on.
                unsafe { (**self).refit(block, old, new, zeroed) }
            }

            fn is_pool(&self) -> bool {
                (**self).is_pool()
            }

            fn grounds(&self, grounds: &mut Grounds) {
                (**self).grounds(grounds);
            }
        }
    )*};
}

backing_by_pointer!(&B, Arc<B>, Box<B>);
