// Helpers of tests are not recognised as tests.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::Cursor;

use fastrand::Rng;
use tenzor_trace::recording::format::{Block, Header, Record};
use tenzor_trace::recording::names::Kind;
use tenzor_trace::recording::{Recording, What, Writer};

use super::*;

const HEADER: Header = Header { began: 0, process: 1, page: 4096, tick: 1_000_000 };

fn recorded(happened: &[What]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), HEADER).unwrap();
    let mut put = |record| writer.record(0, 0, record).unwrap();
    for what in happened {
        match *what {
            What::Request(block) => put(Record::Request(block)),
            What::Free(block) => put(Record::Free(block)),
            What::Resize { from, to } => {
                put(Record::Resize(to));
                put(Record::From(from));
            }
            What::Refused(block) => put(Record::Refused(block)),
            What::Taken(block) => put(Record::Taken(block)),
            What::Given(block) => put(Record::Given(block)),
            What::Step(number) => put(Record::Step(number)),
            _ => {}
        }
    }
    writer.finish().unwrap()
}

fn read(bytes: impl AsRef<[u8]>) -> Figures {
    figures(&mut Recording::open(Cursor::new(bytes)).unwrap())
}

fn of(happened: &[What]) -> Figures {
    read(recorded(happened))
}

fn block(address: u64, size: u64, missed: bool) -> Block {
    Block { address, size, missed, source: 1, ..Block::default() }
}

/// What a thread may have done: blocks, each of which lives once at a time; sources that take and give; steps.
fn history(random: &mut Rng, events: usize) -> Vec<What> {
    let (mut live, mut taken): (Vec<Block>, Vec<Block>) = (Vec::new(), Vec::new());
    let mut next = 0;
    let happen = |_| {
        next += 16;
        let new = Block { source: random.u64(..3) as u16, ..block(next, random.u64(..100), random.u64(..3) == 0) };
        let mut pick = |len: usize| random.u64(..len as u64) as usize;
        match pick(12) {
            0 => What::Step(7),
            1 | 2 => {
                taken.push(new);
                What::Taken(new)
            }
            3 if !taken.is_empty() => What::Given(taken.swap_remove(pick(taken.len()))),
            4 if !live.is_empty() => {
                let at = pick(live.len());
                let to = Block { address: [live[at].address, new.address][pick(2)], ..new };
                What::Resize { from: std::mem::replace(&mut live[at], to), to }
            }
            5..8 if !live.is_empty() => What::Free(live.swap_remove(pick(live.len()))),
            8 => What::Refused(new),
            _ => {
                live.push(new);
                What::Request(new)
            }
        }
    };
    (0..events).map(happen).collect()
}

/// The figures, each counted by itself, from the beginning for each instant.
fn naive(happened: &[What]) -> Figures {
    let mut told = Figures { tells_misses: true, ..Figures::default() };
    let mut most_held = 0;
    for end in 0..=happened.len() {
        let (mut live, mut held) = (HashMap::new(), HashMap::new());
        for what in &happened[..end] {
            match what {
                What::Request(block) => _ = live.insert(block.address, block.size),
                What::Resize { from, to } => {
                    live.remove(&from.address);
                    live.insert(to.address, to.size);
                }
                What::Free(block) => _ = live.remove(&block.address),
                What::Taken(block) => _ = held.insert((block.source, block.address), block.size),
                What::Given(block) => _ = held.remove(&(block.source, block.address)),
                _ => {}
            }
        }
        told.peak_live_bytes = told.peak_live_bytes.max(live.values().sum());
        most_held = most_held.max(held.values().sum());
    }
    told.peak_reserved_bytes = Some(most_held);
    let mut steps: Vec<&[What]> = happened.split(|what| matches!(what, What::Step(_))).collect();
    if steps.len() > 1 {
        steps.remove(0);
    }
    if !steps.last().unwrap().iter().any(|what| matches!(what, What::Request(_))) {
        steps.pop();
    }
    let counts = |step: &&[What]| {
        let requests = step.iter().filter_map(|what| match what {
            What::Request(block) => Some(block),
            What::Resize { from, to } if to.missed || to.address != from.address => Some(to),
            _ => None,
        });
        let requests: Vec<_> = requests.filter(|block| block.size > 0).collect();
        (requests.len() as u64, requests.iter().filter(|block| block.missed).count() as u64)
    };
    let counts: Vec<_> = steps.iter().map(counts).collect();
    let all: u64 = counts.iter().map(|step| step.0).sum();
    told.steps = counts.len() as u64;
    told.misses = counts.iter().map(|step| step.1).sum();
    told.hits = all - told.misses;
    told.misses_per_step = counts.iter().skip(1).map(|step| step.1).max();
    told.hit_rate = (all > 0).then(|| told.hits as f64 / all as f64);
    told
}

#[test]
fn figures_are_those_of_naive_counts() {
    for seed in 1..300 {
        let random = &mut Rng::with_seed(seed * 0x9e37_79b9);
        let events = 1 + random.u64(..120) as usize;
        // So that it tells.
        let mut happened = vec![What::Taken(block(1 << 20, 0, false))];
        happened.extend(history(random, events));
        assert_eq!(of(&happened), naive(&happened), "seed {seed}");
    }
}

#[test]
fn what_a_recording_does_not_tell_is_no_figure() {
    let hit = |address| What::Request(block(address, 10, false));
    let silent = of(&[What::Step(1), hit(16), What::Step(2), hit(32)]);
    assert_eq!(
        (silent.steps, silent.peak_reserved_bytes, silent.misses_per_step, silent.hit_rate),
        (2, None, None, None)
    );
    let why = silent.get(Figure::HitRate).unwrap_err().to_string();
    assert_eq!(why, "it does not tell its hit rate: nothing in it tells misses from hits");
    // A pool's name says that it would have told.
    let mut writer = Writer::new(Vec::new(), HEADER).unwrap();
    writer.record(0, 0, Record::Request(block(16, 10, false))).unwrap();
    writer.name(Kind::Source, 1, b"pool x").unwrap();
    let named = read(writer.finish().unwrap());
    assert_eq!((named.hit_rate, named.misses_per_step), (Some(1.0), None));
    let why = named.get(Figure::MissesPerStep).unwrap_err().to_string();
    assert_eq!(why, "it does not tell its misses a step: it has no step after the first");
    // What was taken before it began.
    let given = of(&[What::Taken(block(64, 9, false)), What::Given(block(16, 10, false))]);
    assert_eq!(given.peak_reserved_bytes, None);
    assert!(given.get(Figure::PeakReservedBytes).is_err());
}

#[test]
fn what_is_not_exact_is_doubted() {
    let records: Vec<_> = (1..3000).map(|at| What::Request(block(16 * at, 1, true))).collect();
    let bytes = recorded(&records);
    assert!(read(&bytes).doubts().is_empty());
    assert_eq!(read(&bytes[..bytes.len() - 1]).doubts(), ["it ends in the midst of a block"]);
    let mut changed = bytes.clone();
    changed[300] ^= 1;
    let doubts = read(&changed).doubts();
    assert!(doubts[0].starts_with("block 1, at byte 64, was changed"), "{doubts:?}");
    let mut writer = Writer::new(Vec::new(), HEADER).unwrap();
    writer.lost(0, 10).unwrap();
    writer.record(0, 0, Record::Step(1)).unwrap();
    assert_eq!(read(writer.finish().unwrap()).doubts(), ["10 events are missing, as there was no room for them"]);
}

/// 100 bytes at most, 300 reserved at most, two misses in the second step, and seven hits of ten.
fn example() -> Figures {
    let mut told = Figures { peak_live_bytes: 100, tells_misses: true, ..Figures::default() };
    (told.peak_reserved_bytes, told.misses_per_step, told.hit_rate) = (Some(300), Some(2), Some(0.7));
    told
}

#[test]
fn each_limit_holds_at_its_bound_and_is_broken_beyond() {
    let figures = example();
    let (held, broken) = (
        [
            Contract::default().with_max_peak(100),
            Contract::default().with_max_reserved(300),
            Contract::default().with_max_misses_per_step(2),
            Contract::default().with_min_hit_rate(0.7),
        ],
        [
            Contract::default().with_max_peak(99),
            Contract::default().with_max_reserved(299),
            Contract::default().with_max_misses_per_step(1),
            Contract::default().with_min_hit_rate(0.7000000000000001),
        ],
    );
    for contract in held {
        assert_eq!(contract.check(&figures).unwrap().broken(), None);
    }
    for contract in broken {
        assert_eq!(contract.check(&figures).unwrap().broken(), Some(Strictness::Hard));
    }
}

#[test]
fn soft_limits_are_parts_over_the_baseline() {
    let baseline = Baseline::of(&example());
    let within = |percent: &str| Contract::default().with_baseline(&baseline, percent.parse().unwrap());
    assert_eq!(within("0%").check(&example()).unwrap().broken(), None);
    type Make = fn(&mut Figures);
    let worse: [(Make, &str, &str); 4] = [
        (|figures| figures.peak_live_bytes = 105, "5%", "4.999999%"),
        (|figures| figures.peak_reserved_bytes = Some(301), "0.333334%", "0.333333%"),
        (|figures| figures.misses_per_step = Some(3), "50%", "49.9%"),
        (|figures| figures.hit_rate = Some(0.35), "50%", "49.9%"),
    ];
    for (make, holds, breaks) in worse {
        let mut figures = example();
        make(&mut figures);
        assert_eq!(within(holds).check(&figures).unwrap().broken(), None, "{holds}");
        let verdict = within(breaks).check(&figures).unwrap();
        assert_eq!((verdict.broken(), verdict.breaches().count()), (Some(Strictness::Soft), 1), "{breaks}");
    }
    // What is hard is worse, and all that is broken is told.
    let both = within("5%").with_max_peak(1).with_max_misses_per_step(1);
    let mut figures = example();
    (figures.peak_live_bytes, figures.hit_rate) = (200, Some(0.5));
    let verdict = both.check(&figures).unwrap();
    assert_eq!((verdict.broken(), verdict.breaches().count()), (Some(Strictness::Hard), 4));
    assert_eq!(verdict.to_string().matches("BROKEN").count(), 4);
    // What the baseline has, the recording has to tell.
    figures.peak_reserved_bytes = None;
    assert_eq!(within("5%").check(&figures).unwrap_err().figure, Figure::PeakReservedBytes);
}

#[test]
fn percentages_are_exact_and_never_wrap() {
    for (text, shown) in [("5%", "5%"), ("0.50%", "0.5%"), ("0.000001%", "0.000001%"), ("1000%", "1000%")] {
        assert_eq!(text.parse::<Percent>().unwrap().to_string(), shown);
    }
    for text in ["", "%", "5", "0.05", "-1%", "+1%", "1e3%", "5 %", ".5%", "5.%", "0.0000001%", "99999999999999%", "∞%"]
    {
        assert_eq!(text.parse::<Percent>(), Err(NoPercent), "{text}");
    }
    assert_eq!(Percent::default().to_string(), "5%");
    let random = &mut Rng::with_seed(9);
    for _ in 0..1000 {
        let (number, percent) = (random.u64(..1 << 50), random.u64(..300));
        let allowed = format!("{percent}%").parse::<Percent>().unwrap().more_than(number);
        assert_eq!(allowed, number + number * percent / 100);
    }
    assert_eq!("1%".parse::<Percent>().unwrap().more_than(u64::MAX), u64::MAX);
    assert_eq!("200%".parse::<Percent>().unwrap().less_than(0.5), 0.0);
}

#[test]
fn baselines_are_read_as_they_were_written() {
    let random = &mut Rng::with_seed(3);
    for _ in 0..500 {
        let mut figures = example();
        figures.peak_live_bytes = random.u64(..u64::MAX);
        figures.peak_reserved_bytes = (random.u64(..2) > 0).then(|| random.u64(..u64::MAX));
        figures.misses_per_step = (random.u64(..2) > 0).then(|| random.u64(..1000));
        figures.hit_rate = (random.u64(..2) > 0).then(|| random.u64(..1 << 40) as f64 / (1_u64 << 40) as f64);
        let baseline = Baseline::of(&figures);
        let written = baseline.to_string();
        assert_eq!(Baseline::parse(written.as_bytes()).unwrap(), baseline, "{written}");
        // As an editor of another system, or a person, may leave it.
        let touched = written.replace('\n', " # so it was\r\n").replace(" = ", "=");
        assert_eq!(Baseline::parse(touched.as_bytes()).unwrap(), baseline, "{touched}");
        let keys: Vec<_> = written.lines().skip(2).map(|line| line.split(' ').next().unwrap()).collect();
        assert!(keys.is_sorted() && written.lines().nth(1) == Some("version = 1"), "{written}");
    }
}

#[test]
fn hostile_baselines_are_refused_with_their_lines() {
    let huge = "9".repeat(30);
    let long = "#".repeat(1 << 17);
    for (text, problem) in [
        ("", "line 1: expected a version and a figure before the end, found none"),
        ("version = 1\n# nothing\n", "line 3: expected a version and a figure before the end, found none"),
        ("version = 2\nfancy = 1\n", "line 1: expected version = 1 before anything else, found \"version = 2\""),
        ("\npeak_live_bytes = 1\n", "line 2: expected version = 1 before anything else, found \"peak_live_bytes = 1\""),
        (
            "version = 1\npeak = 1\n",
            "line 2: expected one of hit_rate, misses_per_step, peak_live_bytes, peak_reserved_bytes, found \"peak\"",
        ),
        (
            "version = 1\nversion = 1\n",
            "line 2: expected one of hit_rate, misses_per_step, peak_live_bytes, peak_reserved_bytes, found \"version\"",
        ),
        ("version = 1\n<<<<<<< HEAD\n", "line 2: expected key = value, found \"<<<<<<< HEAD\""),
        (
            &format!("version = 1\npeak_live_bytes = {huge}\n"),
            &format!(
                "line 2: field 'peak_live_bytes': expected a whole number below 2^64, in digits, found \"{huge}\""
            ),
        ),
        (
            "version = 1\nmisses_per_step = -1",
            "line 2: field 'misses_per_step': expected a whole number below 2^64, in digits, found \"-1\"",
        ),
        (
            "version = 1\npeak_reserved_bytes = 64K",
            "line 2: field 'peak_reserved_bytes': expected a whole number below 2^64, in digits, found \"64K\"",
        ),
        ("version = 1\nhit_rate = 1.1", "line 2: field 'hit_rate': expected a number from 0 to 1, found \"1.1\""),
        ("version = 1\nhit_rate = NaN", "line 2: field 'hit_rate': expected a number from 0 to 1, found \"NaN\""),
        ("version = 1\nhit_rate = 1e-1", "line 2: field 'hit_rate': expected a number from 0 to 1, found \"1e-1\""),
        ("version = 1\nhit_rate =", "line 2: field 'hit_rate': expected a number from 0 to 1, found \"\""),
        ("version = 1\nhit_rate = 1\n\nhit_rate = 1", "line 4: expected each key once, found \"hit_rate\""),
        (&long, "line 1: expected at most 65536 bytes, found more"),
    ] {
        assert_eq!(Baseline::parse(text.as_bytes()).unwrap_err().to_string(), problem);
    }
    assert!(Baseline::parse(b"version = 1\nhit_rate = \xff\n").unwrap_err().to_string().contains("\"\\xff\""));
    // Whatever the bytes are, they are read or refused.
    let random = &mut Rng::with_seed(11);
    let whole = Baseline::of(&example()).to_string().into_bytes();
    for _ in 0..5000 {
        let mut bytes = whole.clone();
        let at = random.u64(..bytes.len() as u64) as usize;
        bytes[at] = random.u64(..256) as u8;
        bytes.truncate(random.u64(..bytes.len() as u64 + 1) as usize);
        let _ = Baseline::parse(&bytes);
    }
}
