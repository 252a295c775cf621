//! Who holds the peak, and what changed: against what is counted in the plainest way, and by hand.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;

use fastrand::Rng;
use tenzor_report::{Cause, Changes, Holders, Peak, Row, changes, peak, summary};
use tenzor_trace::recording::format::{Block, Header, Record};
use tenzor_trace::recording::names::Kind;
use tenzor_trace::recording::{Recording, Writer};

const HEADER: Header = Header { began: 0, process: 1, page: 4096, tick: 1_000_000 };

type Recorded = Recording<Cursor<Vec<u8>>>;

/// A recording of what threads did, in this order.
fn recorded(records: &[(u32, Record)]) -> Recorded {
    let mut writer = Writer::new(Cursor::new(Vec::new()), HEADER).unwrap();
    for (label, name) in (0..).zip(["model", "attention", "scores", "mlp"]) {
        writer.name(Kind::Label, label, name.as_bytes()).unwrap();
    }
    writer.name(Kind::Thread, 0, b"main").unwrap();
    writer.name(Kind::Source, 1, b"pool gpu").unwrap();
    let stack = |addresses: &[u64]| addresses.iter().flat_map(|address| address.to_le_bytes()).collect::<Vec<u8>>();
    writer.name(Kind::Stack, 0, &stack(&[0x10])).unwrap();
    writer.name(Kind::Stack, 1, &stack(&[1, 2, 3, 4, 5])).unwrap();
    for (tick, (thread, record)) in (0..).zip(records) {
        writer.record(*thread, tick, *record).unwrap();
    }
    Recording::open(writer.finish().unwrap()).unwrap()
}

fn block(address: u64, size: u64) -> Block {
    Block { address: address << 4, size, ..Block::default() }
}

fn request(address: u64, size: u64) -> (u32, Record) {
    (0, Record::Request(block(address, size)))
}

fn free(address: u64, size: u64) -> (u32, Record) {
    (0, Record::Free(block(address, size)))
}

fn step(number: u64) -> (u32, Record) {
    (0, Record::Step(number))
}

fn rows(rows: &[Row]) -> Vec<(&str, u64, u64)> {
    rows.iter().map(|row| (row.name.as_str(), row.bytes, row.blocks)).collect()
}

/// What is told of a live block in the plainest way: label, path, size, step, thread, source, stack.
type Told = [String; 7];

#[derive(Default)]
struct Naive {
    live: HashMap<u64, (u64, Told)>,
    labels: HashMap<u32, Vec<u64>>,
    steps: u64,
    /// The most bytes, and who had them.
    peak: (u64, Vec<(u64, Told)>),
    /// At each instant, the bytes in all and by path.
    instants: Vec<(u64, HashMap<String, u64>)>,
}

impl Naive {
    fn come(&mut self, thread: u32, block: Block, stack: Option<u64>, is_before: bool) {
        let names = ["model", "attention", "scores", "mlp", "label 4"];
        let inside: Vec<_> =
            self.labels.get(&thread).into_iter().flatten().map(|label| names[*label as usize]).collect();
        let label = inside.last().filter(|_| !is_before).unwrap_or(&"(no label)").to_string();
        let path = if inside.is_empty() || is_before { "(no label)".into() } else { inside.join("/") };
        let step = match self.steps {
            _ if is_before => "before the recording began".into(),
            0 => "before the first step".into(),
            step => format!("step {step}"),
        };
        let thread = match thread {
            _ if is_before => "before the recording began".into(),
            0 => "main (thread 0)".into(),
            thread => format!("thread {thread}"),
        };
        let source = ["heap", "pool gpu", "source 2"][usize::from(block.source)].into();
        let stack =
            stack.map_or("(no stack)", |stack| ["0x10", "0x1 0x2 0x3 0x4 0x5", "stack 2"][stack as usize]).into();
        self.live
            .insert(block.address, (block.size, [label, path, block.size.to_string(), step, thread, source, stack]));
    }

    fn look(&mut self) {
        let bytes = self.live.values().map(|(size, _)| size).sum();
        let mut by_path = HashMap::new();
        self.live.values().for_each(|(size, told)| *by_path.entry(told[1].clone()).or_default() += size);
        self.instants.push((bytes, by_path));
        if bytes > self.peak.0 {
            self.peak = (bytes, self.live.values().cloned().collect());
        }
    }

    fn sums(&self, of: usize) -> BTreeMap<String, (u64, u64)> {
        let mut sums = BTreeMap::new();
        for (size, told) in &self.peak.1 {
            let sum: &mut (u64, u64) = sums.entry(told[of].clone()).or_default();
            *sum = (sum.0 + size, sum.1 + 1);
        }
        sums
    }
}

/// What threads did, and what is to be said of it. With one thread at a time in it, the order is known.
fn history(random: &mut Rng, events: usize) -> (Vec<(u32, Record)>, Naive) {
    let (mut records, mut naive) = (Vec::new(), Naive::default());
    let mut live: Vec<Block> = Vec::new();
    let mut next = 1;
    for _ in 0..random.u64(..4) {
        let block = Block { source: random.u64(..3) as u16, ..block(next, random.u64(..2000)) };
        next += 1;
        records.push((0, Record::Live(block)));
        naive.come(0, block, None, true);
        naive.look();
        live.push(block);
    }
    for _ in 0..events {
        let thread = random.u64(..3) as u32;
        let stack = [None, Some(random.u64(..3))][random.u64(..2) as usize];
        let told = |records: &mut Vec<_>| records.extend(stack.map(|stack| (thread, Record::Stack(stack))));
        let bits = random.u64(..20);
        let size = random.u64(..1 << bits);
        let at = random.u64(..live.len().max(1) as u64) as usize;
        match random.u64(..20) {
            0 => {
                naive.steps += 1;
                records.push((thread, Record::Step(random.u64(..9))));
            }
            1..4 => {
                let label = random.u64(..5);
                naive.labels.entry(thread).or_default().push(label);
                records.push((thread, Record::Enter(label)));
            }
            4..7 => {
                if let Some(label) = naive.labels.entry(thread).or_default().pop() {
                    records.push((thread, Record::Leave(label)));
                }
            }
            7..12 if !live.is_empty() => {
                let gone = live.swap_remove(at);
                naive.live.remove(&gone.address);
                records.push((thread, Record::Free(gone)));
            }
            12 if !live.is_empty() => {
                let to = Block { size, ..live[at] };
                told(&mut records);
                records.extend([(thread, Record::Resize(to)), (thread, Record::From(live[at]))]);
                live[at] = to;
                naive.come(thread, to, stack, false);
            }
            _ => {
                let block = Block { source: random.u64(..3) as u16, missed: random.u64(..3) == 0, ..block(next, size) };
                next += 1;
                live.push(block);
                told(&mut records);
                records.push((thread, Record::Request(block)));
                naive.come(thread, block, stack, false);
            }
        }
        naive.look();
    }
    (records, naive)
}

fn sums(rows: &[Row], name: impl Fn(&str) -> String) -> BTreeMap<String, (u64, u64)> {
    assert!(rows.is_sorted_by_key(|row| u64::MAX - row.bytes), "{rows:?}");
    rows.iter().map(|row| (name(&row.name), (row.bytes, row.blocks))).collect()
}

fn all(holders: &Holders) -> [&[Row]; 9] {
    let Holders { labels, paths, sizes, size_classes, ages, steps, threads, sources, stacks, .. } = holders;
    [labels, paths, sizes, size_classes, ages, steps, threads, sources, stacks]
}

#[test]
fn holders_are_as_in_the_plainest_count_and_have_the_peak_in_sum() {
    let mut random = Rng::with_seed(88_172_645_463_325_252);
    for round in 0..400 {
        let (records, naive) = history(&mut random, 10 + round);
        let mut recording = recorded(&records);
        let (told, summary) = (peak(&mut recording), summary(&mut recording));
        assert_eq!((told.at.bytes, told.at.blocks), (summary.peak_live_bytes, summary.peak_live_blocks as u64));
        assert_eq!((told.at.bytes, told.at.seconds), (naive.peak.0, summary.peak_at_seconds));
        assert_eq!((u64::from(told.steps), told.flaws.out_of_order), (summary.steps, summary.flaws.out_of_order));
        if told.at.bytes == 0 {
            continue;
        }
        let instants = [(told.at, &told.holders)].into_iter().chain(told.second.iter().map(|s| (s.at, &s.holders)));
        for (at, holders) in instants {
            for rows in all(holders) {
                let sum = rows.iter().fold((0, 0), |sum, row| (sum.0 + row.bytes, sum.1 + row.blocks));
                assert_eq!(sum, (at.bytes, at.blocks), "{rows:?}");
            }
        }
        let same = |name: &str| {
            // Not all steps are "before the first": there may be none.
            if name == "since the recording began" { "before the first step".to_owned() } else { name.to_owned() }
        };
        let size = |name: &str| match name.split_once('(') {
            Some((_, digits)) => digits.trim_end_matches(')').to_owned(),
            None => name.trim_end_matches(" B").to_owned(),
        };
        let Holders { labels, paths, sizes, steps, threads, sources, stacks, .. } = &told.holders;
        for (of, rows) in [labels, paths, sizes, steps, threads, sources, stacks].into_iter().enumerate() {
            let told = if of == 2 { sums(rows, size) } else { sums(rows, same) };
            assert_eq!(told, naive.sums(of));
        }
        if told.by == "path" {
            for gain in &told.gains {
                let without =
                    |(bytes, by_path): &(u64, HashMap<String, u64>)| bytes - by_path.get(&gain.name).unwrap_or(&0);
                let rest = naive.instants.iter().map(without).max().unwrap();
                assert_eq!(gain.bytes, told.at.bytes - rest, "{gain:?}");
            }
        }
        if let Some(second) = &told.second {
            assert!(second.at.bytes <= told.at.bytes && second.at.event != told.at.event);
            assert_eq!(second.lower_by, told.at.bytes - second.at.bytes);
            assert!(second.not_in_it.iter().map(|row| row.bytes).sum::<u64>() >= second.lower_by);
        }
        assert!(told.to_string().lines().count() <= 20, "{told}");
        assert!(changes(&mut recorded(&records), &mut recording).is_empty());
    }
}

/// Two steps: weights of 1000 bytes; attention, with scores that are held in the first only; then the multi-layer perceptron.
fn model(scores: u64, mlp: u64) -> Vec<(u32, Record)> {
    let label = |label| (0, Record::Enter(label));
    let leave = |label| (0, Record::Leave(label));
    let mut records = vec![label(0), request(1, 1000)];
    for number in 1..=2 {
        records.extend([step(number), label(1), request(2, 300), label(2), request(3, scores / number)]);
        records.extend([leave(2), free(3, scores / number), free(2, 300), leave(1)]);
        records.extend([label(3), request(4, mlp), request(5, 100), free(5, 100), free(4, mlp), leave(3)]);
    }
    records
}

#[test]
fn a_model_tells_who_holds_its_peak() {
    let told = peak(&mut recorded(&model(2000, 1500)));
    assert_eq!((told.at.bytes, told.at.blocks, told.at.step, told.steps), (3300, 3, 1, 2));
    let holders = &told.holders;
    let paths = [("model/attention/scores", 2000, 1), ("model", 1000, 1), ("model/attention", 300, 1)];
    assert_eq!(rows(&holders.paths), paths);
    assert_eq!(rows(&holders.labels), [("scores", 2000, 1), ("model", 1000, 1), ("attention", 300, 1)]);
    assert_eq!(rows(&holders.ages), [("in this step", 2300, 2), ("before the first step", 1000, 1)]);
    assert_eq!(rows(&holders.size_classes), [("1–2 KiB", 2000, 1), ("512 B–1 KiB", 1000, 1), ("256–512 B", 300, 1)]);
    assert_eq!(rows(&holders.threads), [("main (thread 0)", 3300, 3)]);
    // The perceptron's; that of the second step is as high, and later.
    let second = told.second.as_ref().unwrap();
    assert_eq!((second.at.bytes, second.at.step, second.lower_by, told.by), (2600, 1, 700, "path"));
    assert_eq!(told.gains.iter().map(|gain| gain.bytes).collect::<Vec<_>>(), [700, 1000, 300]);
    assert_eq!(rows(&second.not_in_it), [("model/attention/scores", 2000, 1), ("model/attention", 300, 1)]);
    let text = "  peak live     3.2 KiB in 3 blocks, at 0.006 s, in step 1 of 2
                 61 %    2.0 KiB in 1 block     model/attention/scores, without which the peak is 700 B lower
                 30 %     1000 B in 1 block     model
                  9 %      300 B in 1 block     model/attention
  by label      scores 61 %, model 30 %, attention 9 %
  by size       1–2 KiB 61 %, 512 B–1 KiB 30 %, 256–512 B 9 %
  by age        in this step 70 %, before the first step 30 %
  second        2.5 KiB, 700 B lower (21 %), at 0.013 s, in step 1 of 2
  not in it     2.0 KiB of model/attention/scores, 300 B of model/attention
";
    assert_eq!(told.to_string(), text);
}

#[test]
fn nothing_and_one_block_are_told_of() {
    let nothing = peak(&mut recorded(&[]));
    assert_eq!(nothing, Peak::default());
    assert_eq!(nothing.to_string(), "  peak live     nothing is requested in it\n");
    let one = peak(&mut recorded(&[request(1, 100)]));
    assert_eq!((one.at.bytes, rows(&one.holders.steps)), (100, vec![("since the recording began", 100, 1)]));
    assert!(one.to_string().contains("none: live does not fall and rise again"), "{one}");
    assert!(changes(&mut recorded(&[]), &mut recorded(&[])).is_empty());
}

#[test]
fn a_label_that_is_not_left_ends_with_the_one_around_it() {
    let enter = |label| (0, Record::Enter(label));
    let records =
        [enter(0), enter(1), (0, Record::Leave(0)), request(1, 10), (0, Record::Leave(3)), enter(3), request(2, 5)];
    let told = peak(&mut recorded(&records));
    assert_eq!(rows(&told.holders.paths), [("(no label)", 10, 1), ("mlp", 5, 1)]);
    let deep: Vec<_> = (0..100_000).map(enter).chain([request(1, 10)]).collect();
    assert_eq!(peak(&mut recorded(&deep)).holders.paths.len(), 1);
}

#[test]
fn what_is_missing_of_a_recording_is_told() {
    let mut writer = Writer::new(Cursor::new(Vec::new()), HEADER).unwrap();
    for at in 1..3000 {
        writer.record(0, at, Record::Request(block(at, 10))).unwrap();
    }
    writer.lost(0, 7).unwrap();
    writer.record(0, 3000, Record::Free(block(1, 11))).unwrap();
    let mut bytes = writer.finish().unwrap().into_inner();
    bytes[200] ^= 1;
    let end = bytes.len() - 1;
    let mut damaged = Recording::open(Cursor::new(bytes.clone())).unwrap();
    let told = peak(&mut damaged);
    assert_eq!((told.flaws.lost, told.flaws.damaged.len(), told.flaws.is_cut), (7, 1, false));
    assert!(told.to_string().contains("  damaged       block 1, at byte 64, was changed"), "{told}");
    let mut cut = Recording::open(Cursor::new(bytes[..end].to_vec())).unwrap();
    assert!(peak(&mut cut).to_string().contains("  ends          in the midst of a block"));
    let told = changes(&mut damaged, &mut cut).to_string();
    assert!(told.contains("  the old one:\n  lost          7 events") && told.contains("  the new one:\n"), "{told}");
}

fn cause(change: &Changes) -> (&str, Option<u64>, Option<u64>, u64, i64) {
    let Cause { path, old_size, new_size, requests, held_change, .. } = &change.causes[0];
    (path, *old_size, *new_size, *requests, *held_change)
}

#[test]
fn a_planted_change_is_named_first() {
    let old = model(2000, 1500);
    let told = changes(&mut recorded(&old), &mut recorded(&model(2500, 1500)));
    assert_eq!((told.peak_change, cause(&told)), (500, ("model/attention/scores", Some(2000), Some(2500), 1, 500)));
    let text = told.to_string();
    assert!(text.contains("  +500 B        model/attention/scores: 1 request of 2.0 KiB has 2.4 KiB now\n"), "{text}");
    // What does not matter to the peak is told behind what does.
    let told = changes(&mut recorded(&old), &mut recorded(&model(2001, 3)));
    assert_eq!((told.peak_change, cause(&told)), (1, ("model/attention/scores", Some(2000), Some(2001), 1, 1)));
    assert_eq!(told.causes.len(), 2);
    assert!(
        told.to_string().contains("model/mlp: 1 request of 1.5 KiB has 3 B now, not at the peak: -1.5 KiB"),
        "{told}"
    );
    // Weights are from before the step; one more of them, and one block that is held for longer.
    let mut new = old.clone();
    new.insert(2, request(9, 77));
    let told = changes(&mut recorded(&old), &mut recorded(&new));
    assert_eq!((told.peak_change, cause(&told)), (77, ("model", None, Some(77), 1, 77)));
    assert!(told.to_string().contains("model: 1 request of 77 B from before this step is new"), "{told}");
    let mut longer = old.clone();
    let freed = longer.iter().position(|record| *record == free(2, 300)).unwrap();
    let gone = longer.remove(freed);
    let later = longer.iter().position(|record| *record == free(4, 1500)).unwrap();
    longer.insert(later, gone);
    let told = changes(&mut recorded(&model(100, 1500)), &mut recorded(&longer));
    assert_eq!(told.causes.iter().map(|cause| cause.held_change).sum::<i64>(), told.peak_change);
}

#[test]
fn misses_are_counted() {
    let with = |missed| {
        let missing = |record| match record {
            (thread, Record::Request(block)) => (thread, Record::Request(Block { missed, ..block })),
            other => other,
        };
        recorded(&model(2000, 1500).into_iter().map(missing).collect::<Vec<_>>())
    };
    let told = changes(&mut with(false), &mut with(true));
    assert_eq!((told.old.all.misses, told.new.all.misses, told.new.in_step.misses), (0, 9, 4));
    assert_eq!(told.causes.iter().map(|cause| cause.misses_change).sum::<i64>(), 4);
    let text = told.to_string();
    assert!(text.contains("9 requests, as before; 9 → 0 hits (-9); 0 → 9 misses (+9)"), "{text}");
    assert!(!told.is_empty() && changes(&mut with(true), &mut with(true)).is_empty());
}

#[test]
fn causes_have_what_the_peak_changed_in_sum() {
    let mut random = Rng::with_seed(88_172_645_463_325_252);
    for round in 0..300 {
        let (records, _) = history(&mut random, 10 + round);
        let other = if random.u64(..2) == 0 {
            history(&mut random, 10 + round).0
        } else {
            let grown = |(thread, record)| match record {
                Record::Request(block) if block.size % 3 == 0 => {
                    (thread, Record::Request(Block { size: block.size + 1, ..block }))
                }
                other => (thread, other),
            };
            records.iter().copied().map(grown).collect()
        };
        let told = changes(&mut recorded(&records), &mut recorded(&other));
        let sum: i64 = told.causes.iter().map(|cause| cause.held_change).sum();
        assert_eq!(sum + told.other_held_change, told.peak_change);
        assert_eq!(told.paths.iter().map(|path| path.held_change).sum::<i64>(), told.peak_change);
        assert!(told.causes.len() <= 100 && told.to_string().lines().count() <= 25, "{told}");
    }
}
