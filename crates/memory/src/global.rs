//! The `#[global_allocator]`.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::{self, NonNull};

use crate::error::AllocError;
use crate::heap_config::{HeapConfig, HeapSettings};
use crate::process::{self, Footprint};
use crate::stats::Stats;

const DEFAULT_THRESHOLD: usize = 1;

/// The global allocator: requests come from the process's heap of [`Pages`](crate::Pages), behind a cache for each thread;
/// those below a threshold can be left to another allocator, `Inner`.
///
/// ```
/// use tenzor_memory::TenzorMalloc;
///
/// #[global_allocator]
/// static GLOBAL: TenzorMalloc = TenzorMalloc::new();
///
/// let tensor = vec![0f32; 1 << 20];
/// assert_eq!(tensor.iter().sum::<f32>(), 0.0);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TenzorMalloc<Inner = std::alloc::System> {
    inner: Inner,
    threshold: usize,
}

impl TenzorMalloc {
    /// Over the process's malloc.
    pub const fn new() -> Self {
        Self::new_in(std::alloc::System)
    }
}

impl Default for TenzorMalloc {
    fn default() -> Self {
        Self::new()
    }
}

/// Calls of their own, so that the path to the heap needs no stack frame for what is inlined here.
impl<Inner: GlobalAlloc> TenzorMalloc<Inner> {
    /// # Safety
    /// As for [`GlobalAlloc::alloc`].
    #[cold]
    #[inline(never)]
    unsafe fn inner_alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's word, passed on.
        unsafe { self.inner.alloc(layout) }
    }

    /// # Safety
    /// As for [`GlobalAlloc::dealloc`].
    #[cold]
    #[inline(never)]
    unsafe fn inner_dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's word, passed on.
        unsafe { self.inner.dealloc(block, layout) };
    }
}

impl<Inner> TenzorMalloc<Inner> {
    /// Over `inner`.
    pub const fn new_in(inner: Inner) -> Self {
        Self { inner, threshold: DEFAULT_THRESHOLD }
    }

    /// Sets the size in bytes from which requests are served by the heap; smaller ones go to `Inner`. Default: 1, as the heap
    /// is the faster one at every size, and no larger.
    ///
    /// ```
    /// use tenzor_memory::TenzorMalloc;
    ///
    /// #[global_allocator]
    /// static GLOBAL: TenzorMalloc = TenzorMalloc::new().with_threshold(1024);
    /// # let text = String::from("from the process's malloc");
    /// ```
    #[must_use]
    pub const fn with_threshold(mut self, bytes: usize) -> Self {
        self.threshold = bytes;
        self
    }

    /// Applies `config` to the process's heap from now on, field by field. These environment variables set the same, and win:
    ///
    /// | variable | sets | example |
    /// |---|---|---|
    /// | `TENZOR_DECAY_MS` | [decay](HeapConfig::with_decay), in milliseconds | `10000`, `never` |
    /// | `TENZOR_LIMIT` | [limit](HeapConfig::with_limit), in bytes | `8G` |
    /// | `TENZOR_IDLE_LIMIT` | [idle limit](HeapConfig::with_idle_limit), in bytes | `512M` |
    /// | `TENZOR_HUGE_PAGES` | [huge pages](HeapConfig::with_huge_pages) | `auto`, `always`, `never` |
    /// | `TENZOR_BACKGROUND` | [background](HeapConfig::with_background) | `0`, `1` |
    /// | `TENZOR_CHECK` | [checks](HeapConfig::with_checks) | `0`, `1` |
    ///
    /// ```
    /// use tenzor_memory::{HeapConfig, TenzorMalloc};
    ///
    /// #[global_allocator]
    /// static GLOBAL: TenzorMalloc = TenzorMalloc::new();
    ///
    /// fn main() {
    ///     GLOBAL.configure(&HeapConfig::new().with_limit(8 << 30).with_decay(None));
    ///     // …
    /// }
    /// ```
    pub fn configure(&self, config: &HeapConfig) {
        process::configure(config);
    }

    /// Asks `handler` before a request is refused, once what pools and arenas keep was given up: it may free memory, and says whether the request is to be
    /// tried once more. It runs in the thread that requests, in the midst of the request; what it requests itself is served as long as there is
    /// memory, and refused without asking anybody. The request may have come through an arena, a planned allocator or a lock: the handler is not to use these. It may be asked
    /// up to 16 times before the heap refuses; pools and `Vecs` ask the heap twice. What is larger than the limit is refused without asking. If it panics, the process ends.
    ///
    /// A limit refuses what cannot be refused: `Vec::push`, `Box::new` and their like end the process where there is no memory. So that it can say why, a
    /// line on standard error names the limit, what is in use and what was requested, at most once a second (none with `TENZOR_QUIET=1`), and
    /// small requests are served from a reserve of 64 KiB beyond the limit, also those that might have failed, as nobody can tell. The line is of the first
    /// refusal within a second; of the one that ends the process, the standard library says the size. What is to go on there asks by `try_reserve`, or
    /// through Tenzor's own types.
    ///
    /// ```
    /// use std::sync::Mutex;
    /// use tenzor_memory::{AllocError, HeapConfig, TenzorMalloc};
    ///
    /// #[global_allocator]
    /// static GLOBAL: TenzorMalloc = TenzorMalloc::new();
    /// static CACHE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
    ///
    /// fn spill(_: &AllocError) -> bool {
    ///     CACHE.try_lock().is_ok_and(|mut cache| cache.pop().is_some())
    /// }
    ///
    /// fn main() {
    ///     GLOBAL.configure(&HeapConfig::new().with_limit(64 << 20));
    ///     GLOBAL.on_refusal(Some(spill));
    ///     CACHE.lock().unwrap().push(vec![1; 48 << 20]);
    ///     let mut tensor: Vec<u8> = Vec::new();
    ///     assert!(tensor.try_reserve(48 << 20).is_ok());
    /// }
    /// ```
    pub fn on_refusal(&self, handler: Option<fn(&AllocError) -> bool>) {
        process::on_refusal(handler);
    }

    /// The settings that are in force, each with who set it.
    pub fn config(&self) -> HeapSettings {
        process::config()
    }

    /// As [`Pages::stats`](crate::Pages::stats).
    pub fn stats(&self) -> Stats {
        process::stats()
    }

    /// As [`Pages::footprint`](crate::Pages::footprint).
    ///
    /// ```
    /// use tenzor_memory::TenzorMalloc;
    ///
    /// #[global_allocator]
    /// static GLOBAL: TenzorMalloc = TenzorMalloc::new();
    ///
    /// let before = GLOBAL.footprint();
    /// let touched = vec![1_u8; 64 << 20];
    /// let after = GLOBAL.footprint();
    /// assert!(after.in_use_bytes >= before.in_use_bytes + touched.len());
    /// println!("{after}");
    /// # drop(touched);
    /// ```
    pub fn footprint(&self) -> Footprint {
        process::footprint()
    }

    /// As [`Pages::take_peaks`](crate::Pages::take_peaks).
    pub fn take_peaks(&self) -> Stats {
        process::take_peaks()
    }

    /// As [`Pages::trim`](crate::Pages::trim).
    pub fn trim(&self) -> usize {
        process::trim()
    }
}

// SAFETY: the heap grants what a global allocator has to (see `backing::Pages`), and so does `Inner`; a block returns to where
// it came from, as its layout alone decides.
unsafe impl<Inner: GlobalAlloc> GlobalAlloc for TenzorMalloc<Inner> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        debug_assert!(layout.size() != 0);
        if layout.size() < self.threshold {
            // SAFETY: the caller's word, passed on.
            return unsafe { self.inner_alloc(layout) };
        }
        process::obtain(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        debug_assert!(layout.size() != 0);
        if layout.size() < self.threshold {
            // SAFETY: the caller's word, passed on.
            return unsafe { self.inner.alloc_zeroed(layout) };
        }
        process::obtain_zeroed(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        debug_assert!(!block.is_null() && layout.size() != 0);
        if layout.size() < self.threshold {
            // SAFETY: the caller's word, passed on; the layout says that the block came from there.
            return unsafe { self.inner_dealloc(block, layout) };
        }
        // SAFETY: the caller's block was granted, so it is not null.
        process::give_back(unsafe { NonNull::new_unchecked(block) }, layout);
    }

    unsafe fn realloc(&self, block: *mut u8, old: Layout, size: usize) -> *mut u8 {
        debug_assert!(!block.is_null() && old.size() != 0 && size != 0);
        // SAFETY: the caller promises that the size, rounded up to the alignment, does not overflow.
        let new = unsafe { Layout::from_size_align_unchecked(size, old.align()) };
        let inner = (old.size() < self.threshold, size < self.threshold);
        if inner == (true, true) {
            // SAFETY: the caller's word, passed on.
            return unsafe { self.inner.realloc(block, old, size) };
        }
        if inner == (false, false)
            && let Some(start) = NonNull::new(block)
        {
            if process::resize(start, old, new, false) {
                return block;
            }
            if let Some(moved) = process::relocate(start, old, new) {
                return moved.as_ptr();
            }
        }
        // SAFETY: both blocks are as large as said, and disjoint; the old one is the caller's to free.
        unsafe {
            let moved = self.alloc(new);
            if !moved.is_null() {
                ptr::copy_nonoverlapping(block, moved, old.size().min(size));
                self.dealloc(block, old);
            }
            moved
        }
    }
}
