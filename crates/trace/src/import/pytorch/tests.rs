use std::io::{BufReader, Cursor, Error, Read};

use fastrand::Rng;

use super::golden::GOLDEN;
use super::pickle::read;
use super::{ImportError, Imported, SnapshotLimits, pytorch};
use crate::Trace;
use crate::recording::format::{Block, Header, MAX_SIZE};
use crate::recording::names::Kind;
use crate::recording::{Event, Recording, What, Writer};

const HEADER: Header = Header { began: 0, process: 0, page: 4096, tick: 1_000_000 };
const LIMIT: u64 = 1 << 20;

type Result<T> = std::result::Result<T, ImportError>;

type Happened = (u32, u64, What);

fn import_within(pickle: &[u8], limit: u64) -> Result<(Recording<Cursor<Vec<u8>>>, Imported)> {
    let mut writer = Writer::new(Cursor::new(Vec::new()), HEADER)?;
    let imported = pytorch(pickle, SnapshotLimits::default().with_max_memory(limit), &mut writer)?;
    Ok((Recording::open(writer.finish()?).unwrap(), imported))
}

/// What a snapshot becomes: each event's thread, tick, and what it is.
fn import(pickle: &[u8]) -> Result<(Vec<Happened>, Imported)> {
    let (mut recording, imported) = import_within(pickle, LIMIT)?;
    let mut events: Vec<Event> = recording.events().map(|event| event.unwrap()).collect();
    events.sort_by_key(|event| (event.thread, event.number));
    assert_eq!(events.len() as u64, imported.events);
    Ok((events.iter().map(|event| (event.thread, event.tick, event.what)).collect(), imported))
}

fn error(pickle: &[u8]) -> String {
    import(pickle).unwrap_err().to_string()
}

/// An entry of a trace, as protocol 0 has it.
fn entry(action: &str, address: impl ToString, size: impl ToString, time: impl ToString) -> String {
    let [address, size, time] = [address.to_string(), size.to_string(), time.to_string()];
    format!("(dVaction\nV{action}\nsVaddr\nL{address}L\nsVsize\nL{size}L\nsVtime_us\nL{time}L\ns")
}

/// A snapshot that has nothing but these traces.
fn traces(traces: &[&[String]]) -> Vec<u8> {
    let traces: String = traces.iter().map(|trace| format!("({}l", trace.concat())).collect();
    format!("(dVdevice_traces\n({traces}ls.").into_bytes()
}

fn block(address: u64, size: u64) -> Block {
    Block { address, size, align: 9, source: 1, ..Block::default() }
}

#[test]
fn each_protocol_says_the_same() {
    let base = 0x7f5e_0000_0000;
    let expected = [
        (0, 0, What::Live(block(base, 500))),
        (0, 0, What::Live(block(base + 0x200, 100))),
        (0, 0, What::Live(block(base + 0x400, 200))),
        (0, 0, What::Free(block(base + 0x200, 100))),
        (0, 2, What::Request(Block { missed: true, ..block(base + 0x20_0000, 1000) })),
        (0, 5, What::Request(block(base + 0x200, 64))),
        (0, 6, What::Refused(block(0, 1 << 40))),
        (0, 7, What::Free(block(base + 0x20_0000, 1000))),
        (0, 9, What::Purged(block(base + 0x20_0000, 2 << 20))),
        (1, 1, What::Request(Block { source: 2, ..block(base + 0x1000_0000, 77) })),
    ];
    for (protocol, pickle) in GOLDEN.iter().enumerate() {
        let (events, imported) = import(pickle).unwrap();
        assert_eq!(events, expected, "protocol {protocol}");
        assert_eq!(imported, Imported { events: 10, left_out: 4 });
        let (mut recording, _) = import_within(pickle, LIMIT).unwrap();
        assert_eq!(recording.name(Kind::Source, 2), Some(&b"pool pytorch:1"[..]));
        assert_eq!(recording.name(Kind::Thread, 0), Some(&b"device 0"[..]));
        let mut events = recording.events();
        assert!(events.by_ref().all(|event| event.is_ok()) && events.forced() == 0);
        let mut text = Vec::new();
        recording.write_csv(&mut text).unwrap();
        assert_eq!(Trace::parse(&text[..]).unwrap().requests(), 6);
        // It does not depend on how the bytes come, and what follows is left.
        let mut writer = Writer::new(Vec::new(), HEADER).unwrap();
        let input = BufReader::with_capacity(1, pickle.chain(&b"\0\0"[..]));
        assert_eq!(pytorch(input, SnapshotLimits::default(), &mut writer).unwrap(), imported);
    }
}

#[test]
fn what_is_cut_off_is_an_error_there() {
    for pickle in GOLDEN {
        for end in 0..pickle.len() {
            let expected = format!("byte {end}: the input ends in the midst of a pickle");
            assert_eq!(read(&pickle[..end], LIMIT).unwrap_err().to_string(), expected);
        }
    }
    let what = entry("alloc", 4096, 1, 0);
    assert!(matches!(import(&traces(&[&[what]])[..50]), Err(ImportError::Byte { offset: 50, source: None, .. })));
}

#[test]
fn what_cannot_be_read_has_its_source() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(Error::other("broken"))
        }
    }
    let mut writer = Writer::new(Vec::new(), HEADER).unwrap();
    let error = pytorch(BufReader::new((&b"(d"[..]).chain(Broken)), SnapshotLimits::default(), &mut writer);
    assert_eq!(error.unwrap_err().to_string(), "byte 2: the input cannot be read: broken");
}

#[test]
fn whatever_it_is_nothing_panics() {
    let mut random = Rng::with_seed(42);
    let (mut good, rounds) = (0, 20_000);
    for round in 0..rounds {
        let mut pickle = GOLDEN[round % GOLDEN.len()].to_vec();
        for _ in 0..=random.usize(..4) {
            let at = random.usize(..pickle.len());
            match random.usize(..4) {
                0 => pickle[at] ^= 1 << random.usize(..8),
                1 => pickle[at] = random.usize(..256) as u8,
                2 => drop(pickle.remove(at)),
                _ => {
                    let from = random.usize(..pickle.len());
                    let more = pickle[from..(from + random.usize(..20)).min(pickle.len())].to_vec();
                    pickle.splice(at..at, more);
                }
            }
        }
        let limit = [LIMIT, 20_000][random.usize(..2)];
        if let Ok((mut recording, _)) = import_within(&pickle, limit) {
            good += 1;
            assert!(recording.events().all(|event| event.is_ok()));
        }
    }
    assert!(good > rounds / 20 && good < rounds, "{good}");
    // Programs of opcodes that are known, with small operands.
    let opcodes = b"(012.NIKMJGpqrghj)]}tldaesu\x85\x86\x87\x88\x8a\x8b\x8c\x8f\x90\x91\x94\x95XUTSV\n\x00\x01\x02";
    for _ in 0..100_000 {
        let length = random.usize(..40);
        let program: Vec<u8> = (0..length).map(|_| opcodes[random.usize(..opcodes.len())]).chain(*b"..").collect();
        drop(import_within(&program, LIMIT));
    }
}

#[test]
fn what_lists_refer_to_many_times_stays_small() {
    // 2²⁰⁰⁰ lists, if each reference were a copy.
    let mut bomb = b"]\x94".to_vec();
    (0..2000_u32).for_each(|level| {
        let [a, b, c, d] = level.to_le_bytes();
        bomb.extend([b"](j".as_slice(), &[a, b, c, d], b"j", &[a, b, c, d], b"e\x94"].concat());
    });
    bomb.push(b'.');
    assert!(read(&bomb[..], 1 << 19).is_ok());
    assert_eq!(error(&bomb), "byte 27974: what should be a dict of a snapshot is none");
    // One that holds itself.
    assert_eq!(error(b"]q\x00h\x00a."), "byte 0: what should be a dict of a snapshot is none");
    assert_eq!(error(b"(dVdevice_traces\n]q\x00h\x00as."), "byte 17: what should be a dict of a snapshot is none");
    // Many segments, or devices, with one list of many entries.
    let many = |item: &str, count| item.repeat(count);
    let blocks = format!("]((dVblocks\n]({}esq\x00{}e.", many("}", 1000), many("h\0", 1000));
    assert_eq!(error(blocks.as_bytes()), "byte 12: a list of a snapshot is referred to too many times");
    let traces = format!("(dVdevice_traces\n](]({}eq\x00{}es.", many("}", 1000), many("h\0", 100));
    assert_eq!(error(traces.as_bytes()), "byte 19: a list of a snapshot is referred to too many times");
    // As many as there may be, of which each is its own.
    let empty = |count| format!("(dVdevice_traces\n({}ls.", many("]", count));
    assert_eq!(import(empty(511).as_bytes()).unwrap().1, Imported::default());
    assert!(error(empty(512).as_bytes()).ends_with("more devices than there can be"));
}

#[test]
fn memory_is_bounded_by_the_limit() {
    let marks = [b'('; 100_000];
    let lists = [b']'; 100_000];
    let items = [&b"]("[..], &[b'N'; 100_000], b"e."].concat();
    let memo = [&b"N"[..], &[0x94; 100_000]].concat();
    let dicts = b"}Vaddr\nNs".repeat(10_000);
    for pickle in [&marks[..], &lists, &items, &memo, &dicts] {
        let error = read(pickle, 100_000).unwrap_err().to_string();
        assert!(error.ends_with("the snapshot takes more memory than is allowed"), "{error}");
    }
    let trace: Vec<String> = (1..1000).map(|at| entry("alloc", at * 512, 1, 0)).collect();
    let trace = traces(&[&trace]);
    let least = (0..).map(|power| 1 << power).find(|limit| import_within(&trace, *limit).is_ok());
    assert!((1 << 17..=1 << 19).contains(&least.unwrap()), "{least:?}");
    // It is the tables of addresses that do not fit.
    let error = (1..).map_while(|kib| import_within(&trace, kib << 10).err()).last();
    assert!(read(&trace[..], least.unwrap() / 2).is_ok() && error.unwrap().to_string().contains("memory"));
}

#[test]
fn addresses_are_those_that_a_recording_holds() {
    let at = |address: i128| import(&traces(&[&[entry("alloc", address, 1, 0)]]));
    for (address, expected) in
        [(1 << 47, 1 << 47), (0xff00_0000_0020_0000, 0x20_0000), (-(1 << 40), 0xff00_0000_0000), (16, 16), (0, 0)]
    {
        let (events, _) = at(address).unwrap();
        let align = if address == 16 { 4 } else { 9 };
        assert_eq!(events, [(0, 0, What::Request(Block { align, ..block(expected, 1) }))]);
    }
    assert_eq!(at(24).unwrap_err().to_string(), "byte 20: an address is no multiple of 16");
    assert_eq!(at(1 << 64).unwrap_err().to_string(), "byte 20: an entry has no address");
    let same = traces(&[&[entry("alloc", 512, 1, 0), entry("alloc", (1_u64 << 63) + 512, 1, 0)]]);
    assert!(error(&same).ends_with("two addresses have the same lower 48 bits"));
}

#[test]
fn what_contradicts_itself_is_left_out() {
    let all = ["alloc", "alloc", "free_completed", "free_completed", "free_requested", "what else", "segment_map"];
    let trace: Vec<String> = all.iter().map(|action| entry(action, 512, 7, 0)).collect();
    let (events, imported) = import(&traces(&[&trace])).unwrap();
    assert_eq!(events, [(0, 0, What::Request(block(512, 7))), (0, 0, What::Free(block(512, 7)))]);
    assert_eq!(imported, Imported { events: 2, left_out: 5 });
    // Without any free that was completed, those that were requested count; of all devices.
    let [alloc, free, done] = ["alloc", "free_requested", "free_completed"].map(|action| entry(action, 512, 7, 0));
    let (events, _) = import(&traces(&[&[alloc.clone(), free.clone()]])).unwrap();
    assert_eq!(events.len(), 2);
    assert_eq!(import(&traces(&[&[alloc, free], &[done]])).unwrap().1, Imported { events: 3, left_out: 1 });
}

#[test]
fn numbers_are_taken_as_far_as_they_go() {
    let times = [i64::MIN, -1, i64::MAX, 5];
    let trace = times.map(|time| entry("oom", 0, u64::MAX, time));
    let (events, _) = import(&traces(&[&trace])).unwrap();
    let last = i64::MAX as u64 / 1000;
    let refused = What::Refused(block(0, MAX_SIZE));
    // The second is 2⁶³ - 1 after the first; what does not fit into a record of ticks is the most that does.
    assert!(events.iter().all(|(_, tick, what)| *what == refused && *tick <= last), "{events:?}");
    assert!(events.is_sorted_by_key(|(_, tick, _)| *tick));
    for (size, time) in [("-1", "0"), ("18446744073709551616", "0")] {
        assert_eq!(error(&traces(&[&[entry("oom", 0, size, time)]])), "byte 20: an entry has no size");
    }
    let wide = [entry("segment_alloc", MAX_SIZE - 15, u64::MAX, 0), entry("alloc", MAX_SIZE - 15, u64::MAX, 0)];
    let (events, _) = import(&traces(&[&wide])).unwrap();
    assert!(matches!(events[..], [(0, 0, What::Request(Block { missed: true, size: MAX_SIZE, .. }))]));
}

#[test]
fn segments_of_old_versions_tell_what_was_in_use() {
    let block_of = |size: u32, state: &str| format!("(dVsize\nI{size}\nsVstate\nV{state}\ns");
    let blocks = [block_of(512, "active_allocated"), block_of(1024, "inactive"), block_of(2048, "active_pending_free")];
    let segment = |device: &str| format!("((dVaddress\nI8192\ns{device}Vblocks\n({}lsl.", blocks.concat());
    let (events, _) = import(segment("").as_bytes()).unwrap();
    let live = |block| (0, 0, What::Live(block));
    assert_eq!(events, [live(block(8192, 512)), live(block(8192 + 1536, 2048))]);
    let (events, _) = import(segment("Vdevice\nI510\ns").as_bytes()).unwrap();
    assert!(events.iter().all(|(thread, ..)| *thread == 510));
    for device in ["511", "-1", "99999999999"] {
        let error = error(segment(&format!("Vdevice\nI{device}\ns")).as_bytes());
        assert_eq!(error, "byte 2: a segment's device is none that there can be");
    }
    let nowhere = "((dVblocks\n((dVstate\nVactive_allocated\nslsl.";
    assert_eq!(error(nowhere.as_bytes()), "byte 13: a block in use has no address, or no size");
}

#[test]
fn what_is_no_snapshot_is_told() {
    for pickle in ["N.", "}.", "I5\n.", "(dVaddr\nI5\ns."] {
        assert!(error(pickle.as_bytes()).contains("it has neither segments nor device_traces"));
    }
    for pickle in ["(dVsegments\nNs.", "(dVsegments\n]]as.", "(dVdevice_traces\n]}as.", "(dVdevice_traces\n]]Naas."] {
        assert!(error(pickle.as_bytes()).contains(" of a snapshot is none"), "{pickle}");
    }
    assert_eq!(error(b"(dVdevice_traces\n]](dVaction\nValloc\nsaas."), "byte 20: an entry has no address");
}
