//! Handles: arenas and planned allocators that are owned together with their buffers, by one thread or by many; allocators behind a pointer.

mod arenas;
mod locked;
#[cfg(feature = "plan")]
mod planned;
mod scoped;
mod shared;
