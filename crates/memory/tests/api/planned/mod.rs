//! `PlannedAllocator`: what it serves, and that nothing overlaps whatever a program does.

mod apart;
mod followed;
mod program;
mod refused;
mod saved;
