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

mod allocator;
mod api;
mod arena;
mod backing;
mod biased;
mod buffer;
mod error;
mod global;
mod heap;
mod heap_config;
pub mod layout;
mod os;
#[cfg(feature = "plan")]
mod planned;
mod pool;
mod pool_config;
mod process;
mod provider;
mod retention;
mod stats;
mod sync;

pub use allocator::{OwnedBuffer, PoolBuffer, TensorAllocator};
pub use arena::{ArenaBuffer, ArenaUsage, ComputeArena, Scope, ScopeBuffer};
pub use backing::{Backing, Failing, Fault, FromAllocator, Limited, Pages, Refused, System, Tracking};
pub use buffer::{Buffer, Slots};
pub use error::{AllocError, AllocErrorKind};
pub use global::TenzorMalloc;
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
