//! Pages and units by number: the parts of a range, and the bits of its pages.

use std::iter;
use std::ops::Range;

use crate::heap::classes::PAGE;
use crate::os::HUGE;

/// Pages in a unit.
pub(crate) const UNIT: u32 = (HUGE / PAGE) as u32;

/// Words of bits, one a page, in a unit.
pub(crate) const WORDS: usize = UNIT as usize / 64;

/// The most pages and units there can be: 4 TiB.
pub(crate) const PAGES: usize = 1 << 30;
pub(crate) const UNITS: usize = PAGES / UNIT as usize;

/// The bits of one word that belong to pages of one unit.
pub(crate) fn mask(word: usize, pages: &Range<u32>) -> u64 {
    let start = word as u32 * 64;
    let low = pages.start.clamp(start, start + 64) - start;
    let high = pages.end.clamp(start, start + 64) - start;
    if low == high { 0 } else { (u64::MAX >> (64 - (high - low))) << low }
}

/// The parts of a range by unit: the unit, and which of its pages.
#[inline]
pub(crate) fn parts(mut pages: Range<u32>) -> impl Iterator<Item = (u32, Range<u32>)> {
    iter::from_fn(move || {
        let (start, unit) = (pages.start, pages.start / UNIT);
        let first = unit * UNIT;
        pages.start = pages.end.min(first + UNIT);
        (start < pages.end).then(|| (unit, start - first..pages.start - first))
    })
}

/// The units that a range has a part of.
#[inline]
pub(crate) fn units(pages: &Range<u32>) -> Range<u32> {
    pages.start / UNIT..pages.end.div_ceil(UNIT)
}

/// The units that lie in a range as a whole.
#[inline]
pub(crate) fn whole_units(pages: &Range<u32>) -> Range<u32> {
    let first = pages.start.div_ceil(UNIT);
    first..(pages.end / UNIT).max(first)
}

/// The pages of a unit.
pub(crate) fn pages_of(unit: u32) -> Range<u32> {
    unit * UNIT..unit * UNIT + UNIT
}

/// Does something with each word that holds bits of some pages of one unit, and these bits.
#[inline]
pub(crate) fn each_mask(pages: Range<u32>, mut act: impl FnMut(usize, u64)) {
    debug_assert!(pages.start <= pages.end && pages.end <= UNIT);
    let (first, last) = (pages.start as usize / 64, pages.end as usize / 64);
    let mut mask = u64::MAX << (pages.start % 64);
    for word in first..last {
        act(word, mask);
        mask = u64::MAX;
    }
    if !pages.end.is_multiple_of(64) {
        act(last, mask & !(u64::MAX << (pages.end % 64)));
    }
}

/// Whether some bits for pages of one unit are set, in words of which `bits` tells.
#[inline]
pub(super) fn any(pages: Range<u32>, bits: impl Fn(usize) -> u64) -> bool {
    let mut found = 0;
    each_mask(pages, |word, mask| found |= bits(word) & mask);
    found != 0
}
