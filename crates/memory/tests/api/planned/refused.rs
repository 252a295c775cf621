//! Requests and blocks that are refused: a block is never the reason why a program gets less.

use std::alloc::Layout;
use std::cell::Cell;
use std::ptr::NonNull;

use super::taken;
use fastrand::Rng;
use tenzor_memory::{Backing, Failing, PlannedAllocator, PoolConfig, Refused, System, TensorAllocator};
use tenzor_trace::Event;

use super::program::{Model, Op, cases, renamed, script};

#[test]
fn refusals_are_the_programs_only_where_the_pool_refuses_as_well() {
    let ops = script(&mut Rng::with_seed(6), 40, false);
    for fault in 0..60 {
        let backing = Failing::once(System, fault + 1);
        let alloc = PlannedAllocator::new(TensorAllocator::new_in(&backing));
        let mut model = Model::new(&alloc);
        for round in 0..6 {
            model.step(&renamed(&ops, round));
        }
        model.finish();
    }
    // The block has no room beside what is kept: the pool goes on alone.
    let config = PoolConfig::default().with_limit(Some(1 << 20));
    let alloc = PlannedAllocator::new(TensorAllocator::with_config(config));
    let kept = alloc.alloc::<u8>(800 << 10).unwrap();
    let big = |_: &PlannedAllocator| {
        for _ in 0..3 {
            drop(alloc.alloc::<u8>(100 << 10).unwrap());
        }
        let both = (alloc.alloc::<u8>(50 << 10).unwrap(), alloc.alloc::<u8>(60 << 10));
        drop(both);
    };
    for _ in 0..5 {
        alloc.step(big);
    }
    drop(kept);
    for _ in 0..5 {
        alloc.step(big);
    }
    assert!(alloc.upstream().stats().reserved_bytes <= 1 << 20);
}

#[test]
fn an_idle_block_never_makes_a_request_fail() {
    let mut rng = Rng::with_seed(9);
    let config = PoolConfig::default().with_limit(Some(32 << 10));
    let (mut beside, mut refused) = (0, 0);
    for _ in 0..cases(1000) {
        let alloc = PlannedAllocator::new(TensorAllocator::with_config(config));
        let mut model = Model::new(&alloc);
        let mut request = |model: &mut Model<'_, _>, op: &Op| {
            let Op::Request { name, size, align } = *op else { return model.run(std::slice::from_ref(op)) };
            let others: Vec<Layout> = model.names.values().map(|&(_, layout)| layout).collect();
            let height = alloc.stats().height;
            // Nothing is alive in the block if the pool has all that is.
            let live = others.iter().map(Layout::size).sum::<usize>();
            let is_idle = taken(&alloc) == live + height;
            if model.request(name, size, align) {
                beside += u32::from(is_idle && height > 0);
            } else if is_idle {
                let bare = TensorAllocator::with_config(config);
                let ask = |size, align| bare.alloc_aligned::<u8>(size, align);
                let others: Vec<_> = others.iter().map(|layout| ask(layout.size(), layout.align()).unwrap()).collect();
                assert!(ask(size, align).is_err(), "{size} bytes are refused beside {} others", others.len());
                refused += 1;
            }
        };
        let scripts: Vec<_> = (0..2).map(|_| script(&mut rng, 8, true)).collect();
        for round in 0..20 {
            let mut ops = renamed(&scripts[rng.usize(..2)], round);
            let mut large = |name| Op::Request { name: round * 1000 + name, size: rng.usize(1..32 << 10), align: 64 };
            let (first, second) = (large(900), large(901));
            if rng.bool() {
                ops.insert(rng.usize(..ops.len()), first);
            }
            alloc.step(|_| ops.iter().for_each(|op| request(&mut model, op)));
            request(&mut model, &second);
            for name in model.names.keys().copied().collect::<Vec<_>>() {
                if rng.bool() {
                    model.free(name);
                }
            }
        }
        model.finish();
    }
    assert!(beside > 0 && refused > 0, "{beside} requests beside an idle block, {refused} refused");
}

/// `System`, for layouts that suit.
struct Only<F>(F);

// SAFETY: `System`'s promises.
unsafe impl<F: Fn(Layout) -> bool> Backing for Only<F> {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        if self.0(layout) { System.obtain(layout) } else { Err(Refused) }
    }

    unsafe fn give_back(&self, ptr: NonNull<u8>, layout: Layout) {
        // SAFETY: it came from there.
        unsafe { System.give_back(ptr, layout) };
    }
}

#[test]
fn refused_blocks_are_asked_for_again_more_and_more_rarely() {
    let room = Cell::new(false);
    let backing = Only(|layout: Layout| room.get() || layout.size() < 6000);
    let alloc = PlannedAllocator::new(TensorAllocator::new_in(&backing));
    let step = || alloc.step(|alloc| drop((alloc.alloc_filled(1000, 1_u8), alloc.alloc_filled(5000, 2_u8))));
    let refused = |steps| {
        let before = alloc.stats().refused;
        (0..steps).for_each(|_| step());
        alloc.stats().refused - before
    };
    for _ in 0..2 {
        let (soon, later, late) = (refused(20), refused(80), refused(320));
        assert!((2..6).contains(&soon) && (1..4).contains(&later) && (1..4).contains(&late), "{soon}, {later}, {late}");
        room.set(true);
        assert_eq!(refused(420), 0);
        let followed = alloc.stats().followed;
        step();
        assert_eq!(alloc.stats().followed, followed + 1);
        room.set(false);
        alloc.clear_plans();
    }
}

#[test]
fn an_alignment_that_no_block_has_is_no_reason_to_give_up_other_plans() {
    let alloc = PlannedAllocator::new(TensorAllocator::new_in(Only(|layout: Layout| layout.align() <= 4096)));
    for (size, align) in [(1 << 16, 64), (64, 1 << 20), (64, 1 << 30)] {
        let layout = Layout::from_size_align(size, align).unwrap();
        let request = Event::Allocate { slot: 0, layout, zeroed: false, escapes: false };
        assert!(alloc.plan_ahead(&[request, Event::Free { slot: 0 }]));
    }
    alloc.step(|alloc| drop(alloc.alloc::<u8>(1 << 16)));
    let stats = alloc.stats();
    assert_eq!((stats.followed, stats.refused, stats.height), (1, 2, 1 << 16));
}
