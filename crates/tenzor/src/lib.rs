#![doc = include_str!("../README.md")]
#![doc = ""]
#![doc = "The guides: [the heap](guide::heap), [pooling](guide::pooling), [arenas](guide::arenas),"]
#![doc = "[planning](guide::planning), [expressions](guide::expressions)."]

#[cfg(feature = "expr")]
pub use tenzor_expr::*;
pub use tenzor_memory as memory;
#[cfg(feature = "plan")]
pub use tenzor_plan as plan;
#[cfg(feature = "plan")]
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
