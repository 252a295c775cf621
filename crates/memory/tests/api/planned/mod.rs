//! `PlannedAllocator`: what it serves, and that nothing overlaps whatever a program does.

mod apart;
mod followed;
mod program;
mod refused;
mod saved;
mod thrifty;

use tenzor_memory::{Backing, PlannedAllocator};

/// Bytes that it has of its pool: in use, or the block that is kept between two steps.
fn taken<B: Backing>(alloc: &PlannedAllocator<B>) -> usize {
    let stats = alloc.upstream().stats();
    stats.bytes_in_use + stats.kept_above_bytes
}
