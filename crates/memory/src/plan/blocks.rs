//! Blocks: items that fit together without a gap, to be placed as one.
//!
//! Items that live in exactly the same sections can be stacked. Two of the same size can be put in a row if one begins where the other
//! ends. What comes of it may fit something else again. Where sizes are as good as unique, such as in a memory that was filled without
//! loss, they hardly fit together by chance. Nothing is proven by that: it is one more way to begin.

use std::collections::HashMap;

use super::core::{Core, Piece};

/// A core with blocks for items.
#[derive(Debug)]
pub(crate) struct Blocks {
    pub(crate) core: Core,
    /// The items, which have the same numbers here, and then what is made of them.
    nodes: Vec<Node>,
    /// The node of each item of `core`.
    roots: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    start: u32,
    end: u32,
    size: u64,
    made: Made,
}

#[derive(Clone, Copy, Debug)]
enum Made {
    Item,
    /// The second one stands on the first.
    Stack(u32, u32),
    Row(u32, u32),
}

impl Blocks {
    /// `None` if there are hardly fewer blocks than items. `unit` is a multiple of all alignments; sizes that are not multiples of it
    /// fit nothing.
    pub(crate) fn new(core: &Core, unit: u64) -> Option<Self> {
        let count = core.items().len();
        let nodes = (0..count).map(|item| {
            let (span, size) = (core.span(item), core.pieces(item)[0].size);
            Node { start: span.start, end: span.end, size, made: Made::Item }
        });
        let mut open =
            Open { nodes: nodes.collect(), all: HashMap::new(), starts: HashMap::new(), ends: HashMap::new() };
        let fits = |item: &u32| {
            let pieces = core.pieces(*item as usize);
            core.items()[*item as usize].fixed.is_none() && pieces.len() == 1 && pieces[0].size.is_multiple_of(unit)
        };
        let (fitting, mut roots): (Vec<u32>, Vec<u32>) = (0..count as u32).partition(fits);
        // All stacks first: a part of one may fit what the whole does not.
        for item in fitting {
            open.add(item);
        }
        let mut work: Vec<u32> = open.all.values().copied().collect();
        work.sort_unstable();
        while let Some(node) = work.pop() {
            if open.is_open(node) {
                work.extend(open.join(node));
            }
        }
        roots.extend(open.all.values());
        roots.sort_unstable();
        if roots.len() > count - count / 4 {
            return None;
        }
        let mut blocks = Core::new(core.sections());
        for &root in &roots {
            let Node { start, end, size, made } = open.nodes[root as usize];
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

/// The nodes, and by what they have in common those that are not part of another.
#[derive(Debug)]
struct Open {
    nodes: Vec<Node>,
    all: HashMap<(u32, u32), u32>,
    /// By start and size, and by end and size; what is no longer open stays here until something else comes.
    starts: HashMap<(u32, u64), u32>,
    ends: HashMap<(u32, u64), u32>,
}

impl Open {
    fn is_open(&self, node: u32) -> bool {
        let Node { start, end, .. } = self.nodes[node as usize];
        self.all.get(&(start, end)) == Some(&node)
    }

    fn make(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        self.nodes.len() as u32 - 1
    }

    /// Stacks the node on the one that lives in the same sections, if there is one, and returns what is open then.
    fn add(&mut self, node: u32) -> u32 {
        let Node { start, end, size, .. } = self.nodes[node as usize];
        let mut open = node;
        if let Some(&low) = self.all.get(&(start, end))
            && let Some(size) = size.checked_add(self.nodes[low as usize].size)
        {
            open = self.make(Node { start, end, size, made: Made::Stack(low, node) });
        }
        self.all.insert((start, end), open);
        open
    }

    /// Puts an open node in a row with one that fits, and returns what is open then, or nothing if none fits.
    fn join(&mut self, node: u32) -> Option<u32> {
        let Node { start, end, size, .. } = self.nodes[node as usize];
        let after = self.starts.get(&(end, size)).copied().filter(|&other| self.is_open(other));
        let before = self.ends.get(&(start, size)).copied().filter(|&other| self.is_open(other));
        let (first, second) = match (before, after) {
            (_, Some(after)) => (node, after),
            (Some(before), None) => (before, node),
            (None, None) => {
                self.starts.insert((start, size), node);
                self.ends.insert((end, size), node);
                return None;
            }
        };
        let (start, middle, end) =
            (self.nodes[first as usize].start, self.nodes[second as usize].start, self.nodes[second as usize].end);
        self.all.remove(&(start, middle));
        self.all.remove(&(middle, end));
        let row = self.make(Node { start, end, size, made: Made::Row(first, second) });
        Some(self.add(row))
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
        let blocks = Blocks::new(&core, 2).unwrap();
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
        assert!(Blocks::new(&core, 16).is_none());
    }
}
