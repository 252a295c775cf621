use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::*;
use crate::core::{Item, Piece};

fn core(sections: u32, items: &[(u32, u32, u64)]) -> Core {
    let mut core = Core::new(sections);
    for &(start, end, size) in items {
        core.push([Piece { start, end, size }], 1, None);
    }
    core
}

/// Whether an item has its place at `offset`, given those of the items before it.
fn has_room(core: &Core, offsets: &[u64], item: usize, offset: u64, capacity: u64) -> bool {
    let clear = |piece: &Piece, other: usize| {
        core.pieces(other).iter().all(|against| {
            let apart = piece.end <= against.start || against.end <= piece.start;
            apart || offset + piece.size <= offsets[other] || offsets[other] + against.size <= offset
        })
    };
    let Item { align, fixed, .. } = core.items()[item];
    offset.is_multiple_of(align)
        && fixed.is_none_or(|fixed| fixed == offset)
        && core
            .pieces(item)
            .iter()
            .all(|piece| piece.size + offset <= capacity && (0..item).all(|other| clear(piece, other)))
}

/// Tries all offsets of all items.
fn is_possible(core: &Core, capacity: u64, offsets: &mut Vec<u64>) -> bool {
    let item = offsets.len();
    item == core.items().len()
        || (0..=capacity).any(|offset| {
            has_room(core, offsets, item, offset, capacity) && {
                offsets.push(offset);
                let found = is_possible(core, capacity, offsets);
                offsets.pop();
                found
            }
        })
}

/// Something small, with alignments, gaps, fixed offsets and items of the same kind in half of the cases each.
fn random(seed: u64) -> (Core, u64) {
    let mut state = seed;
    let mut below = |end: u64| {
        state = mix(state);
        state % end
    };
    let (sections, capacity, features) = (1 + below(6), 3 + below(11), below(16));
    let (count, largest) = (1 + below(7), 1 + below(capacity.min(7)));
    let mut core = Core::new(sections as u32);
    for _ in 0..count {
        let align = if features & 1 == 0 { 1 } else { 1 + below(4) };
        let fixed = (features & 2 != 0 && below(3) == 0).then(|| below(capacity / align + 1) * align);
        let mut pieces: Vec<Piece> = Vec::new();
        let mut start = below(sections);
        while start < sections && (pieces.is_empty() || features & 4 != 0) {
            let end = start + 1 + below(sections - start);
            let piece = Piece { start: start as u32, end: end as u32, size: 1 + below(largest) };
            if pieces.last().is_none_or(|last| last.end < piece.start || last.size != piece.size) {
                pieces.push(piece);
            }
            start = end + below(3);
        }
        let times = if features & 8 != 0 && below(3) == 0 { 2 } else { 1 };
        for _ in 0..times {
            core.push(pieces.iter().copied(), align, fixed);
        }
    }
    (core, capacity)
}

#[test]
fn agrees_with_trying_everything() {
    let mut possible = 0;
    let cases = 4000;
    // The last two are rare ones that need `rest` and `second` to be what they are.
    for seed in (0..cases).chain([4503, 8675]) {
        let (core, capacity) = random(seed);
        let mut budget = Quota { seed: seed % 3, ..Quota::new(1 << 24) };
        match fit(&core, capacity, &mut budget) {
            Verdict::Placed(offsets) => {
                let valid = |item| has_room(&core, &offsets, item, offsets[item], capacity);
                assert!((0..offsets.len()).all(valid), "{core:?} {capacity} {offsets:?}");
                possible += 1;
            }
            Verdict::Impossible => assert!(!is_possible(&core, capacity, &mut Vec::new()), "{core:?} {capacity}"),
            Verdict::GaveUp => panic!("{core:?} {capacity}"),
        }
    }
    assert!(possible > cases / 4 && possible < 3 * cases / 4);
}

#[test]
fn nothing_fits_anywhere() {
    assert_eq!(fit(&Core::new(0), 0, &mut Quota::new(0)), Verdict::Placed(Vec::new()));
}

#[test]
fn sums_beyond_64_bits_do_not_fit() {
    let core = core(1, &[(0, 1, u64::MAX), (0, 1, 1)]);
    assert_eq!(fit(&core, u64::MAX, &mut Quota::new(1000)), Verdict::Impossible);
}

#[test]
fn all_of_64_bits_may_be_used() {
    let core = core(3, &[(0, 2, u64::MAX - 7), (1, 3, 7), (2, 3, 1)]);
    assert!(matches!(fit(&core, u64::MAX, &mut Quota::new(1000)), Verdict::Placed(_)));
}

#[test]
fn an_offset_that_is_too_high_for_its_alignment_is_none() {
    let mut core = Core::new(1);
    core.push([Piece { start: 0, end: 1, size: 1 }], 1, Some(u64::MAX - 1));
    core.push([Piece { start: 0, end: 1, size: u64::MAX - 2 }], u64::MAX, None);
    core.push([Piece { start: 0, end: 1, size: 1 }], 3, None);
    assert_eq!(fit(&core, u64::MAX, &mut Quota::new(1000)), Verdict::Impossible);
}

#[test]
fn the_load_may_not_be_reached() {
    let mut core = core(1, &[(0, 1, 2)]);
    core.push([Piece { start: 0, end: 1, size: 1 }], 1, Some(1));
    assert_eq!(fit(&core, 3, &mut Quota::new(1000)), Verdict::Impossible);
    assert_eq!(fit(&core, 4, &mut Quota::new(1000)), Verdict::Placed(vec![2, 1]));
}

#[test]
fn parts_are_solved_for_themselves() {
    let items: Vec<_> = (0..100).map(|number| (2 * number, 2 * number + 2, 1 + u64::from(number) % 3)).collect();
    let mut budget = Quota::new(1 << 24);
    assert_eq!(fit(&core(200, &items), 3, &mut budget), Verdict::Placed(vec![0; 100]));
    assert_eq!(budget.nodes, 100);
}

#[test]
fn a_budget_ends_the_search() {
    let core = core(1, &[(0, 1, 1), (0, 1, 1), (0, 1, 1)]);
    let nodes = |looks| {
        let mut budget = Quota::new(looks);
        let verdict = fit(&core, 3, &mut budget);
        assert_eq!(matches!(verdict, Verdict::Placed(_)), budget.looks > 0);
        budget.nodes
    };
    assert_eq!((nodes(0), nodes(1000)), (0, 3));
    assert!((1..1000).all(|looks| nodes(looks - 1) <= nodes(looks)));
    let stop = AtomicBool::new(true);
    let stopped = Quota { clock: Clock { stop: Some(&stop), ..Clock::default() }, ..Quota::new(1000) };
    let late = Quota { clock: Clock { deadline: Some(Instant::now()), ..Clock::default() }, ..Quota::new(1000) };
    for mut budget in [stopped, late] {
        assert_eq!(fit(&core, 3, &mut budget), Verdict::GaveUp);
    }
    assert!(matches!(fit(&core, 3, &mut Quota::new(1000)), Verdict::Placed(_)));
}

#[test]
fn more_bounds_than_can_be_remembered_end_the_search() {
    let count = 4000;
    let items: Vec<_> = (1..=count).rev().map(|size| (0, 1, size)).collect();
    let core = core(1, &items);
    let mut search = Search::new(&core, count * (count + 1) / 2).unwrap();
    let mut budget = Quota::new(u64::MAX);
    assert_eq!(search.solve(0, items.len(), &mut budget), None);
    assert!(search.state.trail.capacity() < 3 * BOUNDS_KEPT);
}

#[test]
fn the_lengths_of_runs() {
    let first: Vec<u64> = (1..=15).map(luby).collect();
    assert_eq!(first, [1, 1, 2, 1, 1, 2, 4, 1, 1, 2, 1, 1, 2, 4, 8]);
}
