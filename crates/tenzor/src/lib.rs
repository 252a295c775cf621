//! The memory layer for tensor programs: as fast as preallocated buffers, in little more memory than the live tensors need.
//!
//! | what you have | what to use |
//! |---|---|
//! | a whole program | [`TenzorMalloc`](memory::TenzorMalloc) as its `#[global_allocator]` (64-bit Linux): [the heap](guide::heap) |
//! | loops whose buffers you hold | [`TensorAllocator`](memory::TensorAllocator): [pooling](guide::pooling) |
//! | scratch space that dies together | [`ComputeArena`](memory::ComputeArena): [arenas](guide::arenas) |
//! | a step that repeats | `PlannedAllocator`, in [`memory`], with the feature `plan`: [planning](guide::planning) |
//! | buffers with known lifetimes | `Planner`, in `plan` |
//! | recorded allocations | `Trace`, in `trace` |
//! | tensor expressions | `Expr` and `eval`, with the feature `expr`: [expressions](guide::expressions) |
//!
//! ```
//! use tenzor::memory::TensorAllocator;
//!
//! let alloc = TensorAllocator::new();
//! for _ in 0..1000 {
//!     let buffer = alloc.alloc_zeroed::<f32>(256 * 1024)?;
//!     // … compute, use …
//!     drop(buffer); // the next round finds it in the pool
//! }
//! let stats = alloc.stats();
//! assert_eq!((stats.pool_misses, stats.pool_hits), (1, 999));
//! # Ok::<(), tenzor::memory::AllocError>(())
//! ```
//!
//! | feature | |
//! |---|---|
//! | `expr` (default) | lazy tensor expressions |
//! | `plan` (default) | plans, served by `PlannedAllocator`, and recorded traces |
//! | `derive` | `#[derive(Zeroable)]`, beside which `#[zeroable(crate = "tenzor::memory")]` says where the trait is |
//! | `serde` | configuration and statistics, read and written |
//! | `ndarray` | views of `ndarray` arrays, without copying |
//! | `npy` | files of NumPy's format, in and out |
//! | `allocator-api2-04` | the newest version of the std-style `Allocator`, beside 0.2 |
//! | `rayon` | rayon's threads write a new buffer |
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "expr")]
#[doc(inline)]
pub use tenzor_expr::*;
#[doc(inline)]
pub use tenzor_memory as memory;
#[cfg(feature = "plan")]
#[doc(inline)]
pub use tenzor_plan as plan;
#[cfg(feature = "plan")]
#[doc(inline)]
pub use tenzor_trace as trace;

/// How the strategies work, and when to use which.
pub mod guide {
    #[doc = include_str!("../docs/heap.md")]
    pub mod heap {}

    #[doc = include_str!("../docs/pooling.md")]
    pub mod pooling {}

    #[doc = include_str!("../docs/arenas.md")]
    pub mod arenas {}

    #[doc = include_str!("../docs/planning.md")]
    pub mod planning {}

    #[doc = include_str!("../docs/expressions.md")]
    pub mod expressions {}
}

/// Its examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
