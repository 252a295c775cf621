//! When a step follows a plan, and what it needs then.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::taken;
use fastrand::Rng;
use tenzor_memory::allocator_api2::vec::Vec as AllocVec;
use tenzor_memory::{PlannedAllocator, TensorAllocator};
use tenzor_plan::Planner;

use super::program::{Model, Op, cases, planned, renamed, script};

#[test]
fn steps_are_followed_from_the_third_on_in_the_memory_they_need() {
    let mut rng = Rng::with_seed(1);
    for escapes in [false, true] {
        for _ in 0..20 {
            let alloc = planned();
            let mut model = Model::new(&alloc);
            let ops = script(&mut rng, 60, escapes);
            let mut kept = None;
            for round in 0..10 {
                let ops = renamed(&ops, round);
                model.step(&ops);
                let escaped = model.names.keys().next_back().copied().filter(|_| escapes);
                if let Some(name) = std::mem::replace(&mut kept, escaped) {
                    model.free(name);
                }
                let stats = alloc.stats();
                assert_eq!((stats.steps, stats.followed), (u64::from(round) + 1, u64::from(round).saturating_sub(1)));
                if round >= 2 {
                    let reserved = alloc.upstream().stats().reserved_bytes;
                    let beside = if escapes { 2 * 5120 } else { 0 };
                    assert!(reserved <= stats.height + beside, "{reserved} for a height of {}", stats.height);
                }
            }
            assert_eq!((alloc.stats().plans, alloc.stats().departed), (1, 0));
            model.finish();
        }
    }
}

#[test]
fn cleared_plans_leave_nothing_behind() {
    let alloc = PlannedAllocator::default();
    let step = || alloc.step(|alloc| drop((alloc.alloc_filled(1000, 1_u8), alloc.alloc_filled(5000, 2_u8))));
    let held = || (taken(&alloc), alloc.stats().height);
    for round in 1..4 {
        (0..3).for_each(|_| step());
        assert_eq!((alloc.stats().followed, held()), (2 * round - 1, (6080, 6080)));
        alloc.clear_plans();
        assert_eq!(held(), (0, 0));
        (0..3).for_each(|_| step());
        alloc.step(|alloc| {
            let first = alloc.alloc_filled(1000, 1_u8).unwrap();
            alloc.clear_plans();
            // The block is still there for what lies in it.
            assert_eq!(held(), (6080, 0));
            assert!(first.iter().all(|&byte| byte == 1));
        });
        assert_eq!((alloc.stats().departed, held()), (round, (0, 0)));
    }
}

#[test]
fn what_escapes_does_not_keep_steps_from_being_followed() {
    let alloc = planned();
    let step = |escapes: bool| {
        let followed = alloc.stats().followed;
        let escaped = alloc.step(|alloc| {
            let escaped = alloc.alloc_filled(1000, 7_u8).unwrap();
            drop(alloc.alloc_filled(5000, 8_u8).unwrap());
            escapes.then_some(escaped)
        });
        (escaped, alloc.stats().followed > followed)
    };
    // How many steps pass until one is followed.
    let recovery = || (0..20).position(|_| step(false).1);
    let blocks = || taken(&alloc) / alloc.stats().height;
    assert_eq!(recovery(), Some(2));
    let (first, _) = step(true);
    assert_eq!((recovery(), blocks()), (Some(8), 2));
    // No third block.
    let (second, _) = step(true);
    assert_eq!((recovery(), blocks()), (None, 2));
    assert!(first.iter().flatten().all(|&byte| byte == 7));
    drop(first);
    assert_eq!((blocks(), recovery(), blocks()), (1, Some(0), 2));
    assert!(second.iter().flatten().all(|&byte| byte == 7));
    drop(second);
    assert_eq!((recovery(), blocks()), (Some(0), 1));
}

#[test]
fn shapes_that_take_turns_have_a_plan_each() {
    let mut rng = Rng::with_seed(4);
    for _ in 0..cases(50) {
        let alloc = planned();
        let mut model = Model::new(&alloc);
        // They begin alike.
        let shared = script(&mut rng, 10, true);
        let shapes: Vec<_> = (0..4)
            .map(|_| {
                let mut ops = shared.clone();
                ops.extend(renamed(&script(&mut rng, 20, false), 1));
                ops.extend((0..10).map(|name| Op::Free { name }).filter(|op| !shared.contains(op)));
                ops
            })
            .collect();
        for round in 0..40 {
            model.step(&renamed(&shapes[round as usize % 4], 2 * round));
            model.run(&[]);
        }
        let stats = alloc.stats();
        assert_eq!((stats.plans, stats.followed), (4, 32), "{stats:?}");
        model.finish();
    }
}

#[test]
fn a_planner_of_ones_own_makes_the_plans() {
    let mut rng = Rng::with_seed(11);
    let (mut lowest, mut first) = (0, 0);
    for _ in 0..cases(20).max(10) {
        let ops = script(&mut rng, 60, false);
        let height = |alloc: &PlannedAllocator| {
            let mut model = Model::new(alloc);
            for round in 0..3 {
                model.step(&renamed(&ops, round));
            }
            assert_eq!(alloc.stats().followed, 1);
            alloc.stats().height
        };
        lowest += height(&planned());
        first += height(&PlannedAllocator::with_planner(TensorAllocator::new(), Planner::new().with_effort(0)));
    }
    assert!(lowest < first, "{lowest} with some effort, {first} without");
}

#[test]
fn after_it_has_changed_for_good_a_step_is_planned_anew() {
    let mut rng = Rng::with_seed(5);
    let alloc = planned();
    let mut model = Model::new(&alloc);
    for change in 0..20 {
        let ops = script(&mut rng, 40, false);
        for round in 0..5 {
            model.step(&renamed(&ops, round));
        }
        assert_eq!(alloc.stats().followed, 3 * (change + 1));
    }
    model.finish();
}

#[test]
fn a_panic_ends_the_step() {
    let alloc = planned();
    for round in 0..6 {
        let step = AssertUnwindSafe(|| {
            alloc.step(|alloc| {
                let _buffer = alloc.alloc_filled(100, 1_u8).unwrap();
                let _other = alloc.alloc_filled(100, 1_u8).unwrap();
                if round % 2 == 1 {
                    std::panic::resume_unwind(Box::new(()));
                }
            });
        });
        assert_eq!(catch_unwind(step).is_err(), round % 2 == 1);
    }
    let stats = alloc.stats();
    assert_eq!((stats.steps, stats.followed, stats.plans), (6, 4, 1));
    // Outside of steps the pool serves.
    let outside = alloc.alloc::<u8>(100).unwrap();
    assert_eq!(taken(&alloc), 100 + stats.height);
    drop(outside);
}

#[test]
fn containers_and_zeroed_requests_work_in_steps() {
    let alloc = planned();
    for _ in 0..5 {
        alloc.step(|alloc| {
            let mut numbers = AllocVec::new_in(alloc.allocator());
            numbers.extend(0..1000);
            numbers.truncate(10);
            numbers.shrink_to_fit();
            let zeros = alloc.alloc_zeroed::<u64>(1000).unwrap();
            assert!(zeros.iter().all(|&zero| zero == 0));
            let mut ones = alloc.alloc_filled(1000, u64::MAX).unwrap();
            ones[0] = 1;
            drop(zeros);
            assert!(numbers.iter().copied().eq(0..10));
            alloc.step(|alloc| drop(alloc.alloc::<u64>(0)));
        });
    }
    assert_eq!(alloc.stats().followed, 3);
    assert_eq!(taken(&alloc), alloc.stats().height);
    fn is_send<T: Send>(_: &T) {}
    is_send(&alloc);
}

#[test]
fn a_buffer_may_leave_its_step() {
    let alloc = planned();
    let mut before = None;
    for round in 0..10_u8 {
        let left = alloc.step(|alloc| {
            let _hidden = alloc.alloc_filled(1000, 0_u8).unwrap();
            let left = alloc.alloc_filled(1000, round).unwrap();
            drop(alloc.alloc_filled(1000, u8::MAX).unwrap());
            left
        });
        assert!(before.replace(left).is_none_or(|before| before.iter().all(|&byte| byte + 1 == round)));
    }
    assert_eq!(alloc.stats().followed, 8);
}
