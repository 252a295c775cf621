//! Free ranges of pages, found by size and by neighbourhood.
//!
//! An **extent** is a maximal free range: two never touch. Its first and its last page carry its number in their tags, so that
//! whoever frees a range finds its neighbours in constant time. By size, extents stand in bins, sixteen to a power of two and exact
//! below 32 pages, as in TLSF (Masmano et al. 2004); unlike TLSF, the bins are searched for the best fit.
//! Extents without a fresh page have bins of their own: they are preferred.
//!
//! The range has two **sides**, divided by the border. Small runs go to the first: thread caches and slabs hold them for long, and
//! each would cut the space of the large ones in two.

use std::ops::Range;

use super::owners::Owners;
use super::space::{Table, TableMemory, zeroable};
use super::tuning::EXTENTS_COMPARED;
use crate::os::Os;

/// The part of the range that a run is taken from, if it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Small,
    Large,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Small => Self::Large,
            Self::Large => Self::Small,
        }
    }
}

const STEPS: u32 = 16;
const BINS: usize = (STEPS * 29) as usize;
const WORDS: usize = BINS.div_ceil(64);

/// The bin of extents of `pages` pages. Monotonous.
fn bin(pages: u32) -> usize {
    let octave = (pages | STEPS).ilog2() - STEPS.ilog2();
    (STEPS * octave + (pages >> octave)) as usize
}

/// An extent's place in its bin's list, or that of a vacant number.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Node {
    extent: Extent,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: u32,
    pub(crate) pages: u32,
    /// Pages that take memory from the system when they are used.
    pub(crate) fresh: u32,
    /// Pages that may be known to be zero, the fresh ones among them: an upper bound, exact when it is 0.
    pub(crate) zero: u32,
    /// Pages at its start that are known to be dirty: a lower bound.
    pub(crate) dirty: u32,
}

zeroable!(Node { extent, previous, next });
zeroable!(Extent { start, pages, fresh, zero, dirty });

impl Extent {
    /// A free range whose pages were all in use.
    pub(crate) fn used(start: u32, pages: u32) -> Self {
        Self { start, pages, fresh: 0, zero: 0, dirty: pages }
    }

    /// A free range whose pages were never in use.
    pub(crate) fn fresh(start: u32, pages: u32) -> Self {
        Self { start, pages, fresh: pages, zero: pages, dirty: 0 }
    }

    /// Two ranges, one behind the other.
    pub(crate) fn joined(left: Self, right: Self) -> Self {
        Self {
            start: left.start,
            pages: left.pages + right.pages,
            fresh: left.fresh + right.fresh,
            zero: left.zero + right.zero,
            dirty: if left.dirty == left.pages { left.pages + right.dirty } else { left.dirty },
        }
    }

    pub(crate) fn end(&self) -> u32 {
        self.start + self.pages
    }

    /// What remains of it from page `end` on, after the pages before it were used, so many of them for the first time since
    /// they were fresh, and since they were zero.
    pub(crate) fn rest(&self, end: u32, fresh: u32, zero: u32) -> Self {
        let (taken, zero) = (end - self.start, self.zero - zero);
        let pages = self.pages - taken;
        let dirty = if zero == 0 { pages } else { self.dirty.saturating_sub(taken) };
        Self { start: end, pages, fresh: self.fresh - fresh, zero, dirty }
    }

    pub(crate) fn resident(&self) -> u32 {
        self.pages - self.fresh
    }
}

/// Lists of extents by size. Number 0 is no extent.
#[derive(Debug)]
struct Bins {
    /// A bit for each bin that has an extent, and for each word of these that has a bit.
    filled: [u64; WORDS],
    words: u64,
    heads: [u32; BINS],
}

impl Bins {
    const fn empty() -> Self {
        Self { filled: [0; WORDS], words: 0, heads: [0; BINS] }
    }

    /// The first filled bin from `from` on.
    #[inline]
    fn next_filled(&self, from: usize) -> Option<usize> {
        let word = from / 64;
        let bits = self.filled.get(word)? & (u64::MAX << (from % 64));
        if bits != 0 {
            return Some(word * 64 + bits.trailing_zeros() as usize);
        }
        let words = self.words & (u64::MAX << (word + 1));
        let word = words.trailing_zeros() as usize;
        let bits = self.filled.get(word)?;
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    /// Puts an extent before the others in a bin; returns the one that was the first, or 0.
    fn push(&mut self, bin: usize, number: u32) -> u32 {
        let first = std::mem::replace(&mut self.heads[bin], number);
        if first == 0 {
            self.filled[bin / 64] |= 1 << (bin % 64);
            self.words |= 1 << (bin / 64);
        }
        first
    }

    fn empty_out(&mut self, bin: usize) {
        self.filled[bin / 64] &= !(1 << (bin % 64));
        if self.filled[bin / 64] == 0 {
            self.words &= !(1 << (bin / 64));
        }
    }
}

/// There can be so many extents.
const EXTENTS: usize = 1 << 23;

#[derive(Debug)]
pub(crate) struct Extents {
    nodes: Table<Node, EXTENTS, 2048>,
    /// Numbers that there is room for, and those that are not in use: a list through `next`, and all from `unused` on.
    capacity: u32,
    vacant: u32,
    unused: u32,
    /// Changes with every extent that does.
    version: u32,
    pub(crate) owners: Owners,
    /// The first page of the large side: no extent crosses it.
    border: u32,
    /// By sides, extents without fresh pages, and then the others.
    bins: [Bins; 4],
}

impl Extents {
    pub(crate) const fn empty() -> Self {
        Self {
            nodes: Table::empty(),
            capacity: 1,
            vacant: 0,
            unused: 1,
            version: 0,
            owners: Owners::empty(),
            border: 0,
            bins: [const { Bins::empty() }; 4],
        }
    }

    /// None yet.
    pub(crate) fn start<O: Os>(&mut self, os: &O, memory: &mut TableMemory, border: u32) -> Option<()> {
        self.nodes.open(os, memory)?;
        self.owners.open(os, memory)?;
        self.border = border;
        Some(())
    }

    pub(crate) fn border(&self) -> u32 {
        self.border
    }

    pub(crate) fn side(&self, page: u32) -> Side {
        if page < self.border { Side::Small } else { Side::Large }
    }

    /// Room for extents that start or end in some pages.
    pub(crate) fn ensure<O: Os>(&self, os: &O, memory: &mut TableMemory, pages: Range<u32>) -> bool {
        self.owners.ensure(os, memory, pages)
    }

    /// Room for so many extents.
    pub(crate) fn grow<O: Os>(&mut self, os: &O, memory: &mut TableMemory, extents: usize) -> bool {
        // Number 0 is not used.
        let Ok(wanted) = u32::try_from(extents + 1) else { return false };
        if wanted as usize > EXTENTS || !self.nodes.ensure(os, memory, self.capacity - 1..wanted) {
            return false;
        }
        self.capacity = self.capacity.max(wanted.next_multiple_of(2048));
        true
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity as usize - 1
    }

    /// Whether there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.vacant != 0 || self.unused < self.capacity
    }

    fn resident(&self, side: Side) -> &Bins {
        &self.bins[side as usize]
    }

    fn fresh(&self, side: Side) -> &Bins {
        &self.bins[side as usize + 2]
    }

    /// Where an extent stands: in which of the bins.
    fn place(&self, extent: &Extent) -> (usize, usize) {
        let kind = if extent.fresh == 0 { 0 } else { 2 };
        (self.side(extent.start) as usize + kind, bin(extent.pages))
    }

    /// A number that was not there before, unless no extent has changed (or as many as there are numbers).
    #[inline]
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// Adds a free range that touches no other.
    pub(crate) fn insert(&mut self, extent: Extent) {
        let number = match self.vacant {
            0 => {
                self.unused += 1;
                self.unused - 1
            }
            vacant => {
                self.vacant = self.nodes[vacant].next;
                vacant
            }
        };
        self.nodes[number].extent = extent;
        self.version = self.version.wrapping_add(1);
        self.link(number, self.place(&extent));
        self.owners.set_extent(extent.start, number);
        self.owners.set_extent(extent.end() - 1, number);
    }

    /// Takes a free range away.
    pub(crate) fn remove(&mut self, number: u32) -> Extent {
        let vacant = Node { next: self.vacant, ..Node::default() };
        let Node { extent, previous, next } = std::mem::replace(&mut self.nodes[number], vacant);
        self.unlink((previous, next), self.place(&extent));
        self.vacant = number;
        self.owners.clear(extent.start);
        self.owners.clear(extent.end() - 1);
        extent
    }

    /// Changes an extent to another that overlaps or touches it, or is empty.
    #[inline(always)] // The extent stays in registers: to load at once what was just stored in parts takes long.
    pub(crate) fn update(&mut self, number: u32, extent: Extent) {
        if extent.pages == 0 {
            self.remove(number);
            return;
        }
        self.version = self.version.wrapping_add(1);
        let after = self.place(&extent);
        let node = &mut self.nodes[number];
        let old = std::mem::replace(&mut node.extent, extent);
        let links = (node.previous, node.next);
        let before = self.place(&old);
        if before != after {
            self.unlink(links, before);
            self.link(number, after);
        }
        // Mostly, one end stays; what goes may be where the other one is.
        let ends = |extent: &Extent| [extent.start, extent.end() - 1];
        let now = ends(&extent);
        for (old, new) in ends(&old).into_iter().zip(now) {
            if old == new {
                continue;
            }
            if !now.contains(&old) {
                self.owners.clear(old);
            }
            self.owners.set_extent(new, number);
        }
    }

    #[inline]
    fn link(&mut self, number: u32, (bins, bin): (usize, usize)) {
        let next = self.bins[bins].push(bin, number);
        if next != 0 {
            self.nodes[next].previous = number;
        }
        let node = &mut self.nodes[number];
        (node.previous, node.next) = (0, next);
    }

    #[inline]
    fn unlink(&mut self, (previous, next): (u32, u32), (bins, bin): (usize, usize)) {
        if next != 0 {
            self.nodes[next].previous = previous;
        }
        if previous != 0 {
            self.nodes[previous].next = next;
        } else {
            let bins = &mut self.bins[bins];
            bins.heads[bin] = next;
            if next == 0 {
                bins.empty_out(bin);
            }
        }
    }

    /// Adds a free range and joins it with its neighbours; returns the pages of them all.
    pub(crate) fn give(&mut self, range: Extent) -> Range<u32> {
        let left = self.ending_at(range.start);
        let right = self.starting_at(range.end());
        let (number, joined) = match (left, right) {
            (None, None) => {
                self.insert(range);
                return range.start..range.end();
            }
            (Some(left), None) => (left, Extent::joined(self.get(left), range)),
            (None, Some(right)) => (right, Extent::joined(range, self.get(right))),
            (Some(left), Some(right)) => {
                let right = self.remove(right);
                (left, Extent::joined(Extent::joined(self.get(left), range), right))
            }
        };
        self.update(number, joined);
        joined.start..joined.end()
    }

    /// The extent that starts at a page, on the side of the page before.
    pub(crate) fn starting_at(&self, page: u32) -> Option<u32> {
        if page != self.border { self.owners.extent(page) } else { None }
    }

    /// The extent that ends before a page, on the page's side.
    fn ending_at(&self, page: u32) -> Option<u32> {
        if page != self.border { self.owners.extent(page.checked_sub(1)?) } else { None }
    }

    /// The extent of a number; one without pages if the number is vacant.
    pub(crate) fn get(&self, number: u32) -> Extent {
        self.nodes[number].extent
    }

    /// The extent of at least `pages` pages on a side that costs the least, of equal ones the smallest, at the lowest address: one
    /// without fresh pages costs nothing.
    pub(crate) fn best(&self, side: Side, pages: u32, cost: impl Fn(&Extent) -> u32) -> Option<u32> {
        self.best_resident(side, pages).or_else(|| self.best_of(self.fresh(side), pages, cost))
    }

    /// As [`best`](Self::best), of those without fresh pages.
    pub(crate) fn best_resident(&self, side: Side, pages: u32) -> Option<u32> {
        self.best_of(self.resident(side), pages, |_| 0)
    }

    fn best_of(&self, bins: &Bins, pages: u32, cost: impl Fn(&Extent) -> u32) -> Option<u32> {
        let (mut best, mut least) = (0, (u32::MAX, u32::MAX, u32::MAX));
        let mut searched = 0;
        let mut from = bin(pages);
        while let Some(bin) = bins.next_filled(from)
            && searched < EXTENTS_COMPARED
        {
            let mut number = bins.heads[bin];
            while number != 0 && searched < EXTENTS_COMPARED {
                let Node { extent, next, .. } = &self.nodes[number];
                if extent.pages >= pages {
                    let key = (cost(extent), extent.pages, extent.start);
                    if key < least {
                        (best, least) = (number, key);
                    }
                }
                number = *next;
                searched += 1;
            }
            // Extents of the next bins are larger.
            if least.0 == 0 {
                break;
            }
            from = bin + 1;
        }
        (best != 0).then_some(best)
    }

    /// Whether a free range without any fresh page, which is none of the extents yet, would be the best on its side for as many pages
    /// as it has, once it is joined with its neighbours; and whether these would be its own pages.
    pub(crate) fn is_best(&self, range: &Extent) -> bool {
        if self.ending_at(range.start).is_some() {
            return false;
        }
        let right = self.starting_at(range.end());
        let Some(behind) = right.map(|right| self.get(right)) else { return true };
        let (first, last) = (bin(range.pages), bin(range.pages + behind.pages));
        // The first bin with an extent that may be better, or as good.
        let rival = |bins: &Bins| {
            let found = bins.next_filled(first)?;
            let head = bins.heads[found];
            if Some(head) == right && self.nodes[head].next == 0 { bins.next_filled(found + 1) } else { Some(found) }
        };
        let side = self.side(range.start);
        let [resident, fresh] = [self.resident(side), self.fresh(side)].map(rival);
        match behind.fresh {
            0 => resident.is_none_or(|bin| bin > last),
            _ => resident.is_none() && fresh.is_none_or(|bin| bin > last),
        }
    }

    /// An extent of those with fresh pages that are the largest on a side.
    pub(crate) fn freshest(&self, side: Side) -> Option<u32> {
        let bins = self.fresh(side);
        let word = bins.words.checked_ilog2()?;
        let bin = 64 * word + bins.filled.get(word as usize)?.checked_ilog2()?;
        bins.heads.get(bin as usize).copied()
    }

    /// The pages of a free range change their kind: so many more are fresh, or fewer, and so many known to be zero.
    pub(crate) fn adjust(&mut self, number: u32, pages: &Range<u32>, fresh: i32, zero: i32) {
        let mut extent = self.get(number);
        extent.fresh = extent.fresh.wrapping_add_signed(fresh);
        debug_assert!(extent.fresh <= extent.pages, "{fresh} fresh pages more in {pages:?} of {extent:?}");
        extent.zero = extent.zero.saturating_add_signed(zero).clamp(extent.fresh, extent.pages);
        extent.dirty = if extent.zero == 0 { extent.pages } else { extent.dirty.min(pages.start - extent.start) };
        self.update(number, extent);
    }
}

#[cfg(any(test, fuzzing))]
impl Extents {
    fn list(&self, bins: &Bins, bin: usize) -> impl Iterator<Item = (u32, Extent)> {
        let first = bins.heads[bin];
        std::iter::successors((first != 0).then_some(first), |&number| {
            let next = self.nodes[number].next;
            (next != 0).then_some(next)
        })
        .map(|number| (number, self.nodes[number].extent))
    }

    /// All extents.
    pub(crate) fn all(&self) -> impl Iterator<Item = Extent> {
        (1..self.unused).map(|number| self.get(number)).filter(|extent| extent.pages > 0)
    }

    /// An extent is found by its ends and in its bin.
    pub(crate) fn check(&self, extent: &Extent) {
        let number = self.owners.extent(extent.start).unwrap_or(0);
        assert_eq!(self.nodes[number].extent, *extent);
        // Pages that never had a tag have none.
        assert!(self.owners.extent(extent.end() - 1).is_none_or(|other| other == number));
        let (bins, bin) = self.place(extent);
        let bins = &self.bins[bins];
        assert!(bins.filled[bin / 64] & (1 << (bin % 64)) != 0);
        assert_eq!(self.list(bins, bin).filter(|(other, _)| *other == number).count(), 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_monotonous_and_narrow() {
        let mut last = 0;
        for pages in (1..1 << 20).chain((20..32).flat_map(|k| [(1u32 << k) - 1, 1 << k, (1 << k) + 1])) {
            let bin = bin(pages);
            assert!(bin >= last || pages < 1 << 21, "{pages}");
            assert!(bin < BINS);
            last = bin;
        }
        for pages in 1..32 {
            assert_ne!(bin(pages), bin(pages + 1));
        }
    }
}
