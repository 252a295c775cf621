//! The only part of the program with unsafe code: buffers by address, what the operating system counts, what privileges a file has.

mod blocks;
mod heaps;
#[cfg(target_os = "linux")]
mod privileges;
mod process;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod process_heap;

pub(crate) use blocks::{Blocks, OutOfMemory};
pub(crate) use heaps::{Arena, Heap, Malloc, Planned, Pool};
#[cfg(target_os = "linux")]
pub(crate) use privileges::privileges;
pub(crate) use process::{available, minor_faults, peak_resident, resident};
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(crate) use process_heap::ProcessHeap;
