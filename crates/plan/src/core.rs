//! What the solvers see of a problem: items to be placed at an offset each, and nothing else.
//!
//! A buffer with gaps and a group of buffers that share their place are the same thing here: an item whose size depends on the time. It
//! consists of **pieces**, disjoint in time, each with a size; all stand on the item's offset. Times are numbers of **sections**,
//! the intervals between neighbouring instants at which anything begins or ends.

use std::ops::Range;

/// Something to be placed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    /// The first of its pieces, and the one behind its last. It has at least one.
    first: u32,
    last: u32,
    /// What the offset has to be a multiple of; at least 1.
    pub(crate) align: u64,
    /// Where it has to be, if that is given; a multiple of `align`.
    pub(crate) fixed: Option<u64>,
}

/// What an item occupies during some sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The first section, and the one behind the last; never empty.
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// At least 1.
    pub(crate) size: u64,
}

/// Items that share one space.
#[derive(Clone, Debug, Default)]
pub(crate) struct Core {
    items: Vec<Item>,
    pieces: Vec<Piece>,
    /// How many sections there are: every piece's `end` is at most this.
    sections: u32,
}

impl Core {
    pub(crate) fn new(sections: u32) -> Self {
        Self { sections, ..Self::default() }
    }

    /// Adds an item of at least one piece; they are disjoint and in the order of time, and touching ones differ in size.
    pub(crate) fn push(&mut self, pieces: impl IntoIterator<Item = Piece>, align: u64, fixed: Option<u64>) {
        let first = self.pieces.len();
        self.pieces.extend(pieces);
        debug_assert!(self.pieces.len() > first);
        self.items.push(Item { first: first as u32, last: self.pieces.len() as u32, align, fixed });
    }

    pub(crate) fn items(&self) -> &[Item] {
        &self.items
    }

    /// The pieces of an item.
    pub(crate) fn pieces(&self, item: usize) -> &[Piece] {
        let Item { first, last, .. } = self.items[item];
        &self.pieces[first as usize..last as usize]
    }

    /// From the first section of an item to the one behind its last, gaps included.
    pub(crate) fn span(&self, item: usize) -> Range<u32> {
        let pieces = self.pieces(item);
        pieces[0].start..pieces[pieces.len() - 1].end
    }

    /// The size of an item where that is greatest.
    pub(crate) fn tallest(&self, item: usize) -> u64 {
        self.pieces(item).iter().fold(0, |most, piece| piece.size.max(most))
    }

    pub(crate) fn sections(&self) -> u32 {
        self.sections
    }
}

/// The least multiple of `align` that is at least `offset`; `None` beyond what 64 bits hold.
pub(crate) fn align_up(offset: u64, align: u64) -> Option<u64> {
    offset.checked_next_multiple_of(align)
}

/// The greatest common divisor.
pub(crate) fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The least common multiple of two positive numbers; `None` beyond what 64 bits hold.
pub(crate) fn lcm(a: u64, b: u64) -> Option<u64> {
    (a / gcd(a, b)).checked_mul(b)
}
