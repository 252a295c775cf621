//! The peak of a placement: the highest place, and what has to come off so that it can be placed anew.
//!
//! A peak is taken off from some height up: an item there, all that lies above it, all that lies above these, and so on. What is left
//! then has nothing above it where the peak was, and is a floor to place the same items on in another way. Nothing else moves.

use super::bound::maxima;
use super::core::{Core, Piece};

/// Items that were taken off.
#[derive(Debug)]
pub(crate) struct Peak {
    /// Their numbers in the whole.
    pub(crate) items: Vec<u32>,
    pub(crate) core: Core,
    /// What each section is filled up to without them.
    pub(crate) floor: Vec<u64>,
}

impl Peak {
    /// What lies at `base` or higher in this section, with all that lies above it. No item is fixed. `None` if that is nothing, or more
    /// than `most` items.
    pub(crate) fn new(core: &Core, offsets: &[u64], section: u32, base: u64, most: usize) -> Option<Self> {
        let mut high: Vec<u32> =
            (0..core.items().len() as u32).filter(|&item| offsets[item as usize] >= base).collect();
        high.sort_unstable_by_key(|&item| (offsets[item as usize], item));
        // From the lowest to the highest: what shares a section with one that is taken off, and comes after it, is taken off, too. Their
        // sections have no gap.
        let mut time = section..section + 1;
        let mut items = Vec::new();
        for item in high {
            let span = core.span(item as usize);
            if span.start < time.end && span.end > time.start {
                if items.len() == most {
                    return None;
                }
                time = time.start.min(span.start)..time.end.max(span.end);
                items.push(item);
            }
        }
        if items.is_empty() {
            return None;
        }
        items.sort_unstable();
        let mut gone = items.iter().peekable();
        let mut below = Vec::new();
        for (item, offset) in offsets.iter().enumerate() {
            if gone.next_if(|&&gone| gone as usize == item).is_some() {
                continue;
            }
            for piece in core.pieces(item) {
                let (start, end) = (piece.start.max(time.start), piece.end.min(time.end));
                let top = offset + piece.size;
                if start < end && top > base {
                    below.push((start - time.start..end - time.start, top));
                }
            }
        }
        let floor = maxima(time.end - time.start, below.into_iter());
        let (core, floor) = cut(core, &items, time.start, floor.into_iter().map(|top| top.max(base)).collect());
        Some(Self { items, core, floor })
    }
}

/// The core of some items that live where `floor` is, with few sections, and their floor.
///
/// Of sections with the same floor, those that hold no more items than a neighbour do not matter. So one begins only where the floor
/// changes, and behind an end that comes after a start.
pub(crate) fn cut(core: &Core, items: &[u32], begin: u32, mut floor: Vec<u64>) -> (Core, Vec<u64>) {
    const START: u8 = 1;
    const END: u8 = 2;
    let mut marks = vec![0u8; floor.len() + 1];
    for piece in items.iter().flat_map(|&item| core.pieces(item as usize)) {
        marks[(piece.start - begin) as usize] |= START;
        marks[(piece.end - begin) as usize] |= END;
    }
    let mut section = Vec::with_capacity(marks.len());
    let (mut count, mut open) = (0u32, false);
    for (at, &mark) in marks.iter().enumerate() {
        let steps = at > 0 && floor.get(at).is_some_and(|&height| height != floor[count as usize]);
        if at > 0 && (steps || mark & END != 0 && open) {
            count += 1;
            // Something may be open that began before the step.
            open = steps;
        }
        open |= mark & START != 0;
        section.push(count);
        if let Some(&height) = floor.get(at) {
            floor[count as usize] = height;
        }
    }
    let mut part = Core::new(count);
    floor.truncate(count as usize);
    for &item in items {
        let pieces = core.pieces(item as usize).iter().map(|piece| Piece {
            start: section[(piece.start - begin) as usize],
            end: section[(piece.end - begin) as usize],
            size: piece.size,
        });
        let item = core.items()[item as usize];
        part.push(pieces, item.align, item.fixed);
    }
    (part, floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_has_nothing_above_it() {
        let piece = |start, end, size| Piece { start, end, size };
        let mut core = Core::new(8);
        for piece in [piece(0, 3, 2), piece(2, 5, 3), piece(4, 6, 1), piece(5, 8, 9), piece(0, 1, 1), piece(0, 2, 2)] {
            core.push([piece], 1, None);
        }
        let offsets = [0, 2, 5, 6, 2, 3];
        // Item 1 is taken off, items 2 and 3 above it; items 4 and 5 are beside it.
        let peak = Peak::new(&core, &offsets, 4, 2, 6).unwrap();
        assert_eq!(peak.items, [1, 2, 3]);
        // Nothing is below item 1 but item 0, and the rest of its sections is filled up to the base.
        assert!(peak.floor.iter().all(|&height| height == 2));
        let pieces = (0..3).map(|item| peak.core.pieces(item)[0]);
        assert_eq!(pieces.collect::<Vec<_>>(), [piece(0, 1, 3), piece(0, 2, 1), piece(1, 2, 9)]);
        assert!(Peak::new(&core, &offsets, 4, 2, 2).is_none());
        assert!(Peak::new(&core, &offsets, 4, 7, 6).is_none());
        let peak = Peak::new(&core, &offsets, 1, 3, 6).unwrap();
        assert_eq!((peak.items, peak.floor), (vec![5], vec![3]));
    }

    #[test]
    fn sections_begin_where_the_floor_changes() {
        let piece = |start, end, size| Piece { start, end, size };
        let mut core = Core::new(9);
        for piece in [piece(1, 8, 1), piece(2, 4, 1), piece(5, 6, 1)] {
            core.push([piece], 1, None);
        }
        let (part, floor) = cut(&core, &[0, 1, 2], 1, vec![7, 7, 7, 7, 7, 7, 3]);
        let pieces = (0..3).map(|item| part.pieces(item)[0]);
        assert_eq!(pieces.collect::<Vec<_>>(), [piece(0, 4, 1), piece(0, 1, 1), piece(1, 2, 1)]);
        assert_eq!((part.sections(), floor), (4, vec![7, 7, 7, 3]));
    }
}
