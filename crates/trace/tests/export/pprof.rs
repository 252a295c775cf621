//! pprof's profiles, read by its schema.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;

use flate2::read::GzDecoder;
use prost_reflect::DynamicMessage;

use crate::each_history;
use crate::history::{HEADER, Read, STACKS, bytes, sums};
use crate::message::{Fields, decode};

fn write(recording: &mut Read) -> DynamicMessage {
    let (mut out, mut plain) = (Vec::new(), Vec::new());
    recording.write_pprof(&mut out).unwrap();
    GzDecoder::new(&out[..]).read_to_end(&mut plain).unwrap();
    decode("perfetto.third_party.perftools.profiles.Profile", &plain)
}

/// Messages by their ids, each of which is there once and is not 0.
fn by_id(messages: Vec<DynamicMessage>) -> HashMap<u64, DynamicMessage> {
    let count = messages.len();
    let all: HashMap<_, _> = messages.into_iter().map(|message| (message.number("id"), message)).collect();
    assert!(all.len() == count && !all.contains_key(&0));
    all
}

#[test]
fn values_are_those_at_the_peak_and_of_all_requests() {
    each_history(|recording, oracle| {
        let profile = write(recording);
        let texts = profile.texts("string_table");
        assert_eq!(texts[0], "");
        let text = |message: &DynamicMessage, field: &str| texts[message.number(field) as usize].clone();
        let types = profile.all("sample_type");
        let types: Vec<_> = types.iter().map(|of| (text(of, "type"), text(of, "unit"))).collect();
        let expected = [
            ("inuse_objects", "count"),
            ("inuse_space", "bytes"),
            ("alloc_objects", "count"),
            ("alloc_space", "bytes"),
        ];
        assert_eq!(types, expected.map(|(of, unit)| (of.to_owned(), unit.to_owned())));
        assert_eq!(text(&profile, "default_sample_type"), "inuse_space");
        assert_eq!(profile.number("time_nanos"), HEADER.began);
        let last = oracle.events.iter().map(|event| event.tick).max().unwrap_or(0);
        assert_eq!(profile.number("duration_nanos"), last * HEADER.tick);

        let samples = profile.all("sample");
        let sum = |value: usize| samples.iter().map(|sample| sample.numbers("value")[value]).sum::<u64>();
        let requested: u64 = oracle.requests.iter().map(|(_, size)| size).sum();
        let expected = [oracle.at_peak().len() as u64, oracle.peak(), oracle.requests.len() as u64, requested];
        assert_eq!([0, 1, 2, 3].map(sum), expected);

        // Who holds what.
        let labels = |sample: &DynamicMessage| -> BTreeMap<String, String> {
            sample.all("label").iter().map(|label| (text(label, "key"), text(label, "str"))).collect()
        };
        let of_label = |labels: &[u64]| {
            let names = ["encoder", "layer 3", "a:b\u{fffd}c \u{fffd}", "label 3", "x 1 2", "label 5"];
            labels.iter().map(|label| names[*label as usize]).collect::<Vec<_>>().join(";")
        };
        let of_thread = |thread: u32| match thread {
            0 => "main".to_owned(),
            1 => "worker;1".to_owned(),
            2 => "\u{fffd}\u{fffd}\u{fffd}".to_owned(),
            thread => format!("thread {thread}"),
        };
        for value in [1, 3] {
            let read = sums(samples.iter().map(|sample| {
                let labels = labels(sample);
                (
                    (labels["thread"].clone(), labels.get("label").cloned().unwrap_or_default()),
                    sample.numbers("value")[value],
                )
            }));
            let held = oracle.at_peak().iter().map(|held| (&held.holder, held.size));
            let all = oracle.requests.iter().map(|(holder, size)| (holder, *size));
            let of: Vec<_> = if value == 1 { held.collect() } else { all.collect() };
            assert_eq!(
                read,
                sums(of.into_iter().map(|(holder, size)| ((of_thread(holder.0), of_label(&holder.1)), size)))
            );
        }
    });
}

#[test]
fn locations_are_in_mappings_or_functions() {
    each_history(|recording, oracle| {
        let profile = write(recording);
        let texts = profile.texts("string_table");
        let mappings = by_id(profile.all("mapping"));
        let mut found: Vec<_> = mappings
            .values()
            .map(|mapping| {
                let numbers = ["memory_start", "memory_limit", "file_offset"].map(|field| mapping.number(field));
                (numbers, texts[mapping.number("filename") as usize].clone())
            })
            .collect();
        found.sort();
        assert_eq!(
            found,
            [([0x1000, 0x3000, 0x400], "/opt/program".into()), ([0x5000, 0x6000, 0], "/opt/lib;x.so 2".into())]
        );
        let (locations, functions) = (by_id(profile.all("location")), by_id(profile.all("function")));
        for location in locations.values() {
            let (address, mapping) = (location.number("address"), location.number("mapping_id"));
            let lines = location.all("line");
            if lines.is_empty() {
                let covering = |mapping: &DynamicMessage| {
                    (mapping.number("memory_start")..mapping.number("memory_limit")).contains(&address)
                };
                let covered =
                    mappings.values().find(|mapping| covering(mapping)).map_or(0, |mapping| mapping.number("id"));
                assert_eq!(mapping, covered, "{address:#x}");
            } else {
                assert_eq!((address, mapping, lines.len()), (0, 0, 1));
                assert!(!texts[functions[&lines[0].number("function_id")].number("name") as usize].is_empty());
            }
        }
        // By stack, the innermost first; calls are before where they return to.
        let read = sums(profile.all("sample").iter().filter_map(|sample| {
            let stack: Vec<_> = sample.numbers("location_id").iter().map(|id| locations[id].clone()).collect();
            assert!(!stack.is_empty());
            let is_stack = stack.iter().all(|location| location.has("address"));
            is_stack.then(|| {
                (
                    stack.iter().map(|location| location.number("address") + 1).collect::<Vec<_>>(),
                    sample.numbers("value")[1],
                )
            })
        }));
        let stack = |held: &crate::history::Held| {
            held.holder.2.and_then(|stack| STACKS.get(stack as usize)).filter(|stack| !stack.is_empty())
        };
        let expected = sums(oracle.at_peak().iter().filter_map(|held| Some((stack(held)?.to_vec(), held.size))));
        assert_eq!(read, expected);
        assert!(expected.values().sum::<u64>() <= bytes(oracle.at_peak()));
    });
}
