//! The judge against planted mistakes and the definition.

use std::time::Instant;

use fastrand::Rng;
use tenzor_plan::{BufferSpec, Problem, Violation, validate};

use crate::common::{cases, meet, random};

#[test]
fn the_judge_notices_every_mistake() {
    let mut problem = Problem::new();
    problem.set_capacity(0, Some(100)).unwrap();
    for spec in [
        BufferSpec::new(40, 0..4).with_alignment(8),
        BufferSpec::new(20, 2..6).with_gap(3..5),
        BufferSpec::new(20, 3..5).with_offset(40),
        BufferSpec::new(10, 5..8).with_alias(1),
        BufferSpec::new(10, 5..9).with_alias(1),
        BufferSpec::new(10, 0..9).with_space(1),
    ] {
        problem.push(spec).unwrap();
    }
    let good = [0, 40, 40, 60, 60, 0];
    assert_eq!(validate(&problem, &good), Ok(()));
    let with = |index: usize, offset: u64| {
        let mut offsets = good;
        offsets[index] = offset;
        validate(&problem, &offsets)
    };
    assert_eq!(validate(&problem, &good[1..]), Err(Violation::Count));
    assert_eq!(with(0, 4), Err(Violation::Alignment(0)));
    assert_eq!(with(0, u64::MAX - 7), Err(Violation::Overflow(0)));
    assert_eq!(with(0, 64), Err(Violation::Capacity(0)));
    assert_eq!(with(0, 8), Err(Violation::Overlap(0, 1)));
    assert_eq!(with(1, 21), Err(Violation::Overlap(0, 1)));
    assert_eq!(with(2, 41), Err(Violation::Fixed(2)));
    assert_eq!(with(4, 61), Err(Violation::Alias(3, 4)));
    // Only the buffer's other use, behind its gap, meets the group.
    assert_eq!(with(1, 55), Err(Violation::Overlap(1, 3)));
    assert_eq!(with(5, 40), Ok(()));
}

/// The judge itself against the definition, on placements that are wrong more often than not.
#[test]
fn the_judge_agrees_with_the_definition() {
    let mut rng = Rng::with_seed(2);
    let mut good = 0;
    for case in 0..cases(100_000) {
        let problem = random(&mut rng, (case % 7) as u32);
        let mut offsets: Vec<u64> = Vec::new();
        for spec in problem.buffers() {
            // Most groups share their offset.
            let mut beside = offsets.iter().zip(problem.buffers());
            let other = beside.find(|(_, other)| spec.alias.is_some() && other.alias == spec.alias);
            let shared = other.map(|(&offset, _)| offset).filter(|_| rng.u8(..10) > 0);
            offsets.push(spec.offset.or(shared).unwrap_or_else(|| rng.u64(..12)));
        }
        let buffers = problem.buffers();
        let is_wrong = (0..buffers.len()).any(|a| {
            let (spec, at) = (&buffers[a], offsets[a]);
            !at.is_multiple_of(spec.alignment)
                || (0..a).any(|b| {
                    let (other, beside) = (&buffers[b], offsets[b]);
                    let one_group = spec.alias.is_some() && spec.alias == other.alias;
                    let overlap = at < beside + other.size && beside < at + spec.size;
                    if one_group { at != beside } else { spec.space == other.space && meet(spec, other) && overlap }
                })
        });
        assert_eq!(validate(&problem, &offsets).is_err(), is_wrong, "{problem:?} at {offsets:?}");
        good += u32::from(!is_wrong);
    }
    assert!(good > 0);
}

/// A group of a hundred thousand buffers, all alive together, takes no longer than as many that lie above one another.
#[test]
fn the_judge_takes_large_groups() {
    let count = 100_000;
    let fastest = |is_group: bool| {
        let mut problem = Problem::new();
        for index in 0..count {
            let mut spec = BufferSpec::new(1 + index % 7, index..2 * count - index);
            spec.alias = is_group.then_some(1);
            problem.push(spec).unwrap();
        }
        let offsets: Vec<u64> = (0..count).map(|index| if is_group { 0 } else { 7 * index }).collect();
        let time = |_| {
            let start = Instant::now();
            assert_eq!(validate(&problem, &offsets), Ok(()));
            start.elapsed()
        };
        (0..3).map(time).min().unwrap()
    };
    assert!(fastest(true) < 16 * fastest(false));
}
