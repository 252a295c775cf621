//! What the crate promises, tested through its public interface: whatever needs no process of its own.
#![allow(unsafe_code, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod arena;
mod buffers;
mod conformance;
mod containers;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod corpus;
mod faults;
mod handles;
mod init;
mod lattice;
mod laws;
mod limits;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod malloc;
mod model;
mod panics;
#[cfg(feature = "plan")]
mod planned;
mod pressure;
mod reasons;
#[cfg(feature = "serde")]
mod serde;
mod stocks;
mod threads;
#[cfg(feature = "derive")]
mod zeroable;
