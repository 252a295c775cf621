//! Refusals, for tests.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Backing, Grounds, Refused};

/// Refuses chosen requests, to test what stands above it.
///
/// ```
/// use tenzor_memory::{Failing, System, TensorAllocator};
///
/// let alloc = TensorAllocator::new_in(Failing::once(System, 2));
/// let first = alloc.alloc::<f32>(1000)?; // the 1st request
/// let second = alloc.alloc::<f32>(2000)?; // the 2nd is refused, its retry is the 3rd
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
#[derive(Debug)]
pub struct Failing<B> {
    inner: B,
    rule: Rule,
    requests: AtomicU64,
}

#[derive(Debug)]
enum Rule {
    Every(u64),
    Once(u64),
    From(u64),
}

impl<B: Backing> Failing<B> {
    /// Refuses every `k`-th request; with 0, none.
    pub fn every(inner: B, k: u64) -> Self {
        Self::with_rule(inner, Rule::Every(k))
    }

    /// Refuses the `k`-th request only, counted from 1.
    pub fn once(inner: B, k: u64) -> Self {
        Self::with_rule(inner, Rule::Once(k))
    }

    /// Refuses the `k`-th request and all after it, counted from 1.
    pub fn from(inner: B, k: u64) -> Self {
        Self::with_rule(inner, Rule::From(k))
    }

    fn with_rule(inner: B, rule: Rule) -> Self {
        Self { inner, rule, requests: AtomicU64::new(0) }
    }

    /// What it stands over.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// The number of requests so far, refused ones included, zero-sized ones not.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn check(&self, layout: Layout) -> Result<(), Refused> {
        if layout.size() == 0 {
            return Ok(());
        }
        let request = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let refuse = match self.rule {
            Rule::Every(k) => k != 0 && request.is_multiple_of(k),
            Rule::Once(k) => request == k,
            Rule::From(k) => request >= k,
        };
        if refuse { Err(Refused) } else { Ok(()) }
    }
}

// SAFETY: what is granted is granted by `inner`.
unsafe impl<B: Backing> Backing for Failing<B> {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.check(layout)?;
        self.inner.obtain(layout)
    }

    fn obtain_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.check(layout)?;
        self.inner.obtain_zeroed(layout)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's word, passed on.
        unsafe { self.inner.give_back(block, layout) };
    }

    unsafe fn refit(&self, block: NonNull<u8>, old: Layout, new: Layout, zeroed: bool) -> Option<NonNull<u8>> {
        self.check(new).ok()?;
        // SAFETY: the caller's word, passed on.
        unsafe { self.inner.refit(block, old, new, zeroed) }
    }

    fn is_pool(&self) -> bool {
        self.inner.is_pool()
    }

    fn grounds(&self, grounds: &mut Grounds) {
        self.inner.grounds(grounds);
    }
}
