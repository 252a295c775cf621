use std::collections::HashSet;
use std::io::Cursor;

use fastrand::Rng;

use super::format::{Block, BlockHeader, BlockKind, HEADER_BYTES, Header, MAX_PAYLOAD, Record};
use super::names::Kind;
use super::{Event, Recording, RecordingError, What, Writer};
use crate::Trace;

const HEADER: Header = Header { began: 1, process: 2, page: 4096, tick: 1_000_000 };

fn block(address: u64, size: u64) -> Block {
    Block { address, size, align: 4, ..Block::default() }
}

/// What threads did, in the order in which it happened: few addresses, which are taken again and again. What a thread frees, whoever requested it, is its own to request
/// again; and what passes a lock comes from what all have in common, or goes there.
fn history(random: &mut Rng, events: usize, threads: u64) -> Vec<Event> {
    fn pick<T>(random: &mut Rng, from: &mut Vec<T>) -> T {
        from.swap_remove(random.u64(..from.len() as u64) as usize)
    }
    let mut live: Vec<Block> = Vec::new();
    let (mut common, mut own): (Vec<u64>, Vec<Vec<u64>>) =
        ((1..40).map(|at| at * 64).collect(), vec![Vec::new(); threads as usize]);
    let (mut tick, mut passed, mut numbers) = (0, 0, vec![0; threads as usize]);
    (0..events)
        .map(|_| {
            tick += [0, 0, 0, 1, 2, 100_000][random.u64(..6) as usize];
            let thread = random.u64(..threads) as usize;
            let is_passed = random.u64(..2) == 0;
            let vacant = if is_passed { &mut common } else { &mut own[thread] };
            let what = match random.u64(..10) {
                0 => What::Step(random.u64(..1000)),
                1 => {
                    [What::Refused, What::Purged, What::Taken, What::Given][random.u64(..4) as usize](block(0, 1 << 40))
                }
                2 if !live.is_empty() && !vacant.is_empty() => {
                    let from = pick(random, &mut live);
                    let address = if random.u64(..2) == 0 { from.address } else { pick(random, vacant) };
                    if address != from.address {
                        vacant.push(from.address);
                    }
                    let to = block(address, random.u64(..1 << 20));
                    live.push(to);
                    What::Resize { from, to }
                }
                3..6 if !live.is_empty() => {
                    let gone = pick(random, &mut live);
                    vacant.push(gone.address);
                    What::Free(gone)
                }
                _ if !vacant.is_empty() => {
                    live.push(block(pick(random, vacant), random.u64(..1 << 20)));
                    What::Request(live[live.len() - 1])
                }
                _ => What::Enter(3),
            };
            let number = numbers[thread];
            numbers[thread] += 1;
            passed += u64::from(is_passed);
            let passed = is_passed.then(|| (7, passed - 1));
            Event { thread: thread as u32, number, tick, passed, stack: None, what }
        })
        .collect()
}

fn write(events: &[Event]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), HEADER).unwrap();
    for event in events {
        let mut put = |record| writer.record(event.thread, event.tick, record).unwrap();
        if let Some((source, number)) = event.passed {
            put(Record::Passed { source, number });
        }
        if let Some(stack) = event.stack {
            put(Record::Stack(stack));
        }
        match event.what {
            What::Request(block) => put(Record::Request(block)),
            What::Free(block) => put(Record::Free(block)),
            What::Resize { from, to } => {
                put(Record::Resize(to));
                put(Record::From(from));
            }
            What::Refused(block) => put(Record::Refused(block)),
            What::Live(block) => put(Record::Live(block)),
            What::Purged(block) => put(Record::Purged(block)),
            What::Taken(block) => put(Record::Taken(block)),
            What::Given(block) => put(Record::Given(block)),
            What::Step(number) => put(Record::Step(number)),
            What::Enter(label) => put(Record::Enter(label)),
            What::Leave(label) => put(Record::Leave(label)),
        }
    }
    writer.name(Kind::Thread, 0, b"main").unwrap();
    writer.finish().unwrap()
}

type Read = (Vec<Event>, u64, Vec<RecordingError>);

/// The events, how many were forced, and what was damaged.
fn read(bytes: &[u8]) -> Result<Read, RecordingError> {
    let mut recording = Recording::open(Cursor::new(bytes))?;
    let (mut read, mut errors) = (Vec::new(), Vec::new());
    let mut events = recording.events();
    for event in events.by_ref() {
        match event {
            Ok(event) => read.push(event),
            Err(error) => errors.push(error),
        }
    }
    let forced = events.forced();
    Ok((read, forced, errors))
}

/// Whether each block's life is one: requested, freed, requested again.
fn check_lives(events: &[Event]) {
    let mut live = HashSet::new();
    for event in events {
        let (gone, come) = match event.what {
            What::Request(block) => (None, Some(block.address)),
            What::Free(block) => (Some(block.address), None),
            What::Resize { from, to } => (Some(from.address), Some(to.address)),
            _ => (None, None),
        };
        assert!(gone.is_none_or(|address| live.remove(&address)), "{event:?}: it is not in use");
        assert!(come.is_none_or(|address| live.insert(address)), "{event:?}: it is in use");
    }
}

#[test]
fn what_threads_did_comes_in_an_order_that_can_have_been() {
    for seed in 1..200 {
        let random = &mut Rng::with_seed(seed * 0x9e37_79b9);
        let threads = 1 + random.u64(..5);
        let happened = history(random, 4000, threads);
        let (events, forced, errors) = read(&write(&happened)).unwrap();
        if forced > 0 {
            continue;
        }
        assert_eq!((events.len(), forced, errors.len()), (happened.len(), 0, 0), "seed {seed}");
        check_lives(&events);
        let of = |thread, events: &[Event]| -> Vec<Event> {
            events.iter().filter(|event| event.thread == thread).copied().collect()
        };
        for thread in 0..threads as u32 {
            assert_eq!(of(thread, &events), of(thread, &happened), "seed {seed}");
        }
        let passed: Vec<_> = events.iter().filter_map(|event| event.passed).collect();
        assert!(passed.is_sorted(), "seed {seed}");
        assert!(events.is_sorted_by_key(|event| event.tick) || threads > 1, "seed {seed}");
        assert_eq!(read(&write(&happened)).unwrap().0, events, "always the same");
    }
}

/// As programs of C are recorded, where nobody tells how large a block is that is freed: then some lives can be told in two ways.
#[test]
fn where_sizes_are_not_told_few_events_are_out_of_order() {
    let mut all = 0;
    for seed in 1..100 {
        let mut happened = history(&mut Rng::with_seed(seed * 0x9e37_79b9), 4000, 4);
        for event in &mut happened {
            if let What::Free(block) = &mut event.what {
                block.size = 0;
            }
        }
        let (events, forced, errors) = read(&write(&happened)).unwrap();
        assert_eq!((events.len(), errors.len()), (happened.len(), 0), "seed {seed}");
        if forced == 0 {
            check_lives(&events);
        }
        all += forced;
    }
    assert!(all < 100 * 4000 / 1000, "{all}");
}

#[test]
fn what_nothing_explains_waits_and_happens() {
    let free = |tick, thread, number| Event {
        thread,
        number,
        tick,
        passed: None,
        stack: Some(9),
        what: What::Free(block(64, 0)),
    };
    // It was there before, and nobody told; the others go on.
    let step = |tick, number| Event { thread: 1, number, tick, passed: None, stack: None, what: What::Step(tick) };
    let happened = [free(10, 0, 0), step(10, 0), step(1000, 1), step(1011, 2), step(1 << 40, 3)];
    let (events, forced, _) = read(&write(&happened)).unwrap();
    assert_eq!(forced, 1);
    assert_eq!(events, [step(10, 0), step(1000, 1), free(10, 0, 0), step(1011, 2), step(1 << 40, 3)]);
}

#[test]
fn as_text_it_reads_as_a_trace() {
    for seed in 1..30 {
        let happened = history(&mut Rng::with_seed(seed * 0x9e37_79b9), 2000, 3);
        let mut text = Vec::new();
        Recording::open(Cursor::new(write(&happened))).unwrap().write_csv(&mut text).unwrap();
        let trace = Trace::parse(&text[..]).unwrap();
        let requests = happened.iter().filter(|event| matches!(event.what, What::Request(_))).count();
        let steps = happened.iter().filter(|event| matches!(event.what, What::Step(_))).count();
        assert_eq!(trace.requests(), requests, "seed {seed}");
        assert_eq!(trace.events().iter().filter(|event| matches!(event, crate::Event::Mark { .. })).count(), steps);
    }
    // What the recording does not explain is text that can be read all the same.
    let odd =
        [What::Free(block(64, 1)), What::Request(block(64, 2)), What::Request(block(64, 3)), What::Live(block(80, 4))];
    let odd = odd.map(|what| Event { thread: 0, number: 0, tick: 0, passed: None, stack: None, what });
    let mut text = Vec::new();
    Recording::open(Cursor::new(write(&odd))).unwrap().write_csv(&mut text).unwrap();
    assert_eq!(Trace::parse(&text[..]).unwrap().requests(), 3);
}

#[test]
#[cfg(feature = "pack")]
fn packed_it_is_small_and_the_same() {
    let happened = history(&mut Rng::with_seed(3), 20_000, 3);
    let bytes = write(&happened);
    let mut packed = Vec::new();
    Recording::open(Cursor::new(&bytes)).unwrap().pack(&mut packed).unwrap();
    assert!(packed.len() < bytes.len() / 2, "{} of {}", packed.len(), bytes.len());
    assert_eq!(read(&packed).unwrap().0, read(&bytes).unwrap().0);
    assert_eq!(Recording::open(Cursor::new(&packed)).unwrap().name(Kind::Thread, 0), Some(&b"main"[..]));
    let mut again = Vec::new();
    Recording::open(Cursor::new(&packed)).unwrap().pack(&mut again).unwrap();
    assert_eq!(again, packed);
    // What decompresses to more than it says.
    let payload = super::pack::pack(&[1; 64]).unwrap();
    for (records, is_right) in [(3, false), (4, true), (5, false), (60_000, false)] {
        let (kind, packed, bytes) = (BlockKind::Events, true, payload.len() as u32);
        let header = BlockHeader { kind, packed, bytes, records, thread: 0, number: 0, tick: 0, first: 0, lost: 0 };
        let file = [&HEADER.encode()[..], &header.encode(&payload), &payload].concat();
        assert_eq!(read(&file).unwrap().2.is_empty(), is_right, "{records}");
    }
    for at in (0..packed.len()).step_by(101) {
        let mut changed = packed.clone();
        changed[at] ^= 0x10;
        assert!(Recording::open(Cursor::new(&changed)).is_err() || at >= HEADER_BYTES);
        let _ = read(&changed);
    }
}

#[test]
fn names_and_what_was_lost_are_told() {
    let mut writer = Writer::new(Vec::new(), HEADER).unwrap();
    writer.record(4, 0, Record::Step(1)).unwrap();
    writer.lost(4, 10).unwrap();
    writer.record(4, 0, Record::Step(2)).unwrap();
    (0..5000).for_each(|label| writer.name(Kind::Label, label, format!("label {label}").as_bytes()).unwrap());
    writer.name(Kind::Label, 7, b"another").unwrap();
    let mut recording = Recording::open(Cursor::new(writer.finish().unwrap())).unwrap();
    assert_eq!(recording.header(), HEADER);
    assert_eq!(recording.name(Kind::Label, 4999), Some(&b"label 4999"[..]));
    assert_eq!(recording.name(Kind::Label, 7), Some(&b"another"[..]));
    assert_eq!(recording.name(Kind::Thread, 7), None);
    assert_eq!(recording.thread_numbers().collect::<Vec<_>>(), [4]);
    let mut events = recording.events();
    let numbers: Vec<u64> = events.by_ref().map(|event| event.unwrap().number).collect();
    assert_eq!((numbers, events.lost()), (vec![0, 11], 10));
}

#[test]
fn what_is_cut_off_is_whole_up_to_there() {
    let happened = history(&mut Rng::with_seed(77), 3000, 3);
    let bytes = write(&happened);
    let whole = read(&bytes).unwrap().0;
    let mut counts = Vec::new();
    for end in (0..bytes.len()).step_by(191) {
        let Ok(mut recording) = Recording::open(Cursor::new(&bytes[..end])) else {
            assert!(end < HEADER_BYTES);
            continue;
        };
        assert!(recording.damages().is_empty());
        let events: Vec<Event> = recording.events().map(|event| event.unwrap()).collect();
        counts.push(events.len());
        assert!(events.iter().all(|event| whole.contains(event)) || end % 5 != 0);
    }
    assert!(counts.is_sorted() && counts[0] == 0 && counts[counts.len() - 1] > 0);
}

#[test]
fn each_changed_byte_is_an_error_that_names_its_block() {
    let bytes = write(&history(&mut Rng::with_seed(5), 1500, 2));
    for at in (0..bytes.len()).step_by(97) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x55;
        let Ok(mut recording) = Recording::open(Cursor::new(&changed)) else {
            assert!(at < HEADER_BYTES, "byte {at}");
            continue;
        };
        assert!(at >= HEADER_BYTES);
        let mut errors: Vec<String> = recording.events().filter_map(|event| Some(event.err()?.to_string())).collect();
        errors.extend(recording.damages().iter().map(ToString::to_string));
        assert!(recording.is_cut() || errors.iter().any(|error| error.starts_with("block ")), "byte {at}: {errors:?}");
    }
}

#[test]
fn what_is_claimed_takes_no_memory() {
    let claim = |bytes, records, thread| {
        let (kind, packed, number, tick, first, lost) = (BlockKind::Events, false, 0, 0, 0, 0);
        BlockHeader { kind, packed, bytes, records, thread, number, tick, first, lost }.encode(&[])
    };
    let mut file = HEADER.encode().to_vec();
    file.extend(claim(MAX_PAYLOAD as u32, MAX_PAYLOAD as u32 / 16, 1));
    let recording = Recording::open(Cursor::new(&file)).unwrap();
    assert!(recording.is_cut() && recording.blocks() == 0);
    // Many threads that have nothing.
    let mut file = HEADER.encode().to_vec();
    (0..10_000).for_each(|thread| file.extend(claim(0, 0, thread)));
    let (events, ..) = read(&file).unwrap();
    assert!(events.is_empty());
    for (file, expected) in [
        (&b""[..], "the header is not there: the file is too short"),
        (&[b'x'; 100][..], "the header is not a recording's"),
    ] {
        assert_eq!(Recording::open(Cursor::new(file)).unwrap_err().to_string(), expected);
    }
}
