//! A set of units by number, in which the largest below a bound is found in constant time: a tree of words, each bit of which says
//! whether the word below it has any.

use std::ops::Range;

use super::{Table, TableMemory, UNITS};
use crate::os::Os;

#[derive(Debug)]
pub(crate) struct UnitSet {
    /// A bit a unit, in words of which some never come to be.
    units: Table<u64, { UNITS / 64 }, 512>,
    /// A bit for each of those words that has any, and so on.
    words: Table<u64, { UNITS / 64 / 64 }, { UNITS / 64 / 64 }>,
    groups: [u64; UNITS / 64 / 64 / 64],
    top: u32,
}

/// The bits of a word below one.
fn below(bit: u32) -> u64 {
    (1 << bit) - 1
}

impl UnitSet {
    pub(crate) const fn empty() -> Self {
        Self { units: Table::empty(), words: Table::empty(), groups: [0; UNITS / 64 / 64 / 64], top: 0 }
    }

    pub(crate) fn open<O: Os>(&mut self, os: &O, memory: &mut TableMemory) -> Option<()> {
        self.units.open(os, memory)?;
        self.words.open(os, memory)?;
        self.words.ensure(os, memory, 0..1).then_some(())
    }

    /// Room for so many units.
    pub(crate) fn ensure<O: Os>(&self, os: &O, memory: &mut TableMemory, units: Range<u32>) -> bool {
        self.units.ensure(os, memory, units.start / 64..units.end.div_ceil(64))
    }

    #[inline]
    pub(crate) fn contains(&self, unit: u32) -> bool {
        self.units.get(unit / 64).is_some_and(|word| word & 1 << (unit % 64) != 0)
    }

    /// Mostly, it is there already.
    #[inline]
    pub(crate) fn insert(&mut self, unit: u32) {
        if !self.contains(unit) {
            self.insert_all(unit..unit + 1);
        }
    }

    pub(crate) fn insert_all(&mut self, units: Range<u32>) {
        for (word, mask) in words(units) {
            let bits = &mut self.units[word];
            let first = *bits == 0;
            *bits |= mask;
            if first {
                let group = word / 64;
                self.words[group] |= 1 << (word % 64);
                self.groups[group as usize / 64] |= 1 << (group % 64);
                self.top |= 1 << (group / 64);
            }
        }
    }

    /// Mostly, it is not there.
    #[inline]
    pub(crate) fn remove(&mut self, unit: u32) {
        if self.contains(unit) {
            self.remove_all(unit..unit + 1);
        }
    }

    pub(crate) fn remove_all(&mut self, units: Range<u32>) {
        for (word, mask) in words(units) {
            if self.units.get(word).is_none_or(|bits| bits & mask == 0) {
                continue;
            }
            self.units[word] &= !mask;
            if self.units[word] != 0 {
                continue;
            }
            let group = word / 64;
            self.words[group] &= !(1 << (word % 64));
            if self.words[group] != 0 {
                continue;
            }
            let upper = group as usize / 64;
            self.groups[upper] &= !(1 << (group % 64));
            if self.groups[upper] == 0 {
                self.top &= !(1 << upper);
            }
        }
    }

    /// The largest of all.
    pub(crate) fn last(&self) -> Option<u32> {
        self.last_before(UNITS as u32)
    }

    /// The largest that is less than a bound.
    pub(crate) fn last_before(&self, bound: u32) -> Option<u32> {
        let word = bound / 64;
        if let Some(bits) = self.units.get(word).map(|bits| bits & below(bound % 64)).filter(|&bits| bits != 0) {
            return Some(word * 64 + bits.ilog2());
        }
        let group = word / 64;
        if let Some(bits) = self.words.get(group).map(|bits| bits & below(word % 64)).filter(|&bits| bits != 0) {
            return self.last_of(group * 64 + bits.ilog2());
        }
        let upper = group / 64;
        let bits = self.groups.get(upper as usize).map_or(0, |bits| bits & below(group % 64));
        if bits != 0 {
            return self.last_of_group(upper * 64 + bits.ilog2());
        }
        let upper = (self.top & below(upper.min(63)) as u32).checked_ilog2()?;
        self.last_of_group(upper * 64 + self.groups[upper as usize].ilog2())
    }

    fn last_of_group(&self, group: u32) -> Option<u32> {
        self.last_of(group * 64 + self.words[group].checked_ilog2()?)
    }

    fn last_of(&self, word: u32) -> Option<u32> {
        Some(word * 64 + self.units[word].checked_ilog2()?)
    }
}

/// The words that have a bit for some units, with these bits.
fn words(units: Range<u32>) -> impl Iterator<Item = (u32, u64)> {
    let end = if units.is_empty() { units.start / 64 } else { units.end.div_ceil(64) };
    (units.start / 64..end).map(move |word| {
        let first = units.start.max(word * 64) - word * 64;
        let bits = (units.end - word * 64).min(64) - first;
        (word, u64::MAX >> (64 - bits) << first)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::os::Linux;

    #[test]
    fn it_is_a_set_with_an_order() {
        let mut memory = TableMemory::new();
        let mut set = UnitSet::empty();
        set.open(&Linux, &mut memory).unwrap();
        let mut naive = BTreeSet::new();
        let mut random = fastrand::Rng::with_seed(1);
        for range in [0..70_000, UNITS as u32 - 400_000..UNITS as u32] {
            assert!(set.ensure(&Linux, &mut memory, range));
        }
        for _ in 0..200_000 {
            let unit = match random.u32(0..4) {
                0 => random.u32(0..70),
                1 => random.u32(60_000..70_000),
                2 => UNITS as u32 - 1 - random.u32(0..70),
                _ => random.u32(UNITS as u32 - 400_000..UNITS as u32),
            };
            if random.u32(0..100) < 45 {
                set.insert(unit);
                naive.insert(unit);
            } else {
                let gone = set.last_before(unit + 1).unwrap_or(unit);
                assert_eq!(naive.range(..=unit).next_back().copied().unwrap_or(unit), gone);
                set.remove(gone);
                naive.remove(&gone);
            }
            assert_eq!(set.last(), naive.last().copied());
            assert_eq!(set.contains(unit), naive.contains(&unit));
        }
    }
}
