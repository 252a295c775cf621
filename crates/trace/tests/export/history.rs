//! Recordings at random, and what is in them as it is found by looking at everything.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;

use fastrand::Rng;
use tenzor_trace::recording::format::{Block, Header, Record};
use tenzor_trace::recording::names::Kind;
use tenzor_trace::recording::{Event, Recording, What, Writer};

pub(crate) type Read = Recording<Cursor<Vec<u8>>>;

pub(crate) const HEADER: Header = Header { began: 1_700_000_000_000_000_000, process: 77, page: 4096, tick: 1000 };

/// Names that are hard to show. The others have none.
pub(crate) const LABELS: [&[u8]; 5] = [b"encoder", b"layer 3", b"a;b\nc \xff", b"  ", b"x 1 2"];
pub(crate) const THREADS: [&[u8]; 3] = [b"main", b"worker;1", b"\xff\xfe\n"];
/// The first two are modules' numbers, where each begins and ends, and where in the file.
pub(crate) const MODULES: [(u32, [u64; 3], &[u8]); 3] = [
    (0, [0x1000, 0x3000, 0x400], b"/opt/program"),
    (4, [0x5000, 0x6000, 0], b"/opt/lib;x.so 2"),
    (5, [9, 9, 0], b"no part of memory"),
];
/// Of each stack the return addresses, the innermost first: one at a module's end, one outside of all.
pub(crate) const STACKS: [&[u64]; 4] = [&[0x1010, 0x2fff, 0x5001], &[0x3000, 0x1010], &[0x9999], &[]];

/// So many events of a few threads, in labels and with stacks, of three sources. Every block is freed as it is, or its size is not told; some frees and requests are missing.
pub(crate) fn history(random: &mut Rng, events: u64) -> Read {
    let mut writer = Writer::new(Cursor::new(Vec::new()), HEADER).unwrap();
    let name = |(at, name): (usize, &&[u8])| (at as u32, name.to_vec());
    THREADS.iter().enumerate().map(name).for_each(|(at, name)| writer.name(Kind::Thread, at, &name).unwrap());
    LABELS.iter().enumerate().map(name).for_each(|(at, name)| writer.name(Kind::Label, at, &name).unwrap());
    writer.name(Kind::Source, 0, b"heap").unwrap();
    for (at, stack) in STACKS.iter().enumerate() {
        let bytes: Vec<u8> = stack.iter().flat_map(|address| address.to_le_bytes()).collect();
        writer.name(Kind::Stack, at as u32, &bytes).unwrap();
    }
    for (number, numbers, path) in MODULES {
        let bytes = [&numbers.map(u64::to_le_bytes).concat()[..], path].concat();
        writer.name(Kind::Module, number, &bytes).unwrap();
    }
    let (mut live, mut vacant): (Vec<Block>, Vec<u64>) = (Vec::new(), (1..200).map(|at| at * 0x100).collect());
    let mut tick = 0;
    for _ in 0..events {
        tick += random.u64(..3);
        let thread = random.u64(..5) as u32;
        let mut put = |record| writer.record(thread, tick, record).unwrap();
        let stack = |random: &mut Rng, put: &mut dyn FnMut(Record)| {
            if random.u64(..2) == 0 {
                put(Record::Stack(random.u64(..STACKS.len() as u64 + 1)));
            }
        };
        let size = |random: &mut Rng| {
            let below = 1 << random.u64(..24);
            random.u64(..below)
        };
        match random.u64(..16) {
            0 => put(Record::Step(random.u64(..1000))),
            1 => put(Record::Refused(Block { size: 1 << 40, ..Block::default() })),
            2 => put(Record::Taken(Block { address: 16, size: 1 << 16, source: 1, ..Block::default() })),
            3 => put(Record::Given(Block { address: 16, size: 1 << 15, source: 1, ..Block::default() })),
            4 | 5 => put(Record::Enter(random.u64(..LABELS.len() as u64 + 1))),
            6 | 7 => put(Record::Leave(random.u64(..LABELS.len() as u64 + 1))),
            8 if !live.is_empty() => {
                let from = live.swap_remove(random.u64(..live.len() as u64) as usize);
                let to = Block { size: size(random), source: random.u64(..3) as u16, ..from };
                live.push(to);
                stack(random, &mut put);
                put(Record::Resize(to));
                put(Record::From(from));
            }
            9..12 if !live.is_empty() => {
                let gone = live.swap_remove(random.u64(..live.len() as u64) as usize);
                vacant.push(gone.address);
                match random.u64(..20) {
                    0 => {}
                    1..5 => put(Record::Free(Block { size: 0, ..gone })),
                    _ => put(Record::Free(gone)),
                }
            }
            _ if !vacant.is_empty() => {
                let address = vacant.swap_remove(random.u64(..vacant.len() as u64) as usize);
                let block = Block { address, size: size(random), source: random.u64(..3) as u16, ..Block::default() };
                live.push(block);
                stack(random, &mut put);
                put(if random.u64(..20) == 0 { Record::Live(block) } else { Record::Request(block) });
            }
            _ => {}
        }
    }
    Recording::open(writer.finish().unwrap()).unwrap()
}

/// Who holds something: the thread, its labels, the outermost first, and the stack.
pub(crate) type Holder = (u32, Vec<u64>, Option<u64>);

/// A block in use.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) address: u64,
    pub(crate) size: u64,
    pub(crate) source: u16,
    pub(crate) holder: Holder,
}

/// What is in use after each event.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) events: Vec<Event>,
    pub(crate) live: Vec<Vec<Held>>,
    /// Requests and resizes, with what each got.
    pub(crate) requests: Vec<(Holder, u64)>,
}

impl Oracle {
    pub(crate) fn of(recording: &mut Read) -> Self {
        let mut oracle = Self { events: recording.events().map(Result::unwrap).collect(), ..Self::default() };
        let (mut live, mut labels): (Vec<Held>, HashMap<u32, Vec<u64>>) = (Vec::new(), HashMap::new());
        for event in &oracle.events {
            let nest = labels.entry(event.thread).or_default();
            let (to, before) = match event.what {
                What::Request(block) | What::Live(block) => (Some(block), None),
                What::Resize { from, to } => (Some(to), take(&mut live, from.address)),
                What::Free(block) => (None, take(&mut live, block.address)),
                What::Enter(label) => {
                    nest.push(label);
                    (None, None)
                }
                What::Leave(label) => {
                    if nest.contains(&label) {
                        while nest.pop() != Some(label) {}
                    }
                    (None, None)
                }
                _ => (None, None),
            };
            if let Some(block) = to {
                take(&mut live, block.address);
                let stack = event.stack.or(before.and_then(|held| held.holder.2));
                let holder = (event.thread, nest.clone(), stack);
                if !matches!(event.what, What::Live(_)) {
                    oracle.requests.push((holder.clone(), block.size));
                }
                live.push(Held { address: block.address, size: block.size, source: block.source, holder });
            }
            oracle.live.push(live.clone());
        }
        oracle
    }

    /// The most bytes that are in use.
    pub(crate) fn peak(&self) -> u64 {
        self.live.iter().map(|live| bytes(live)).max().unwrap_or(0)
    }

    /// What is in use when that many are for the first time.
    pub(crate) fn at_peak(&self) -> &[Held] {
        let peak = self.peak();
        self.live.iter().find(|live| bytes(live) == peak).map_or(&[], |live| live)
    }
}

fn take(live: &mut Vec<Held>, address: u64) -> Option<Held> {
    let at = live.iter().position(|held| held.address == address)?;
    Some(live.remove(at))
}

pub(crate) fn bytes(live: &[Held]) -> u64 {
    live.iter().map(|held| held.size).sum()
}

/// Sums by a key; none of them 0.
pub(crate) fn sums<K: Ord>(all: impl IntoIterator<Item = (K, u64)>) -> BTreeMap<K, u64> {
    let mut sums = BTreeMap::new();
    all.into_iter().for_each(|(key, value)| *sums.entry(key).or_insert(0) += value);
    sums.retain(|_, sum| *sum > 0);
    sums
}
