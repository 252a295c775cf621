//! What a planned allocator tells of itself.

use std::fmt;

use crate::bytes::Bytes;

/// What a [`PlannedAllocator`](super::PlannedAllocator) did.
///
/// ```
/// let planned = tenzor_memory::PlannedAllocator::default();
/// for _ in 0..10 {
///     planned.step(|alloc| drop(alloc.alloc::<f32>(1024)));
/// }
/// assert_eq!(planned.stats().to_string(), "steps: 10, followed: 8, departed: 0; plans: 1, 4 KiB high; blocks refused: 0");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedStats {
    /// Steps that ended.
    pub steps: u64,
    /// Those among them that went as planned from the first request to the last free.
    pub followed: u64,
    /// Those that began as planned, and departed from the plan.
    pub departed: u64,
    /// Plans made or loaded.
    pub plans: u64,
    /// The block's size in bytes: that of the highest plan, or, where others had it given back, of the highest one followed since.
    pub height: usize,
    /// Blocks that the backing refused. The pool goes on, and another attempt is made, later each time.
    pub refused: u64,
}

impl fmt::Display for PlannedStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, followed, departed, plans, height, refused } = *self;
        write!(f, "steps: {steps}, followed: {followed}, departed: {departed}; ")?;
        write!(f, "plans: {plans}, {} high; blocks refused: {refused}", Bytes(height))
    }
}
