//! Handles: an arena or a planned allocator that is owned together with its buffers, by one thread or by many; a pool whose requests are counted
//! apart; and any allocator behind a pointer.

mod counted;
mod forks;
mod handle;
mod locked;
mod scoped;
mod shared;

pub use counted::InUse;
pub use handle::{Handle, HandleBuffer};
pub use locked::{Locked, LockedBuffer};
pub use scoped::{Scoped, ScopedBuffer};
pub use shared::SharedAllocator;
