//! What the tests share: how many cases they take, random problems, and plans that are judged.

use std::ops::Range;

use fastrand::Rng;
use tenzor_plan::{BufferSpec, Plan, Planner, Problem, validate};

/// How many cases a test takes where it takes `most` if nothing is said: as `TENZOR_TEST_OPS`, of a million, says.
pub(crate) fn cases(most: u64) -> u64 {
    std::env::var("TENZOR_TEST_OPS")
        .map_or(1_000_000, |ops| ops.parse::<u64>().unwrap())
        .saturating_mul(most)
        .div_ceil(1_000_000)
}

/// When a buffer is in use.
pub(crate) fn uses(spec: &BufferSpec) -> Vec<Range<u64>> {
    let mut uses = Vec::new();
    let mut begin = spec.lifetime.start;
    for gap in &spec.gaps {
        uses.push(begin..gap.start);
        begin = gap.end;
    }
    uses.push(begin..spec.lifetime.end);
    uses
}

pub(crate) fn meet(a: &BufferSpec, b: &BufferSpec) -> bool {
    let together = |a: &Range<u64>, b: &Range<u64>| a.start.max(b.start) < a.end.min(b.end);
    a.size > 0 && b.size > 0 && uses(a).iter().any(|a| uses(b).iter().any(|b| together(a, b)))
}

/// A small random problem of a kind: plain, or with alignments, gaps, fixed offsets, groups, spaces, or all of it.
pub(crate) fn random(rng: &mut Rng, kind: u32) -> Problem {
    let mut problem = Problem::new();
    let has = |feature: u32| kind == 6 || kind == feature;
    for _ in 0..rng.usize(1..=8) {
        let start = rng.u64(..10);
        let mut spec = BufferSpec::new(rng.u64(0..7), start..start + rng.u64(0..6));
        if has(1) {
            spec.alignment = [1, 1, 2, 3, 4][rng.usize(..5)];
        }
        if has(2) && rng.bool() {
            let mut time = spec.lifetime.start;
            while time < spec.lifetime.end && rng.u8(..4) > 0 {
                let gap = rng.u64(time..=spec.lifetime.end);
                time = rng.u64(gap..=spec.lifetime.end);
                spec = spec.with_gap(gap..time);
            }
        }
        if has(3) && rng.u8(..4) == 0 {
            spec.offset = Some(rng.u64(..10) * spec.alignment);
        }
        if has(4) && rng.bool() {
            spec.alias = Some(rng.u32(..3));
        }
        if has(5) {
            spec.space = spec.alias.unwrap_or_else(|| rng.u32(..3)) % 3;
        }
        // What the others do not agree with is left out.
        let _ = problem.push(spec);
    }
    problem
}

pub(crate) fn checked(problem: &Problem) -> Plan {
    let plan = Planner::new().plan(problem);
    if plan.is_feasible() {
        assert_eq!(validate(problem, plan.offsets()), Ok(()), "{problem:?}");
    }
    plan
}
