//! What planning may take, and that nothing else decides what is found.

use std::ops::Range;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tenzor_plan::{BufferSpec, Plan, Planner, Problem, Status, validate};

use crate::common::{cases, checked, random};

/// Only the order of times counts. Those of `random` are so close to each other that they are looked up in a table, and then they are not.
#[test]
fn sparse_times_make_the_same_plan() {
    let mut rng = Rng::with_seed(8);
    for case in 0..cases(2000) {
        let problem = random(&mut rng, (case % 7) as u32);
        let shift = rng.u64(..1 << 60);
        let sparse = |time: u64| 1000 * time + shift;
        let mut other = Problem::new();
        for spec in problem.buffers() {
            let range = |range: &Range<u64>| sparse(range.start)..sparse(range.end);
            let (lifetime, gaps) = (range(&spec.lifetime), spec.gaps.iter().map(range).collect());
            let mut spec = spec.clone();
            (spec.lifetime, spec.gaps) = (lifetime, gaps);
            other.push(spec).unwrap();
        }
        let (plan, other) = (checked(&problem), checked(&other));
        assert_eq!(plan.offsets(), other.offsets(), "{problem:?}");
        for (space, other) in plan.spaces().iter().zip(other.spaces()) {
            let peak_time = if space.height > 0 { sparse(space.peak_time) } else { 0 };
            let mut space = *space;
            space.peak_time = peak_time;
            assert_eq!(space, *other);
        }
    }
}

#[test]
fn a_plan_is_the_same_each_time_and_ends_at_its_deadline() {
    let mut rng = Rng::with_seed(3);
    let mut problem = Problem::new();
    for _ in 0..300 {
        let start = rng.u64(..1000);
        problem.push(BufferSpec::new(rng.u64(1..1000), start..start + rng.u64(1..400))).unwrap();
    }
    let planner = Planner::new().with_effort(1 << 20).with_seed(7);
    let plan = planner.plan(&problem);
    assert_eq!(validate(&problem, plan.offsets()), Ok(()));
    assert_eq!(planner.plan(&problem), plan);
    let mut heights = Vec::new();
    let start = Instant::now();
    let deadline = Duration::from_millis(200);
    let endless = Planner::new().with_effort(u64::MAX).with_deadline(deadline);
    let plan = endless.plan_with(&problem, &mut |progress| heights.push((progress.height, progress.lower_bound)));
    assert_eq!(validate(&problem, plan.offsets()), Ok(()));
    // What it takes to notice, and a machine that does something else.
    assert!(plan.status() == Status::Optimal || start.elapsed() < 50 * deadline);
    assert!(heights.is_sorted_by(|a, b| a.0 >= b.0 && a.1 <= b.1) && heights.last().unwrap().0 == plan.height());
}

#[test]
fn an_exceeded_deadline_is_not_called_infeasible() {
    let mut rng = Rng::with_seed(4);
    let mut problem = Problem::new();
    for _ in 0..2000 {
        let start = rng.u64(..1000);
        problem.push(BufferSpec::new(rng.u64(1..1000), start..start + rng.u64(1..400))).unwrap();
    }
    let lower = checked_within(&problem, Duration::ZERO).spaces()[0].lower_bound;
    problem.set_capacity(0, Some(lower)).unwrap();
    let plan = checked_within(&problem, Duration::ZERO);
    let Status::Unknown { bracket: (least, height) } = plan.status() else { panic!("{:?}", plan.status()) };
    assert!(least == lower && height > lower && !plan.is_feasible());
}

/// The same buffers in a thousand spaces do not take a thousand times as long.
#[test]
fn many_spaces_are_planned_as_fast_as_one() {
    let fastest = |spaces: u32| {
        let mut problem = Problem::new();
        for index in 0..50_000 {
            problem.push(BufferSpec::new(64, index..index + 1).with_space(index as u32 % spaces)).unwrap();
        }
        let time = |_| {
            let start = Instant::now();
            assert_eq!(checked(&problem).height(), 64);
            start.elapsed()
        };
        (0..3).map(time).min().unwrap()
    };
    assert!(fastest(1 << 10) < 8 * fastest(1));
}

/// Three spaces with the same buffers, whose alignments leave every search something to do, and one of them.
fn copies() -> (Problem, Problem) {
    let mut rng = Rng::with_seed(7);
    let (mut three, mut one) = (Problem::new(), Problem::new());
    for _ in 0..200 {
        let start = rng.u64(..1000);
        let spec = BufferSpec::new(rng.u64(1..100), start..start + rng.u64(1..400)).with_alignment(rng.u64(1..9));
        one.push(spec.clone()).unwrap();
        for space in 0..3 {
            three.push(spec.clone().with_space(space)).unwrap();
        }
    }
    (three, one)
}

#[test]
fn spaces_share_the_effort() {
    let (three, one) = copies();
    let effort = 200_000;
    let alone = Planner::new().with_effort(effort).plan(&one).spaces()[0];
    assert!(alone.nodes > 0 && alone.status != Status::Optimal);
    let mut told = Vec::new();
    let plan = Planner::new().with_effort(3 * effort).plan_with(&three, &mut |progress| told.push(progress.space));
    assert_eq!(plan.spaces(), [alone; 3]);
    // None waits for a first answer until another one has its last.
    assert_eq!(told[..3], [0, 1, 2]);
}

/// A slow machine needs more time until each has begun its exact search; without turns, only the first one ever does.
#[test]
fn spaces_share_the_time() {
    let problem = copies().0;
    let all_searched = |milliseconds| {
        let plan = Planner::new().with_deadline(Duration::from_millis(milliseconds)).plan(&problem);
        plan.spaces().iter().all(|space| space.nodes > 0)
    };
    assert!([1000, 4000, 16_000].into_iter().any(all_searched));
}

fn checked_within(problem: &Problem, deadline: Duration) -> Plan {
    let plan = Planner::new().with_deadline(deadline).plan(problem);
    let mut unlimited = problem.clone();
    unlimited.set_capacity(0, None).unwrap();
    assert_eq!(validate(&unlimited, plan.offsets()), Ok(()));
    plan
}
