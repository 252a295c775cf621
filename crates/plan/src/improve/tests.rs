use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::*;
use crate::bound::{lower, max_live};
use crate::core::{Piece, align_up};

/// The heights that are found, ever lower, and the last offsets, which are valid.
fn run(core: &Core, items: u64, seed: u64) -> (Vec<u64>, Vec<u64>) {
    let mut budget = Budget { items, clock: Clock::default() };
    let mut heights = Vec::new();
    let found = improve(core, lower(core).unwrap_or(0), &mut budget, seed, &mut |height| {
        assert!(heights.last().is_none_or(|&last| height < last));
        heights.push(height);
    });
    let Some(Placement { offsets, height }) = found else {
        assert_eq!(heights, []);
        return (heights, Vec::new());
    };
    assert_eq!((heights.last(), height), (Some(&height), total(core, &offsets)));
    (heights, offsets)
}

/// The height of a placement, which is checked pair by pair.
fn total(core: &Core, offsets: &[u64]) -> u64 {
    let mut height = 0;
    for (item, of) in core.items().iter().enumerate() {
        assert!(offsets[item].is_multiple_of(of.align) && of.fixed.is_none_or(|fixed| fixed == offsets[item]));
        for piece in core.pieces(item) {
            height = height.max(offsets[item].checked_add(piece.size).unwrap());
        }
        assert!((0..item).all(|other| !overlap(core, offsets, item, other)), "{core:?} {offsets:?}");
    }
    height
}

fn overlap(core: &Core, offsets: &[u64], a: usize, b: usize) -> bool {
    core.pieces(a).iter().any(|p| {
        core.pieces(b).iter().any(|q| {
            let meet = p.start < q.end && q.start < p.end;
            meet && offsets[a] < offsets[b] + q.size && offsets[b] < offsets[a] + p.size
        })
    })
}

/// The least height of all. Some order, in which each item gets the lowest place, leads there: that of the offsets.
fn optimum(core: &Core, offsets: &mut Vec<u64>, placed: &mut Vec<usize>) -> u64 {
    if placed.len() == core.items().len() {
        return total(core, offsets);
    }
    let mut best = u64::MAX;
    let fixed_first =
        (0..core.items().len()).find(|item| core.items()[*item].fixed.is_some() && !placed.contains(item));
    for item in 0..core.items().len() {
        if placed.contains(&item) || fixed_first.is_some_and(|first| first != item) {
            continue;
        }
        offsets[item] = core.items()[item].fixed.unwrap_or(0);
        while placed.iter().any(|&other| overlap(core, offsets, item, other)) {
            offsets[item] = align_up(offsets[item] + 1, core.items()[item].align).unwrap();
        }
        placed.push(item);
        best = best.min(optimum(core, offsets, placed));
        placed.pop();
    }
    best
}

/// A random core; the greater `kind`, the stranger the items.
fn random_core(count: u64, sections: u64, kind: u64, random: &mut Random) -> Core {
    let mut core = Core::new(sections as u32);
    let mut floor = 0;
    for _ in 0..count {
        let mut start = random.below(sections) as u32;
        let mut pieces = Vec::new();
        loop {
            let end = start + 1 + random.below(sections - u64::from(start)) as u32;
            pieces.push(Piece { start, end, size: 1 + random.below(20) });
            start = end + random.below(2) as u32;
            if kind < 2 || u64::from(start) >= sections || random.below(2) == 0 {
                break;
            }
        }
        let align = if kind < 1 { 1 } else { [1, 2, 3, 4, 8][random.below(5) as usize] };
        let mut fixed = None;
        if kind >= 3 && random.below(4) == 0 {
            // Above all fixed ones so far, so that there is a placement.
            fixed = Some((floor + random.below(8)).next_multiple_of(align));
            floor = fixed.unwrap() + 20;
        }
        core.push(pieces, align, fixed);
    }
    core
}

#[test]
fn small_ones_are_valid_and_not_below_the_optimum() {
    let mut random = Random(1);
    let mut optimal = [0; 4];
    for round in 0..200 {
        let (count, sections) = (random.below(6), 1 + random.below(8));
        let core = random_core(count, sections, round % 4, &mut random);
        let best = optimum(&core, &mut vec![0; count as usize], &mut Vec::new());
        let bound = lower(&core).unwrap();
        assert!(max_live(&core).unwrap() <= bound && bound <= best, "{core:?}");
        let (heights, _) = run(&core, 2000, round);
        assert!(heights.last().unwrap() >= &best);
        optimal[(round % 4) as usize] += u32::from(heights.last() == Some(&best));
    }
    // With alignments that differ, not every optimum is found so soon.
    assert!(optimal[0] == 50 && optimal.iter().all(|&count| count >= 45), "{optimal:?}");
}

#[test]
fn larger_ones_are_valid_and_the_same_for_a_seed() {
    let mut random = Random(2);
    for round in 0..40 {
        let (count, sections) = (1 + random.below(120), 1 + random.below(100));
        let core = random_core(count, sections, round % 4, &mut random);
        let (heights, offsets) = run(&core, 8_000, round);
        assert!(*heights.last().unwrap() >= lower(&core).unwrap());
        assert_eq!((heights, offsets), run(&core, 8_000, round));
    }
}

#[test]
fn nothing_and_little() {
    assert_eq!(run(&Core::new(0), 1000, 0), (vec![0], vec![]));
    assert_eq!(run(&Core::new(5), 1000, 0), (vec![0], vec![]));
    let mut core = Core::new(3);
    core.push([Piece { start: 1, end: 2, size: 7 }], 64, Some(128));
    assert_eq!(run(&core, 1000, 0), (vec![135], vec![128]));
}

#[test]
fn what_64_bits_do_not_hold_is_not_found() {
    let half = 1 << 63;
    let core = |sizes: &[(u32, u64, u64)]| {
        let mut core = Core::new(3);
        for &(start, size, align) in sizes {
            core.push([Piece { start, end: start + 1, size }], align, None);
        }
        core
    };
    let apart = core(&[(0, u64::MAX, 1), (1, u64::MAX, 5), (2, u64::MAX, half)]);
    assert_eq!(run(&apart, 1000, 0), (vec![u64::MAX], vec![0; 3]));
    let fits = core(&[(0, half, half), (0, half - 1, half)]);
    assert_eq!(lower(&fits), Some(u64::MAX));
    assert_eq!(run(&fits, 1000, 0).0, [u64::MAX]);
    for none in [core(&[(0, half, 1), (0, half, 1)]), core(&[(0, half + 1, half), (0, half - 5, half)])] {
        assert_eq!((lower(&none), run(&none, 1000, 0).0), (None, vec![]));
    }
    let mut fixed = core(&[(0, 1, 1)]);
    fixed.push([Piece { start: 0, end: 1, size: 1 }], 1, Some(u64::MAX));
    assert_eq!((lower(&fixed), run(&fixed, 1000, 0).0), (None, vec![]));
}

#[test]
fn a_budget_ends_it() {
    let core = random_core(200, 100, 0, &mut Random(3));
    assert_eq!(run(&core, 0, 0).0.len(), 1);
    let stop = AtomicBool::new(true);
    let mut calls = 0;
    for (deadline, stop) in [(None, Some(&stop)), (Some(Instant::now()), None)] {
        let mut budget = Budget { items: u64::MAX, clock: Clock { deadline, stop } };
        improve(&core, 0, &mut budget, 0, &mut |_| calls += 1);
    }
    assert_eq!(calls, 2);
}

#[test]
fn random_intervals_are_dense() {
    let mut random = Random(4);
    let mut core = Core::new(8000);
    for _ in 0..4000 {
        let start = random.below(8000) as u32;
        let length = 1 + random.below(400);
        let end = (start + 1 + random.below(length) as u32).min(8000);
        core.push([Piece { start, end, size: 1 + random.below(1000) }], 1, None);
    }
    let least = lower(&core).unwrap();
    let height = *run(&core, 40_000, 0).0.last().unwrap();
    assert!(height <= least + least / 100, "{height} {least}");
}

#[test]
fn what_was_cut_fits_again() {
    let mut random = Random(5);
    let side = 1 << 11;
    let mut parts = vec![Piece { start: 0, end: side, size: u64::from(side) }];
    while parts.len() < 1000 {
        let part = random.below(parts.len() as u64) as usize;
        let Piece { start, end, size } = parts[part];
        if random.below(2) == 0 && end - start > 1 {
            let middle = start + 1 + random.below(u64::from(end - start - 1)) as u32;
            parts[part].end = middle;
            parts.push(Piece { start: middle, end, size });
        } else if size > 1 {
            parts[part].size = 1 + random.below(size - 1);
            parts.push(Piece { start, end, size: size - parts[part].size });
        }
    }
    let mut core = Core::new(side);
    parts.iter().for_each(|part| core.push([*part], 1, None));
    let height = *run(&core, 1_000_000, 0).0.last().unwrap();
    assert!(height <= u64::from(side + side / 100), "{height}");
}

#[test]
fn dolls_and_chains_are_dense() {
    // Each lives within the one before it; and each meets only the next one.
    let (mut dolls, mut chain) = (Core::new(4000), Core::new(4000));
    for item in 0..2000 {
        let size = 1 + u64::from(item % 7);
        dolls.push([Piece { start: item, end: 4000 - item, size }], 1, None);
        chain.push([Piece { start: item, end: item + 2, size }], 1, None);
    }
    for core in [dolls, chain] {
        assert_eq!(run(&core, 1_000_000, 0).0.last().copied(), max_live(&core));
    }
}
