//! What does not change about the items during a search.

use crate::core::{Core, Item, Piece};

/// What does not change about an item.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fact {
    pub(super) start: u32,
    pub(super) end: u32,
    /// Whether it has but one piece.
    pub(super) plain: bool,
    /// The same for items that can be exchanged.
    pub(super) kind: u32,
    pub(super) align: u64,
    /// The size of its largest piece.
    pub(super) size: u64,
    /// That of its fullest section, before any move.
    pub(super) load: u64,
    /// The greatest bound that is not too high.
    pub(super) limit: u64,
}

/// The facts of all items; `None` if a single item or a section has no room.
pub(super) fn facts(core: &Core, capacity: u64) -> Option<Vec<Fact>> {
    let count = core.items().len();
    let mut loads = vec![0_u64; core.sections() as usize];
    for piece in (0..count).flat_map(|item| core.pieces(item)) {
        for load in &mut loads[piece.start as usize..piece.end as usize] {
            *load = load.checked_add(piece.size).filter(|&load| load <= capacity)?;
        }
    }
    let mut facts = Vec::with_capacity(count);
    for (number, item) in core.items().iter().enumerate() {
        let (pieces, span) = (core.pieces(number), core.span(number));
        let size = pieces.iter().map(|piece| piece.size).max().unwrap_or(0);
        let highest = capacity.checked_sub(size)?;
        let limit = item.fixed.unwrap_or(highest);
        if limit > highest {
            return None;
        }
        let plain = pieces.len() == 1;
        let crossed = pieces.iter().flat_map(|piece| &loads[piece.start as usize..piece.end as usize]);
        let load = crossed.copied().max().unwrap_or(0);
        facts.push(Fact { start: span.start, end: span.end, plain, kind: 0, align: item.align, size, load, limit });
    }
    find_kinds(core, &mut facts);
    Some(facts)
}

/// Gives those of the same pieces, alignment and fixed offset the same kind.
fn find_kinds(core: &Core, facts: &mut [Fact]) {
    let shape = |&item: &u32| {
        let key = |piece: &Piece| (piece.start, piece.end, piece.size);
        let Item { align, fixed, .. } = core.items()[item as usize];
        (align, fixed, core.pieces(item as usize).iter().map(key))
    };
    let mut order: Vec<u32> = (0..facts.len() as u32).collect();
    order.sort_by(|a, b| {
        let ((align, fixed, pieces), (other_align, other_fixed, others)) = (shape(a), shape(b));
        (align, fixed).cmp(&(other_align, other_fixed)).then_with(|| pieces.cmp(others))
    });
    for place in 1..order.len() {
        let (before, item) = (order[place - 1], order[place]);
        let ((align, fixed, pieces), (other_align, other_fixed, others)) = (shape(&before), shape(&item));
        let alike = (align, fixed) == (other_align, other_fixed) && pieces.eq(others);
        facts[item as usize].kind = if alike { facts[before as usize].kind } else { place as u32 };
    }
}
