//! Blocks: items that fit together without a gap, to be placed as one.
//!
//! Items that live in exactly the same sections can be stacked. Two of the same size can be put in a row if one begins where the other
//! ends. What comes of it may fit something else again.
//!
//! In a memory that is filled without loss, what begins at an instant takes the place of what ends then. If that is one item each, they
//! are of the same size, and belong together. The more begin and end at that instant, the more likely are two to fit by chance. So what fits
//! goes together in the order of how **crowded** its instants are; that makes others less so. Nothing is proven by that: it is one more
//! way to begin.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::core::{Core, Piece};
use super::random::Random;
use super::tuning::{BLOCKS_FEWER_PART, CROWD};

/// A core with blocks for items.
#[derive(Debug)]
pub(crate) struct Blocks {
    pub(crate) core: Core,
    /// The items, which have the same numbers here, and then what is made of them.
    nodes: Vec<Brick>,
    /// The node of each item of `core`.
    roots: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Brick {
    start: u32,
    end: u32,
    size: u64,
    made: Made,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Made {
    Item,
    Row(u32, u32),
    /// The second one stands on the first.
    Stack(u32, u32),
}

impl Blocks {
    /// `None` if there are hardly fewer blocks than items. `unit` is a multiple of all alignments; sizes that are not multiples of it
    /// fit nothing.
    pub(crate) fn new(core: &Core, unit: u64, random: &mut Random) -> Option<Self> {
        let count = core.items().len();
        let nodes = (0..count).map(|item| {
            let (span, size) = (core.span(item), core.pieces(item)[0].size);
            Brick { start: span.start, end: span.end, size, made: Made::Item }
        });
        let fits = |item: &u32| {
            let pieces = core.pieces(*item as usize);
            core.items()[*item as usize].fixed.is_none() && pieces.len() == 1 && pieces[0].size.is_multiple_of(unit)
        };
        let (fitting, mut roots): (Vec<u32>, Vec<u32>) = (0..count as u32).partition(fits);
        let mut open = Open::new(nodes.collect(), fitting, core.sections(), random);
        while let Some(Reverse((.., made))) = open.found.pop() {
            open.make(made, random);
        }
        roots.extend(open.starts.iter().flatten().filter(|&&node| open.is_open[node as usize]));
        roots.sort_unstable();
        if roots.len() > count - count / BLOCKS_FEWER_PART {
            return None;
        }
        let mut blocks = Core::new(core.sections());
        for &root in &roots {
            let Brick { start, end, size, made } = open.nodes[root as usize];
            match made {
                Made::Item => {
                    let item = core.items()[root as usize];
                    blocks.push(core.pieces(root as usize).iter().copied(), item.align, item.fixed);
                }
                _ => blocks.push([Piece { start, end, size }], unit, None),
            }
        }
        Some(Self { core: blocks, nodes: open.nodes, roots })
    }

    /// Where the items are when the blocks are there.
    pub(crate) fn place(&self, blocks: &[u64], offsets: &mut [u64]) {
        let mut work: Vec<(u32, u64)> = self.roots.iter().copied().zip(blocks.iter().copied()).collect();
        while let Some((node, offset)) = work.pop() {
            match self.nodes[node as usize].made {
                Made::Item => offsets[node as usize] = offset,
                Made::Stack(low, high) => {
                    work.push((low, offset));
                    work.push((high, offset + self.nodes[low as usize].size));
                }
                Made::Row(first, second) => work.extend([(first, offset), (second, offset)]),
            }
        }
    }
}

/// The nodes, and those of them that are not part of another, by where they start and end.
#[derive(Debug)]
struct Open {
    nodes: Vec<Brick>,
    is_open: Vec<bool>,
    /// Some are not open any more.
    starts: Vec<Vec<u32>>,
    ends: Vec<Vec<u32>>,
    /// How many of each are open.
    starting: Vec<u32>,
    ending: Vec<u32>,
    /// What fits, the least crowded first, and otherwise any. One of them may be part of something else by now.
    found: BinaryHeap<Reverse<(u32, u64, Made)>>,
}

impl Open {
    fn new(nodes: Vec<Brick>, fitting: Vec<u32>, sections: u32, random: &mut Random) -> Self {
        let instants = sections as usize + 1;
        let mut open = Self {
            is_open: vec![false; nodes.len()],
            nodes,
            starts: vec![Vec::new(); instants],
            ends: vec![Vec::new(); instants],
            starting: vec![0; instants],
            ending: vec![0; instants],
            found: BinaryHeap::new(),
        };
        for node in fitting {
            open.add(node);
        }
        for instant in 0..=sections {
            open.find(instant, random);
        }
        open
    }

    fn add(&mut self, node: u32) {
        let Brick { start, end, .. } = self.nodes[node as usize];
        self.is_open[node as usize] = true;
        self.starts[start as usize].push(node);
        self.ends[end as usize].push(node);
        self.starting[start as usize] += 1;
        self.ending[end as usize] += 1;
    }

    fn close(&mut self, node: u32) {
        let Brick { start, end, .. } = self.nodes[node as usize];
        self.is_open[node as usize] = false;
        self.starting[start as usize] -= 1;
        self.ending[end as usize] -= 1;
    }

    /// Finds what fits at an instant, unless that is too crowded.
    fn find(&mut self, instant: u32, random: &mut Random) {
        let at = instant as usize;
        let crowd = self.starting[at] + self.ending[at];
        if crowd > CROWD {
            return;
        }
        self.starts[at].retain(|&node| self.is_open[node as usize]);
        self.ends[at].retain(|&node| self.is_open[node as usize]);
        let node = |node: u32| self.nodes[node as usize];
        for &first in &self.ends[at] {
            if let Some(&second) = self.starts[at].iter().find(|&&second| node(second).size == node(first).size) {
                self.found.push(Reverse((crowd - 2, random.below(1 << 32), Made::Row(first, second))));
            }
        }
        for list in [&self.starts[at], &self.ends[at]] {
            for (index, &low) in list.iter().enumerate() {
                let Brick { start, end, .. } = node(low);
                let is_like = |&&high: &&u32| (node(high).start, node(high).end) == (start, end);
                if let Some(&high) = list[index + 1..].iter().find(is_like) {
                    // Nothing ends where all begins, so what starts there is not crowded; and the other way round.
                    let starting = if start == 0 { 0 } else { self.starting[start as usize] - 2 };
                    let ending = if end as usize + 1 == self.ends.len() { 0 } else { self.ending[end as usize] - 2 };
                    self.found.push(Reverse((starting + ending, random.below(1 << 32), Made::Stack(low, high))));
                }
            }
        }
    }

    /// Makes a node of two, if both are open.
    fn make(&mut self, made: Made, random: &mut Random) {
        let (Made::Stack(a, b) | Made::Row(a, b)) = made else { return };
        if !self.is_open[a as usize] || !self.is_open[b as usize] {
            return;
        }
        let (first, second) = (self.nodes[a as usize], self.nodes[b as usize]);
        let size = if let Made::Row(..) = made { Some(first.size) } else { first.size.checked_add(second.size) };
        let Some(size) = size else { return };
        self.close(a);
        self.close(b);
        self.nodes.push(Brick { start: first.start, end: second.end, size, made });
        self.is_open.push(false);
        self.add(self.nodes.len() as u32 - 1);
        let mut instants = [first.start, first.end, second.start, second.end];
        instants.sort_unstable();
        for at in 0..instants.len() {
            if at == 0 || instants[at] != instants[at - 1] {
                self.find(instants[at], random);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_is_put_together() {
        // Two stacks of two beside one another, below one that is as long; and what fits nothing.
        let piece = |start, end, size| Piece { start, end, size };
        let mut core = Core::new(5);
        for piece in [piece(0, 2, 4), piece(2, 4, 2), piece(0, 2, 2), piece(2, 4, 4), piece(0, 4, 8), piece(1, 3, 3)] {
            core.push([piece], 2, None);
        }
        core.push([piece(0, 1, 2), piece(3, 4, 2)], 1, None);
        core.push([piece(4, 5, 2)], 1, Some(7));
        let blocks = Blocks::new(&core, 2, &mut Random(0)).unwrap();
        let pieces = |item| (blocks.core.pieces(item).to_vec(), blocks.core.items()[item].fixed);
        assert_eq!(blocks.core.items().len(), 4);
        assert_eq!(pieces(0), (vec![piece(1, 3, 3)], None));
        assert_eq!(pieces(1), (vec![piece(0, 1, 2), piece(3, 4, 2)], None));
        assert_eq!(pieces(2), (vec![piece(4, 5, 2)], Some(7)));
        assert_eq!(pieces(3), (vec![piece(0, 4, 14)], None));
        let mut offsets = [0; 8];
        blocks.place(&[100, 200, 7, 20], &mut offsets);
        assert_eq!(offsets[5..], [100, 200, 7]);
        let mut ends: Vec<(u64, u64)> =
            (0..5).map(|item| (offsets[item], offsets[item] + core.pieces(item)[0].size)).collect();
        ends.sort_unstable();
        assert!(ends.iter().all(|&(start, end)| start >= 20 && end <= 34 && start % 2 == 0));
        assert!(Blocks::new(&core, 16, &mut Random(0)).is_none());
    }
}
