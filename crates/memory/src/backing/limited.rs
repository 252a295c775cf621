//! A limit, as an adaptor.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;

use super::limit::Limit;
use super::{Backing, Refused};
use crate::pressure::Grounds;

/// Refuses what would bring the bytes granted and not returned above a limit.
///
/// Before it refuses, the pools, arenas and planned allocators above it give up what they keep for reuse, the idlest first. For limits with
/// names, and within others, there is [`Budget`](crate::Budget).
///
/// ```
/// use std::sync::Arc;
/// use tenzor_memory::{Limited, PoolConfig, System, TensorAllocator};
///
/// let limited = Arc::new(Limited::new(System, 1 << 20));
/// let [first, second] = [(); 2].map(|()| TensorAllocator::new_in(Arc::clone(&limited)));
/// drop(first.alloc::<u8>(1 << 20)?); // kept for reuse
/// assert!(second.alloc::<u8>(1 << 20).is_ok()); // and given up
/// assert!(second.alloc::<u8>((1 << 20) + 1).is_err());
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
#[derive(Debug)]
pub struct Limited<B> {
    inner: B,
    limit: Limit,
}

impl<B: Backing> Limited<B> {
    /// Grants at most `limit` bytes at any time.
    pub fn new(inner: B, limit: usize) -> Self {
        Self { inner, limit: Limit::new(limit) }
    }

    /// What it stands over.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// The bytes granted and not returned.
    pub fn granted(&self) -> usize {
        self.limit.granted()
    }

    fn grant(
        &self,
        layout: Layout,
        ask: impl FnOnce(Layout) -> Result<NonNull<u8>, Refused>,
    ) -> Result<NonNull<u8>, Refused> {
        self.limit.grant(layout, "", |_| false, ask)
    }
}

// SAFETY: what is granted is granted by `inner`, and what any thread may do is up to it.
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
        self.limit.returned(layout.size());
    }

    unsafe fn refit(&self, block: NonNull<u8>, old: Layout, new: Layout, zeroed: bool) -> Option<NonNull<u8>> {
        // SAFETY: the caller's word, passed on.
        self.limit.refit(old, new, || unsafe { self.inner.refit(block, old, new, zeroed) })
    }

    fn is_pool(&self) -> bool {
        self.inner.is_pool()
    }

    fn grounds(&self, grounds: &mut Grounds) {
        grounds.add_above(|grounds| self.inner.grounds(grounds), self.limit.ground());
    }
}
