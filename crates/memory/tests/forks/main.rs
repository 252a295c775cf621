//! Forks of a process whose other threads are inside pools: the child finds each pool whole, with numbers that add up, and loses
//! only what those threads had in their hands.
#![allow(unsafe_code, missing_docs, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/pools.rs"]
mod pools;
#[path = "../global/process.rs"]
#[allow(dead_code)]
mod process;

mod budgets;
mod buffers;
mod busy;
mod child;
mod gate;
mod handlers;
mod locked;
mod own;
