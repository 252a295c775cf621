//! The contenders as sources of memory.
#![allow(unsafe_code)]

use tenzor::memory::allocator_api2::alloc::{Allocator, System};
use tenzor::memory::{ComputeArena, DefaultBacking, PlannedAllocator, PoolConfig, Step, TensorAllocator};
use tenzor::trace::Trace;

use super::process;

/// Where the buffers of a replay come from.
///
/// # Safety
/// A buffer that one allocator returned by `lasting` handed out stays valid until an allocator returned by `lasting` frees it or
/// the heap is dropped, also if the heap is moved; and the same for `scratch`, where `end_step` frees all buffers, too.
pub(crate) unsafe trait Heap {
    /// Serves the buffers that may outlive a step.
    fn lasting(&self) -> impl Allocator;

    /// Serves the buffers that are taken and freed in the same step.
    fn scratch(&self) -> impl Allocator;

    /// A step begins.
    fn begin_step(&mut self) {}

    /// A step is over: no scratch buffer is in use any more.
    fn end_step(&mut self) {}

    /// What is to be replayed, for who can use that.
    fn prepare(&mut self, trace: &Trace) {
        let _ = trace;
    }

    /// The replay begins: what the process holds by now is not the heap's.
    fn start(&mut self) {}

    /// Bytes reserved now, or the most up to now where the heap keeps count. `lasting_bytes` are in use outside of `scratch`.
    fn reserved(&self, lasting_bytes: usize) -> Option<usize>;

    /// Requests served from a pool and not, up to now.
    fn hits_and_misses(&self) -> Option<(u64, u64)> {
        None
    }
}

/// The process's malloc.
#[derive(Debug, Default)]
pub(crate) struct Malloc {
    /// Bytes that the program itself had in use when the replay began.
    own: usize,
}

// SAFETY: `System` is the one malloc of the process, whichever value of it is used.
unsafe impl Heap for Malloc {
    fn lasting(&self) -> impl Allocator {
        System
    }

    fn scratch(&self) -> impl Allocator {
        System
    }

    fn start(&mut self) {
        self.own = process::malloc_figures().map_or(0, |malloc| malloc.in_use);
    }

    fn reserved(&self, _: usize) -> Option<usize> {
        let malloc = process::malloc_figures()?;
        // Nothing at all means that another malloc has been put before the C library's.
        Some(malloc.reserved.saturating_sub(self.own)).filter(|&bytes| bytes > 0)
    }
}

/// `TensorAllocator`, as it is by default, or of some configuration.
#[derive(Debug, Default)]
pub(crate) struct Pool(TensorAllocator);

impl Pool {
    #[cfg(test)]
    pub(crate) fn of(config: PoolConfig) -> Self {
        Self(TensorAllocator::with_config(config))
    }
}

// SAFETY: the same allocator serves all requests and is neither trimmed nor dropped while the heap exists; its buffers stand in
// memory of its backing, not in the handle that moves with the heap.
unsafe impl Heap for Pool {
    fn lasting(&self) -> impl Allocator {
        &self.0
    }

    fn scratch(&self) -> impl Allocator {
        &self.0
    }

    fn reserved(&self, _: usize) -> Option<usize> {
        Some(self.0.stats().peak_reserved_bytes)
    }

    fn hits_and_misses(&self) -> Option<(u64, u64)> {
        let stats = self.0.stats();
        Some((stats.pool_hits, stats.pool_misses))
    }
}

/// `PlannedAllocator` over a pool, with plans made from the trace. It lives as long as the process, and so can its steps.
#[derive(Debug)]
pub(crate) struct Planned {
    alloc: &'static PlannedAllocator,
    step: Option<Step<'static, DefaultBacking>>,
}

impl Default for Planned {
    fn default() -> Self {
        Self {
            alloc: Box::leak(Box::new(PlannedAllocator::new(TensorAllocator::with_config(PoolConfig::adaptive())))),
            step: None,
        }
    }
}

// SAFETY: the same allocator serves all requests, and is never dropped.
unsafe impl Heap for Planned {
    fn lasting(&self) -> impl Allocator {
        self.alloc
    }

    fn scratch(&self) -> impl Allocator {
        self.alloc
    }

    fn begin_step(&mut self) {
        self.step = Some(self.alloc.enter());
    }

    fn end_step(&mut self) {
        self.step = None;
    }

    fn prepare(&mut self, trace: &Trace) {
        for step in trace.steps() {
            // A step that is not planned is served by the pool.
            let _ = self.alloc.plan_ahead(step);
        }
    }

    fn reserved(&self, _: usize) -> Option<usize> {
        Some(self.alloc.upstream().stats().peak_reserved_bytes)
    }
}

/// `ComputeArena` for what lives within a step, and malloc for the rest.
#[derive(Debug, Default)]
pub(crate) struct Arena(ComputeArena);

// SAFETY: lasting buffers are malloc's as above; scratch buffers are the arena's, which takes them back in `end_step` only and
// holds them in memory of its backing.
unsafe impl Heap for Arena {
    fn lasting(&self) -> impl Allocator {
        System
    }

    fn scratch(&self) -> impl Allocator {
        &self.0
    }

    fn end_step(&mut self) {
        self.0.reset();
    }

    fn reserved(&self, lasting_bytes: usize) -> Option<usize> {
        Some(self.0.usage().peak_reserved_bytes + lasting_bytes)
    }
}
