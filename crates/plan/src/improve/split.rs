//! What meets nothing of the rest in time is placed apart.

use std::ops::Range;

use super::solver::Best;
use crate::core::{Core, lcm};
use crate::peak::cut;
use crate::tuning::PEELS;

/// Items that are placed without a look at any other, above `floor`.
#[derive(Debug)]
pub(super) struct Part {
    /// Their numbers in the whole.
    pub(super) items: Vec<u32>,
    pub(super) core: Core,
    pub(super) floor: Vec<u64>,
    pub(super) height: u64,
    pub(super) best: Best,
}

/// Parts the items in time; those at the bottom of everything get their offsets. Returns how high these reach, too.
pub(super) fn split(core: &Core, offsets: &mut [u64]) -> (Vec<Part>, u64) {
    let mut items: Vec<u32> = (0..core.items().len() as u32).collect();
    items.sort_unstable_by_key(|&item| (core.span(item as usize).start, item));
    let (mut parts, mut base) = (Vec::new(), 0);
    let mut work = vec![(items, 0, PEELS)];
    while let Some((items, floor, peels)) = work.pop() {
        let mut rest = items.as_slice();
        while let Some(&first) = rest.first() {
            let mut time = core.span(first as usize);
            let mut count = 1;
            while let Some(&next) = rest.get(count) {
                let span = core.span(next as usize);
                if span.start >= time.end {
                    break;
                }
                time.end = time.end.max(span.end);
                count += 1;
            }
            let (together, later) = rest.split_at(count);
            rest = later;
            match peel(core, together, &time, floor, offsets) {
                Some((left, floor)) if peels > 0 => {
                    base = base.max(floor);
                    work.push((left, floor, peels - 1));
                }
                _ => {
                    let (core, floor) = cut(core, together, time.start, vec![floor; time.len()]);
                    let items = together.to_vec();
                    parts.push(Part { items, core, floor, height: 0, best: Best::default() });
                }
            }
        }
    }
    (parts, base)
}

/// Lays items that live through all of this time on the floor, and returns those that are left and the new floor; `None` if there
/// are no such items.
///
/// An item that meets all others may as well be at the bottom: take it out of a placement, let all above it come down by its
/// size, and raise everything by that. If the size is a multiple of every alignment, everything stays aligned.
fn peel(core: &Core, items: &[u32], time: &Range<u32>, floor: u64, offsets: &mut [u64]) -> Option<(Vec<u32>, u64)> {
    let unit = items.iter().try_fold(1, |unit, &item| {
        let item = core.items()[item as usize];
        if item.fixed.is_some() { None } else { lcm(unit, item.align) }
    })?;
    let mut height = floor;
    let mut left = Vec::new();
    for &item in items {
        match core.pieces(item as usize) {
            [piece] if (piece.start..piece.end) == *time && piece.size.is_multiple_of(unit) => {
                offsets[item as usize] = height;
                height = height.checked_add(piece.size)?;
            }
            _ => left.push(item),
        }
    }
    if left.len() < items.len() { Some((left, height)) } else { None }
}
