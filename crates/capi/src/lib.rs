//! Tenzor's allocators for C and C++: `include/tenzor.h` is made of what is public here.
//!
//! | module | decides |
//! |---|---|
//! | `heap` | whose heap it is, and what is set of it |
//! | `allocator` | allocators: the heap, pools, arenas, planned ones |
//! | `budget` | budgets |
//! | `error` | why something was refused |
//! | `stats` | what is told |
//!
//! Nothing here unwinds, and every pointer may be null where the header does not say otherwise: then it is an error.
#![allow(non_camel_case_types)]

mod allocator;
mod budget;
mod error;
mod heap;
mod stats;

#[global_allocator]
static INTERNAL: tenzor_table::Internal = tenzor_table::Internal;
