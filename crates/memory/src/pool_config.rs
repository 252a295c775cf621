//! What a user can set.

use crate::layout::{normalise_alignment, normalise_classes};

/// The settings of a [`TensorAllocator`](crate::TensorAllocator) or [`BufferPool`](crate::BufferPool).
///
/// Odd values are normalised when the pool is made, never refused; [`TensorAllocator::config`](crate::TensorAllocator::config)
/// shows what is in force.
///
/// ```
/// use tenzor_memory::{PoolConfig, TensorAllocator};
///
/// let config = PoolConfig::default().with_max_pool_size(256 << 20).with_classes_per_bucket(3);
/// let alloc = TensorAllocator::with_config(config);
/// assert_eq!(alloc.config().max_pool_size, 256 << 20);
/// assert_eq!(alloc.config().classes_per_bucket, 4); // rounded up to a power of two
/// assert_eq!(alloc.config().max_buffers_per_bucket, 8); // the default
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct PoolConfig {
    /// The most bytes (rounded) that the pool keeps for reuse. A buffer larger than this is never kept; 0 keeps nothing.
    /// Default: 64 MiB.
    pub max_pool_size: usize,
    /// The most buffers that the pool keeps in one bucket, all of its size classes together; 0 keeps nothing. Default: 8.
    pub max_buffers_per_bucket: usize,
    /// Into how many equal size classes each bucket is cut; a request of 64 bytes or more is rounded up by less than one
    /// part in this many.
    /// Rounded up to a power of two within 1..=64; 1 gives plain powers of two. Default: 8.
    pub classes_per_bucket: usize,
    /// The least alignment of every buffer, in bytes. Rounded up to a power of two within 64 to 2^30. Default: 64.
    pub alignment: usize,
    /// The most bytes (rounded) that may be in use and pooled together; `None` for no limit. All of it can be had: with a limit, no request is rounded
    /// up to more than a multiple of 64, however few classes there are, and one of exactly so many bytes is not rounded at all. Default: `None`.
    pub limit: Option<usize>,
    /// Overwrite each buffer with zeros when it is freed, so that no later owner and no reader of the pool sees its
    /// contents. Zeroed requests are then served from the pool without writing. Default: `false`.
    pub zero_on_free: bool,
    /// Keep what the recent working set reuses, and no more: what is in use and pooled together stays within a sixteenth of the
    /// recent peak of what was in use. The other caps hold as well. Default: `false`.
    pub adaptive: bool,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            max_pool_size: 64 << 20,
            max_buffers_per_bucket: 8,
            classes_per_bucket: 8,
            alignment: 64,
            limit: None,
            zero_on_free: false,
            adaptive: false,
        }
    }
}

impl PoolConfig {
    /// No fixed caps: the pool keeps what the recent working set reuses, and no more.
    ///
    /// ```
    /// use tenzor_memory::{PoolConfig, TensorAllocator};
    ///
    /// let alloc = TensorAllocator::with_config(PoolConfig::adaptive());
    /// let step = || alloc.alloc::<f32>(1 << 20).map(drop);
    /// (step()?, step()?);
    /// assert_eq!(alloc.stats().pool_hits, 1);
    /// assert!(alloc.stats().pooled_bytes <= 4 << 20);
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    pub fn adaptive() -> Self {
        let none = usize::MAX;
        Self { max_pool_size: none, max_buffers_per_bucket: none, adaptive: true, ..Self::default() }
    }

    /// Sets [`max_pool_size`](Self::max_pool_size), in bytes.
    #[must_use]
    pub fn with_max_pool_size(self, bytes: usize) -> Self {
        Self { max_pool_size: bytes, ..self }
    }

    /// Sets [`max_buffers_per_bucket`](Self::max_buffers_per_bucket).
    #[must_use]
    pub fn with_max_buffers_per_bucket(self, buffers: usize) -> Self {
        Self { max_buffers_per_bucket: buffers, ..self }
    }

    /// Sets [`classes_per_bucket`](Self::classes_per_bucket).
    #[must_use]
    pub fn with_classes_per_bucket(self, classes: usize) -> Self {
        Self { classes_per_bucket: classes, ..self }
    }

    /// Sets [`alignment`](Self::alignment), in bytes.
    #[must_use]
    pub fn with_alignment(self, bytes: usize) -> Self {
        Self { alignment: bytes, ..self }
    }

    /// Sets [`adaptive`](Self::adaptive).
    #[must_use]
    pub fn with_adaptive(self, adaptive: bool) -> Self {
        Self { adaptive, ..self }
    }

    /// Sets [`limit`](Self::limit), in bytes.
    #[must_use]
    pub fn with_limit(self, bytes: Option<usize>) -> Self {
        Self { limit: bytes, ..self }
    }

    /// Sets [`zero_on_free`](Self::zero_on_free).
    #[must_use]
    pub fn with_zero_on_free(self, zero: bool) -> Self {
        Self { zero_on_free: zero, ..self }
    }

    pub(crate) fn normalised(self) -> Self {
        Self {
            classes_per_bucket: normalise_classes(self.classes_per_bucket),
            alignment: normalise_alignment(self.alignment),
            ..self
        }
    }
}
