//! Free ranges of pages, found by size and by neighbourhood.
//!
//! An **extent** is a maximal free range: two never touch. Its first and its last page carry its number in `tags`, so that
//! whoever frees a range finds its neighbours in constant time. By size, extents stand in bins, sixteen to a power of two
//! and exact below 32 pages, as in TLSF (Masmano et al. 2004); unlike TLSF, the bins are searched for the best fit.
//! Extents without a fresh page have bins of their own: they are preferred.
//!
//! The range has two **sides**, divided by the border. Small runs go to the first: thread caches and slabs hold them for long, and
//! each would cut the space of the large ones in two.

use bytemuck::Zeroable;

use crate::os::{Os, Table};

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

/// How many extents are compared. Bins are narrow, so that longer searches win nothing.
const SEARCH: usize = 64;

const STEPS: u32 = 16;
const BINS: usize = (STEPS * 29) as usize;
const WORDS: usize = BINS.div_ceil(64);

/// The bin of extents of `pages` pages. Monotonous.
fn bin(pages: u32) -> usize {
    if pages < STEPS {
        return pages as usize;
    }
    let power = pages.ilog2();
    let octave = power - STEPS.ilog2();
    (STEPS * (octave + 1) + ((pages >> octave) & (STEPS - 1))) as usize
}

/// An extent's place in its bin's list, or that of a vacant number.
#[derive(Clone, Copy, Debug, Default, Zeroable)]
pub(crate) struct Node {
    extent: Extent,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Zeroable)]
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

    fn fill(&mut self, bin: usize) {
        self.filled[bin / 64] |= 1 << (bin % 64);
        self.words |= 1 << (bin / 64);
    }

    fn empty_out(&mut self, bin: usize) {
        self.filled[bin / 64] &= !(1 << (bin % 64));
        if self.filled[bin / 64] == 0 {
            self.words &= !(1 << (bin / 64));
        }
    }
}

#[derive(Debug)]
pub(crate) struct Extents {
    nodes: Table<Node>,
    /// Numbers that are not in use: a list through `next`, and all from `unused` on.
    vacant: u32,
    unused: u32,
    tags: Table<u32>,
    /// The first page of the large side: no extent crosses it.
    border: u32,
    /// Pages beyond this one carry no tags; the range ends here.
    end: u32,
    /// By sides, extents without fresh pages, and the others.
    resident: [Bins; 2],
    fresh: [Bins; 2],
}

impl Extents {
    pub(crate) const fn empty() -> Self {
        Self {
            nodes: Table::empty(),
            vacant: 0,
            unused: 1,
            tags: Table::empty(),
            border: 0,
            end: 0,
            resident: [const { Bins::empty() }; 2],
            fresh: [const { Bins::empty() }; 2],
        }
    }

    pub(crate) fn new(nodes: Table<Node>, tags: Table<u32>, border: u32, end: u32) -> Self {
        Self { nodes, tags, border, end, ..Self::empty() }
    }

    pub(crate) fn border(&self) -> u32 {
        self.border
    }

    pub(crate) fn side(&self, page: u32) -> Side {
        if page < self.border { Side::Small } else { Side::Large }
    }

    /// Room for so many extents within the first `pages` pages.
    pub(crate) fn grow<O: Os>(&mut self, os: &O, extents: usize, pages: u32) -> bool {
        // Number 0 is not used; a tag is looked up one page beyond.
        self.nodes.grow(os, extents + 1) && self.tags.grow(os, (pages as usize + 1).min(self.end as usize))
    }

    pub(crate) fn capacity(&self) -> usize {
        self.nodes.len().saturating_sub(1)
    }

    fn bins(&mut self, extent: &Extent) -> &mut Bins {
        let side = self.side(extent.start) as usize;
        if extent.fresh == 0 { &mut self.resident[side] } else { &mut self.fresh[side] }
    }

    fn tag(&mut self, extent: &Extent, tag: u32) {
        self.tags[extent.start] = tag;
        // Behind a side's last extent nobody looks for one, and its end is not committed yet.
        if !self.is_last(extent) {
            self.tags[extent.end() - 1] = tag;
        }
    }

    fn is_last(&self, extent: &Extent) -> bool {
        [self.border, self.end].contains(&extent.end())
    }

    /// Adds a free range that touches no other.
    fn insert(&mut self, extent: Extent) {
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
        self.link(number, extent);
        self.tag(&extent, number);
    }

    /// Takes a free range away.
    pub(crate) fn remove(&mut self, number: u32) -> Extent {
        let extent = self.unlink(number);
        self.nodes[number] = Node { next: self.vacant, ..Node::default() };
        self.vacant = number;
        self.tag(&extent, 0);
        extent
    }

    /// Changes an extent to another that overlaps or touches it, or is empty.
    pub(crate) fn update(&mut self, number: u32, extent: Extent) {
        if extent.pages == 0 {
            self.remove(number);
            return;
        }
        let old = self.nodes[number].extent;
        self.tag(&old, 0);
        if (bin(old.pages), old.fresh == 0) == (bin(extent.pages), extent.fresh == 0) {
            self.nodes[number].extent = extent;
        } else {
            self.unlink(number);
            self.link(number, extent);
        }
        self.tag(&extent, number);
    }

    fn link(&mut self, number: u32, extent: Extent) {
        let bin = bin(extent.pages);
        let bins = self.bins(&extent);
        let next = std::mem::replace(&mut bins.heads[bin], number);
        bins.fill(bin);
        if next != 0 {
            self.nodes[next].previous = number;
        }
        self.nodes[number] = Node { extent, previous: 0, next };
    }

    fn unlink(&mut self, number: u32) -> Extent {
        let Node { extent, previous, next } = self.nodes[number];
        if next != 0 {
            self.nodes[next].previous = previous;
        }
        if previous != 0 {
            self.nodes[previous].next = next;
        } else {
            let bin = bin(extent.pages);
            let bins = self.bins(&extent);
            bins.heads[bin] = next;
            if next == 0 {
                bins.empty_out(bin);
            }
        }
        extent
    }

    /// Adds a free range and joins it with its neighbours.
    pub(crate) fn give(&mut self, range: Extent) {
        let left = self.ending_at(range.start);
        let right = self.starting_at(range.end());
        match (left, right) {
            (None, None) => self.insert(range),
            (Some(left), None) => self.update(left, Extent::joined(self.get(left), range)),
            (None, Some(right)) => self.update(right, Extent::joined(range, self.get(right))),
            (Some(left), Some(right)) => {
                let right = self.remove(right);
                self.update(left, Extent::joined(Extent::joined(self.get(left), range), right));
            }
        }
    }

    /// The extent that starts at a page, on the side of the page before.
    pub(crate) fn starting_at(&self, page: u32) -> Option<u32> {
        if page < self.end && page != self.border { self.extent_at(page) } else { None }
    }

    /// The extent that ends before a page, on the page's side.
    fn ending_at(&self, page: u32) -> Option<u32> {
        if page != self.border { self.extent_at(page.checked_sub(1)?) } else { None }
    }

    fn extent_at(&self, page: u32) -> Option<u32> {
        match self.tags[page] {
            0 => None,
            tag if tag & SLAB != 0 => None,
            number => Some(number),
        }
    }

    /// The extent of a number; one without pages if the number is vacant.
    pub(crate) fn get(&self, number: u32) -> Extent {
        self.nodes[number].extent
    }

    /// The extent of at least `pages` pages on a side that costs the least, of equal ones the smallest, at the lowest address: one
    /// without fresh pages costs nothing.
    pub(crate) fn best(&self, side: Side, pages: u32, cost: impl Fn(&Extent) -> u32) -> Option<u32> {
        let mut best = None;
        for (bins, costs) in [(&self.resident[side as usize], false), (&self.fresh[side as usize], true)] {
            let mut searched = 0;
            let mut from = bin(pages);
            while let Some(bin) = bins.next_filled(from)
                && searched < SEARCH
            {
                let mut number = bins.heads[bin];
                while number != 0 && searched < SEARCH {
                    let Node { extent, next, .. } = &self.nodes[number];
                    if extent.pages >= pages {
                        let key = (if costs { cost(extent) } else { 0 }, extent.pages, extent.start);
                        if best.is_none_or(|(least, _)| key < least) {
                            best = Some((key, number));
                        }
                    }
                    number = *next;
                    searched += 1;
                }
                // Extents of the next bins are larger.
                if let Some(((0, ..), number)) = best {
                    return Some(number);
                }
                from = bin + 1;
            }
        }
        best.map(|(_, number)| number)
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
        let side = self.side(range.start) as usize;
        let [resident, fresh] = [&self.resident[side], &self.fresh[side]].map(rival);
        match behind.fresh {
            0 => resident.is_none_or(|bin| bin > last),
            _ => resident.is_none() && fresh.is_none_or(|bin| bin > last),
        }
    }

    /// An extent of those with fresh pages that are the largest on a side.
    pub(crate) fn freshest(&self, side: Side) -> Option<u32> {
        let bins = &self.fresh[side as usize];
        let word = bins.words.checked_ilog2()?;
        let bin = 64 * word + bins.filled.get(word as usize)?.checked_ilog2()?;
        bins.heads.get(bin as usize).copied()
    }

    /// The largest number that an extent has had.
    pub(crate) fn last(&self) -> u32 {
        self.unused - 1
    }

    /// Marks each page of a range in use as part of slab `slab`; 0 unmarks.
    pub(crate) fn mark(&mut self, start: u32, pages: u32, slab: u32) {
        for page in start..start + pages {
            self.tags[page] = if slab == 0 { 0 } else { slab | SLAB };
        }
    }

    /// The slab that a page in use was marked with.
    pub(crate) fn slab_of(&self, page: u32) -> Option<u32> {
        let tag = self.tags[page];
        (tag & SLAB != 0).then_some(tag & !SLAB)
    }
}

#[cfg(test)]
impl Extents {
    fn list(&self, bins: &Bins, bin: usize) -> impl Iterator<Item = (u32, Extent)> {
        let first = bins.heads[bin];
        std::iter::successors((first != 0).then_some(first), |&number| {
            let next = self.nodes[number].next;
            (next != 0).then_some(next)
        })
        .map(|number| (number, self.nodes[number].extent))
    }

    /// An extent is found by its ends and in its bin.
    pub(crate) fn check(&self, extent: &Extent) {
        let number = self.extent_at(extent.start).unwrap();
        assert_eq!(self.nodes[number].extent, *extent);
        if !self.is_last(extent) {
            assert_eq!(self.extent_at(extent.end() - 1), Some(number));
        }
        let bins = &if extent.fresh == 0 { &self.resident } else { &self.fresh }[self.side(extent.start) as usize];
        let bin = bin(extent.pages);
        assert!(bins.filled[bin / 64] & (1 << (bin % 64)) != 0);
        assert_eq!(self.list(bins, bin).filter(|(other, _)| *other == number).count(), 1);
    }
}

/// Set in the tags of pages that belong to slabs.
const SLAB: u32 = 1 << 31;

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
