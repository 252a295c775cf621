//! How much memory there is, over time: counters, and fewer points of them than there are changes.

use std::collections::BTreeMap;

use crate::export::live::Live;
use crate::recording::What;

/// The most points of a counter, with the one it begins with.
const MOST_POINTS: u64 = 100_000;

/// The most points of an interval: its least and its greatest value, and its last one.
const OF_INTERVAL: u64 = 3;

/// Bytes of a source, or of all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Counter {
    /// In use.
    Live(Option<u16>),
    /// Taken from below, and not given back.
    Reserved(Option<u16>),
}

/// All counters, as what happens changes them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    live: Live<u16>,
    values: BTreeMap<Counter, u64>,
}

impl Counters {
    /// Something happens. Each counter that it changes, once, with its value after it.
    pub(super) fn happen(&mut self, what: &What) -> impl Iterator<Item = (Counter, u64)> {
        let (mut gone, mut come) = ([None; 2], None);
        let mut counter: fn(Option<u16>) -> Counter = Counter::Live;
        match what {
            What::Request(block) | What::Live(block) => {
                gone[0] = self.live.come(block, block.source);
                come = Some((block.size, block.source));
            }
            What::Free(block) => gone[0] = self.live.go(block.address),
            What::Resize { from, to } => {
                gone = [self.live.go(from.address), self.live.come(to, to.source)];
                come = Some((to.size, to.source));
            }
            What::Taken(block) | What::Given(block) => {
                counter = Counter::Reserved;
                let change = Some((block.size, block.source));
                if matches!(what, What::Taken(_)) { come = change } else { gone[0] = change }
            }
            _ => {}
        }
        let all = [gone[0], gone[1], come];
        let mut changed = [None; 4];
        for (at, (size, source)) in all.into_iter().enumerate().filter_map(|(at, change)| Some((at, change?))) {
            let counter = counter(Some(source));
            for counter in [counter, of_all(counter)] {
                let value = self.values.entry(counter).or_default();
                *value = if at < gone.len() { value.saturating_sub(size) } else { value.saturating_add(size) };
            }
            if !changed.contains(&Some(counter)) {
                changed[at] = Some(counter);
            }
            changed[3] = Some(of_all(counter));
        }
        changed.into_iter().flatten().map(|counter| (counter, self.values.get(&counter).copied().unwrap_or(0)))
    }
}

/// The counter of all sources together.
fn of_all(counter: Counter) -> Counter {
    match counter {
        Counter::Live(_) => Counter::Live(None),
        Counter::Reserved(_) => Counter::Reserved(None),
    }
}

/// A counter's value from an instant on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) tick: u64,
    pub(super) value: u64,
}

/// Keeps of a counter's changes, so many of which are an interval, each interval's least, greatest and last value: of those that are the same, the first.
#[derive(Debug)]
pub(super) struct Thinned {
    interval: u64,
    seen: u64,
    /// With the change's number in the interval.
    least: (u64, Point),
    greatest: (u64, Point),
    last: (u64, Point),
}

impl Thinned {
    /// For so many changes.
    pub(super) fn new(changes: u64) -> Self {
        let most = MOST_POINTS - 1;
        let interval = if changes <= most { 1 } else { changes.div_ceil(most / OF_INTERVAL) };
        let none = (0, Point { tick: 0, value: 0 });
        Self { interval, seen: 0, least: none, greatest: none, last: none }
    }

    /// A change. What is kept of an interval that it ends.
    pub(super) fn change(&mut self, point: Point) -> Kept {
        let change = (self.seen, point);
        if self.seen == 0 {
            (self.least, self.greatest) = (change, change);
        }
        if point.value < self.least.1.value {
            self.least = change;
        }
        if point.value > self.greatest.1.value {
            self.greatest = change;
        }
        self.last = change;
        self.seen += 1;
        if self.seen == self.interval { self.rest() } else { [None; 3] }
    }

    /// What is kept of the changes since the last interval ended.
    pub(super) fn rest(&mut self) -> Kept {
        if self.seen == 0 {
            return [None; 3];
        }
        self.seen = 0;
        let mut kept = [self.least, self.greatest, self.last];
        kept.sort_unstable_by_key(|(number, _)| *number);
        let is_new = |at: usize| at == 0 || kept[at].0 != kept[at - 1].0;
        [0, 1, 2].map(|at| is_new(at).then_some(kept[at].1))
    }
}

/// What is kept of an interval, in order.
type Kept = [Option<Point>; 3];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_thinned_keeps_each_intervals_extremes() {
        for changes in [0, 1, 2, 99_999, 100_000, 100_001, 250_000, 1_000_003] {
            let (mut random, mut thinned) = (7_u64, Thinned::new(changes));
            let (mut kept, mut interval) = (0, Vec::new());
            let mut check = |all: &mut Vec<Point>, shown: Kept| {
                let shown: Vec<_> = shown.into_iter().flatten().collect();
                kept += shown.len();
                let places: Vec<_> = shown.iter().map(|point| all.iter().position(|at| at == point).unwrap()).collect();
                assert!(places.is_sorted() && shown.last() == all.last());
                let values = || all.iter().map(|point| point.value);
                assert!(shown.iter().any(|point| Some(point.value) == values().max()));
                assert!(shown.iter().any(|point| Some(point.value) == values().min()));
                all.clear();
            };
            for tick in 0..changes {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let point = Point { tick, value: random >> 50 };
                interval.push(point);
                let shown = thinned.change(point);
                if shown[0].is_some() {
                    check(&mut interval, shown);
                }
            }
            if !interval.is_empty() {
                check(&mut interval, thinned.rest());
            }
            assert_eq!(thinned.rest(), [None; 3]);
            let is_whole = kept as u64 == changes;
            assert!(kept < 100_000 && is_whole == (changes < 100_000), "{kept} of {changes}");
        }
    }
}
