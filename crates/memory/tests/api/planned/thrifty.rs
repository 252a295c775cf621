//! What others had given back is not taken again for a step that does not need it.

use super::program::{Model, Op, cases, renamed, script};
use super::taken;
use fastrand::Rng;
use tenzor_memory::{Budget, PlannedAllocator, System, TensorAllocator};

const MIB: usize = 1 << 20;

#[test]
fn law_13_a_small_step_takes_no_large_block() {
    let budget = Budget::new_in("all", 512 * MIB, System);
    let planned = PlannedAllocator::new(TensorAllocator::new_in(budget.clone()));
    let large = || planned.step(|alloc| drop((alloc.alloc::<u8>(200 * MIB), alloc.alloc::<u8>(100 * MIB))));
    let small = || planned.step(|alloc| drop(alloc.alloc_filled(64, 1_u8)));
    for step in [&large as &dyn Fn(), &small, &large, &small, &large] {
        step();
    }
    assert_eq!((planned.stats().plans, planned.stats().height), (2, 300 * MIB));
    // Others need it …
    for round in 0..3 {
        let other = TensorAllocator::new_in(budget.clone());
        assert!(other.alloc::<u8>(400 * MIB).is_ok());
        drop(other);
        // … and a small step does not take it again, whatever was planned before.
        let followed = planned.stats().followed;
        for _ in 0..3 {
            small();
            assert!(budget.usage().granted < MIB, "round {round}: {}", budget.usage());
        }
        planned.step(|alloc| drop(alloc.alloc_filled(1000 + round, 1_u8)));
        assert!(budget.usage().granted < MIB);
        assert_eq!(planned.stats().followed, followed + 3);
        large();
        small();
        assert_eq!((planned.stats().followed, planned.stats().height), (followed + 5, 300 * MIB));
    }
}

/// Steps of several shapes in any order, while others have the block given back now and then.
#[test]
fn law_13_steps_take_what_they_need_of_what_was_given_back() {
    let mut rng = Rng::with_seed(3);
    let mut followed = 0;
    for _ in 0..cases(300) {
        let shapes: Vec<_> = (0..4)
            .map(|shape| {
                let mut ops = script(&mut rng, 1 << (2 * shape), false);
                // The first request tells which one it is.
                ops[0] = Op::Request { name: 0, size: 200 + shape as usize, align: 64 };
                ops
            })
            .collect();
        let heights: Vec<usize> = shapes
            .iter()
            .map(|ops| {
                let alone = PlannedAllocator::new(TensorAllocator::new_in(System));
                let mut model = Model::new(&alone);
                (0..3).for_each(|round| model.step(&renamed(ops, round)));
                model.finish();
                alone.stats().height
            })
            .collect();
        let alloc = PlannedAllocator::new(TensorAllocator::new_in(System));
        let mut model = Model::new(&alloc);
        let mut most = usize::MAX;
        for round in 0..60 {
            let shape = rng.usize(..4);
            if round > 12 && rng.u8(..) < 100 {
                alloc.upstream().trim(0);
                assert_eq!(taken(&alloc), 0);
                most = 0;
            }
            model.step(&renamed(&shapes[shape], round));
            // Planned from its third round on, all shapes were seen twice by then but rarely.
            most = most.max(heights[shape]);
            assert!(alloc.stats().height <= most, "{} of {most}", alloc.stats().height);
            assert_eq!(taken(&alloc), alloc.stats().height);
        }
        followed += alloc.stats().followed;
        model.finish();
    }
    assert!(followed > cases(300) * 40, "{followed}");
}
