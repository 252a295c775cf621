//! Recordings that are none: an error that says where, never a panic, and no more memory than the file is long, or a block. `cargo fuzz run recording` in this folder.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use tenzor_trace::Trace;
use tenzor_trace::recording::Recording;
use tenzor_trace::recording::format::{BlockHeader, BlockKind, Header};

fuzz_target!(|bytes: &[u8]| {
    look(bytes);
    // Mutations hardly meet a checksum: the same as the records of two threads, and as packed ones.
    let header = Header { began: 0, process: 1, page: 4096, tick: 1_000_000 }.encode();
    let mut file = header.to_vec();
    for (thread, half) in (0..).zip(bytes.chunks(bytes.len().div_ceil(2).next_multiple_of(16).max(16))) {
        let half = &half[..half.len() / 16 * 16];
        for (number, packed) in [(0, false), (1, true)] {
            let (kind, size) = (BlockKind::Events, half.len() as u32);
            let records = if packed { size } else { size / 16 };
            let block = BlockHeader { kind, packed, bytes: size, records, thread, number, tick: 0, first: 0, lost: 0 };
            file.extend(block.encode(half));
            file.extend(half);
        }
    }
    look(&file);
});

fn look(file: &[u8]) {
    let Ok(mut recording) = Recording::open(Cursor::new(file)) else { return };
    let events = recording.events().count();
    let (mut text, mut packed) = (Vec::new(), Vec::new());
    if recording.write_csv(&mut text).is_ok() {
        // It may be that sizes are none, or too many bytes in use.
        let _ = Trace::parse(&text[..]);
    }
    if recording.pack(&mut packed).is_ok() {
        let mut again = Recording::open(Cursor::new(packed)).expect("it was just written");
        assert_eq!(again.events().count(), events);
    }
}
