//! The items that a pass has left, as points (start, end) in a k-d tree: finds the most wanted one that lives within a valley.
//!
//! Which item is where is the same in all passes. The tree is complete, so that it needs no links: below node `i` are `2i` and `2i + 1`.

use crate::core::Core;
use crate::tuning::{LEAF_ITEMS, LOOKS_FOR_SMALL};

/// The rank of an item that is not left.
const NONE: u32 = u32::MAX;

/// The items that are left.
#[derive(Debug)]
pub(super) struct Wanted {
    nodes: Vec<Node>,
    slots: Vec<Slot>,
    slot_of_item: Vec<u32>,
    slot_of_rank: Vec<u32>,
    /// The size of the item in each slot, where it is tallest; and the least below each node. Only what yields asks for them.
    sizes: Vec<u64>,
    smallest: Vec<u64>,
    /// The number of the first leaf among the nodes.
    leaves: usize,
}

/// An item's place in a leaf. The lower its rank, the more the item is wanted.
#[derive(Clone, Copy, Debug)]
struct Slot {
    start: u32,
    end: u32,
    rank: u32,
}

/// The least rank below a node, and a box around the points there.
#[derive(Clone, Copy, Debug)]
struct Node {
    rank: u32,
    first_start: u32,
    last_start: u32,
    first_end: u32,
    last_end: u32,
}

impl Node {
    const EMPTY: Self = Self { rank: NONE, first_start: NONE, last_start: 0, first_end: NONE, last_end: 0 };

    fn around(a: Self, b: Self) -> Self {
        Self {
            rank: a.rank.min(b.rank),
            first_start: a.first_start.min(b.first_start),
            last_start: a.last_start.max(b.last_start),
            first_end: a.first_end.min(b.first_end),
            last_end: a.last_end.max(b.last_end),
        }
    }
}

impl Wanted {
    pub(super) fn new(core: &Core) -> Self {
        let count = core.items().len();
        let mut points: Vec<(u32, u32, u32)> = Vec::with_capacity(count);
        points.extend((0..count).map(|item| (core.span(item).start, core.span(item).end, item as u32)));
        let leaves = count.div_ceil(LEAF_ITEMS).next_power_of_two();
        // Level by level, halves are parted by the start and by the end in turn; the left one is as full as can be.
        let mut width = leaves * LEAF_ITEMS;
        let mut by_start = true;
        while width > LEAF_ITEMS {
            for part in points.chunks_mut(width).filter(|part| part.len() > width / 2) {
                if by_start {
                    part.select_nth_unstable(width / 2);
                } else {
                    part.select_nth_unstable_by_key(width / 2, |&(start, end, item)| (end, start, item));
                }
            }
            width /= 2;
            by_start = !by_start;
        }
        let mut slot_of_item = vec![0; count];
        for (slot, &(_, _, item)) in points.iter().enumerate() {
            slot_of_item[item as usize] = slot as u32;
        }
        let slots: Vec<Slot> = points.iter().map(|&(start, end, _)| Slot { start, end, rank: NONE }).collect();
        let mut nodes = vec![Node::EMPTY; 2 * leaves];
        for (node, slots) in nodes[leaves..].iter_mut().zip(slots.chunks(LEAF_ITEMS)) {
            for &Slot { start, end, rank } in slots {
                let point = Node { rank, first_start: start, last_start: start, first_end: end, last_end: end };
                *node = Node::around(*node, point);
            }
        }
        let sizes: Vec<u64> = points.iter().map(|&(_, _, item)| core.tallest(item as usize)).collect();
        let mut smallest = vec![u64::MAX; 2 * leaves];
        for (node, sizes) in smallest[leaves..].iter_mut().zip(sizes.chunks(LEAF_ITEMS)) {
            *node = sizes.iter().fold(u64::MAX, |least, &size| least.min(size));
        }
        for number in (1..leaves).rev() {
            nodes[number] = Node::around(nodes[2 * number], nodes[2 * number + 1]);
            smallest[number] = smallest[2 * number].min(smallest[2 * number + 1]);
        }
        Self { nodes, slots, slot_of_item, slot_of_rank: vec![0; count], sizes, smallest, leaves }
    }

    /// Takes in the items of `order`, whose places there are their ranks, and no other.
    pub(super) fn fill(&mut self, order: &[u32]) {
        if order.len() < self.slots.len() {
            self.slots.iter_mut().for_each(|slot| slot.rank = NONE);
        }
        for (rank, &item) in order.iter().enumerate() {
            let slot = self.slot_of_item[item as usize];
            self.slots[slot as usize].rank = rank as u32;
            self.slot_of_rank[rank] = slot;
        }
        for (node, slots) in self.nodes[self.leaves..].iter_mut().zip(self.slots.chunks(LEAF_ITEMS)) {
            node.rank = least(slots);
        }
        for number in (1..self.leaves).rev() {
            self.nodes[number].rank = self.nodes[2 * number].rank.min(self.nodes[2 * number + 1].rank);
        }
    }

    pub(super) fn has(&self, item: usize) -> bool {
        self.slots[self.slot_of_item[item] as usize].rank != NONE
    }

    fn leaf(&self, leaf: usize) -> &[Slot] {
        &self.slots[leaf * LEAF_ITEMS..self.slots.len().min((leaf + 1) * LEAF_ITEMS)]
    }

    /// Takes out the most wanted of the items that start and end in these ranges, last ones included, and are no larger than `most`.
    /// Returns its rank.
    pub(super) fn take(&mut self, starts: (u32, u32), ends: (u32, u32), most: u64) -> Option<u32> {
        let is_any = most == u64::MAX;
        let mut best = NONE;
        // One node is popped where two are pushed, so that no level has more than one here, and the last has two.
        let mut stack = [1u32; 34];
        let mut depth = 1;
        let mut looks = if is_any { usize::MAX } else { LOOKS_FOR_SMALL };
        while depth > 0 && looks > 0 {
            depth -= 1;
            looks -= 1;
            let number = stack[depth] as usize;
            let node = &self.nodes[number];
            if node.rank >= best
                || node.last_start < starts.0
                || node.first_start > starts.1
                || node.first_end > ends.1
                || node.last_end < ends.0
                || !is_any && self.smallest[number] > most
            {
                continue;
            }
            if node.first_start >= starts.0
                && node.last_start <= starts.1
                && node.first_end >= ends.0
                && node.last_end <= ends.1
                && is_any
            {
                best = node.rank;
            } else if number >= self.leaves {
                let first = (number - self.leaves) * LEAF_ITEMS;
                for (at, slot) in (first..).zip(self.leaf(number - self.leaves)) {
                    if slot.rank < best
                        && (is_any || self.sizes[at] <= most)
                        && slot.start >= starts.0
                        && slot.start <= starts.1
                        && slot.end >= ends.0
                        && slot.end <= ends.1
                    {
                        best = slot.rank;
                    }
                }
            } else {
                let (left, right) = (2 * number, 2 * number + 1);
                let right_first = self.nodes[right].rank < self.nodes[left].rank;
                let (soon, later) = if right_first { (right, left) } else { (left, right) };
                stack[depth] = later as u32;
                stack[depth + 1] = soon as u32;
                depth += 2;
            }
        }
        if best == NONE {
            return None;
        }
        let slot = self.slot_of_rank[best as usize] as usize;
        self.slots[slot].rank = NONE;
        let mut rank = least(self.leaf(slot / LEAF_ITEMS));
        let mut number = self.leaves + slot / LEAF_ITEMS;
        // As soon as a node stays as it is, so do those above it. Node 0 is none: it has the rank of no item.
        while number > 0 && self.nodes[number].rank != rank {
            self.nodes[number].rank = rank;
            rank = rank.min(self.nodes[number ^ 1].rank);
            number /= 2;
        }
        Some(best)
    }
}

fn least(slots: &[Slot]) -> u32 {
    slots.iter().fold(NONE, |least, slot| least.min(slot.rank))
}
