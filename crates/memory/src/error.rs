//! The one error of a request for memory.

use std::alloc::Layout;
use std::fmt;

use crate::bytes::Bytes;

/// Why a request for memory failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AllocErrorKind {
    /// No state of the program can satisfy it: the size overflows, the alignment is impossible, or the buffer alone is
    /// larger than the limit.
    NeverFits,
    /// Granting it would exceed the configured limit, even with nothing pooled.
    OverLimit,
    /// The backing refused, also after everything pooled was given back to it.
    BackingRefused,
}

/// A refused request: what was asked, and what stood in its way.
///
/// ```
/// use tenzor_memory::{AllocErrorKind, PoolConfig, TensorAllocator};
///
/// let alloc = TensorAllocator::with_config(PoolConfig::default().with_limit(Some(1 << 20)));
/// let kept = alloc.alloc::<f32>(200_000)?;
/// let error = alloc.alloc::<f32>(200_000).unwrap_err();
/// assert_eq!(error.kind(), AllocErrorKind::OverLimit);
/// assert_eq!(error.requested(), 800_000);
/// assert_eq!(error.in_use(), kept.allocator().stats().bytes_in_use_rounded);
/// assert_eq!(error.limit(), Some(1 << 20));
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocError {
    pub(crate) kind: AllocErrorKind,
    pub(crate) requested: usize,
    /// `None` where there is no class, or none was looked for.
    pub(crate) rounded: Option<usize>,
    pub(crate) alignment: usize,
    pub(crate) in_use: usize,
    pub(crate) pooled: usize,
    pub(crate) limit: Option<usize>,
}

impl AllocError {
    /// A request that cannot be expressed as a layout; the size saturates where it overflowed.
    pub(crate) fn never_fits(requested: usize, alignment: usize) -> Self {
        let kind = AllocErrorKind::NeverFits;
        Self { kind, requested, rounded: None, alignment, in_use: 0, pooled: 0, limit: None }
    }

    /// A refusal by an allocator that tells nothing about itself.
    pub(crate) fn refused(request: Layout) -> Self {
        Self { kind: AllocErrorKind::BackingRefused, ..Self::never_fits(request.size(), request.align()) }
    }

    /// Why the request failed.
    pub fn kind(&self) -> AllocErrorKind {
        self.kind
    }

    /// The bytes asked for; `usize::MAX` when `count * size_of::<T>()` overflowed.
    pub fn requested(&self) -> usize {
        self.requested
    }

    /// The bytes that the buffer would have taken, its size class's capacity; `None` where the allocator has no classes, or
    /// none for this size.
    pub fn rounded(&self) -> Option<usize> {
        self.rounded
    }

    /// The alignment asked for, in bytes.
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// The bytes in use when the request failed, rounded where there are size classes; 0 where the allocator keeps no account.
    pub fn in_use(&self) -> usize {
        self.in_use
    }

    /// The bytes (rounded) pooled, or free in an arena's blocks, when the request failed; 0 where the allocator has no pool.
    pub fn pooled(&self) -> usize {
        self.pooled
    }

    /// The limit in force, in bytes.
    pub fn limit(&self) -> Option<usize> {
        self.limit
    }
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, requested, rounded, alignment, in_use, pooled, limit } = *self;
        match requested {
            usize::MAX => write!(f, "cannot allocate more bytes than an address can count")?,
            0..1024 => write!(f, "cannot allocate {requested} bytes")?,
            _ => write!(f, "cannot allocate {requested} bytes ({})", Bytes(requested))?,
        }
        write!(f, " aligned to {alignment}")?;
        if let Some(rounded) = rounded.filter(|&rounded| rounded != requested) {
            write!(f, ", rounded to {}", Bytes(rounded))?;
        }
        match (kind, limit) {
            (AllocErrorKind::NeverFits, Some(limit)) if rounded.is_some() => {
                write!(f, ": it can never fit the limit of {}", Bytes(limit))?;
            }
            (AllocErrorKind::NeverFits, _) => return write!(f, ": no buffer can have this size and alignment"),
            (AllocErrorKind::OverLimit, limit) => {
                write!(f, ": over the limit of {}", Bytes(limit.unwrap_or(usize::MAX)))?
            }
            (AllocErrorKind::BackingRefused, Some(limit)) => {
                write!(f, ": the backing refused, below the limit of {}", Bytes(limit))?;
            }
            (AllocErrorKind::BackingRefused, None) => write!(f, ": the backing refused")?,
        }
        write!(f, ", with {} in use and {} pooled", Bytes(in_use), Bytes(pooled))
    }
}

impl std::error::Error for AllocError {}

impl From<AllocError> for allocator_api2::alloc::AllocError {
    fn from(_: AllocError) -> Self {
        Self
    }
}

#[cfg(feature = "allocator-api2-04")]
impl From<AllocError> for allocator_api2_04::alloc::AllocError {
    fn from(_: AllocError) -> Self {
        Self
    }
}
