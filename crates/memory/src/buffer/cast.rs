//! The same bytes as elements of another type.
#![allow(unsafe_code)]
// The error has in it what was given.
#![allow(clippy::result_large_err)]

use allocator_api2::alloc::Allocator;
use bytemuck::{AnyBitPattern, NoUninit};

use super::{Buffer, ConvertError, ConvertErrorKind};

impl<T: NoUninit, A: Allocator> Buffer<T, A> {
    /// The same bytes as elements of another type, in the same place. Constant time.
    ///
    /// ```
    /// use tenzor_memory::TensorAllocator;
    ///
    /// let alloc = TensorAllocator::new();
    /// let mut bytes = alloc.alloc_zeroed::<u8>(400)?;
    /// bytes[..4].copy_from_slice(&1.5_f32.to_ne_bytes());
    /// let floats = bytes.cast::<f32>().map_err(|error| error.kind())?;
    /// assert_eq!((floats.len(), floats[0], floats[99]), (100, 1.5, 0.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// What may have padding is no `T`, what has values that not all bits make is no `U`:
    ///
    /// ```compile_fail,E0277
    /// let alloc = tenzor_memory::TensorAllocator::new();
    /// let flags = alloc.alloc_filled(4, 2_u8).unwrap().cast::<bool>();
    /// ```
    ///
    /// # Errors
    /// The buffer as it was, when its bytes are no whole number of `U`s, or [aligned](Self::alignment) to less than `U` is.
    pub fn cast<U: AnyBitPattern>(self) -> Result<Buffer<U, A>, ConvertError<Self>> {
        let (bytes, alignment) = (self.block.layout.size(), self.alignment());
        let kind = if alignment < align_of::<U>() {
            ConvertErrorKind::Alignment { alignment, element: align_of::<U>() }
        } else if let Some(len) = count::<T, U>(self.len, bytes) {
            let (ptr, _, alignment, alloc) = self.into_raw_parts();
            // SAFETY: as many bytes of the same block, aligned for `U`; they are all initialised, as `T: NoUninit` says, and make values, as
            // `U: AnyBitPattern` says.
            return Ok(unsafe { Buffer::from_raw_parts(ptr.cast(), len, alignment, alloc) });
        } else {
            ConvertErrorKind::Size { bytes, element: size_of::<U>() }
        };
        Err(ConvertError { kind, given: self })
    }
}

/// How many `U`s lie where `len` `T`s do, in so many bytes.
fn count<T, U>(len: usize, bytes: usize) -> Option<usize> {
    match size_of::<U>() {
        size if size == size_of::<T>() => Some(len),
        0 => (bytes == 0).then_some(0),
        size => bytes.is_multiple_of(size).then(|| bytes / size),
    }
}
