//! A buffer cut to a range of its elements.
// The error has in it what was given.
#![allow(clippy::result_large_err)]

use std::fmt;
use std::ops::{Bound, Deref, DerefMut, Range, RangeBounds};

use allocator_api2::alloc::Allocator;

use super::{Buffer, ConvertError, ConvertErrorKind};

/// A range of a buffer's elements, which owns the whole buffer. See [`Buffer::into_part`].
pub struct Part<T, A: Allocator> {
    buffer: Buffer<T, A>,
    /// Within the buffer.
    range: Range<usize>,
}

impl<T, A: Allocator> Buffer<T, A> {
    /// The buffer cut to a range of its elements. Nothing is copied or given back: the others live as long as the part does.
    ///
    /// ```
    /// use tenzor_memory::TensorAllocator;
    ///
    /// let alloc = TensorAllocator::new();
    /// let row = alloc.alloc_from_fn(12, |i| i)?.into_part(4..8).map_err(|error| error.kind())?;
    /// assert_eq!(*row, [4, 5, 6, 7]);
    /// assert_eq!(row.into_buffer().len(), 12);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The buffer as it was, when it has no such range.
    pub fn into_part(self, range: impl RangeBounds<usize>) -> Result<Part<T, A>, ConvertError<Self>> {
        match within(&range, self.len) {
            Some(range) => Ok(Part { buffer: self, range }),
            None => Err(ConvertError { kind: ConvertErrorKind::Range { len: self.len }, given: self }),
        }
    }
}

impl<T, A: Allocator> Part<T, A> {
    /// Where in the buffer it lies.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// The whole buffer.
    pub fn buffer(&self) -> &Buffer<T, A> {
        &self.buffer
    }

    /// The whole buffer, to own.
    pub fn into_buffer(self) -> Buffer<T, A> {
        self.buffer
    }
}

/// The range, if it lies within `len` elements.
fn within(range: &impl RangeBounds<usize>, len: usize) -> Option<Range<usize>> {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before.checked_add(1)?,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.checked_add(1)?,
        Bound::Excluded(&end) => end,
        Bound::Unbounded => len,
    };
    (start <= end && end <= len).then_some(start..end)
}

impl<T, A: Allocator> Deref for Part<T, A> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.buffer[self.range.clone()]
    }
}

impl<T, A: Allocator> DerefMut for Part<T, A> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.buffer[self.range.clone()]
    }
}

impl<T: fmt::Debug, A: Allocator> fmt::Debug for Part<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
