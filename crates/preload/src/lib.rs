//! Tenzor's heap in place of malloc: `LD_PRELOAD=libtenzor_malloc.so program`, or linked before the C library.
//!
//! | module | decides |
//! |---|---|
//! | `malloc` | what C's functions do |
//! | `new` | what C++'s operators do |
//! | `told` | what the program is told of its memory |
//! | `stray` | what becomes of an address that is no block of ours |
//! | `process` | what process it is in: whether its `malloc` is ours |
//! | `table` | what another library of Tenzor's finds of the heap |
//! | `loading` | how libraries are loaded beside it |
//!
//! With `--cfg tenzor_static` it is for static programs: there is no loader, and what is linked is what serves.
//!
//! Every function here may be called at any moment: before `main`, by the loader, in a signal's handler that interrupts none of them, at the end of a
//! thread and of the process. None of them panics or unwinds.
#![allow(non_snake_case)]

#[cfg(not(tenzor_shared))]
compile_error!("build it in its own directory, and without RUSTFLAGS: `.cargo/config.toml` there says how");

#[cfg(not(tenzor_static))]
mod loading;
mod malloc;
mod new;
mod process;
mod stray;
mod table;
mod told;
