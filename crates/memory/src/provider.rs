//! What the crate's allocators come down to: raw requests that explain their refusals, and the typed requests over them.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;

use crate::error::AllocError;
use crate::layout;

/// The raw requests of an allocator of this crate.
///
/// # Safety
/// Granted memory is as large and aligned as asked, disjoint from all other live memory, and valid until it is released,
/// or the provider is dropped or mutably borrowed. A zero-sized request is granted a dangling pointer.
pub(crate) unsafe trait Provider {
    /// Memory for `layout`; all zero with `zeroed`.
    fn request(&self, layout: Layout, zeroed: bool) -> Result<NonNull<u8>, AllocError>;

    /// # Safety
    /// `ptr` was granted by this provider for `layout`, and is not used afterwards.
    unsafe fn release(&self, ptr: NonNull<u8>, layout: Layout);

    /// Moves where it must. The contents up to the smaller size stay; with `zeroed`, bytes beyond the old size are zero.
    ///
    /// # Safety
    /// `ptr` was granted by this provider for `old`, and is not used after success.
    unsafe fn resize(
        &self,
        ptr: NonNull<u8>,
        old: Layout,
        new: Layout,
        zeroed: bool,
    ) -> Result<NonNull<u8>, AllocError>;

    /// Notes and explains a request that no layout can express.
    fn never_fits(&self, requested: usize, alignment: usize) -> AllocError;

    /// The least alignment of every buffer, in bytes.
    #[inline]
    fn alignment(&self) -> usize {
        layout::MIN_ALIGNMENT
    }

    /// The layout of `count` values of `T`, aligned to `alignment` or more.
    #[inline]
    fn layout_of<T>(&self, count: usize, alignment: usize) -> Result<Layout, AllocError> {
        layout::array::<T>(count, alignment, self.alignment())
            .ok_or_else(|| self.never_fits(count.saturating_mul(size_of::<T>()), alignment))
    }
}

/// The typed requests of a provider, as inherent methods. One text, so that all allocators offer the same.
macro_rules! typed_requests {
    ($example:literal) => {
        /// `count` uninitialised values of `T`, aligned to 64 bytes or more.
        ///
        /// ```
        #[doc = $example]
        /// let buffer = alloc.alloc::<f32>(1024)?;
        /// assert!(buffer.len() == 1024 && buffer.as_ptr().addr() % 64 == 0);
        /// let ones = buffer.init_filled(1.0);
        /// assert_eq!(ones.iter().sum::<f32>(), 1024.0);
        /// # Ok::<(), tenzor_memory::AllocError>(())
        /// ```
        ///
        /// # Errors
        /// [`AllocError`] when the size overflows, a limit is reached, or the backing refuses. The same holds for all
        /// typed requests. A request for no bytes (`count` 0, or a zero-sized `T`) succeeds and takes no memory.
        #[inline]
        pub fn alloc<T>(&self, count: usize) -> Result<Buffer<MaybeUninit<T>, &Self>, AllocError> {
            self.alloc_aligned(count, crate::layout::MIN_ALIGNMENT)
        }

        /// As [`alloc`](Self::alloc), aligned to `alignment` bytes (a power of two), 64, or `align_of::<T>()`, whichever
        /// is largest.
        ///
        /// ```
        #[doc = $example]
        /// let page = alloc.alloc_aligned::<u8>(4096, 4096)?;
        /// assert!(page.as_ptr().addr() % 4096 == 0);
        /// # Ok::<(), tenzor_memory::AllocError>(())
        /// ```
        ///
        /// # Errors
        /// As [`alloc`](Self::alloc), and when `alignment` is not a power of two.
        #[inline]
        pub fn alloc_aligned<T>(
            &self,
            count: usize,
            alignment: usize,
        ) -> Result<Buffer<MaybeUninit<T>, &Self>, AllocError> {
            let layout = self.layout_of::<T>(count, alignment)?;
            Buffer::<T, &Self>::request(count, layout, self, |this, layout| this.request(layout, false))
        }

        /// `count` values of all zero bytes. What is known to be zero is not written again.
        ///
        /// ```
        #[doc = $example]
        /// assert_eq!(*alloc.alloc_zeroed::<u8>(3)?, [0, 0, 0]);
        /// # Ok::<(), tenzor_memory::AllocError>(())
        /// ```
        ///
        /// # Errors
        /// As [`alloc`](Self::alloc).
        pub fn alloc_zeroed<T: Zeroable>(&self, count: usize) -> Result<Buffer<T, &Self>, AllocError> {
            let layout = self.layout_of::<T>(count, crate::layout::MIN_ALIGNMENT)?;
            let zeroed = Buffer::<T, &Self>::request(count, layout, self, |this, layout| this.request(layout, true))?;
            // SAFETY: all bytes are zero, and `T: Zeroable` says that these are values.
            Ok(unsafe { zeroed.assume_init() })
        }

        /// `count` clones of `value`.
        ///
        /// ```
        #[doc = $example]
        /// assert_eq!(*alloc.alloc_filled(3, 1.5)?, [1.5, 1.5, 1.5]);
        /// # Ok::<(), tenzor_memory::AllocError>(())
        /// ```
        ///
        /// # Errors
        /// As [`alloc`](Self::alloc).
        pub fn alloc_filled<T: Clone>(&self, count: usize, value: T) -> Result<Buffer<T, &Self>, AllocError> {
            Ok(self.alloc(count)?.init_filled(value))
        }

        /// A copy of `source`.
        ///
        /// ```
        #[doc = $example]
        /// assert_eq!(*alloc.alloc_from_slice(&[1, 2, 3])?, [1, 2, 3]);
        /// # Ok::<(), tenzor_memory::AllocError>(())
        /// ```
        ///
        /// # Errors
        /// As [`alloc`](Self::alloc).
        pub fn alloc_from_slice<T: Clone>(&self, source: &[T]) -> Result<Buffer<T, &Self>, AllocError> {
            let buffer = self.alloc(source.len())?;
            // SAFETY: the iterator yields `source.len()` values.
            Ok(unsafe { buffer.init_from(source.iter().cloned()) })
        }

        /// `f(0), f(1), …, f(count - 1)`. Should `f` panic, nothing leaks.
        ///
        /// ```
        #[doc = $example]
        /// assert_eq!(*alloc.alloc_from_fn(4, |i| i * i)?, [0, 1, 4, 9]);
        /// # Ok::<(), tenzor_memory::AllocError>(())
        /// ```
        ///
        /// # Errors
        /// As [`alloc`](Self::alloc).
        pub fn alloc_from_fn<T>(
            &self,
            count: usize,
            f: impl FnMut(usize) -> T,
        ) -> Result<Buffer<T, &Self>, AllocError> {
            Ok(self.alloc(count)?.init_with(f))
        }
    };
}

pub(crate) use typed_requests;
