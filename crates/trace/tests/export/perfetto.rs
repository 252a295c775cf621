//! Perfetto's traces, read by its schema.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;

use prost_reflect::DynamicMessage;
use tenzor_trace::recording::format::{Block, Record};
use tenzor_trace::recording::{Recording, What, Writer};

use crate::each_history;
use crate::history::{HEADER, Oracle, Read, bytes};
use crate::message::{Fields, decode};

/// What is in a trace.
#[derive(Debug, Default)]
struct Trace {
    /// Points of counters: times and values.
    counters: BTreeMap<String, Vec<(u64, u64)>>,
    /// Of threads, by their names: when, which kind, and what it is called.
    threads: BTreeMap<String, Vec<(u64, u64, String)>>,
}

fn write(recording: &mut Read) -> Trace {
    let mut out = Vec::new();
    recording.write_perfetto(&mut out).unwrap();
    let (mut trace, mut tracks, mut names) = (Trace::default(), HashMap::new(), HashMap::new());
    let packets = decode("perfetto.protos.Trace", &out).all("packet");
    let mut process = None;
    for (at, packet) in packets.iter().enumerate() {
        assert_eq!(
            (packet.number("trusted_packet_sequence_id"), packet.number("sequence_flags")),
            (1, if at == 0 { 1 } else { 2 })
        );
        for name in packet.one("interned_data").all("event_names") {
            assert!(names.insert(name.number("iid"), name.text("name")).is_none() && name.number("iid") > 0);
        }
        if packet.has("clock_snapshot") {
            let clocks = packet.one("clock_snapshot").all("clocks");
            let clocks: Vec<_> =
                clocks.iter().map(|clock| (clock.number("clock_id"), clock.number("timestamp"))).collect();
            assert_eq!(clocks, [(6, 0), (1, HEADER.began)]);
        }
        if packet.has("track_descriptor") {
            let track = packet.one("track_descriptor");
            let name = if track.has("process") {
                assert_eq!(track.one("process").number("pid"), 77);
                process = Some(track.number("uuid"));
                String::new()
            } else {
                assert_eq!(process, Some(track.number("parent_uuid")));
                if track.has("thread") {
                    let thread = track.one("thread");
                    assert_eq!(thread.number("pid"), 77);
                    let name = thread.text("thread_name");
                    trace.threads.insert(name.clone(), Vec::new());
                    name
                } else {
                    assert_eq!(track.one("counter").number("unit"), 3);
                    track.text("name")
                }
            };
            assert!(tracks.insert(track.number("uuid"), name).is_none());
        }
        if packet.has("track_event") {
            let (event, time) = (packet.one("track_event"), packet.number("timestamp"));
            let track = tracks[&event.number("track_uuid")].clone();
            if event.number("type") == 4 {
                trace.counters.entry(track).or_default().push((time, event.number("counter_value")));
            } else {
                trace.threads.get_mut(&track).unwrap().push((time, event.number("type"), called(&event, &names)));
            }
        }
    }
    trace
}

fn called(event: &DynamicMessage, names: &HashMap<u64, String>) -> String {
    let name = if event.has("name_iid") { names[&event.number("name_iid")].clone() } else { event.text("name") };
    let bytes = event.all("debug_annotations");
    bytes.iter().fold(name, |name, bytes| format!("{name}: {} {}", bytes.number("uint_value"), bytes.text("name")))
}

/// The values of a counter after each of those events that change it; the first is before all.
fn values(oracle: &Oracle, changes: impl Fn(&What) -> bool, value: impl Fn(usize) -> u64) -> Vec<u64> {
    let changed = oracle.events.iter().enumerate().filter(|(_, event)| changes(&event.what)).map(|(at, _)| value(at));
    let values: Vec<u64> = [0].into_iter().chain(changed).collect();
    // A free of what is not known of changes nothing, and is no point.
    values.into_iter().fold(Vec::new(), deduplicated)
}

fn deduplicated(mut values: Vec<u64>, value: u64) -> Vec<u64> {
    if values.last() != Some(&value) {
        values.push(value);
    }
    values
}

#[test]
fn counters_are_what_is_in_use_and_what_was_taken() {
    each_history(|recording, oracle| {
        let trace = write(recording);
        let read = |name: &str| {
            let points = trace.counters.get(name).cloned().unwrap_or(vec![(0, 0)]);
            assert!(points.is_sorted_by_key(|(time, _)| *time));
            points.into_iter().map(|(_, value)| value).fold(Vec::new(), deduplicated)
        };
        let is_live =
            |what: &What| matches!(what, What::Request(_) | What::Live(_) | What::Free(_) | What::Resize { .. });
        assert_eq!(read("live bytes"), values(oracle, is_live, |at| bytes(&oracle.live[at])));
        assert_eq!(read("live bytes").into_iter().max(), Some(oracle.peak()));
        for (source, name) in ["heap", "source 1", "source 2"].iter().enumerate() {
            let of = |at: usize| {
                oracle.live[at].iter().filter(|held| usize::from(held.source) == source).map(|held| held.size).sum()
            };
            assert_eq!(read(&format!("live bytes: {name}")), values(oracle, is_live, of));
        }
        let reserved = oracle.events.iter().scan(0_u64, |reserved, event| {
            match event.what {
                What::Taken(block) => *reserved += block.size,
                What::Given(block) => *reserved = reserved.saturating_sub(block.size),
                _ => {}
            }
            Some(*reserved)
        });
        let reserved: Vec<u64> = reserved.collect();
        let is_reserved = |what: &What| matches!(what, What::Taken(_) | What::Given(_));
        let expected = values(oracle, is_reserved, |at| reserved[at]);
        assert_eq!((read("reserved bytes"), read("reserved bytes: source 1")), (expected.clone(), expected));
    });
}

#[test]
fn threads_have_slices_of_labels_and_instants() {
    each_history(|recording, oracle| {
        let trace = write(recording);
        let names = ["encoder", "layer 3", "a;b\u{fffd}c \u{fffd}", "label 3", "x 1 2", "label 5"];
        for (thread, name) in
            ["main", "worker;1", "\u{fffd}\u{fffd}\u{fffd}", "thread 3", "thread 4"].iter().enumerate()
        {
            let (mut nest, mut expected) = (Vec::new(), Vec::new());
            for event in oracle.events.iter().filter(|event| event.thread as usize == thread) {
                let time = event.tick * HEADER.tick;
                match event.what {
                    What::Enter(label) => {
                        nest.push(label);
                        expected.push((time, 1, names[label as usize].to_owned()));
                    }
                    What::Leave(label) if nest.contains(&label) => loop {
                        expected.push((time, 2, String::new()));
                        if nest.pop() == Some(label) {
                            break;
                        }
                    },
                    What::Step(step) => expected.push((time, 3, format!("step {step}"))),
                    What::Refused(block) => expected.push((time, 3, format!("refused: {} bytes", block.size))),
                    _ => {}
                }
            }
            assert_eq!(trace.threads.get(*name).cloned().unwrap_or_default(), expected, "{name}");
        }
    });
}

#[test]
fn many_events_make_a_file_that_can_be_looked_at() {
    const EVENTS: u64 = 400_000;
    let mut writer = Writer::new(Cursor::new(Vec::new()), HEADER).unwrap();
    let (mut most, mut random) = (0, fastrand::Rng::with_seed(3));
    for at in 0..EVENTS {
        let block = Block { address: 0x1000, size: random.u64(..1 << 40), ..Block::default() };
        most = most.max(block.size);
        writer.record(0, 2 * at, Record::Request(block)).unwrap();
        writer.record(0, 2 * at, Record::Refused(block)).unwrap();
        writer.record(0, 2 * at, Record::Enter(at % 3)).unwrap();
        // Each hundredth is long.
        writer.record(0, if at % 100 == 0 { 2 * at + 40 } else { 2 * at + 1 }, Record::Leave(at % 3)).unwrap();
        writer.record(0, 0, Record::Free(block)).unwrap();
    }
    let mut recording = Recording::open(writer.finish().unwrap()).unwrap();
    let trace = write(&mut recording);
    assert_eq!(trace.counters.len(), 2);
    for points in trace.counters.values() {
        assert!((60_000..=100_000).contains(&points.len()), "{}", points.len());
        assert_eq!(points.iter().map(|(_, value)| *value).max(), Some(most));
        assert_eq!(points.last().unwrap().1, 0);
    }
    let seen = &trace.threads["thread 0"];
    let count = |kind| seen.iter().filter(|(_, of, _)| *of == kind).count() as u64;
    assert_eq!((count(1), count(2)), (EVENTS / 100, EVENTS / 100));
    assert!((20_000..=50_000).contains(&count(3)), "{}", count(3));
}
