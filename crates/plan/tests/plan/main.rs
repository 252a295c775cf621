//! The planner against brute force, its judge against planted mistakes, and its files.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::reversed_empty_ranges)]

mod common;
mod csv;
mod effort;
mod judge;
mod optimum;
mod problem;
