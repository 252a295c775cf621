//! A buffer's elements by value.
#![allow(unsafe_code)]

use std::fmt;
use std::iter::FusedIterator;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::ptr::{self, NonNull};

use allocator_api2::alloc::Allocator;

use super::{Buffer, Memory};

/// The elements of a [`Buffer`] by value. What is left is dropped with it, and then the memory is returned.
pub struct IntoIter<T, A: Allocator> {
    first: NonNull<T>,
    /// Which elements are left: initialised, and owned by this value.
    left: Range<usize>,
    /// Returned after the elements were dropped.
    _block: Memory<A>,
}

// SAFETY: it owns elements and memory as the buffer did.
unsafe impl<T: Send, A: Allocator + Send> Send for IntoIter<T, A> {}
// SAFETY: `&IntoIter` gives out `&[T]` and nothing else.
unsafe impl<T: Sync, A: Allocator + Sync> Sync for IntoIter<T, A> {}

impl<T, A: Allocator> IntoIter<T, A> {
    /// The elements that are left.
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: they are initialised, and in the block, which lives as long as this value.
        unsafe { std::slice::from_raw_parts(self.first.add(self.left.start).as_ptr(), self.left.len()) }
    }

    /// # Safety
    /// `index` has just been taken out of `left`.
    unsafe fn read(&self, index: usize) -> T {
        // SAFETY: it was left, so it is initialised, and nobody looks at it again.
        unsafe { self.first.add(index).read() }
    }
}

impl<T, A: Allocator> IntoIterator for Buffer<T, A> {
    type Item = T;
    type IntoIter = IntoIter<T, A>;

    /// ```
    /// use tenzor_memory::TensorAllocator;
    ///
    /// let alloc = TensorAllocator::new();
    /// let names = alloc.alloc_from_fn(3, |i| format!("layer {i}"))?;
    /// let names: Vec<String> = names.into_iter().rev().collect();
    /// assert_eq!(names, ["layer 2", "layer 1", "layer 0"]);
    /// assert_eq!(alloc.stats().bytes_in_use, 0);
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    fn into_iter(self) -> IntoIter<T, A> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so its block is moved out once.
        let block = unsafe { ptr::read(&this.block) };
        IntoIter { first: block.ptr.cast(), left: 0..this.len, _block: block }
    }
}

impl<T, A: Allocator> Iterator for IntoIter<T, A> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        // SAFETY: the index was just taken out.
        self.left.next().map(|index| unsafe { self.read(index) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl<T, A: Allocator> DoubleEndedIterator for IntoIter<T, A> {
    #[inline]
    fn next_back(&mut self) -> Option<T> {
        // SAFETY: the index was just taken out.
        self.left.next_back().map(|index| unsafe { self.read(index) })
    }
}

impl<T, A: Allocator> ExactSizeIterator for IntoIter<T, A> {}
impl<T, A: Allocator> FusedIterator for IntoIter<T, A> {}

impl<T, A: Allocator> Drop for IntoIter<T, A> {
    fn drop(&mut self) {
        // SAFETY: the index is within the block, or its end.
        let first = unsafe { self.first.add(self.left.start) };
        // SAFETY: the elements that are left are initialised, owned by this value, and not seen again.
        unsafe { NonNull::slice_from_raw_parts(first, self.left.len()).drop_in_place() };
    }
}

impl<T: fmt::Debug, A: Allocator> fmt::Debug for IntoIter<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IntoIter").field(&self.as_slice()).finish()
    }
}
