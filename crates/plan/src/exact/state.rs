//! What the search knows of the items not yet placed: their bounds, the sections they are in, and the parts they fall into.

use std::cell::Cell;

use super::facts::{Fact, facts};
use crate::core::{Core, align_up};
use crate::tuning::SORT_LOOKS;

/// No item, no part, no move.
pub(super) const NONE: u32 = u32::MAX;

/// Items to be solved for themselves: `members[first..last]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Component {
    pub(super) first: u32,
    pub(super) last: u32,
    /// Their sections.
    pub(super) start: u32,
    pub(super) end: u32,
    /// The move to be reconsidered if this has no solution.
    pub(super) cause: u32,
    /// The part to be solved after this.
    pub(super) next: u32,
}

/// What the items not yet placed are in a section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    /// The sum of their sizes.
    pub(super) load: u64,
    /// The lowest bound, whose it is, and the next.
    pub(super) lowest: u64,
    pub(super) owner: u32,
    pub(super) second: u64,
}

const EMPTY: Section = Section { load: 0, lowest: u64::MAX, owner: NONE, second: u64::MAX };

/// The state of the search, but for the moves made.
pub(super) struct State<'a> {
    core: &'a Core,
    pub(super) capacity: u64,
    pub(super) facts: Vec<Fact>,
    /// The least offset of each item, given the moves made; the offset of those placed.
    pub(super) bounds: Vec<u64>,
    /// Items in the order of time, apart from those placed: see [`Move::place`](super::Move).
    pub(super) members: Vec<u32>,
    pub(super) parts: Vec<Component>,
    /// Items whose bounds were raised, and from what.
    pub(super) trail: Vec<(u32, u64)>,
    /// Of all parts still to be solved, and not of others.
    pub(super) sections: Vec<Section>,
    /// How often each section has failed, less what time has healed.
    pub(super) weights: Vec<f64>,
    /// The bounds and items of the part surveyed last, sorted.
    pub(super) order: Vec<(u64, u32)>,
    /// The looks that were not paid for yet.
    pub(super) looks: Cell<u64>,
}

impl<'a> State<'a> {
    /// `None` if a single item or a section has no room.
    pub(super) fn new(core: &'a Core, capacity: u64) -> Option<Self> {
        let facts = facts(core, capacity)?;
        let count = facts.len();
        let lengths = (0..count).flat_map(|item| core.pieces(item)).map(|piece| u64::from(piece.end - piece.start));
        let mut members: Vec<u32> = (0..count as u32).collect();
        members.sort_by_key(|&item| (facts[item as usize].start, item));
        Some(Self {
            bounds: core.items().iter().map(|item| item.fixed.unwrap_or(0)).collect(),
            parts: Vec::new(),
            trail: Vec::new(),
            sections: vec![EMPTY; core.sections() as usize],
            weights: vec![1.0; core.sections() as usize],
            order: Vec::new(),
            looks: Cell::new(lengths.sum()),
            core,
            capacity,
            facts,
            members,
        })
    }

    /// Takes back what happened to the bounds since the trail had this length.
    pub(super) fn restore(&mut self, length: usize) {
        for (item, bound) in self.trail.drain(length..).rev() {
            self.bounds[item as usize] = bound;
        }
    }

    /// Raises the bound of an item to at least `bound`; false if that is too high.
    pub(super) fn lift(&mut self, item: u32, bound: u64) -> bool {
        let fact = &self.facts[item as usize];
        match align_up(bound, fact.align) {
            Some(bound) if bound <= fact.limit => {
                self.trail.push((item, self.bounds[item as usize]));
                self.bounds[item as usize] = bound;
                true
            }
            _ => false,
        }
    }

    /// The greatest size that `below` has in sections in which there is `above`, too.
    pub(super) fn height(&self, below: u32, above: u32) -> u64 {
        let (x, y) = (&self.facts[below as usize], &self.facts[above as usize]);
        if x.end <= y.start || y.end <= x.start {
            return 0;
        }
        if x.plain && y.plain { x.size } else { self.height_of_pieces(below as usize, above as usize) }
    }

    fn height_of_pieces(&self, below: usize, above: usize) -> u64 {
        let (mut lower, mut upper) = (self.core.pieces(below), self.core.pieces(above));
        let mut height = 0;
        while let (Some(x), Some(y)) = (lower.first(), upper.first()) {
            if x.start < y.end && y.start < x.end {
                height = height.max(x.size);
            }
            if x.end <= y.end {
                lower = &lower[1..];
            } else {
                upper = &upper[1..];
            }
        }
        height
    }

    pub(super) fn look(&self, times: u64) {
        self.looks.set(self.looks.get() + times);
    }

    /// Computes the sections of a part, of whose members the last `placed` are placed already. False if there is a section whose items
    /// cannot all fit above their bounds.
    pub(super) fn survey(&mut self, part: u32, placed: usize) -> bool {
        let Component { first, last, start, end, .. } = self.parts[part as usize];
        let last = last as usize - placed;
        self.order.clear();
        let bounds = &self.bounds;
        self.order.extend(self.members[first as usize..last].iter().map(|&item| (bounds[item as usize], item)));
        self.order.sort_unstable();
        let mut looks = SORT_LOOKS * self.order.len() as u64 + u64::from(end - start);
        self.sections[start as usize..end as usize].fill(EMPTY);
        for &(bound, item) in self.order.iter().rev() {
            let room = self.capacity - bound;
            for piece in self.core.pieces(item as usize) {
                looks += u64::from(piece.end - piece.start);
                let mut most = 0;
                for section in &mut self.sections[piece.start as usize..piece.end as usize] {
                    section.load += piece.size;
                    section.second = section.lowest;
                    section.lowest = bound;
                    section.owner = item;
                    most = most.max(section.load);
                }
                if most > room {
                    let fails = |section: &u32| self.sections[*section as usize].load > room;
                    let failed = (piece.start..piece.end).find(fails).unwrap_or(piece.start);
                    self.weights[failed as usize] += 1.0;
                    self.look(looks);
                    return false;
                }
            }
        }
        self.look(looks);
        true
    }

    /// The sections of an item.
    pub(super) fn crossed(&self, item: u32) -> impl Iterator<Item = &Section> {
        let pieces = self.core.pieces(item as usize).iter();
        self.look(pieces.clone().map(|piece| u64::from(piece.end - piece.start)).sum());
        pieces.flat_map(|piece| &self.sections[piece.start as usize..piece.end as usize])
    }

    /// Splits members into parts that have no section in common, and returns the first of them.
    pub(super) fn split(&mut self, first: usize, last: usize, cause: u32, mut next: u32) -> u32 {
        let mut from = first;
        while from < last {
            let Fact { start, mut end, .. } = self.facts[self.members[from] as usize];
            let mut to = from + 1;
            while let Some(&item) = self.members[..last].get(to)
                && self.facts[item as usize].start < end
            {
                end = end.max(self.facts[item as usize].end);
                to += 1;
            }
            self.parts.push(Component { first: from as u32, last: to as u32, start, end, cause, next });
            next = self.parts.len() as u32 - 1;
            from = to;
        }
        next
    }
}
