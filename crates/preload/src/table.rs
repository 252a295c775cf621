//! The heap, for the library with the C API, which has one of its own otherwise.
#![allow(unsafe_code)]

use tenzor_table::{Heap, Internal, TABLE};

/// Statistics take memory, and may be asked for where there is none.
#[global_allocator]
static INTERNAL: Internal = Internal;

#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
static tenzor_heap_1: Heap = TABLE;
