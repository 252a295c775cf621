//! Handles of a pool that count apart what goes through them.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;

use bytemuck::Zeroable;

use crate::allocator::TensorAllocator;
use crate::backing::{Backing, DefaultBacking, Grounds};
use crate::buffer::Buffer;
use crate::error::AllocError;
use crate::pool::Resized;
use crate::provider::{Provider, typed_requests};
use crate::stats::ScopeStats;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::atomic::{AtomicU64, AtomicUsize};

/// A handle of a [`TensorAllocator`] with a name, whose requests are counted apart as well: for a request, a layer, a tenant.
///
/// The memory is the pool's: what one scope frees serves the next request of any. Scopes within a scope count in each of those around them. A buffer counts in the
/// scope that it was requested through until it is freed, in whichever thread. Clones are handles of the same scope.
///
/// Nothing is lost or counted twice, whatever threads do; peaks are exact where one thread requests at a time. A request and its free cost some 25 ns beside what the pool takes, for each scope that they count in, and
/// threads that use one scope at the same time write to one cache line.
///
/// ```
/// use tenzor_memory::{AllocError, TensorAllocator};
///
/// let alloc = TensorAllocator::new();
/// let request = alloc.scope("request 7");
/// let [embed, attend] = ["embed", "attend"].map(|layer| request.scope(layer));
/// let tokens = embed.alloc_zeroed::<f32>(1000)?;
/// for _head in 0..8 {
///     drop(attend.alloc_filled(500, 1.0_f32)?);
/// }
/// let (inner, outer) = (attend.stats(), request.stats());
/// assert_eq!((inner.pool_misses, inner.pool_hits, inner.bytes_in_use, inner.peak_bytes_in_use), (1, 7, 0, 2000));
/// assert_eq!((outer.allocations, outer.bytes_in_use, outer.peak_bytes_in_use), (9, 4000, 6000));
/// println!("{outer}");
/// # drop(tokens);
/// # Ok::<(), AllocError>(())
/// ```
///
/// It is an allocator like its pool: `eval(&expr, &scope)`, containers, [`SharedAllocator`](super::SharedAllocator) and arenas (`ComputeArena::new_in(scope)`) take it.
pub struct Scoped<B: Backing = DefaultBacking>(Arc<Inner<B>>);

/// A buffer that owns a handle of its scope.
pub type ScopedBuffer<T, B = DefaultBacking> = Buffer<T, Scoped<B>>;

struct Inner<B: Backing> {
    name: String,
    pool: TensorAllocator<B>,
    own: Arc<Counts>,
    /// Of the scopes around it.
    around: Box<[Arc<Counts>]>,
}

/// Written by all who use the scope: on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    frees: AtomicU64,
    failures: AtomicU64,
    /// All bytes ever handed out, modulo the largest number.
    allocated: AtomicUsize,
    in_use: AtomicUsize,
    /// At least as large as what `in_use` ever was: who adds to that sees to it.
    peak: AtomicUsize,
}

impl<B: Backing> TensorAllocator<B> {
    /// A handle of this pool whose requests are counted apart, too, under a name.
    ///
    /// ```
    /// let alloc = tenzor_memory::TensorAllocator::new();
    /// let layer = alloc.scope("conv 1");
    /// let weights = layer.alloc_zeroed::<f32>(1000)?.into_owned();
    /// assert_eq!(layer.stats().bytes_in_use, 4000);
    /// std::thread::spawn(move || drop(weights)).join().unwrap();
    /// assert_eq!(layer.stats().bytes_in_use, 0);
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    pub fn scope(&self, name: &str) -> Scoped<B> {
        Scoped::new(name, self, Box::default())
    }
}

impl<B: Backing> Scoped<B> {
    typed_requests!("let alloc = tenzor_memory::TensorAllocator::new().scope(\"layer\");");

    fn new(name: &str, pool: &TensorAllocator<B>, around: Box<[Arc<Counts>]>) -> Self {
        Self(Arc::new(Inner { name: name.to_owned(), pool: pool.clone(), own: Arc::default(), around }))
    }

    /// The allocator that [`alloc`](Self::alloc)'s buffers carry, for std-style containers.
    pub fn allocator(&self) -> &Self {
        self
    }

    /// A scope within this one: what is requested through it counts in both.
    pub fn scope(&self, name: &str) -> Self {
        Self::new(name, &self.0.pool, self.counts().cloned().collect())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The pool that serves it.
    pub fn upstream(&self) -> &TensorAllocator<B> {
        &self.0.pool
    }

    /// What was requested through it, and through scopes within it. While other threads use it, each number is one of this instant or the next.
    pub fn stats(&self) -> ScopeStats {
        self.0.own.snapshot(&self.0.name, |counts| counts.peak.load(Relaxed))
    }

    /// As [`stats`](Self::stats); the peak is taken anew from now on. No peak is in neither of two results, whatever other threads do.
    ///
    /// ```
    /// let scope = tenzor_memory::TensorAllocator::new().scope("tenant");
    /// drop(scope.alloc::<u8>(5000)?);
    /// assert_eq!(scope.take_peaks().peak_bytes_in_use, 5000);
    /// assert_eq!(scope.stats().peak_bytes_in_use, 0);
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    pub fn take_peaks(&self) -> ScopeStats {
        self.0.own.snapshot(&self.0.name, Counts::take_peak)
    }

    /// Its own, and those of the scopes around it.
    #[inline]
    fn counts(&self) -> impl Iterator<Item = &Arc<Counts>> {
        std::iter::once(&self.0.own).chain(&*self.0.around)
    }

    /// See [`TensorAllocator::name_grounds`].
    pub(crate) fn name_grounds(&self, grounds: &mut Grounds) {
        self.0.pool.name_grounds(grounds);
    }
}

impl Counts {
    #[inline]
    fn served(&self, bytes: usize, is_hit: bool) {
        let requests = if is_hit { &self.hits } else { &self.misses };
        requests.fetch_add(1, Relaxed);
        self.came(bytes);
    }

    #[inline]
    fn freed(&self, bytes: usize) {
        // Who sees it sees the request, too.
        self.frees.fetch_add(1, Release);
        self.went(bytes);
    }

    #[inline]
    fn came(&self, bytes: usize) {
        self.allocated.fetch_add(bytes, Relaxed);
        let in_use = self.in_use.fetch_add(bytes, SeqCst) + bytes;
        // Mostly it is no peak: then nothing is written. It comes before the peak is taken anew, or sees that.
        if in_use > self.peak.load(SeqCst) {
            self.peak.fetch_max(in_use, Relaxed);
        }
    }

    #[inline]
    fn went(&self, bytes: usize) {
        let before = self.in_use.fetch_sub(bytes, Relaxed);
        debug_assert!(before >= bytes);
    }

    fn resized(&self, old: usize, new: usize, how: Resized) {
        if let Resized::Moved { is_hit } = how {
            if new > 0 {
                self.served(new, is_hit);
            }
            if old > 0 {
                self.freed(old);
            }
            return;
        }
        if how == Resized::Below {
            self.misses.fetch_add(1, Relaxed);
            self.frees.fetch_add(1, Release);
        }
        if new > old {
            self.came(new - old);
        } else {
            self.went(old - new);
        }
    }

    fn take_peak(&self) -> usize {
        let peak = self.peak.swap(0, SeqCst);
        // What comes in use from here on is seen by who adds it; what did before, here.
        self.peak.fetch_max(self.in_use.load(SeqCst), Relaxed);
        peak
    }

    fn snapshot(&self, name: &str, peak: impl FnOnce(&Self) -> usize) -> ScopeStats {
        // First: so no more are freed than were handed out.
        let deallocations = self.frees.load(Acquire);
        let peak = peak(self);
        let bytes_in_use = self.in_use.load(Relaxed);
        let [pool_hits, pool_misses] = [&self.hits, &self.misses].map(|requests| requests.load(Relaxed));
        ScopeStats {
            name: name.to_owned(),
            allocations: pool_hits + pool_misses,
            deallocations,
            pool_hits,
            pool_misses,
            failures: self.failures.load(Relaxed),
            bytes_allocated: self.allocated.load(Relaxed),
            bytes_in_use,
            peak_bytes_in_use: peak.max(bytes_in_use),
        }
    }
}

impl<T, B: Backing> Buffer<T, &Scoped<B>> {
    /// The same buffer, with a handle of its own in place of the borrow: for structs, channels and other threads. Copies nothing; counts one
    /// reference, and uncounts it on drop.
    pub fn into_owned(self) -> ScopedBuffer<T, B> {
        let (ptr, len, alignment, scope) = self.into_raw_parts();
        // SAFETY: the parts of a buffer; a block of the scope behind the borrow is one of its clones, which share a pool.
        unsafe { Buffer::from_raw_parts(ptr, len, alignment, scope.clone()) }
    }
}

impl<B: Backing> Clone for Scoped<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Backing> fmt::Debug for Scoped<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scoped").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

// SAFETY: the promises are the pool's, which lives as long as any handle of the scope.
unsafe impl<B: Backing> Provider for Scoped<B> {
    #[inline]
    fn request(&self, layout: Layout, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        let found = self.0.pool.serve(layout, zeroed).inspect_err(|_| self.refused())?;
        if layout.size() > 0 {
            self.counts().for_each(|counts| counts.served(layout.size(), found.is_hit));
        }
        Ok(found.ptr)
    }

    #[inline]
    unsafe fn release(&self, ptr: NonNull<u8>, layout: Layout) {
        // First, as somebody else may have it next.
        if layout.size() > 0 {
            self.counts().for_each(|counts| counts.freed(layout.size()));
        }
        // SAFETY: the caller's word, passed on.
        unsafe { self.0.pool.release(ptr, layout) };
    }

    unsafe fn resize(
        &self,
        ptr: NonNull<u8>,
        old: Layout,
        new: Layout,
        zeroed: bool,
    ) -> Result<NonNull<u8>, AllocError> {
        // SAFETY: the caller's word, passed on.
        let changed = unsafe { self.0.pool.change(ptr, old, new, zeroed) };
        let (resized, how) = changed.inspect_err(|_| self.refused())?;
        self.counts().for_each(|counts| counts.resized(old.size(), new.size(), how));
        Ok(resized)
    }

    #[inline]
    fn alignment(&self) -> usize {
        self.0.pool.alignment()
    }

    fn never_fits(&self, requested: usize, alignment: usize) -> AllocError {
        self.refused();
        self.0.pool.never_fits(requested, alignment)
    }
}

impl<B: Backing> Scoped<B> {
    #[cold]
    fn refused(&self) {
        self.counts().for_each(|counts| _ = counts.failures.fetch_add(1, Relaxed));
    }
}
