//! Memory for tensor programs: pooled and arena-allocated buffers with exact statistics.
//!
//! This is the part of [Tenzor](https://docs.rs/tenzor) that is about memory; its README is the place to start. The types:
//!
//! | type | for |
//! |---|---|
//! | [`TensorAllocator`] | any order of requests; freed buffers are reused by size class |
//! | [`ComputeArena`] | scoped scratch space: bump, then [`reset`](ComputeArena::reset) or rewind all at once |
//! | `PlannedAllocator` | steps that repeat, served by a plan from one block; with the feature `plan` |
//! | [`Handle`], [`Locked`] | an arena or a planned allocator that is owned together with its buffers: by one thread, or by many |
//! | [`Scoped`] | a pool whose requests are counted apart, for a layer or a tenant |
//! | [`SharedAllocator`] | an allocator behind a pointer, whichever it is |
//! | [`Buffer`] | the memory of one tensor, owned, over any std-style allocator |
//! | [`recycle::Vecs`] | memory of std's `Vec`s, kept for those to come: results of ndarray, candle |
//! | [`BufferPool`] | the pooling mechanism by itself, for raw memory |
//! | [`Backing`] | where they take memory from; with adaptors to limit, track and fail |
#![cfg_attr(docsrs, feature(doc_cfg))]

#[macro_use]
mod per_thread;

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
mod handles;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod heap;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod heap_config;
pub mod layout;
mod listed;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod malloc;
// The heap uses more of it than others do.
#[cfg_attr(not(all(target_os = "linux", target_pointer_width = "64")), allow(dead_code))]
mod os;
#[cfg(feature = "plan")]
mod planned;
mod pool;
mod pool_config;
mod pressure;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod process;
mod provider;
pub mod recycle;
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
pub use backing::{
    Backing, Budget, BudgetUsage, DefaultBacking, Failing, Fault, FromAllocator, Grounds, Limited, Refused, System,
    Tracking,
};
pub use buffer::{Buffer, ConvertError, ConvertErrorKind, Foreign, IntoIter, Part, Slots};
pub use bytes::{Bytes, NoBytes};
pub use error::{AllocError, AllocErrorKind, Obstacle};
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub use global::TenzorMalloc;
pub use handles::{Handle, HandleBuffer, InUse, Locked, LockedBuffer, Scoped, ScopedBuffer, SharedAllocator};
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub use heap_config::{Background, HeapConfig, HeapSettings, HugePages, Origin, Setting};
#[cfg(feature = "plan")]
pub use planned::{PlannedAllocator, PlannedStats, Step};
pub use pool::BufferPool;
pub use pool_config::PoolConfig;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub use process::Footprint;
pub use stats::{BucketStats, ScopeStats, Stats};

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
mod zeroable {
    /// Types whose value may be all zero bytes; implement it by the derive of the feature `derive`, by bytemuck's, or by hand.
    pub use bytemuck::Zeroable;
}
/// Says of a struct that it may be all zero bytes, where each of its fields may.
///
/// ```
/// use tenzor_memory::{TensorAllocator, Zeroable};
///
/// #[derive(Clone, Copy, Zeroable)]
/// struct Complex {
///     re: f32,
///     im: f32,
/// }
///
/// let alloc = TensorAllocator::new();
/// let signal = alloc.alloc_zeroed::<Complex>(1024)?;
/// assert_eq!(signal[1023].re + signal[1023].im, 0.0);
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
///
/// Where `tenzor_memory` goes by another path, an attribute says which:
///
/// ```
/// use tenzor_memory as memory;
///
/// #[derive(memory::Zeroable)]
/// #[zeroable(crate = "memory")]
/// struct Count(u64);
/// ```
///
/// What has a field that may not be zero may not be zero itself:
///
/// ```compile_fail,E0277
/// #[derive(tenzor_memory::Zeroable)]
/// struct Name(&'static str);
/// ```
#[cfg(feature = "derive")]
pub use tenzor_derive::Zeroable;
// The trait, and bytemuck's derive if some other crate asks for it, which the one above stands before.
#[doc(inline)]
pub use zeroable::*;

/// Its examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
