//! Who holds what is live.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::num::NonZeroU32;

use serde::Serialize;
use tenzor_trace::recording::format::Block;

use crate::labels::{Labels, Path};
use crate::live::Live;
use crate::names::Names;
use crate::words::bytes;

/// Who requested a block, and when. A block that was resized is of who did that last: it requested the bytes that the block has. There is one for each block in use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    path: Path,
    thread: u32,
    /// With one added, as the next.
    stack: Option<NonZeroU32>,
    step: Option<NonZeroU32>,
}

impl Origin {
    /// A request in a step, counted as [`Instant`](crate::Instant)'s.
    pub(crate) fn new(path: Path, thread: u32, stack: Option<u32>, step: u32) -> Self {
        let stack = stack.and_then(|stack| NonZeroU32::MIN.checked_add(stack));
        Self { path, thread, stack, step: Some(NonZeroU32::MIN.saturating_add(step)) }
    }

    /// A block that was in use when the recording began.
    pub(crate) fn before() -> Self {
        Self { path: 0, thread: 0, stack: None, step: None }
    }
}

/// What holds a part of what is live.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// What it is called.
    pub name: String,
    /// The requested bytes of its blocks.
    pub bytes: u64,
    /// How many blocks it holds.
    pub blocks: u64,
}

/// Who holds what is live at an instant, said in several ways: the rows of each have all of it in sum, and the one that holds most is the first. What is said of a request is
/// that of the block's last resize, if there was one.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Holders {
    /// By the innermost label at the request.
    pub labels: Vec<Row>,
    /// By all labels at the request, as `a/b/c`.
    pub paths: Vec<Row>,
    /// By size.
    pub sizes: Vec<Row>,
    /// By powers of two between which the size is: `64–128 KiB` is from 64 KiB up to less than 128 KiB.
    pub size_classes: Vec<Row>,
    /// By how many steps ago the request was.
    pub ages: Vec<Row>,
    /// By the step of the request.
    pub steps: Vec<Row>,
    /// By the thread of the request.
    pub threads: Vec<Row>,
    /// By allocator.
    pub sources: Vec<Row>,
    /// By the stack of the request: addresses, the innermost first.
    pub stacks: Vec<Row>,
}

/// Bytes and blocks.
type Sum = (u64, u64);

/// Numbers in the place of names, of which more than one can have the same.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    paths: HashMap<Path, Sum>,
    sizes: HashMap<u64, Sum>,
    steps: HashMap<Option<u32>, Sum>,
    threads: HashMap<Option<u32>, Sum>,
    sources: HashMap<u16, Sum>,
    stacks: HashMap<Option<u32>, Sum>,
}

impl Sums {
    pub(crate) fn new(live: &Live<Origin>) -> Self {
        let mut sums = Self::default();
        for (block, origin) in live.blocks() {
            let less = |number: Option<NonZeroU32>| number.map(|number| number.get() - 1);
            let step = less(origin.step);
            add(&mut sums.paths, origin.path, block);
            add(&mut sums.sizes, block.size, block);
            add(&mut sums.steps, step, block);
            add(&mut sums.threads, step.map(|_| origin.thread), block);
            add(&mut sums.sources, block.source, block);
            add(&mut sums.stacks, less(origin.stack), block);
        }
        sums
    }

    /// With names, at a step of a recording that has steps or none.
    pub(crate) fn named<R>(&self, names: &Names<'_, R>, labels: &Labels, step: u32, has_steps: bool) -> Holders {
        let asked = |asked: Option<u32>| match asked {
            None => BEFORE.to_owned(),
            Some(0) if has_steps => "before the first step".to_owned(),
            Some(0) => "since the recording began".to_owned(),
            Some(asked) => format!("step {asked}"),
        };
        let age = |at: Option<u32>| match at {
            Some(at) if at > 0 => match step.saturating_sub(at) {
                0 => "in this step".to_owned(),
                1 => "1 step ago".to_owned(),
                2..10 => "2–9 steps ago".to_owned(),
                _ => "10 steps ago and more".to_owned(),
            },
            before => asked(before),
        };
        let thread = |thread: Option<u32>| thread.map_or_else(|| BEFORE.to_owned(), |thread| names.thread(thread));
        Holders {
            labels: rows(&self.paths, |path| names.innermost(labels, path)),
            paths: rows(&self.paths, |path| names.path(labels, path)),
            sizes: rows(&self.sizes, size),
            size_classes: rows(&self.sizes, size_class),
            ages: rows(&self.steps, age),
            steps: rows(&self.steps, asked),
            threads: rows(&self.threads, thread),
            sources: rows(&self.sources, |source| names.source(source)),
            stacks: rows(&self.stacks, |stack| names.stack(stack)),
        }
    }

    /// Some of the rows, those by path, stack or size: their places in the order of `rows`.
    pub(crate) fn held<R>(&self, names: &Names<'_, R>, labels: &Labels, by: &str, rows: &[Row]) -> Held {
        let places: HashMap<_, _> = rows.iter().enumerate().map(|(place, row)| (row.name.as_str(), place)).collect();
        let mut held = Held::default();
        match by {
            "path" => held.paths = placed(&self.paths, &places, |path| names.path(labels, path)),
            "stack" => held.stacks = placed(&self.stacks, &places, |stack| names.stack(stack)),
            _ => held.sizes = placed(&self.sizes, &places, size),
        }
        held
    }
}

/// Which place each of those has whose name has one.
fn placed<K: Copy + Eq + Hash>(
    sums: &HashMap<K, Sum>,
    places: &HashMap<&str, usize>,
    name: impl Fn(K) -> String,
) -> HashMap<K, usize> {
    sums.keys().filter_map(|key| Some((*key, *places.get(name(*key).as_str())?))).collect()
}

/// Holders by their numbers: by path, by stack, or by size.
#[derive(Debug, Default)]
pub(crate) struct Held {
    paths: HashMap<Path, usize>,
    stacks: HashMap<Option<u32>, usize>,
    sizes: HashMap<u64, usize>,
}

impl Held {
    /// Which of them requests a block.
    pub(crate) fn of(&self, block: &Block, path: Path, stack: Option<u32>) -> Option<usize> {
        let found = self.paths.get(&path).or_else(|| self.stacks.get(&stack)).or_else(|| self.sizes.get(&block.size));
        found.copied()
    }
}

const BEFORE: &str = "before the recording began";

fn add<K: Eq + Hash>(sums: &mut HashMap<K, Sum>, key: K, block: &Block) {
    let (bytes, blocks) = sums.entry(key).or_default();
    *bytes = bytes.saturating_add(block.size);
    *blocks += 1;
}

fn rows<K: Copy>(sums: &HashMap<K, Sum>, name: impl Fn(K) -> String) -> Vec<Row> {
    let mut by_name: BTreeMap<String, Sum> = BTreeMap::new();
    for (key, (bytes, blocks)) in sums {
        let sum = by_name.entry(name(*key)).or_default();
        *sum = (sum.0.saturating_add(*bytes), sum.1 + blocks);
    }
    let mut rows: Vec<_> = by_name.into_iter().map(|(name, (bytes, blocks))| Row { name, bytes, blocks }).collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.bytes, row.blocks)));
    rows
}

/// A size, with all of its digits: by these it is known again.
fn size(size: u64) -> String {
    match bytes(size).to_string() {
        shown if size < 1024 => shown,
        shown => format!("{shown} ({size})"),
    }
}

/// The powers of two between which a size is, the upper one excluded.
fn size_class(size: u64) -> String {
    let Some(log) = size.checked_ilog2() else { return bytes(0).to_string() };
    let (lower, upper) =
        (bytes(1 << log).to_string(), bytes(1_u64.checked_shl(log + 1).unwrap_or(u64::MAX)).to_string());
    match (lower.split_once(' '), upper.split_once(' ')) {
        (Some((number, unit)), Some((_, same))) if unit == same => format!("{number}–{upper}"),
        _ => format!("{lower}–{upper}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_class_in_words() {
        let classes = [
            (0, "0 B"),
            (1, "1–2 B"),
            (100, "64–128 B"),
            (1023, "512 B–1 KiB"),
            (1024, "1–2 KiB"),
            (3 << 30, "2–4 GiB"),
        ];
        classes.iter().for_each(|(size, class)| assert_eq!(size_class(*size), *class));
        assert_eq!([size(1000), size(1536)], ["1000 B", "1.5 KiB (1536)"]);
    }
}
