//! A limit.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Backing, Refused};

/// Refuses what would bring the bytes granted and not returned above a limit.
///
/// ```
/// use tenzor_memory::{Limited, System, TensorAllocator};
///
/// let alloc = TensorAllocator::new_in(Limited::new(System, 1 << 20));
/// assert!(alloc.alloc::<u8>(1 << 20).is_ok());
/// assert!(alloc.alloc::<u8>((1 << 20) + 1).is_err());
/// ```
#[derive(Debug)]
pub struct Limited<B> {
    inner: B,
    limit: usize,
    granted: AtomicUsize,
}

impl<B: Backing> Limited<B> {
    /// Grants at most `limit` bytes at any time.
    pub fn new(inner: B, limit: usize) -> Self {
        Self { inner, limit, granted: AtomicUsize::new(0) }
    }

    /// What it stands over.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// The bytes granted and not returned.
    pub fn granted(&self) -> usize {
        self.granted.load(Ordering::Relaxed)
    }

    fn grant(
        &self,
        layout: Layout,
        ask: impl FnOnce(Layout) -> Result<NonNull<u8>, Refused>,
    ) -> Result<NonNull<u8>, Refused> {
        let within_limit = |granted: usize| granted.checked_add(layout.size()).filter(|&sum| sum <= self.limit);
        self.granted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within_limit).map_err(|_| Refused)?;
        ask(layout).inspect_err(|_| {
            self.granted.fetch_sub(layout.size(), Ordering::Relaxed);
        })
    }
}

// SAFETY: what is granted is granted by `inner`.
unsafe impl<B: Backing> Backing for Limited<B> {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.grant(layout, |layout| self.inner.obtain(layout))
    }

    fn obtain_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.grant(layout, |layout| self.inner.obtain_zeroed(layout))
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's word, passed on.
        unsafe { self.inner.give_back(block, layout) };
        let granted = self.granted.fetch_sub(layout.size(), Ordering::Relaxed);
        debug_assert!(granted >= layout.size());
    }
}
