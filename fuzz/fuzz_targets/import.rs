//! What others never recorded: an error that says where, never a panic, and bounded memory; what is imported is a recording as it should be. `cargo fuzz run import`
//! in this folder.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use tenzor_trace::Limits;
use tenzor_trace::import::{self, ImportError, Imported, SnapshotLimits};
use tenzor_trace::recording::format::Header;
use tenzor_trace::recording::{Recording, Writer};

type Out<'a> = Writer<&'a mut Vec<u8>>;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let importer: fn(&[u8], &mut Out<'_>) -> Result<Imported, ImportError> = match which % 4 {
        0 => |bytes, out| import::csv(bytes, Limits::default(), out),
        1 => |bytes, out| import::rmm(bytes, Limits::default(), out),
        2 => |bytes, out| import::heaptrack(bytes, Limits::default(), out),
        _ => |bytes, out| import::pytorch(bytes, SnapshotLimits::default().with_max_memory(1 << 24), out),
    };
    let mut file = Vec::new();
    let header = Header { began: 0, process: 1, page: 4096, tick: 1_000_000 };
    let mut writer = Writer::new(&mut file, header).expect("it is in memory");
    let imported = importer(bytes, &mut writer);
    writer.finish().expect("it is in memory");
    let mut recording = Recording::open(Cursor::new(file)).expect("it was just written");
    assert!(recording.damages().is_empty() && !recording.is_cut());
    let events = recording.events().map(|event| event.expect("it was just written")).count();
    assert!(imported.map_or(true, |imported| imported.events == events as u64));
});
