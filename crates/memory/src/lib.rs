//! Memory for tensor programs: pooled and arena-allocated buffers with exact statistics.
//!
//! This is the part of [Tenzor](https://docs.rs/tenzor) that is about memory; its README is the place to start. The types:
//!
//! | type | for |
//! |---|---|
//! | [`TensorAllocator`] | any order of requests; freed buffers are reused by size class |
//! | [`ComputeArena`] | scoped scratch space: bump, then [`reset`](ComputeArena::reset) or rewind all at once |
//! | `PlannedAllocator` | steps that repeat, served by a plan from one block; with the feature `plan` |
//! | [`Buffer`] | the memory of one tensor, owned, over any std-style allocator |
//! | [`BufferPool`] | the pooling mechanism by itself, for raw memory |
//! | [`Backing`] | where they take memory from; with adaptors to limit, track and fail |
#![cfg_attr(docsrs, feature(doc_cfg))]

mod allocator;
mod api;
mod arena;
mod backing;
mod biased;
mod buffer;
mod bytes;
mod error;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod global;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod heap;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod heap_config;
pub mod layout;
// The heap uses more of it than others do.
#[cfg_attr(not(all(target_os = "linux", target_pointer_width = "64")), allow(dead_code))]
mod os;
#[cfg(feature = "plan")]
mod planned;
mod pool;
mod pool_config;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod process;
mod provider;
mod retention;
mod stats;
// As above.
#[cfg_attr(not(all(target_os = "linux", target_pointer_width = "64")), allow(dead_code))]
mod sync;

/// Where there is no heap.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
mod process {
    pub(crate) use crate::os::at_fork;
}

pub use allocator::{OwnedBuffer, PoolBuffer, TensorAllocator};
pub use arena::{ArenaBuffer, ArenaUsage, ComputeArena, Scope, ScopeBuffer};
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub use backing::Pages;
pub use backing::{Backing, Failing, Fault, FromAllocator, Limited, Refused, System, Tracking};
pub use buffer::{Buffer, Slots};
pub use bytes::{Bytes, NoBytes};
pub use error::{AllocError, AllocErrorKind};
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub use global::TenzorMalloc;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub use heap_config::{Background, HeapConfig, HeapSettings, HugePages, Origin, Setting};
#[cfg(feature = "plan")]
pub use planned::{PlannedAllocator, PlannedStats, Step};
pub use pool::BufferPool;
pub use pool_config::PoolConfig;
pub use stats::{BucketStats, Stats};

/// For `tenzor-bench --serial`, which builds with `--cfg tenzor_serial`: what one thread at a time can do, how often it did, and for how
/// many nanoseconds in all.
#[cfg(tenzor_serial)]
#[doc(hidden)]
pub fn serial() -> Vec<(&'static str, u64, f64)> {
    let tick = os::serial::tick();
    process::serial().into_iter().map(|(what, (times, ticks))| (what, times, ticks as f64 * tick)).collect()
}

/// The version of the std-style allocator interface that hashbrown and bumpalo use today.
pub use allocator_api2;
pub use allocator_api2::alloc::Allocator;
/// The newest version of the std-style allocator interface.
#[cfg(feature = "allocator-api2-04")]
pub use allocator_api2_04;
/// Types whose value may be all zero bytes; implement it by bytemuck's derive or by hand.
pub use bytemuck::Zeroable;

/// Its examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
