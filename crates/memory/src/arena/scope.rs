//! Stretches of an arena's life, one within the other.

use std::fmt;
use std::mem::MaybeUninit;

use bytemuck::Zeroable;

use super::{ArenaUsage, ComputeArena, Cursor};
use crate::backing::{Backing, DefaultBacking};
use crate::buffer::Buffer;
use crate::error::AllocError;
use crate::provider::{Provider, typed_requests};

/// A stretch of an arena's life: what is requested from it is reclaimed when it ends. See [`ComputeArena::scope`].
///
/// It offers the same requests as the arena. Scopes nest; each may be used while inner ones are open, and what it hands
/// out then is reclaimed when it ends itself. (The memory between is then reclaimed with it, too.)
pub struct Scope<'a, B: Backing = DefaultBacking> {
    pub(super) arena: &'a ComputeArena<B>,
    pub(super) start: Cursor,
    /// Open scopes have distinct depths, none above `arena.depth`.
    pub(super) depth: usize,
}

impl<B: Backing> Scope<'_, B> {
    typed_requests!("let arena = tenzor_memory::ComputeArena::new(); let alloc = arena.checkpoint();");

    /// The allocator that [`alloc`](Self::alloc)'s buffers carry, for std-style containers.
    pub fn allocator(&self) -> &Self {
        self
    }

    /// An inner scope; see [`ComputeArena::scope`].
    pub fn scope<R>(&self, f: impl FnOnce(&Scope<'_, B>) -> R) -> R {
        self.arena.scope(f)
    }

    /// An inner scope; see [`ComputeArena::checkpoint`].
    pub fn checkpoint(&self) -> Scope<'_, B> {
        self.arena.checkpoint()
    }

    /// Ends the scope: the same as dropping it.
    pub fn rewind(self) {}

    /// How much of the whole arena is used.
    pub fn usage(&self) -> ArenaUsage {
        self.arena.usage()
    }
}

impl<B: Backing> Drop for Scope<'_, B> {
    fn drop(&mut self) {
        self.arena.end_scope(self.depth, self.start);
    }
}

impl<B: Backing> fmt::Debug for Scope<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("depth", &self.depth).field("usage", &self.usage()).finish_non_exhaustive()
    }
}
