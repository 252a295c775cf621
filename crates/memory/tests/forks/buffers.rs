//! Buffers of a pool, by address: they may be freed in another thread.

use std::alloc::Layout;
use std::ptr::NonNull;

use tenzor_memory::{Backing, BufferPool, PoolConfig};

pub(crate) fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 64).expect("a valid layout")
}

/// A buffer that is freed in another thread.
pub(crate) struct Travelling(NonNull<u8>);

// SAFETY: whoever has it is the only one to know of its memory.
unsafe impl Send for Travelling {}

impl Travelling {
    pub(crate) fn get<B: Backing>(pool: &BufferPool<B>, size: usize) -> Self {
        Self(pool.get(layout(size)).expect("memory"))
    }

    pub(crate) fn put<B: Backing>(self, pool: &BufferPool<B>, size: usize) {
        // SAFETY: got with this layout.
        unsafe { pool.put(self.0, layout(size)) };
    }
}

/// A buffer, and back again.
pub(crate) fn pair<B: Backing>(pool: &BufferPool<B>, size: usize) {
    Travelling::get(pool, size).put(pool, size);
}

/// A full pool of 32 buffers of 1 KiB, of which a larger one, which is in use, pushes out one after the other.
pub(crate) fn full<B: Backing>(backing: B) -> (BufferPool<B>, Travelling) {
    let config = PoolConfig::default().with_limit(Some(64 << 10)).with_max_pool_size(32 << 10);
    let pool = BufferPool::with_config_in(config.with_max_buffers_per_bucket(100), backing);
    let large = Travelling::get(&pool, 32 << 10);
    let small: Vec<_> = (0..32).map(|_| Travelling::get(&pool, 1 << 10)).collect();
    small.into_iter().for_each(|one| one.put(&pool, 1 << 10));
    (pool, large)
}
