//! Letting items fall: each to the lowest place that is free.
//!
//! Where no item has a gap or a fixed offset, the skyline leaves nothing that this could use.

use std::ops::Range;

use super::core::{Core, Piece, align_up};

/// Lets the items fall in the order of their offsets, and returns the height; `None` if that took more than `effort` looks at a
/// neighbour, and nothing is left as it was.
///
/// No item gets higher than it was. Take one, and any before it: that one was not higher, and fell or stayed. Where the two meet, it
/// ended at or below this one's offset, and still does. So the place this one had is free.
pub(crate) fn settle(core: &Core, floor: u64, offsets: &mut [u64], effort: u64) -> Option<u64> {
    let mut order: Vec<u32> = (0..core.items().len() as u32).collect();
    order.retain(|&item| core.items()[item as usize].fixed.is_none());
    order.sort_unstable_by_key(|&item| (offsets[item as usize], item));
    fall(core, floor, &order, offsets, effort)
}

/// Puts the items of `order`, those that are not fixed, to the lowest place from `floor` up that is free beside the fixed ones and those
/// before them, and returns the height; `None` if that took more than `effort` looks at a neighbour, or 64 bits do not hold it.
pub(crate) fn fall(core: &Core, floor: u64, order: &[u32], offsets: &mut [u64], mut effort: u64) -> Option<u64> {
    let mut placed = Placed::new(core);
    let mut forbidden: Vec<Range<u64>> = Vec::new();
    let mut height = floor;
    let fixed = (0..core.items().len() as u32).filter(|&item| core.items()[item as usize].fixed.is_some());
    for item in fixed.chain(order.iter().copied()) {
        let item = item as usize;
        if core.items()[item].fixed.is_none() {
            forbidden.clear();
            for piece in core.pieces(item) {
                placed.over(piece, |other, size| {
                    let offset = offsets[other as usize];
                    forbidden.push((offset + 1).saturating_sub(piece.size)..offset + size);
                });
            }
            effort = effort.checked_sub(forbidden.len() as u64 + 1)?;
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
        for piece in core.pieces(item) {
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

    /// Calls `see` with the item and the size of each placed piece that shares a section with this one.
    fn over(&self, piece: &Piece, mut see: impl FnMut(u32, u64)) {
        let last = self.slots.partition_point(|(other, _)| other.start < piece.end);
        // From left to right: down where there is something, and on where there is nothing.
        let mut number = 1;
        loop {
            if self.ends[number] > piece.start && number < self.leaves {
                number *= 2;
                continue;
            }
            if number >= self.leaves {
                let slot = number - self.leaves;
                if slot >= last {
                    return;
                }
                if self.ends[number] > piece.start {
                    let (other, item) = &self.slots[slot];
                    see(*item, other.size);
                }
            }
            // To the next node that is not below this one: up from right children, then to the right.
            number >>= number.trailing_ones();
            if number == 0 {
                return;
            }
            number += 1;
        }
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
        let mut offsets = [12, 16, 20, 10, 30];
        assert_eq!(settle(&core, 0, &mut offsets.clone(), 1), None);
        assert_eq!(settle(&core, 0, &mut offsets, 100), Some(12));
        assert_eq!(offsets, [0, 0, 5, 10, 4]);
        assert_eq!(settle(&core, 12, &mut offsets, 100), Some(25));
        assert_eq!(offsets, [12, 12, 20, 10, 16]);
    }
}
