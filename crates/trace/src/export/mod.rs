//! Recordings as what other programs show: functions of [`Recording`](crate::recording::Recording).
//!
//! | function | format | shown by |
//! |---|---|---|
//! | [`write_collapsed`](crate::recording::Recording::write_collapsed) | collapsed stacks: bytes at the peak | flamegraph, inferno, speedscope |
//! | [`write_pprof`](crate::recording::Recording::write_pprof) | pprof's `profile.proto`: blocks and bytes at the peak, and in all | pprof, speedscope, Grafana |
//! | [`write_perfetto`](crate::recording::Recording::write_perfetto) | Perfetto's trace: memory, labels and steps over time | [ui.perfetto.dev](https://ui.perfetto.dev) |
//!
//! The peak is the first instant at which the most bytes are in use, as they were requested, of all sources together, in the order of
//! [`events`](crate::recording::Recording::events). A block is held by the thread that requested it, under the labels that this thread was in, and by the request's stack; one that was
//! resized by who resized it, and by the stack of the request if none was taken of the resize. A label that is left leaves those within it as well. Labels that are nested
//! deeper than 128 are not told of. What has no name is called by its number: `thread 3`.
//!
//! A recording is read twice. Memory: about 60 bytes for each block that is in use, and what is known of each of different stacks, labels and threads, but no events.
//! A recording of which a block is damaged is refused, with the block's place; one that ends in the midst of a block is whole up to there.
//!
//! ```
//! use std::io::Cursor;
//!
//! use tenzor_trace::recording::format::{Block, Header, Record};
//! use tenzor_trace::recording::names::Kind;
//! use tenzor_trace::recording::{Recording, Writer};
//!
//! let mut writer = Writer::new(Cursor::new(Vec::new()), Header { began: 0, process: 1, page: 4096, tick: 1000 })?;
//! writer.name(Kind::Thread, 0, b"main")?;
//! writer.name(Kind::Label, 7, b"encoder")?;
//! let block = |address, size| Block { address, size, align: 6, ..Block::default() };
//! writer.record(0, 1, Record::Request(block(0x1000, 70_000)))?;
//! writer.record(0, 2, Record::Enter(7))?;
//! writer.record(0, 3, Record::Request(block(0x20_0000, 500)))?;
//! let mut recording = Recording::open(writer.finish()?)?;
//!
//! let mut collapsed = Vec::new();
//! recording.write_collapsed(&mut collapsed)?;
//! assert_eq!(String::from_utf8(collapsed)?, "main;64 KiB–128 KiB 70000\nmain;encoder 500\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod collapsed;
mod held;
mod labels;
mod live;
mod perfetto;
mod pprof;
mod protobuf;
mod shown;
