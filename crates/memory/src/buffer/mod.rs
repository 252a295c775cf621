//! `Buffer`: an owned, aligned slice over any std-style allocator.
#![allow(unsafe_code)]

mod cast;
mod containers;
mod convert_error;
mod foreign;
mod init;
mod iter;
mod part;

use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

use allocator_api2::alloc::Allocator;
use bytemuck::Zeroable;

use crate::error::AllocError;
use crate::layout::{self, MIN_ALIGNMENT, dangling};

pub use convert_error::{ConvertError, ConvertErrorKind};
pub use foreign::Foreign;
pub use init::Slots;
pub use iter::IntoIter;
pub use part::Part;

/// A slice of `T` in memory from the allocator `A`, to which it returns on drop.
///
/// Its address is a multiple of 64 bytes, or of a larger alignment asked for; of [`alignment`](Self::alignment), if it was made of something else: a
/// `Vec`, a `Box`, [foreign](Foreign) memory. It is as long as it was asked to be, ever.
///
/// ```
/// use tenzor_memory::TensorAllocator;
///
/// let alloc = TensorAllocator::new();
/// let mut squares = alloc.alloc_from_fn(4, |i| i * i)?;
/// squares[0] = 100;
/// assert_eq!(squares, [100, 1, 4, 9]);
/// assert_eq!(squares.iter().max(), Some(&100));
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
#[repr(C)]
pub struct Buffer<T, A: Allocator> {
    block: Memory<A>,
    len: usize,
    owns: PhantomData<T>,
}

/// Memory without contents; apart from `Buffer`, so that it is returned even where the destructor of an element panics.
///
/// Invariant: `ptr` is a live block of `alloc` for `layout`, owned by this value; dangling but aligned if zero-sized.
///
/// In this order: neighbours may be written at once, and then neither is known before both are. A free finds its way by the other two while the
/// pointer, which the request before it may have to wait for, is still on its way.
#[repr(C)]
struct Memory<A: Allocator> {
    alloc: A,
    layout: Layout,
    ptr: NonNull<u8>,
}

impl<A: Allocator> Drop for Memory<A> {
    #[inline]
    fn drop(&mut self) {
        if self.layout.size() != 0 {
            // SAFETY: the block is live, and this value, its owner, goes away (the invariant of `Memory`).
            unsafe { self.alloc.deallocate(self.ptr, self.layout) };
        }
    }
}

// SAFETY: a buffer owns its elements and its memory as a `Box<[T]>` does; the pointer is not shared. Returning the memory
// from another thread is what sending or sharing `A` permits.
unsafe impl<T: Send, A: Allocator + Send> Send for Buffer<T, A> {}
// SAFETY: `&Buffer` gives out `&[T]` and `&A` and nothing else.
unsafe impl<T: Sync, A: Allocator + Sync> Sync for Buffer<T, A> {}

impl<T, A: Allocator> Buffer<T, A> {
    /// `count` values in memory from `request`, which grants a live block of `alloc` for the layout it is given. The one
    /// place where buffers take memory.
    #[inline]
    pub(crate) fn request(
        count: usize,
        layout: Layout,
        alloc: A,
        request: impl FnOnce(&A, Layout) -> Result<NonNull<u8>, AllocError>,
    ) -> Result<Buffer<MaybeUninit<T>, A>, AllocError> {
        debug_assert!(layout.size() == count * size_of::<T>());
        let ptr = if layout.size() == 0 { dangling(layout) } else { request(&alloc, layout)? };
        debug_assert!(ptr.addr().get().is_multiple_of(layout.align()));
        Ok(Buffer { block: Memory { ptr, layout, alloc }, len: count, owns: PhantomData })
    }

    /// The layout of a buffer over an allocator that tells nothing about itself.
    fn layout(count: usize) -> Result<Layout, AllocError> {
        let requested = count.saturating_mul(size_of::<T>());
        layout::array::<T>(count, MIN_ALIGNMENT, MIN_ALIGNMENT).ok_or(AllocError::never_fits(requested, MIN_ALIGNMENT))
    }

    /// `count` uninitialised values.
    ///
    /// # Errors
    /// [`AllocError`] when the size overflows or the allocator refuses. The same holds for all constructors.
    pub fn uninit_in(count: usize, alloc: A) -> Result<Buffer<MaybeUninit<T>, A>, AllocError> {
        Self::request(count, Self::layout(count)?, alloc, allocate)
    }

    /// `count` values of all zero bytes; the allocator may know that they are zero already.
    ///
    /// # Errors
    /// As [`uninit_in`](Self::uninit_in).
    pub fn zeroed_in(count: usize, alloc: A) -> Result<Self, AllocError>
    where
        T: Zeroable,
    {
        let zeroed = Self::request(count, Self::layout(count)?, alloc, |alloc, layout| {
            AllocError::asking(layout, || alloc.allocate_zeroed(layout)).map(NonNull::cast)
        })?;
        // SAFETY: `allocate_zeroed` granted zeros, and `T: Zeroable` says that these are values.
        Ok(unsafe { zeroed.assume_init() })
    }

    /// `count` clones of `value`.
    ///
    /// # Errors
    /// As [`uninit_in`](Self::uninit_in).
    pub fn filled_in(count: usize, value: T, alloc: A) -> Result<Self, AllocError>
    where
        T: Clone,
    {
        Ok(Self::uninit_in(count, alloc)?.init_filled(value))
    }

    /// A copy of `source`.
    ///
    /// # Errors
    /// As [`uninit_in`](Self::uninit_in).
    pub fn from_slice_in(source: &[T], alloc: A) -> Result<Self, AllocError>
    where
        T: Clone,
    {
        let buffer = Self::uninit_in(source.len(), alloc)?;
        // SAFETY: the iterator yields `source.len()` values.
        Ok(unsafe { buffer.init_from(source.iter().cloned()) })
    }

    /// `f(0), f(1), …, f(count - 1)`.
    ///
    /// # Errors
    /// As [`uninit_in`](Self::uninit_in).
    pub fn from_fn_in(count: usize, f: impl FnMut(usize) -> T, alloc: A) -> Result<Self, AllocError> {
        Ok(Self::uninit_in(count, alloc)?.init_with(f))
    }

    /// A clone of each element, in memory of the same allocator with the same alignment.
    ///
    /// ```
    /// use tenzor_memory::TensorAllocator;
    ///
    /// let alloc = TensorAllocator::new();
    /// let weights = alloc.alloc_filled(1000, 0.5_f32)?.into_owned();
    /// let mut copy = weights.try_clone()?;
    /// copy[0] = 1.0;
    /// assert_eq!((weights[0], copy[0], copy[999]), (0.5, 1.0, 0.5));
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    ///
    /// There is no `Clone`, which could only end the process where the allocator refuses.
    ///
    /// # Errors
    /// As [`uninit_in`](Self::uninit_in).
    pub fn try_clone(&self) -> Result<Self, AllocError>
    where
        T: Clone,
        A: Clone,
    {
        let buffer = Self::request(self.len, self.block.layout, self.allocator().clone(), allocate)?;
        // SAFETY: the iterator yields `self.len` values.
        Ok(unsafe { buffer.init_from(self.iter().cloned()) })
    }

    /// The elements.
    #[inline]
    pub fn as_slice(&self) -> &[T] {
        self
    }

    /// The elements, to be changed.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        self
    }

    /// The allocator that the memory came from.
    pub fn allocator(&self) -> &A {
        &self.block.alloc
    }

    /// The guaranteed alignment of the address, in bytes.
    pub fn alignment(&self) -> usize {
        self.block.layout.align()
    }

    /// Takes the buffer apart, without dropping anything: address, number of elements, alignment in bytes, allocator.
    ///
    /// The memory is a live block of the allocator for the layout of `len * size_of::<T>()` bytes at that alignment.
    ///
    /// ```
    /// use tenzor_memory::{Buffer, TensorAllocator};
    ///
    /// let alloc = TensorAllocator::new();
    /// let (ptr, len, alignment, owner) = alloc.alloc_filled(100, 1.5)?.into_raw_parts();
    /// // SAFETY: the parts that were just taken.
    /// let buffer = unsafe { Buffer::from_raw_parts(ptr, len, alignment, owner) };
    /// assert_eq!(buffer.iter().sum::<f64>(), 150.0);
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    pub fn into_raw_parts(self) -> (NonNull<T>, usize, usize, A) {
        let this = ManuallyDrop::new(self);
        let block = &this.block;
        // SAFETY: `this` is not dropped, so `alloc` is read once and moved out.
        let alloc = unsafe { ptr::read(&block.alloc) };
        (block.ptr.cast(), this.len, block.layout.align(), alloc)
    }

    /// Puts a buffer together from the parts that [`into_raw_parts`](Self::into_raw_parts) gave, or their like.
    ///
    /// # Safety
    /// `ptr` points to `len` initialised values of `T`, in a live block of `alloc` for the layout of `len * size_of::<T>()`
    /// bytes aligned to `alignment` (if that is zero-sized: `ptr` is merely aligned), and nothing else owns any of it.
    /// `alignment` is a power of two, and at least `align_of::<T>()`.
    pub unsafe fn from_raw_parts(ptr: NonNull<T>, len: usize, alignment: usize, alloc: A) -> Self {
        debug_assert!(alignment.is_power_of_two() && alignment >= align_of::<T>());
        debug_assert!(ptr.addr().get().is_multiple_of(alignment));
        // SAFETY: the caller says that a block of this layout exists, so its size is in range and its alignment valid.
        let layout = unsafe { Layout::from_size_align_unchecked(len * size_of::<T>(), alignment) };
        Self { block: Memory { ptr: ptr.cast(), layout, alloc }, len, owns: PhantomData }
    }
}

/// A request of an allocator that tells nothing about itself.
fn allocate<A: Allocator>(alloc: &A, layout: Layout) -> Result<NonNull<u8>, AllocError> {
    AllocError::asking(layout, || alloc.allocate(layout)).map(NonNull::cast)
}

impl<T, A: Allocator> Drop for Buffer<T, A> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: all elements are initialised, owned by this buffer, and not seen again; then `block` is dropped.
        unsafe { ptr::drop_in_place::<[T]>(&mut **self) };
    }
}

impl<T, A: Allocator> Deref for Buffer<T, A> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the block holds `len` initialised values of `T`, aligned for it, as long as this buffer lives.
        unsafe { std::slice::from_raw_parts(self.block.ptr.cast().as_ptr(), self.len) }
    }
}

impl<T, A: Allocator> DerefMut for Buffer<T, A> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` is the only way to the elements.
        unsafe { std::slice::from_raw_parts_mut(self.block.ptr.cast().as_ptr(), self.len) }
    }
}

impl<T, A: Allocator> AsRef<[T]> for Buffer<T, A> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T, A: Allocator> AsMut<[T]> for Buffer<T, A> {
    fn as_mut(&mut self) -> &mut [T] {
        self
    }
}

impl<'a, T, A: Allocator> IntoIterator for &'a Buffer<T, A> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T, A: Allocator> IntoIterator for &'a mut Buffer<T, A> {
    type Item = &'a mut T;
    type IntoIter = std::slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<T: PartialEq, A: Allocator, B: Allocator> PartialEq<Buffer<T, B>> for Buffer<T, A> {
    fn eq(&self, other: &Buffer<T, B>) -> bool {
        **self == **other
    }
}

impl<T: Eq, A: Allocator> Eq for Buffer<T, A> {}

macro_rules! equal_to_slices {
    ($([$($generics:tt)*] $slice:ty),*) => {$(
        impl<T: PartialEq, A: Allocator, $($generics)*> PartialEq<$slice> for Buffer<T, A> {
            fn eq(&self, other: &$slice) -> bool {
                **self == other[..]
            }
        }
    )*};
}

equal_to_slices!([] [T], [] &[T], [] Vec<T>, [const N: usize] [T; N]);

impl<T: fmt::Debug, A: Allocator> fmt::Debug for Buffer<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
