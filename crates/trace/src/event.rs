//! What happens in a trace.

use std::alloc::Layout;

/// One event of a trace.
///
/// A `slot` is the buffer's dense number, below [`Trace::slots`](crate::Trace::slots): no two buffers that live at the same time share one, so a replay
/// keeps its buffers in a plain vector. A slot is taken again once its buffer is freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A buffer is requested.
    Allocate {
        /// The buffer's slot, vacant until now.
        slot: u32,
        /// Requested size in bytes (it may be zero) and alignment.
        layout: Layout,
        /// The buffer has to be all zeros.
        zeroed: bool,
        /// The buffer outlives its step (or the set-up): it is freed after the next mark, or never.
        escapes: bool,
    },
    /// A live buffer grows or shrinks, and keeps its slot and its contents up to the lesser size.
    Resize {
        /// The buffer's slot.
        slot: u32,
        /// The new size in bytes, and the alignment the buffer was requested with.
        layout: Layout,
    },
    /// A live buffer is freed.
    Free {
        /// The buffer's slot, vacant from now on.
        slot: u32,
    },
    /// A step begins, and the one before it ends.
    Mark {
        /// The step's number as the file gives it, counting up from 1 or above.
        step: u64,
    },
}
