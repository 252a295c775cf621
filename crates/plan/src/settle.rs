//! Letting items fall: each to the lowest place that is free.
//!
//! Where no item has a gap or a fixed offset, the skyline leaves nothing that this could use.

use std::ops::Range;

use super::clock::Clock;
use super::core::{Core, Piece, align_up};
use super::tuning::LOOKS_BETWEEN_ASKING;

/// What falling may take.
#[derive(Debug)]
pub(crate) struct Effort<'a> {
    /// How many looks at a piece that may be in the way.
    pub(crate) looks: u64,
    pub(crate) clock: Clock<'a>,
}

impl Effort<'_> {
    fn spend(&mut self, looks: u64) -> Option<()> {
        let left = self.looks.checked_sub(looks)?;
        let is_time = left / LOOKS_BETWEEN_ASKING < self.looks / LOOKS_BETWEEN_ASKING;
        self.looks = left;
        if is_time && self.clock.has_run_out() { None } else { Some(()) }
    }
}

/// Lets the items fall in the order of their offsets, and returns the height; `None` if the effort does not suffice, and nothing is left as
/// it was.
///
/// No item gets higher than it was. Take one, and any before it: that one was not higher, and fell or stayed. Where the two meet, it
/// ended at or below this one's offset, and still does. So the place this one had is free.
pub(crate) fn settle(core: &Core, floor: u64, offsets: &mut [u64], effort: &mut Effort<'_>) -> Option<u64> {
    let mut order: Vec<u32> = (0..core.items().len() as u32).collect();
    order.retain(|&item| core.items()[item as usize].fixed.is_none());
    order.sort_unstable_by_key(|&item| (offsets[item as usize], item));
    fall(core, floor, &order, offsets, effort)
}

/// Puts the items of `order`, those that are not fixed, to the lowest place from `floor` up that is free beside the fixed ones and those
/// before them, and returns the height; `None` if the effort does not suffice, or 64 bits do not hold it. Takes O(n) memory.
pub(crate) fn fall(
    core: &Core,
    floor: u64,
    order: &[u32],
    offsets: &mut [u64],
    effort: &mut Effort<'_>,
) -> Option<u64> {
    let mut placed = Placed::new(core);
    let mut forbidden: Vec<Range<u64>> = Vec::new();
    let mut height = floor;
    let fixed = (0..core.items().len() as u32).filter(|&item| core.items()[item as usize].fixed.is_some());
    for item in fixed.chain(order.iter().copied()) {
        let item = item as usize;
        let pieces = core.pieces(item);
        if core.items()[item].fixed.is_none() {
            forbidden.clear();
            for (other, of) in placed.over(core.span(item)) {
                // Of all pieces that meet this one, the largest is kept from the most offsets, and from all that the others are.
                let first = pieces.partition_point(|piece| piece.end <= other.start);
                let meeting = pieces[first..].iter().take_while(|piece| piece.start < other.end);
                let (count, size) = meeting.fold((1, 0), |(count, size), piece| (count + 1, piece.size.max(size)));
                effort.spend(count)?;
                if size > 0 {
                    let offset = offsets[of as usize];
                    forbidden.push((offset + 1).saturating_sub(size)..offset + other.size);
                }
            }
            forbidden.sort_unstable_by_key(|range| range.start);
            let mut offset = align_up(floor, core.items()[item].align)?;
            for range in &forbidden {
                if range.start > offset {
                    break;
                }
                if range.end > offset {
                    offset = align_up(range.end, core.items()[item].align)?;
                }
            }
            offsets[item] = offset;
        }
        for piece in pieces {
            height = height.max(offsets[item].checked_add(piece.size)?);
        }
        placed.insert(core, item);
    }
    Some(height)
}

/// The pieces of placed items, in a tree over all pieces in the order of their starts that knows the last end below each node.
#[derive(Debug)]
struct Placed {
    /// Piece and item.
    slots: Vec<(Piece, u32)>,
    /// The places of an item's pieces, one after the other, as the core has them.
    slot_of: Vec<u32>,
    /// The place of an item's first piece in `slot_of`.
    first: Vec<u32>,
    ends: Vec<u32>,
    leaves: usize,
}

impl Placed {
    fn new(core: &Core) -> Self {
        let mut first = Vec::with_capacity(core.items().len());
        let mut pieces: Vec<(Piece, u32)> = Vec::new();
        for item in 0..core.items().len() {
            first.push(pieces.len() as u32);
            pieces.extend(core.pieces(item).iter().map(|&piece| (piece, item as u32)));
        }
        let mut order: Vec<u32> = (0..pieces.len() as u32).collect();
        order.sort_unstable_by_key(|&piece| (pieces[piece as usize].0.start, piece));
        let mut slot_of = vec![0; pieces.len()];
        for (slot, &piece) in order.iter().enumerate() {
            slot_of[piece as usize] = slot as u32;
        }
        let slots = order.iter().map(|&piece| pieces[piece as usize]).collect();
        let leaves = pieces.len().next_power_of_two();
        Self { slots, slot_of, first, ends: vec![0; 2 * leaves], leaves }
    }

    fn insert(&mut self, core: &Core, item: usize) {
        let first = self.first[item] as usize;
        for &slot in &self.slot_of[first..first + core.pieces(item).len()] {
            let end = self.slots[slot as usize].0.end;
            let mut number = self.leaves + slot as usize;
            while number > 0 && self.ends[number] < end {
                self.ends[number] = end;
                number /= 2;
            }
        }
    }

    /// Each placed piece that shares a section with these, and the item that it is of.
    fn over(&self, sections: Range<u32>) -> impl Iterator<Item = (Piece, u32)> {
        let last = self.slots.partition_point(|(other, _)| other.start < sections.end);
        let mut number = 1;
        // From left to right: down where there is something, and on where there is nothing.
        std::iter::from_fn(move || {
            while number > 0 {
                let has_some = self.ends[number] > sections.start;
                if has_some && number < self.leaves {
                    number *= 2;
                    continue;
                }
                let slot = number.checked_sub(self.leaves);
                if slot.is_some_and(|slot| slot >= last) {
                    break;
                }
                // To the next node that is not below this one: up from right children, then to the right. None is right of the root.
                number >>= number.trailing_ones();
                number += usize::from(number > 0);
                if let Some(slot) = slot.filter(|_| has_some) {
                    return Some(self.slots[slot]);
                }
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_fall_into_gaps_and_below_fixed_ones() {
        let mut core = Core::new(3);
        let piece = |start, end, size| Piece { start, end, size };
        core.push([piece(0, 1, 4), piece(2, 3, 4)], 1, None);
        core.push([piece(1, 2, 4)], 1, None);
        core.push([piece(0, 3, 5)], 5, None);
        core.push([piece(0, 3, 2)], 1, Some(10));
        core.push([piece(0, 1, 1)], 1, None);
        let looks = |looks| Effort { looks, clock: Clock::default() };
        let mut offsets = [12, 16, 20, 10, 30];
        assert_eq!(settle(&core, 0, &mut offsets.clone(), &mut looks(1)), None);
        assert_eq!(settle(&core, 0, &mut offsets, &mut looks(100)), Some(12));
        assert_eq!(offsets, [0, 0, 5, 10, 4]);
        assert_eq!(settle(&core, 12, &mut offsets, &mut looks(100)), Some(25));
        assert_eq!(offsets, [12, 12, 20, 10, 16]);
    }
}
