//! Buffers from std-style containers, and containers from buffers.
//!
//! A container has memory with the alignment of its elements, and a vector may have more of it than elements. Where a buffer differs in these, its
//! allocator is told so by `shrink`: pools and arenas leave the elements where they are.
#![allow(unsafe_code)]
// The error has in it what was given.
#![allow(clippy::result_large_err)]

use std::alloc::Layout;
use std::ptr::NonNull;

use allocator_api2::alloc::Allocator;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;

use super::{Buffer, ConvertError, ConvertErrorKind};
use crate::error::AllocError;

impl<T, A: Allocator> Buffer<T, A> {
    /// The same elements in a vector, which may grow. Pools and arenas leave them where they are; another allocator may copy.
    ///
    /// ```
    /// use tenzor_memory::{Buffer, TensorAllocator};
    ///
    /// let alloc = TensorAllocator::new();
    /// let mut losses = alloc.alloc_filled(3, 1.0_f32)?.into_vec().map_err(|error| error.kind())?;
    /// losses.push(0.5);
    /// let losses = Buffer::try_from(losses).map_err(|error| error.kind())?;
    /// assert_eq!(losses, [1.0, 1.0, 1.0, 0.5]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The buffer as it was, when the allocator refuses.
    pub fn into_vec(self) -> Result<Vec<T, A>, ConvertError<Self>> {
        let old = self.block.layout;
        // SAFETY: the size is in range for an alignment at least as large.
        let new = unsafe { Layout::from_size_align_unchecked(old.size(), align_of::<T>()) };
        let mut ptr = self.block.ptr;
        if old.size() != 0 && old.align() != new.align() {
            // SAFETY: the block is live, for this layout (the invariant of `Memory`), and the new one is no larger.
            match AllocError::asking(new, || unsafe { self.allocator().shrink(ptr, old, new) }) {
                Ok(moved) => ptr = moved.cast(),
                Err(reason) => return Err(ConvertError { kind: ConvertErrorKind::Refused(reason), given: self }),
            }
        }
        let (_, len, _, alloc) = self.into_raw_parts();
        // SAFETY: `len` values in a block of `alloc` for as many.
        Ok(unsafe { Vec::from_raw_parts_in(ptr.cast().as_ptr(), len, len, alloc) })
    }

    /// The same elements in a box. Pools and arenas leave them where they are; another allocator may copy.
    ///
    /// ```
    /// use tenzor_memory::{Buffer, TensorAllocator};
    ///
    /// let alloc = TensorAllocator::new();
    /// let boxed = alloc.alloc_filled(3, 1.0_f32)?.into_boxed_slice().map_err(|error| error.kind())?;
    /// assert_eq!(*boxed, [1.0, 1.0, 1.0]);
    /// assert_eq!(Buffer::from(boxed), [1.0, 1.0, 1.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The buffer as it was, when the allocator refuses.
    pub fn into_boxed_slice(self) -> Result<Box<[T], A>, ConvertError<Self>> {
        self.into_vec().map(Vec::into_boxed_slice)
    }
}

impl<T, A: Allocator> From<Box<[T], A>> for Buffer<T, A> {
    /// The same elements in the same place; [aligned](Buffer::alignment) to `align_of::<T>()`.
    fn from(boxed: Box<[T], A>) -> Self {
        let (ptr, len, _, alloc) = boxed.into_vec().into_raw_parts_with_alloc();
        // SAFETY: a vector points somewhere.
        let ptr = unsafe { NonNull::new_unchecked(ptr) };
        // SAFETY: `len` values in a block of `alloc` for as many, as it was a box's.
        unsafe { Self::from_raw_parts(ptr, len, align_of::<T>(), alloc) }
    }
}

impl<T, A: Allocator> TryFrom<Vec<T, A>> for Buffer<T, A> {
    type Error = ConvertError<Vec<T, A>>;

    /// The same elements; [aligned](Buffer::alignment) to `align_of::<T>()`. They stay in their place if the vector is full, or its allocator cuts what
    /// it has more.
    ///
    /// # Errors
    /// The vector as it was, when the allocator refuses.
    fn try_from(vec: Vec<T, A>) -> Result<Self, Self::Error> {
        let (ptr, len, capacity, alloc) = vec.into_raw_parts_with_alloc();
        // SAFETY: a vector points somewhere.
        let mut ptr = unsafe { NonNull::new_unchecked(ptr) };
        // SAFETY: the vector's block has this layout; and fewer elements take no more.
        let layout = |count| unsafe { Layout::from_size_align_unchecked(count * size_of::<T>(), align_of::<T>()) };
        let (old, new) = (layout(capacity), layout(len));
        if new.size() == 0 && old.size() != 0 {
            // SAFETY: it is the block of the vector, which has no element left.
            unsafe { alloc.deallocate(ptr.cast(), old) };
            ptr = NonNull::dangling();
        } else if new.size() != old.size() {
            // SAFETY: as above; the new layout is no larger.
            match AllocError::asking(new, || unsafe { alloc.shrink(ptr.cast(), old, new) }) {
                Ok(moved) => ptr = moved.cast(),
                Err(reason) => {
                    // SAFETY: the parts that were taken above.
                    let vec = unsafe { Vec::from_raw_parts_in(ptr.as_ptr(), len, capacity, alloc) };
                    return Err(ConvertError { kind: ConvertErrorKind::Refused(reason), given: vec });
                }
            }
        }
        // SAFETY: `len` values in a block of `alloc` for as many.
        Ok(unsafe { Self::from_raw_parts(ptr, len, align_of::<T>(), alloc) })
    }
}
