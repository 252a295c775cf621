//! What the crate's allocators come down to: raw requests that explain their refusals, and the typed requests over them.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::iter;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::{self, NonNull};

use allocator_api2::alloc::Allocator;

use crate::buffer::Buffer;
use crate::error::AllocError;
use crate::layout::{self, MIN_ALIGNMENT, dangling};

/// The raw requests of an allocator of this crate.
///
/// # Safety
/// Granted memory is as large and aligned as asked, disjoint from all other live memory, and valid until it is released,
/// or the provider is dropped or mutably borrowed. A zero-sized request is granted a dangling pointer. The least alignment
/// is a power of two from 64 to 2^30.
pub(crate) unsafe trait Provider {
    /// Whether it is ever borrowed mutably behind a handle: not while something granted is alive.
    const IS_RESET: bool = false;

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
    ) -> Result<NonNull<u8>, AllocError> {
        debug_assert!(ptr.addr().get().is_multiple_of(old.align()));
        // SAFETY: the caller's word, passed on.
        if unsafe { self.resize_in_place(ptr, old, new) } {
            if zeroed && new.size() > old.size() {
                // SAFETY: it has at least `new.size()` bytes now, and belongs to the caller alone.
                unsafe { ptr.add(old.size()).write_bytes(0, new.size() - old.size()) };
            }
            return Ok(ptr);
        }
        let moved = match self.request(new, zeroed) {
            // SAFETY: the caller's word, passed on.
            Err(_) if new.size() <= old.size() && unsafe { self.stays(ptr, old, new) } => return Ok(ptr),
            moved => moved?,
        };
        // SAFETY: both have at least that many bytes, and are distinct, as the old one was not released; it is the caller's to release.
        unsafe {
            ptr::copy_nonoverlapping(ptr.as_ptr(), moved.as_ptr(), old.size().min(new.size()));
            self.release(ptr, old);
        }
        Ok(moved)
    }

    /// Whether a block, which is alive, has its new layout where it lies from now on; bytes beyond the old size are undefined. By default, none has.
    ///
    /// # Safety
    /// `ptr` was granted by this provider for `old`; if it returns true, that is for `new` now.
    unsafe fn resize_in_place(&self, _ptr: NonNull<u8>, _old: Layout, _new: Layout) -> bool {
        false
    }

    /// Lets a block that shrinks, for which no other was to be had, have its new layout where it lies. Returns whether it has. By default, none has.
    ///
    /// # Safety
    /// `ptr` was granted by this provider for `old`; if it returns true, that is for `new` now.
    unsafe fn stays(&self, _ptr: NonNull<u8>, _old: Layout, _new: Layout) -> bool {
        false
    }

    /// Notes and explains a request that no layout can express.
    fn never_fits(&self, requested: usize, alignment: usize) -> AllocError;

    /// The least alignment of every buffer, in bytes.
    #[inline]
    fn alignment(&self) -> usize {
        MIN_ALIGNMENT
    }

    /// The layout of `count` values of `T`, aligned to `alignment` or more.
    #[inline]
    fn layout_of<T>(&self, count: usize, alignment: usize) -> Result<Layout, AllocError> {
        // What most ask for, and so little that nothing can overflow.
        const MANY: usize = 1 << 30;
        let is_plain = alignment == layout::MIN_ALIGNMENT && align_of::<T>() <= layout::MIN_ALIGNMENT;
        if is_plain && count <= MANY / size_of::<T>().max(1) {
            // SAFETY: the alignment is a power of two, and the size, rounded up to it, is at most 2^30, as both are.
            Ok(unsafe { Layout::from_size_align_unchecked(count * size_of::<T>(), self.alignment()) })
        } else {
            self.layout_of_many::<T>(count, alignment)
        }
    }

    /// As [`layout_of`](Self::layout_of).
    #[cold]
    fn layout_of_many<T>(&self, count: usize, alignment: usize) -> Result<Layout, AllocError> {
        layout::array::<T>(count, alignment, self.alignment())
            .ok_or_else(|| self.never_fits(count.saturating_mul(size_of::<T>()), alignment))
    }
}

/// The values of an iterator, in a buffer as long as there are values: what they say of their number is asked for at once, and doubled where there are more.
pub(crate) fn collect<'a, T, P: Provider>(
    provider: &'a P,
    values: impl Iterator<Item = T>,
) -> Result<Buffer<T, &'a P>, AllocError>
where
    &'a P: Allocator,
{
    let layout = provider.layout_of::<T>(0, MIN_ALIGNMENT)?;
    let mut collected = Collected { ptr: dangling(layout), layout, len: 0, provider, owns: PhantomData };
    let mut values = values.fuse();
    collected.make_room_for(values.size_hint().0)?;
    collected.fill(&mut values);
    while let Some(value) = values.next() {
        // For one more at least.
        let least = MIN_ALIGNMENT.div_ceil(size_of::<T>().max(1));
        collected.make_room_for(collected.len.saturating_mul(2).max(least))?;
        collected.fill(&mut iter::once(value).chain(&mut values));
    }
    collected.make_room_for(collected.len)?;
    let collected = ManuallyDrop::new(collected);
    // SAFETY: `len` values, which are not dropped here, in a block of the provider for as many (the invariant of `Collected`).
    Ok(unsafe { Buffer::from_raw_parts(collected.ptr.cast(), collected.len, collected.layout.align(), provider) })
}

/// Values that become a buffer.
///
/// Invariant: `ptr` is a live block of `provider` for `layout`, dangling but aligned if zero-sized; its first `len` elements are initialised.
struct Collected<'a, T, P: Provider>
where
    &'a P: Allocator,
{
    ptr: NonNull<u8>,
    /// Of an array.
    layout: Layout,
    len: usize,
    provider: &'a P,
    owns: PhantomData<T>,
}

impl<'a, T, P: Provider> Collected<'a, T, P>
where
    &'a P: Allocator,
{
    fn capacity(&self) -> usize {
        self.layout.size().checked_div(size_of::<T>()).unwrap_or(usize::MAX)
    }

    /// As many values as there is room for.
    #[inline]
    fn fill(&mut self, values: &mut impl Iterator<Item = T>) {
        let first = self.ptr.cast::<T>();
        for (index, value) in (self.len..self.capacity()).zip(values) {
            // SAFETY: the block has room for so many.
            unsafe { first.add(index).write(value) };
            self.len = index + 1;
        }
    }

    /// Makes it a block for `count` elements, no fewer than there are.
    fn make_room_for(&mut self, count: usize) -> Result<(), AllocError> {
        debug_assert!(count >= self.len);
        let layout = self.provider.layout_of::<T>(count, MIN_ALIGNMENT)?;
        self.ptr = match (self.layout.size(), layout.size()) {
            (old, new) if old == new => self.ptr,
            (0, _) => self.provider.request(layout, false)?,
            (_, 0) => {
                // SAFETY: it is a live block for this layout (the invariant), and without elements.
                unsafe { self.provider.release(self.ptr, self.layout) };
                dangling(layout)
            }
            // SAFETY: it is a live block for this layout (the invariant), to which nothing else points.
            _ => unsafe { self.provider.resize(self.ptr, self.layout, layout, false) }?,
        };
        self.layout = layout;
        Ok(())
    }
}

impl<'a, T, P: Provider> Drop for Collected<'a, T, P>
where
    &'a P: Allocator,
{
    fn drop(&mut self) {
        let (ptr, count, alignment) = (self.ptr.cast(), self.capacity(), self.layout.align());
        // SAFETY: it is a live block for this layout (the invariant), which is given up; it is returned even where the destructor of an element panics.
        let _block = unsafe { Buffer::<MaybeUninit<T>, _>::from_raw_parts(ptr, count, alignment, self.provider) };
        // SAFETY: these elements are initialised, and nobody will see them.
        unsafe { NonNull::slice_from_raw_parts(self.ptr.cast::<T>(), self.len).drop_in_place() };
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
            self.alloc_zeroed_aligned(count, crate::layout::MIN_ALIGNMENT)
        }

        /// As [`alloc_zeroed`](Self::alloc_zeroed), aligned as [`alloc_aligned`](Self::alloc_aligned) is.
        ///
        /// ```
        #[doc = $example]
        /// let page = alloc.alloc_zeroed_aligned::<f32>(1024, 4096)?;
        /// assert!(page.as_ptr().addr() % 4096 == 0 && page[1023] == 0.0);
        /// # Ok::<(), tenzor_memory::AllocError>(())
        /// ```
        ///
        /// # Errors
        /// As [`alloc`](Self::alloc), and when `alignment` is not a power of two.
        pub fn alloc_zeroed_aligned<T: Zeroable>(
            &self,
            count: usize,
            alignment: usize,
        ) -> Result<Buffer<T, &Self>, AllocError> {
            let layout = self.layout_of::<T>(count, alignment)?;
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

        /// The values of an iterator. What it says of their number is asked for at once; where there are more, twice as much is asked
        /// for, again and again, and what is too much is given back in the end. Should it panic, nothing leaks.
        ///
        /// ```
        #[doc = $example]
        /// let even = alloc.alloc_from_iter((0..10).filter(|i| i % 2 == 0))?;
        /// assert_eq!(*even, [0, 2, 4, 6, 8]);
        /// # Ok::<(), tenzor_memory::AllocError>(())
        /// ```
        ///
        /// # Errors
        /// As [`alloc`](Self::alloc). The values that were made are dropped.
        pub fn alloc_from_iter<T>(&self, values: impl IntoIterator<Item = T>) -> Result<Buffer<T, &Self>, AllocError> {
            crate::provider::collect(self, values.into_iter())
        }

        /// The values of a vector, moved by one copy of its bytes.
        ///
        /// ```
        #[doc = $example]
        /// assert_eq!(*alloc.alloc_from_vec(vec![1, 2, 3])?, [1, 2, 3]);
        /// # Ok::<(), tenzor_memory::AllocError>(())
        /// ```
        ///
        /// # Errors
        /// As [`alloc`](Self::alloc). The values are dropped.
        pub fn alloc_from_vec<T>(&self, mut values: Vec<T>) -> Result<Buffer<T, &Self>, AllocError> {
            let mut buffer = self.alloc::<T>(values.len())?;
            // SAFETY: both have so many elements, and the buffer's are new.
            unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), buffer.as_mut_ptr().cast(), values.len()) };
            // SAFETY: none is left to be dropped there.
            unsafe { values.set_len(0) };
            // SAFETY: each was written.
            Ok(unsafe { buffer.assume_init() })
        }
    };
}

pub(crate) use typed_requests;
