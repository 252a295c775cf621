//! The global allocator as programs rely on it: whatever this test program allocates comes from it.
#![allow(unsafe_code, missing_docs, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod block;
#[cfg(feature = "plan")]
mod footprint;
mod forks;
#[cfg(feature = "plan")]
mod kept;
mod lives;
mod misuse;
mod model;
mod process;
mod refusals;
mod resident;
mod settings;
mod traffic;

use tenzor_memory::TenzorMalloc;

#[global_allocator]
static GLOBAL: TenzorMalloc = TenzorMalloc::new();
