//! How much of an arena is used.

use std::fmt;

use crate::bytes::Bytes;

/// How much of an arena is used. All fields count bytes, but for `blocks` and `allocations`.
///
/// `reserved_bytes = bytes_in_use + pooled_bytes + overhead_bytes` always holds.
///
/// ```
/// let arena = tenzor_memory::ComputeArena::with_capacity(64 << 10);
/// let buffer = arena.alloc::<f32>(1000)?;
/// let usage = arena.usage();
/// assert_eq!((usage.bytes_in_use, usage.reserved_bytes, usage.blocks), (4000, 64 << 10, 1));
/// assert_eq!(usage.to_string(), "3.9 KiB in use by 1 requests (peak 3.9 KiB), 0 B overhead; 64 KiB reserved in 1 block");
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct ArenaUsage {
    /// Requested since the last reset and not rewound since, dropped buffers included.
    pub bytes_in_use: usize,
    /// The largest `bytes_in_use` so far.
    pub peak_bytes_in_use: usize,
    /// Held from the backing.
    pub reserved_bytes: usize,
    /// The largest `reserved_bytes` so far.
    pub peak_reserved_bytes: usize,
    /// Free for requests to come.
    pub pooled_bytes: usize,
    /// Spent on alignment, and at the ends of blocks where the next request did not fit.
    pub overhead_bytes: usize,
    /// The number of blocks from the backing: 1 once the arena has settled.
    pub blocks: usize,
    /// Requests since the last reset and not rewound since.
    pub allocations: usize,
}

impl fmt::Display for ArenaUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [in_use, peak, reserved, overhead] =
            [self.bytes_in_use, self.peak_bytes_in_use, self.reserved_bytes, self.overhead_bytes].map(Bytes);
        let (requests, blocks) = (self.allocations, self.blocks);
        write!(f, "{in_use} in use by {requests} requests (peak {peak}), {overhead} overhead; ")?;
        write!(f, "{reserved} reserved in {blocks} block{}", if blocks == 1 { "" } else { "s" })
    }
}
