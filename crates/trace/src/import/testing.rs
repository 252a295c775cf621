//! What tests of several formats have in common.

use std::io::Cursor;

use super::{ImportError, Imported};
use crate::recording::format::Header;
use crate::recording::{Event, Recording, Writer};

const HEADER: Header = Header { began: 0, process: 0, page: 4096, tick: 1_000_000 };

pub(super) type Memory = Cursor<Vec<u8>>;

/// What an import says, and the recording that it leaves, whether it succeeds or not.
pub(super) fn import(
    with: impl FnOnce(&mut Writer<Memory>) -> Result<Imported, ImportError>,
) -> (Result<Imported, ImportError>, Recording<Memory>) {
    let mut writer = Writer::new(Memory::default(), HEADER).unwrap();
    let imported = with(&mut writer);
    let recording = Recording::open(writer.finish().unwrap()).unwrap();
    assert!(recording.damages().is_empty() && !recording.is_cut());
    (imported, recording)
}

/// All events. Their order explains each.
pub(super) fn events(recording: &mut Recording<Memory>) -> Vec<Event> {
    let mut events = recording.events();
    let all: Vec<Event> = events.by_ref().map(Result::unwrap).collect();
    assert_eq!((events.forced(), events.lost()), (0, 0));
    all
}

/// Imports what is left of an input when it ends anywhere, and what some of its bytes are others': whatever comes of it, it is a recording whose events explain each other.
pub(super) fn damage(input: &[u8], import_one: impl Fn(&[u8]) -> (Result<Imported, ImportError>, Recording<Memory>)) {
    let check = |input: &[u8]| {
        let (imported, mut recording) = import_one(input);
        let count = events(&mut recording).len() as u64;
        match imported {
            Ok(imported) => assert_eq!(imported.events, count),
            Err(error) => assert!(error.to_string().starts_with("line "), "{error}"),
        }
    };
    (0..=input.len()).for_each(|end| check(&input[..end]));
    let mut numbers = fastrand::Rng::with_seed(1);
    let mut random = |below| numbers.usize(..below);
    for _ in 0..20_000 {
        let mut changed = input.to_vec();
        for _ in 0..=random(4) {
            let at = random(changed.len());
            match random(4) {
                0 => changed[at] = random(256) as u8,
                1 => changed[at] = b"0123456789abcdef\n ,-+tvcXm"[random(26)],
                2 => changed.insert(at, b"0f8\n ,"[random(6)]),
                _ => _ = changed.remove(at),
            }
        }
        check(&changed);
    }
}
