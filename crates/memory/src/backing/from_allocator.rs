//! Any std-style allocator.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;

use allocator_api2::alloc::Allocator;

use super::{Backing, Refused};

/// Any std-style allocator (allocator-api2 0.2) as a backing. A panic in it aborts the process.
///
/// Nothing is known of where its memory comes from. So what is kept above it cannot be asked back by others, though it be a budget's: pools, arenas, budgets and
/// [`Scoped`](crate::Scoped) are backings themselves.
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

impl<A> FromAllocator<A> {
    /// What it stands over.
    pub fn inner(&self) -> &A {
        &self.0
    }
}

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
