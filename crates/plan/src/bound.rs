//! Lower bounds of the height.

use std::cmp::Reverse;
use std::ops::Range;

use super::core::{Core, Piece, gcd};

/// A height that no placement is below; `None` if 64 bits do not hold it, and there is no placement.
///
/// It is at least what is live in any section, and where a fixed item ends. Alignment proves more. Let `unit` divide all alignments:
/// then it divides all offsets. In one section, take the items from the lowest to the highest. Each but the last ends at or below
/// the next offset and so, with what it keeps others from, takes its size rounded up to a multiple of `unit` at least; only the last
/// one can do with its mere size. So the height is at least the sum of the rounded sizes less the most that rounding adds to any
/// one of them.
pub(crate) fn lower(core: &Core) -> Option<u64> {
    let unit = core.items().iter().fold(0, |unit, item| gcd(unit, item.align)).max(1);
    let padding = |size: u64| (unit - 1) - (size - 1) % unit;
    let saved = match unit {
        1 => Vec::new(),
        _ => maxima(core.sections(), pieces(core).map(|(_, piece)| (piece.start..piece.end, padding(piece.size)))),
    };
    let mut most = 0;
    let mut sum = 0i128;
    let changes = changes(core, |_, size| i128::from(size) + i128::from(padding(size)));
    for (section, change) in changes.into_iter().enumerate() {
        sum += change;
        most = most.max(sum - saved.get(section).map_or(0, |&saved| i128::from(saved)));
    }
    for (item, piece) in pieces(core) {
        most = most.max(i128::from(core.items()[item].fixed.unwrap_or(0)) + i128::from(piece.size));
    }
    u64::try_from(most).ok()
}

/// The most live bytes of any section; `None` if 64 bits do not hold them.
#[cfg(test)]
pub(crate) fn max_live(core: &Core) -> Option<u64> {
    let mut sum = 0;
    let sums = changes(core, |_, size| i128::from(size)).into_iter().map(|change| {
        sum += change;
        sum
    });
    u64::try_from(sums.max().unwrap_or(0)).ok()
}

/// The live bytes of each section, of the items that count. Sums that 64 bits do not hold are the greatest number.
pub(crate) fn live(core: &Core, counts: impl Fn(usize) -> bool) -> Vec<u64> {
    let mut sum = 0;
    let mut changes = changes(core, |item, size| if counts(item) { i128::from(size) } else { 0 });
    changes.pop();
    let sums = changes.into_iter().map(|change| {
        sum += change;
        u64::try_from(sum).unwrap_or(u64::MAX)
    });
    sums.collect()
}

/// How much more each section has than the one before it, with one section of nothing at the end. 128 bits hold the sizes of
/// 2^32 pieces.
fn changes(core: &Core, size: impl Fn(usize, u64) -> i128) -> Vec<i128> {
    let mut changes = vec![0; core.sections() as usize + 1];
    for (item, piece) in pieces(core) {
        let size = size(item, piece.size);
        changes[piece.start as usize] += size;
        changes[piece.end as usize] -= size;
    }
    changes
}

/// All pieces, with their items.
fn pieces(core: &Core) -> impl Iterator<Item = (usize, &Piece)> {
    (0..core.items().len()).flat_map(|item| core.pieces(item).iter().map(move |piece| (item, piece)))
}

/// The greatest number of each section, of numbers that hold for ranges of sections; 0 where none holds.
pub(crate) fn maxima(sections: u32, ranges: impl Iterator<Item = (Range<u32>, u64)>) -> Vec<u64> {
    let mut ranges: Vec<(Range<u32>, u64)> = ranges.filter(|(_, number)| *number > 0).collect();
    ranges.sort_unstable_by_key(|(_, number)| Reverse(*number));
    let mut maxima = vec![0; sections as usize];
    // From each section, the way to the first one that has no number yet: the greatest comes first, and stays.
    let mut free: Vec<u32> = (0..=sections).collect();
    for (range, number) in ranges {
        let mut at = find(&mut free, range.start);
        while at < range.end {
            maxima[at as usize] = number;
            free[at as usize] = at + 1;
            at = find(&mut free, at);
        }
    }
    maxima
}

/// Where the way from here ends, which gets shorter by being gone.
fn find(next: &mut [u32], mut at: u32) -> u32 {
    while next[at as usize] != at {
        let ahead = next[next[at as usize] as usize];
        next[at as usize] = ahead;
        at = ahead;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core(pieces: &[(u32, u32, u64, u64, Option<u64>)]) -> Core {
        let mut core = Core::new(4);
        for &(start, end, size, align, fixed) in pieces {
            core.push([Piece { start, end, size }], align, fixed);
        }
        core
    }

    #[test]
    fn the_last_one_needs_no_padding() {
        // Section 1 has 5, 3, and 8: at best 4 + 8 + 5, with the 5 on top.
        let padded = core(&[(0, 2, 5, 4, None), (1, 2, 3, 4, None), (1, 4, 8, 4, None), (3, 4, 5, 8, None)]);
        assert_eq!((max_live(&padded), lower(&padded)), (Some(16), Some(17)));
        // Only what divides all alignments counts.
        let mixed = core(&[(0, 2, 5, 4, None), (0, 2, 3, 9, None)]);
        assert_eq!((max_live(&mixed), lower(&mixed)), (Some(8), Some(8)));
    }

    #[test]
    fn fixed_ones_end_where_they_end() {
        assert_eq!(lower(&core(&[(0, 1, 5, 1, None), (1, 2, 5, 1, Some(7))])), Some(12));
        assert_eq!(lower(&core(&[(1, 2, 5, 1, Some(u64::MAX - 4))])), None);
        assert_eq!(lower(&core(&[(1, 2, 5, 1, Some(u64::MAX - 5))])), Some(u64::MAX));
    }

    #[test]
    fn sums_are_those_of_sections() {
        let most = u64::MAX;
        let apart = core(&[(0, 1, most, 1, None), (1, 2, most, 1, None), (2, 4, 3, 1, None)]);
        assert_eq!((max_live(&apart), lower(&apart)), (Some(most), Some(most)));
        assert_eq!(live(&apart, |item| item != 1), [most, 0, 3, 3]);
        let together = core(&[(0, 2, most, 1, None), (1, 2, 1, 1, None)]);
        assert_eq!((max_live(&together), lower(&together)), (None, None));
        assert_eq!((max_live(&Core::new(0)), lower(&Core::new(9))), (Some(0), Some(0)));
    }

    #[test]
    fn maxima_are_those_of_each_section() {
        assert_eq!(maxima(6, [(1..4, 3), (0..2, 1), (3..5, 7), (2..6, 0)].into_iter()), [1, 3, 3, 7, 7, 0]);
    }
}
