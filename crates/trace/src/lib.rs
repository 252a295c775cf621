//! Allocation traces: the events of a recorded program, read from CSV and checked once, so that a replay
//! needs no checks.
//!
//! The format is one header line, `op,id,size,align,thread,seq`, and then one event a line:
//!
//! | op  | event                                                           |
//! |-----|-----------------------------------------------------------------|
//! | `a` | request: buffer `id` of `size` bytes aligned to `align`         |
//! | `z` | the same, zeroed                                                |
//! | `r` | resize of buffer `id` to `size` bytes, alignment kept           |
//! | `f` | free of buffer `id`, which may then name another                |
//! | `m` | mark: step number `id` begins here, and the step before it ends |
//!
//! What precedes the first mark is set-up (weights, warm-up). The other fields are unsigned decimal numbers. `thread` and
//! `seq` tell where an event came from; they and the size and alignment of an op that needs neither are not kept: a replay
//! follows the order of the lines.
//!
//! ```
//! use tenzor_trace::Trace;
//!
//! let csv = "op,id,size,align,thread,seq
//! a,0,4096,64,0,1
//! m,1,0,0,0,2
//! z,1,1000,8,0,3
//! f,1,0,0,0,4
//! m,2,0,0,0,5
//! ";
//! let trace = Trace::parse(csv.as_bytes())?;
//! assert_eq!((trace.requests(), trace.steps().len()), (2, 1));
//! assert_eq!((trace.peak_live_bytes(), trace.setup_live_bytes()), (5096, 4096));
//!
//! let error = Trace::parse(csv.replace(",64,", ",12,").as_bytes()).unwrap_err();
//! assert_eq!(error.to_string(), r#"line 2: field 'align': expected a power of two, found "12""#);
//! # Ok::<(), tenzor_trace::ParseError>(())
//! ```

mod event;
#[cfg(feature = "export")]
pub mod export;
pub mod import;
mod parse;
pub mod recording;
pub mod text;
mod trace;

pub use event::Event;
pub use text::{Limits, ParseError};
pub use trace::{HEADER, Trace};

/// Its examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests;
