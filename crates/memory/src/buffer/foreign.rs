//! Memory that another library owns.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::fmt;
use std::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};

use super::Buffer;

/// The allocator of a buffer whose memory belongs to another library: it calls its closure once, when it is dropped, which the buffer does last. It grants nothing.
///
/// See [`Buffer::from_foreign`].
pub struct Foreign<F: FnOnce()> {
    /// Until it was called.
    free: Option<F>,
}

impl<F: FnOnce()> Foreign<F> {
    /// One that calls `free` when it is dropped.
    pub fn new(free: F) -> Self {
        Self { free: Some(free) }
    }
}

impl<T, F: FnOnce()> Buffer<T, Foreign<F>> {
    /// A buffer in memory that another library owns: a file mapped into memory, a tensor of C's. `free` is called once, after the elements were dropped,
    /// also if there are none; `Box<dyn FnOnce() + Send>` gives such buffers one type. Where more than `align_of::<T>()` is known of the address,
    /// [`from_raw_parts`](Buffer::from_raw_parts) with [`Foreign::new`] says so.
    ///
    /// ```
    /// use std::ptr::NonNull;
    /// use tenzor_memory::Buffer;
    ///
    /// // What another library has, and its function that frees it.
    /// let theirs = Box::leak(Box::new([1.0_f32, 2.0, 3.0]));
    /// let ptr = NonNull::from(theirs);
    /// // SAFETY: what was leaked is nobody else's, and is freed as it was allocated.
    /// let free = move || drop(unsafe { Box::from_raw(ptr.as_ptr()) });
    /// // SAFETY: three values that are valid and nobody else's until `free` is called.
    /// let buffer = unsafe { Buffer::<f32, _>::from_foreign(ptr.cast(), 3, free) };
    /// assert_eq!(buffer, [1.0, 2.0, 3.0]);
    /// drop(buffer); // calls `free`
    /// ```
    ///
    /// # Safety
    /// `ptr` is aligned for `T` and points to `len` initialised values, which are valid and owned by nobody else until `free` is called. A buffer that is
    /// `Send` may call it on another thread.
    pub unsafe fn from_foreign(ptr: NonNull<T>, len: usize, free: F) -> Self {
        // SAFETY: the memory is valid as long as the allocator lives, which is what a block of it has to be; the rest is the caller's word.
        unsafe { Self::from_raw_parts(ptr, len, align_of::<T>(), Foreign::new(free)) }
    }
}

// SAFETY: it grants nothing. The memory that a buffer is told to be its own is valid until it is dropped.
unsafe impl<F: FnOnce()> Allocator for Foreign<F> {
    fn allocate(&self, _: Layout) -> Result<NonNull<[u8]>, AllocError> {
        Err(AllocError)
    }

    /// The memory goes with the allocator.
    unsafe fn deallocate(&self, _: NonNull<u8>, _: Layout) {}
}

impl<F: FnOnce()> Drop for Foreign<F> {
    fn drop(&mut self) {
        if let Some(free) = self.free.take() {
            free();
        }
    }
}

impl<F: FnOnce()> fmt::Debug for Foreign<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Foreign").finish_non_exhaustive()
    }
}
