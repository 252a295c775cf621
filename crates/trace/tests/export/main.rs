//! What recordings are exported as, read back by readers and schemas that are not ours, beside what is found by looking at everything.

// Helpers of tests are not recognised as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod collapsed;
mod history;
mod message;
mod perfetto;
mod pprof;

use std::io::Cursor;

use fastrand::Rng;
use tenzor_trace::recording::Recording;
use tenzor_trace::recording::format::{HEADER_BYTES, Record};

use self::history::{HEADER, Read, history};

/// Recordings of different lengths, with what is in them.
fn each_history(mut check: impl FnMut(&mut Read, &history::Oracle)) {
    for (seed, events) in [(1, 0), (2, 1), (3, 40), (4, 1000), (5, 3000), (6, 3000)] {
        let mut recording = history(&mut Rng::with_seed(seed), events);
        let oracle = history::Oracle::of(&mut recording);
        check(&mut recording, &oracle);
    }
}

/// As each of the formats; what went wrong, in words.
fn errors(recording: &mut Read) -> [Option<String>; 3] {
    [
        recording.write_collapsed(Vec::new()).err().map(|error| error.to_string()),
        recording.write_pprof(Vec::new()).err().map(|error| error.to_string()),
        recording.write_perfetto(Vec::new()).err().map(|error| error.to_string()),
    ]
}

#[test]
fn each_changed_byte_is_an_error_that_names_its_block() {
    let mut file = Vec::new();
    let mut writer = tenzor_trace::recording::Writer::new(&mut file, HEADER).unwrap();
    (0..3000).for_each(|step| writer.record(0, step, Record::Step(step)).unwrap());
    writer.finish().unwrap();
    for at in (HEADER_BYTES..file.len()).step_by(97) {
        let mut changed = file.clone();
        changed[at] ^= 0x55;
        let mut recording = Recording::open(Cursor::new(changed)).unwrap();
        let is_named = |error: &Option<String>| error.as_ref().is_some_and(|error| error.starts_with("block "));
        assert!(recording.is_cut() || errors(&mut recording).iter().all(is_named), "byte {at}");
    }
    // What is cut off is whole up to there.
    for end in (HEADER_BYTES..file.len()).step_by(1009) {
        let mut recording = Recording::open(Cursor::new(file[..end].to_vec())).unwrap();
        assert_eq!(errors(&mut recording), [const { None }; 3]);
    }
}

#[test]
fn what_cannot_be_written_is_told() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or_else(|| std::io::Error::other("full"))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut recording = history(&mut Rng::with_seed(9), 2000);
    for room in [0, 10, 300] {
        assert!(recording.write_collapsed(Full(room)).unwrap_err().to_string().ends_with("full"));
        assert!(recording.write_pprof(Full(room)).unwrap_err().to_string().ends_with("full"));
        assert!(recording.write_perfetto(Full(room)).unwrap_err().to_string().ends_with("full"));
    }
}
