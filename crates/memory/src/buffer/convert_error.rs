//! Why a buffer did not become what it was to become.

use std::error::Error;
use std::fmt;

use crate::error::AllocError;

/// What was to be converted, as it was, and why it was not.
///
/// Its [`kind`](Self::kind) is an error by itself, for functions that outlive what was to be converted.
///
/// ```
/// use tenzor_memory::{ConvertErrorKind, TensorAllocator};
///
/// let alloc = TensorAllocator::new();
/// let error = alloc.alloc_zeroed::<u8>(10)?.cast::<f32>().unwrap_err();
/// assert_eq!(error.kind(), ConvertErrorKind::Size { bytes: 10, element: 4 });
/// assert_eq!(error.to_string(), "10 bytes are no whole number of elements of 4 bytes");
/// let bytes = error.into_inner();
/// assert_eq!(bytes.len(), 10);
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
pub struct ConvertError<B> {
    pub(super) kind: ConvertErrorKind,
    pub(super) given: B,
}

/// Why something was not converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConvertErrorKind {
    /// So many bytes are no whole number of elements of that size, in bytes.
    Size {
        /// The size of all elements together.
        bytes: usize,
        /// That of each element it was to have.
        element: usize,
    },
    /// The memory is known to be aligned to less than its elements were to be. In bytes, both.
    Alignment {
        /// That of the memory.
        alignment: usize,
        /// That of the elements it was to have.
        element: usize,
    },
    /// There is no such range of the elements, of which there are so many.
    Range {
        /// The number of elements.
        len: usize,
    },
    /// Memory was needed, and the allocator refused it.
    Refused(AllocError),
}

impl<B> ConvertError<B> {
    /// Why it was not converted.
    pub fn kind(&self) -> ConvertErrorKind {
        self.kind
    }

    /// What was to be converted, as it was.
    pub fn into_inner(self) -> B {
        self.given
    }
}

impl<B> fmt::Debug for ConvertError<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConvertError").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<B> fmt::Display for ConvertError<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl<B> Error for ConvertError<B> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.kind.source()
    }
}

impl<B> From<ConvertError<B>> for ConvertErrorKind {
    fn from(error: ConvertError<B>) -> Self {
        error.kind
    }
}

impl fmt::Display for ConvertErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { bytes, element } => {
                write!(f, "{bytes} bytes are no whole number of elements of {element} bytes")
            }
            Self::Alignment { alignment, element } => {
                write!(f, "memory aligned to {alignment} bytes is not known to be aligned to {element}")
            }
            Self::Range { len } => write!(f, "there is no such range of {len} elements"),
            Self::Refused(_) => f.write_str("the allocator refused the memory to convert with"),
        }
    }
}

impl Error for ConvertErrorKind {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Refused(error) => Some(error),
            _ => None,
        }
    }
}
