//! A placing pass: the skyline.
//!
//! The skyline is how high each section is filled, a list of flat **segments**. A pass works in a segment that is lower than both its
//! neighbours, a **valley**: of the items that live within the valley and nowhere else it puts down the one most wanted or, where
//! there is none, raises the valley to its lower neighbour. What is lost that way no item left could have used.
//!
//! In which order valleys are taken changes nothing, since an item lives within one valley at most. So the pass goes downhill to the
//! next one, which keeps it in one place for long, and needs no queue.
//!
//! Beside it, the pass knows for each section the **prospect**: what it is filled with and what is still to come, the live bytes and
//! the lost ones. Once a prospect is above the limit, the pass ends, and tells where that was.
//!
//! The section with the greatest prospect makes the height, so what is lost anywhere else is lost for nothing. A pass may spend that: beside a
//! wall whose sections can afford less than its own, a valley **yields**. It takes nothing that rises above the wall and, where there
//! is nothing else, is raised to it. The wall's sections are in a wider valley then, and find more that fits.

use std::ops::Range;

use super::bound::{live, maxima};
use super::core::{Core, align_up};

/// No item, no segment, no rank.
const NONE: u32 = u32::MAX;

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All items are placed, and this is the height.
    Placed(u64),
    /// Whatever came next, this section would get higher than the limit.
    Stuck(u32),
    /// `go_on` said no.
    Stopped,
}

/// A piece of the skyline, known by its first section.
#[derive(Clone, Copy, Debug)]
struct Segment {
    height: u64,
    /// The section behind its last, where the next segment starts.
    end: u32,
    /// Where the segment before it starts.
    before: u32,
}

/// Passes over one set of items. Takes O(n) memory, once.
#[derive(Debug)]
pub(crate) struct Skyline<'a> {
    core: &'a Core,
    /// How high each section is filled, and what it will have in all, before the first item comes.
    floor: Vec<u64>,
    prospect: Vec<u64>,
    segments: Vec<Segment>,
    wanted: Wanted,
    prospects: Prospects,
    /// Section times bytes of what the last pass placed.
    placed: u128,
    /// A valley yields the more readily the less is still to come: all that it can afford once this is, before that in proportion.
    soon: u64,
}

/// How many items of the mean size are soon placed.
const SOON: u64 = 10;

/// After how many items a pass asks whether to go on.
const PATIENCE: usize = 1 << 12;

impl<'a> Skyline<'a> {
    /// Every section is filled up to its `floor`, or to the highest item with a fixed offset; these are not placed by a pass.
    pub(crate) fn new(core: &'a Core, mut floor: Vec<u64>) -> Self {
        let fixed = (0..core.items().len()).filter_map(|item| Some((item, core.items()[item].fixed?)));
        let reach = fixed.flat_map(|(item, offset)| {
            core.pieces(item).iter().map(move |piece| (piece.start..piece.end, offset.saturating_add(piece.size)))
        });
        let reach = maxima(core.sections(), reach);
        floor.iter_mut().zip(reach).for_each(|(height, reach)| *height = reach.max(*height));
        let mut prospect = live(core, |item| core.items()[item].fixed.is_none());
        prospect.iter_mut().zip(&floor).for_each(|(bytes, floor)| *bytes = bytes.saturating_add(*floor));
        let segments = vec![Segment { height: 0, end: 0, before: NONE }; floor.len()];
        let prospects = Prospects::new(floor.len());
        let wanted = Wanted::new(core);
        let sum: u128 = wanted.sizes.iter().map(|&size| u128::from(size)).sum();
        let mean = sum / wanted.sizes.len().max(1) as u128;
        let soon = u64::try_from(mean).unwrap_or(u64::MAX).saturating_mul(SOON);
        Self { core, floor, prospect, segments, wanted, prospects, placed: 0, soon }
    }

    /// The greatest prospect of the sections that an item lives in, as it is before the first item comes. After a pass, `rewind`
    /// comes first.
    pub(crate) fn tightness(&self, item: usize) -> u64 {
        let span = self.core.span(item);
        self.prospects.most_of(span.start, span.end)
    }

    /// The greatest of them all.
    pub(crate) fn tightest(&self) -> u64 {
        self.prospects.most()
    }

    /// Forgets the last pass.
    pub(crate) fn rewind(&mut self) {
        self.prospects.fill(&self.prospect);
    }

    /// Section times bytes of what the last pass placed.
    pub(crate) fn placed(&self) -> u128 {
        self.placed
    }

    /// Was the item left over by the last pass?
    pub(crate) fn is_left(&self, item: usize) -> bool {
        self.wanted.has(item)
    }

    /// Places the items of `order` at `offsets`, those that come first there first as far as the skyline lets them. A pass that
    /// **aims** prefers an item that fills a valley from wall to wall; then one that lives in the valley's section with the greatest
    /// prospect, which can least afford a loss. Its valleys yield.
    pub(crate) fn pass(
        &mut self,
        order: &[u32],
        aims: bool,
        limit: u64,
        offsets: &mut [u64],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Outcome {
        // Nobody asks for the prospects of a pass that neither aims nor has a limit.
        let watches = aims || limit < u64::MAX;
        self.wanted.fill(order);
        self.rewind();
        self.placed = 0;
        let mut top = self.lay();
        let mut left = order.len();
        let mut at = 0;
        while left > 0 {
            let Segment { height, end, before } = self.segments[at as usize];
            let next = self.segments.get(end as usize).copied();
            if let Some(next) = next {
                if next.height < height {
                    at = end;
                    continue;
                }
                if next.height == height {
                    self.join(at, next.end);
                    continue;
                }
            }
            let back = self.segments.get(before as usize).copied();
            if let Some(back) = back {
                if back.height == height {
                    self.join(before, end);
                }
                if back.height <= height {
                    at = before;
                    continue;
                }
            }
            let wall = match (back, next) {
                (Some(back), Some(next)) if back.height < next.height => Some((back.height, before, at)),
                (_, Some(next)) => Some((next.height, end, next.end)),
                (Some(back), None) => Some((back.height, before, at)),
                (None, None) => None,
            };
            let most = match wall {
                Some((wall, from, to)) if aims && self.yields(at..end, height, from..to, wall) => wall - height,
                _ => u64::MAX,
            };
            if let Some(rank) = self.choose(at, end, aims, most) {
                let item = order[rank as usize] as usize;
                let Some(reach) = self.put(item, at, watches, offsets) else { return Outcome::Stuck(at) };
                top = top.max(reach);
                left -= 1;
                if left.is_multiple_of(PATIENCE) && !go_on() {
                    return Outcome::Stopped;
                }
            } else {
                // If all is level and nothing fits, there is nothing.
                let Some((wall, ..)) = wall else { break };
                self.segments[at as usize].height = wall;
                if watches {
                    self.prospects.add(at, end, wall - height);
                }
            }
            if self.prospects.most() > limit {
                return Outcome::Stuck(self.prospects.section(0, self.floor.len() as u32));
            }
        }
        Outcome::Placed(top)
    }

    /// Whether a valley with its ground at `height` can rather afford a loss up to the `wall` than the sections of that one can.
    fn yields(&self, valley: Range<u32>, height: u64, beside: Range<u32>, wall: u64) -> bool {
        let tight = self.prospects.most_of(beside.start, beside.end);
        let Some(spare) = tight.checked_sub(self.prospects.most_of(valley.start, valley.end)) else { return false };
        let loss = wall - height;
        loss < spare && u128::from(loss) * u128::from(tight - height) < u128::from(spare) * u128::from(self.soon)
    }

    /// Takes out an item that lives within the valley between these sections, and is no larger than `most`.
    fn choose(&mut self, start: u32, end: u32, aims: bool, most: u64) -> Option<u32> {
        if aims {
            let fills = self.wanted.take((start, start), (end, end), most);
            if fills.is_some() {
                return fills;
            }
            let tight = self.prospects.section(start, end);
            let helps = self.wanted.take((start, tight), (tight + 1, end), most);
            if helps.is_some() {
                return helps;
            }
        }
        self.wanted.take((start, end), (start, end), most)
    }

    /// Makes the skyline that of the floor, and returns how high that is.
    fn lay(&mut self) -> u64 {
        let (mut at, mut before, mut top) = (0, NONE, 0);
        for level in self.floor.chunk_by(|a, b| a == b) {
            let end = at + level.len() as u32;
            self.segments[at as usize] = Segment { height: level[0], end, before };
            top = top.max(level[0]);
            (before, at) = (at, end);
        }
        top
    }

    /// Makes one segment of those from `start` to `end`, at the height of the first.
    fn join(&mut self, start: u32, end: u32) {
        self.segments[start as usize].end = end;
        if let Some(next) = self.segments.get_mut(end as usize) {
            next.before = start;
        }
    }

    /// Puts an item on the ground of the valley at `at`, and returns how high it reaches; `None` beyond what 64 bits hold.
    fn put(&mut self, item: usize, at: u32, watches: bool, offsets: &mut [u64]) -> Option<u64> {
        let valley = self.segments[at as usize];
        let offset = align_up(valley.height, self.core.items()[item].align)?;
        offsets[item] = offset;
        let (mut start, mut before, mut top) = (at, valley.before, 0);
        for piece in self.core.pieces(item) {
            let height = offset.checked_add(piece.size)?;
            top = top.max(height);
            if piece.start > start {
                self.segments[start as usize] = Segment { height: valley.height, end: piece.start, before };
                before = start;
            }
            self.segments[piece.start as usize] = Segment { height, end: piece.end, before };
            (before, start) = (piece.start, piece.end);
            if watches && offset > valley.height {
                self.prospects.add(piece.start, piece.end, offset - valley.height);
            }
            self.placed += u128::from(piece.size) * u128::from(piece.end - piece.start);
        }
        if start < valley.end {
            self.segments[start as usize] = Segment { before, ..valley };
            before = start;
        }
        if let Some(next) = self.segments.get_mut(valley.end as usize) {
            next.before = before;
        }
        Some(top)
    }
}

/// The tree is not made to find small items: after a look at so many nodes, what is found by then will do.
const LOOKS: usize = 64;

/// How many items a leaf of [`Wanted`] has.
const LEAF: usize = 8;

/// The items that are left, as points (start, end) in a k-d tree: finds the most wanted one that lives within a valley. Which item
/// is where is the same in all passes. The tree is complete, so that it needs no links: below node `i` are `2i` and `2i + 1`.
#[derive(Debug)]
struct Wanted {
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
    fn new(core: &Core) -> Self {
        let count = core.items().len();
        let mut points: Vec<(u32, u32, u32)> = Vec::with_capacity(count);
        points.extend((0..count).map(|item| (core.span(item).start, core.span(item).end, item as u32)));
        let leaves = count.div_ceil(LEAF).next_power_of_two();
        // Level by level, halves are parted by the start and by the end in turn; the left one is as full as can be.
        let mut width = leaves * LEAF;
        let mut by_start = true;
        while width > LEAF {
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
        for (node, slots) in nodes[leaves..].iter_mut().zip(slots.chunks(LEAF)) {
            for &Slot { start, end, rank } in slots {
                let point = Node { rank, first_start: start, last_start: start, first_end: end, last_end: end };
                *node = Node::around(*node, point);
            }
        }
        let sizes: Vec<u64> = points.iter().map(|&(_, _, item)| core.tallest(item as usize)).collect();
        let mut smallest = vec![u64::MAX; 2 * leaves];
        for (node, sizes) in smallest[leaves..].iter_mut().zip(sizes.chunks(LEAF)) {
            *node = sizes.iter().fold(u64::MAX, |least, &size| least.min(size));
        }
        for number in (1..leaves).rev() {
            nodes[number] = Node::around(nodes[2 * number], nodes[2 * number + 1]);
            smallest[number] = smallest[2 * number].min(smallest[2 * number + 1]);
        }
        Self { nodes, slots, slot_of_item, slot_of_rank: vec![0; count], sizes, smallest, leaves }
    }

    /// Takes in the items of `order`, whose places there are their ranks, and no other.
    fn fill(&mut self, order: &[u32]) {
        if order.len() < self.slots.len() {
            self.slots.iter_mut().for_each(|slot| slot.rank = NONE);
        }
        for (rank, &item) in order.iter().enumerate() {
            let slot = self.slot_of_item[item as usize];
            self.slots[slot as usize].rank = rank as u32;
            self.slot_of_rank[rank] = slot;
        }
        for (node, slots) in self.nodes[self.leaves..].iter_mut().zip(self.slots.chunks(LEAF)) {
            node.rank = least(slots);
        }
        for number in (1..self.leaves).rev() {
            self.nodes[number].rank = self.nodes[2 * number].rank.min(self.nodes[2 * number + 1].rank);
        }
    }

    fn has(&self, item: usize) -> bool {
        self.slots[self.slot_of_item[item] as usize].rank != NONE
    }

    fn leaf(&self, leaf: usize) -> &[Slot] {
        &self.slots[leaf * LEAF..self.slots.len().min((leaf + 1) * LEAF)]
    }

    /// Takes out the most wanted of the items that start and end in these ranges, last ones included, and are no larger than `most`.
    /// Returns its rank.
    fn take(&mut self, starts: (u32, u32), ends: (u32, u32), most: u64) -> Option<u32> {
        let is_any = most == u64::MAX;
        let mut best = NONE;
        // One node is popped where two are pushed, so that no level has more than one here, and the last has two.
        let mut stack = [1u32; 34];
        let mut depth = 1;
        let mut looks = if is_any { usize::MAX } else { LOOKS };
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
                let first = (number - self.leaves) * LEAF;
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
        let mut rank = least(self.leaf(slot / LEAF));
        let mut number = self.leaves + slot / LEAF;
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

/// A number for each section; those of a range can be raised, and the greatest is known. A segment tree, in which a node's own raise
/// holds for all below it. Sums that 64 bits do not hold stay at the greatest number.
#[derive(Debug)]
struct Prospects {
    nodes: Vec<Raised>,
    /// The number of the first leaf among the nodes.
    leaves: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Raised {
    /// The greatest number below, with the node's own raise.
    most: u64,
    own: u64,
}

impl Raised {
    fn add(&mut self, by: u64) {
        self.most = self.most.saturating_add(by);
        self.own = self.own.saturating_add(by);
    }
}

impl Prospects {
    fn new(sections: usize) -> Self {
        let leaves = sections.next_power_of_two();
        Self { nodes: vec![Raised::default(); 2 * leaves], leaves }
    }

    fn fill(&mut self, numbers: &[u64]) {
        for (node, &most) in self.nodes[self.leaves..].iter_mut().zip(numbers) {
            *node = Raised { most, own: 0 };
        }
        for number in (1..self.leaves).rev() {
            let most = self.below(number);
            self.nodes[number] = Raised { most, own: 0 };
        }
    }

    fn below(&self, number: usize) -> u64 {
        self.nodes[2 * number].most.max(self.nodes[2 * number + 1].most)
    }

    /// Raises the sections from `start` to `end`, which are at least one.
    fn add(&mut self, start: u32, end: u32, by: u64) {
        let (mut first, mut last) = (self.leaves + start as usize, self.leaves + end as usize - 1);
        let (mut low, mut high) = (first, last + 1);
        while low < high {
            if low % 2 == 1 {
                self.nodes[low].add(by);
                low += 1;
            }
            if high % 2 == 1 {
                high -= 1;
                self.nodes[high].add(by);
            }
            (low, high) = (low / 2, high / 2);
        }
        while first > 1 {
            (first, last) = (first / 2, last / 2);
            self.gather(first);
            if first != last {
                self.gather(last);
            }
        }
    }

    fn gather(&mut self, number: usize) {
        self.nodes[number].most = self.below(number).saturating_add(self.nodes[number].own);
    }

    fn most(&self) -> u64 {
        self.nodes[1].most
    }

    /// The greatest number of the sections from `start` to `end`, which are at least one.
    fn most_of(&self, start: u32, end: u32) -> u64 {
        let (mut low, mut high) = (self.leaves + start as usize, self.leaves + end as usize - 1);
        let (mut left, mut right) = (self.nodes[low].most, self.nodes[high].most);
        // The two climb, each beside the other's way, until they meet below one node; what that one has, and those above, is added.
        while low / 2 != high / 2 {
            if low % 2 == 0 {
                left = left.max(self.nodes[low + 1].most);
            }
            if high % 2 == 1 {
                right = right.max(self.nodes[high - 1].most);
            }
            (low, high) = (low / 2, high / 2);
            left = left.saturating_add(self.nodes[low].own);
            right = right.saturating_add(self.nodes[high].own);
        }
        let mut most = left.max(right);
        while low > 1 {
            low /= 2;
            most = most.saturating_add(self.nodes[low].own);
        }
        most
    }

    /// The first section with the greatest number of those from `start` to `end`, which are at least one.
    fn section(&self, start: u32, end: u32) -> u32 {
        let (mut low, mut high) = (self.leaves + start as usize, self.leaves + end as usize - 1);
        // As above, each with the node that has the greatest number.
        let (mut left, mut right) = ((self.nodes[low].most, low), (self.nodes[high].most, high));
        while low / 2 != high / 2 {
            if low.is_multiple_of(2) && self.nodes[low + 1].most > left.0 {
                left = (self.nodes[low + 1].most, low + 1);
            }
            if high % 2 == 1 && self.nodes[high - 1].most >= right.0 {
                right = (self.nodes[high - 1].most, high - 1);
            }
            (low, high) = (low / 2, high / 2);
            left.0 = left.0.saturating_add(self.nodes[low].own);
            right.0 = right.0.saturating_add(self.nodes[high].own);
        }
        let mut number = if right.0 > left.0 { right.1 } else { left.1 };
        while number < self.leaves {
            number *= 2;
            if self.nodes[number + 1].most > self.nodes[number].most {
                number += 1;
            }
        }
        (number - self.leaves) as u32
    }
}
