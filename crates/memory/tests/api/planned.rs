//! `PlannedAllocator`: what it serves, and that nothing overlaps whatever a program does.

use std::alloc::Layout;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use crate::common::ops;
use fastrand::Rng;
use tenzor_memory::PlannedAllocator;
use tenzor_memory::allocator_api2::vec::Vec as AllocVec;
use tenzor_memory::{Allocator, Backing, ComputeArena, Failing, PoolConfig, Refused, System, TensorAllocator};
use tenzor_plan::Planner;
use tenzor_trace::Event;

/// What a program does in a step, each buffer called by a name.
#[derive(Clone, Debug, PartialEq)]
enum Op {
    Request { name: u32, size: usize, align: usize },
    Free { name: u32 },
    ClearPlans,
}

/// Runs programs over an allocator, and keeps the books: no two live buffers overlap, and each keeps its contents.
struct Model<'a, B: Backing> {
    alloc: &'a PlannedAllocator<B>,
    live: BTreeMap<usize, (usize, u8)>,
    names: BTreeMap<u32, (NonNull<u8>, Layout)>,
    stamp: u8,
}

impl<'a, B: Backing> Model<'a, B> {
    fn new(alloc: &'a PlannedAllocator<B>) -> Self {
        Self { alloc, live: BTreeMap::new(), names: BTreeMap::new(), stamp: 0 }
    }

    fn request(&mut self, name: u32, size: usize, align: usize) -> bool {
        let layout = Layout::from_size_align(size, align).unwrap();
        let Ok(block) = self.alloc.allocate(layout) else { return false };
        let ptr = block.cast::<u8>();
        let address = ptr.addr().get();
        assert_eq!(address % align, 0);
        if size > 0 {
            let before = self.live.range(..address + size).next_back();
            assert!(before.is_none_or(|(start, (size, _))| start + size <= address), "{name} overlaps a live buffer");
            if self.alloc.upstream().config().zero_on_free {
                // SAFETY: just granted, from memory that was all zero once.
                let bytes = unsafe { std::slice::from_raw_parts(ptr.as_ptr(), size) };
                assert!(bytes.iter().all(|&byte| byte == 0), "{name} shows what others had");
            }
            self.stamp = self.stamp.wrapping_add(1);
            // SAFETY: just granted.
            unsafe { ptr.write_bytes(self.stamp, size) };
            self.live.insert(address, (size, self.stamp));
        }
        assert!(self.names.insert(name, (ptr, layout)).is_none());
        true
    }

    fn free(&mut self, name: u32) {
        let Some((ptr, layout)) = self.names.remove(&name) else { return };
        if layout.size() > 0 {
            let (size, stamp) = self.live.remove(&ptr.addr().get()).unwrap();
            // SAFETY: live until it is deallocated, which happens once.
            let bytes = unsafe { std::slice::from_raw_parts(ptr.as_ptr(), size) };
            assert!(bytes.iter().all(|&byte| byte == stamp), "{name} has lost its contents");
        }
        // SAFETY: allocated with this layout, and forgotten here.
        unsafe { self.alloc.deallocate(ptr, layout) };
    }

    fn run(&mut self, ops: &[Op]) {
        for op in ops {
            match *op {
                Op::Request { name, size, align } => {
                    self.request(name, size, align);
                }
                Op::Free { name } => self.free(name),
                Op::ClearPlans => self.alloc.clear_plans(),
            }
        }
    }

    fn step(&mut self, ops: &[Op]) {
        let alloc = self.alloc;
        alloc.step(|_| self.run(ops));
    }

    /// Frees everything that is left.
    fn finish(mut self) {
        for name in self.names.keys().copied().collect::<Vec<_>>() {
            self.free(name);
        }
    }
}

/// A random step, in which everything is freed but now and then a buffer.
fn script(rng: &mut Rng, requests: u32, escapes: bool) -> Vec<Op> {
    let (mut ops, mut live) = (Vec::new(), Vec::new());
    for name in 0..requests {
        while !live.is_empty() && rng.u8(..) < 110 {
            ops.push(Op::Free { name: live.swap_remove(rng.usize(..live.len())) });
        }
        let size = [8, 64, 65, 100, 1000, 4097][rng.usize(..6)];
        let align = [1, 8, 64, 64, 256][rng.usize(..5)];
        ops.push(Op::Request { name, size, align });
        live.push(name);
    }
    while live.len() > usize::from(escapes) {
        ops.push(Op::Free { name: live.swap_remove(rng.usize(..live.len())) });
    }
    ops
}

/// The names of later rounds differ, so that what escapes can be freed later.
fn renamed(ops: &[Op], round: u32) -> Vec<Op> {
    let new = |name: u32| name + round * 1000;
    let rename = |op: &Op| match *op {
        Op::Request { name, size, align } => Op::Request { name: new(name), size, align },
        Op::Free { name } => Op::Free { name: new(name) },
        Op::ClearPlans => Op::ClearPlans,
    };
    ops.iter().map(rename).collect()
}

/// How many cases a test takes where it takes `most` if nothing is said.
fn cases(most: u64) -> u64 {
    (ops(1_000_000) as u64).saturating_mul(most).div_ceil(1_000_000)
}

fn planned() -> PlannedAllocator {
    PlannedAllocator::new(TensorAllocator::new())
}

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

/// The ways in which a step can depart from its plan at some place.
fn departures(ops: &[Op], at: usize, rng: &mut Rng) -> Vec<Vec<Op>> {
    let with = |change: &dyn Fn(&mut Vec<Op>)| {
        let mut ops = ops.to_vec();
        change(&mut ops);
        ops
    };
    let extra = Op::Request { name: 900, size: [64, 1000, 5000][rng.usize(..3)], align: 64 };
    let other = rng.usize(..ops.len());
    let mut all = vec![
        with(&|ops| {
            ops.remove(at);
        }),
        with(&|ops| ops.insert(at, extra.clone())),
        with(&|ops| ops.truncate(at)),
        with(&|ops| {
            let op = ops.remove(at);
            ops.insert(other, op);
        }),
    ];
    if let Op::Request { name, size, align } = ops[at] {
        for (size, align) in [(size + 1, align), (size * 3, align), (1, align), (0, align), (size, 4096)] {
            all.push(with(&|ops| ops[at] = Op::Request { name, size, align }));
        }
    }
    all
}

#[test]
fn a_departure_at_any_place_never_makes_buffers_overlap() {
    let mut rng = Rng::with_seed(2);
    for case in 0..cases(20) {
        let ops = script(&mut rng, 30, case % 3 == 0);
        for at in 0..ops.len() {
            for departed in departures(&ops, at, &mut rng) {
                let alloc = planned();
                let mut model = Model::new(&alloc);
                for round in 0..3 {
                    model.step(&renamed(&ops, round));
                }
                assert_eq!(alloc.stats().followed, 1);
                model.step(&renamed(&departed, 3));
                let stats = alloc.stats();
                assert_eq!(stats.followed + stats.departed, 2, "{stats:?} after {departed:?} in place of {ops:?}");
                for round in 4..8 {
                    // What the departure kept is freed in the midst of a later step.
                    let mut ops = renamed(&ops, round);
                    if round == 5 {
                        let kept: Vec<u32> = model.names.keys().copied().filter(|&name| name < 5000).collect();
                        let place = rng.usize(..ops.len());
                        ops.splice(place..place, kept.into_iter().map(|name| Op::Free { name }));
                    }
                    model.step(&ops);
                }
                let stats = alloc.stats();
                assert_eq!(stats.steps, 8);
                assert!(stats.followed >= 3, "{stats:?} after {departed:?} in place of {ops:?}");
                model.finish();
            }
        }
    }
}

/// Steps of three shapes, with departures, buffers that are freed later or not at all, and plans cleared. Returns how many steps were followed
/// while a block was retired.
fn random_program<B: Backing>(alloc: &PlannedAllocator<B>, rng: &mut Rng) -> u64 {
    let mut model = Model::new(alloc);
    let scripts: Vec<_> = (0..3).map(|_| script(rng, 12, true)).collect();
    let (rounds, departures) = if rng.bool() { (30, 8) } else { (100, 80) };
    let mut beside_retired = 0;
    for round in 0..rounds {
        let mut ops = renamed(&scripts[rng.usize(..3)], round);
        match rng.u8(..departures) {
            0 => {
                ops.remove(rng.usize(..ops.len()));
            }
            1 => ops.truncate(rng.usize(..ops.len())),
            2 => ops.swap(0, 1),
            3 if rng.bool() => ops.insert(rng.usize(..=ops.len()), Op::ClearPlans),
            _ => {}
        }
        let old = model.names.keys().copied().find(|_| rng.bool());
        let frees = old.map(|name| Op::Free { name });
        let followed = alloc.stats().followed;
        // Within a step, between two, or never until the end.
        if rng.bool() {
            let place = rng.usize(..=ops.len());
            ops.splice(place..place, frees);
            model.step(&ops);
        } else {
            model.run(&frees.into_iter().collect::<Vec<_>>());
            model.step(&ops);
            model.request(round * 1000 + 901, 1000, 64);
        }
        let live = model.names.values().map(|(_, layout)| layout.size()).sum::<usize>();
        if alloc.upstream().stats().bytes_in_use > live + alloc.stats().height {
            beside_retired += alloc.stats().followed - followed;
        }
    }
    model.finish();
    assert_eq!(alloc.upstream().stats().bytes_in_use, alloc.stats().height, "a block was not given back");
    beside_retired
}

#[test]
fn random_programs_never_make_buffers_overlap() {
    let mut rng = Rng::with_seed(3);
    let beside_retired: u64 = (0..cases(1000).max(20)).map(|_| random_program(&planned(), &mut rng)).sum();
    assert!(beside_retired > 0);
}

/// `System`, with zeros to begin with, and to be given back. It notes whether it got something else.
#[derive(Default)]
struct Zeros(Cell<bool>);

// SAFETY: `System`'s promises.
unsafe impl Backing for Zeros {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        System.obtain_zeroed(layout)
    }

    unsafe fn give_back(&self, ptr: NonNull<u8>, layout: Layout) {
        // SAFETY: obtained, and initialised, with this layout.
        let bytes = unsafe { std::slice::from_raw_parts(ptr.as_ptr(), layout.size()) };
        self.0.set(self.0.get() || bytes.iter().any(|&byte| byte != 0));
        // SAFETY: it came from there.
        unsafe { System.give_back(ptr, layout) };
    }
}

#[test]
fn what_is_to_be_zeroed_on_free_is_zeroed_in_the_block_as_well() {
    let mut rng = Rng::with_seed(10);
    let config = PoolConfig::default().with_zero_on_free(true);
    let backing = Zeros::default();
    for _ in 0..cases(300) {
        let alloc = PlannedAllocator::new(TensorAllocator::with_config_in(config, &backing));
        random_program(&alloc, &mut rng);
        alloc.upstream().clear_pool();
        // The last one is forgotten.
        for round in 0..3 {
            alloc.step(|alloc| {
                let buffer = alloc.alloc_filled(77, 1_u8).unwrap();
                if round < 2 { drop(buffer) } else { mem::forget(buffer) }
            });
        }
        assert_eq!(alloc.upstream().stats().bytes_in_use, alloc.stats().height);
    }
    assert!(!backing.0.get(), "something was not zeroed");
}

#[test]
fn cleared_plans_leave_nothing_behind() {
    let alloc = PlannedAllocator::default();
    let step = || alloc.step(|alloc| drop((alloc.alloc_filled(1000, 1_u8), alloc.alloc_filled(5000, 2_u8))));
    let held = || (alloc.upstream().stats().bytes_in_use, alloc.stats().height);
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
    let blocks = || alloc.upstream().stats().bytes_in_use / alloc.stats().height;
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
            let is_idle = alloc.upstream().stats().bytes_in_use == live + height;
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
    for (size, align) in [(1 << 16, 64), (64, 1 << 20), (64, 1 << 40)] {
        let layout = Layout::from_size_align(size, align).unwrap();
        let request = Event::Allocate { slot: 0, layout, zeroed: false, escapes: false };
        assert!(alloc.plan_ahead(&[request, Event::Free { slot: 0 }]));
    }
    alloc.step(|alloc| drop(alloc.alloc::<u8>(1 << 16)));
    let stats = alloc.stats();
    assert_eq!((stats.followed, stats.refused, stats.height), (1, 2, 1 << 16));
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
    assert_eq!(alloc.upstream().stats().bytes_in_use, 100 + stats.height);
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
    assert_eq!(alloc.upstream().stats().bytes_in_use, alloc.stats().height);
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

/// A backing with a page of its own, for who asks for just that; for others it is `System`.
struct WithPage(NonNull<u8>);

// SAFETY: the test asks for one page at a time; the rest is `System`'s.
unsafe impl Backing for WithPage {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        if layout.size() == 4096 { Ok(self.0) } else { System.obtain(layout) }
    }

    unsafe fn give_back(&self, ptr: NonNull<u8>, layout: Layout) {
        if ptr != self.0 {
            // SAFETY: it came from there.
            unsafe { System.give_back(ptr, layout) };
        }
    }
}

#[test]
fn what_has_no_size_is_not_taken_for_what_begins_at_its_address() {
    // A layout of no size points to the address that is its alignment.
    let page_at = |address: usize| {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: it replaces nothing.
        let page = unsafe { libc::mmap(address as *mut _, 4096, access, flags, -1, 0) };
        (page.addr() == address).then(|| NonNull::new(page.cast()).unwrap())
    };
    let page = (30..47).find_map(|shift| page_at(1 << shift)).unwrap();
    let config = PoolConfig::default().with_classes_per_bucket(1).with_max_pool_size(0);
    let alloc = PlannedAllocator::new(TensorAllocator::with_config_in(config, WithPage(page)));
    let mut model = Model::new(&alloc);
    let request = |name| Op::Request { name, size: 4096, align: 64 };
    let step = [request(0), Op::Free { name: 0 }, request(1), Op::Free { name: 1 }];
    for round in 0..3 {
        model.step(&renamed(&step, round));
    }
    // The page is the block, and its first buffer is alive while one of no size is freed.
    alloc.step(|_| {
        model.request(9000, 4096, 64);
        model.request(9100, 0, page.addr().get());
        assert!(model.names.values().all(|&(ptr, _)| ptr == page));
        model.free(9100);
        model.run(&renamed(&step[1..], 9));
    });
    assert_eq!(alloc.stats().followed, 2);
    model.finish();
}

/// A file of plans for a step with a little of everything, and the step.
fn saved() -> (Vec<u8>, Vec<Op>) {
    let alloc = planned();
    let mut model = Model::new(&alloc);
    let ops = script(&mut Rng::with_seed(7), 12, true);
    for round in 0..3 {
        model.step(&renamed(&ops, round));
    }
    let mut file = Vec::new();
    alloc.save(&mut file).unwrap();
    model.finish();
    (file, ops)
}

/// The checksum of a file, put right.
fn resealed(mut file: Vec<u8>) -> Vec<u8> {
    let end = file.len() - 8;
    let fold = |sum: u64, &byte: &u8| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let sum = file[..end].iter().fold(0xcbf2_9ce4_8422_2325, fold);
    file[end..].copy_from_slice(&sum.to_le_bytes());
    file
}

#[test]
fn saved_plans_start_planned() {
    let (file, ops) = saved();
    let alloc = planned();
    assert_eq!(alloc.load(&file[..]).unwrap(), 1);
    assert_eq!(alloc.load(&file[..]).unwrap(), 0);
    let mut model = Model::new(&alloc);
    model.step(&ops);
    assert_eq!((alloc.stats().followed, alloc.stats().plans), (1, 1));
    model.finish();
    let mut again = Vec::new();
    alloc.save(&mut again).unwrap();
    assert_eq!(again, file);
}

#[test]
fn damaged_files_of_plans_are_refused() {
    let (file, _) = saved();
    for len in 0..file.len() {
        assert!(planned().load(&file[..len]).is_err());
    }
    let longer = [&file[..], &[0]].concat();
    assert!(planned().load(&longer[..]).is_err());
    for place in 0..file.len() {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[place] ^= 1 << bit;
            assert!(planned().load(&damaged[..]).is_err(), "bit {bit} of byte {place}");
        }
    }
}

#[test]
fn saved_plans_place_what_is_freed_in_the_step_and_nothing_else() {
    let (file, _) = saved();
    let offsets = file.len() - 8 - 12 * 8..file.len() - 8;
    let (mut kept, mut freed) = (0, 0);
    for place in offsets.step_by(8) {
        let mut forged = file.clone();
        let offset = &mut forged[place..place + 8];
        if *offset == [255; 8] {
            // Far above the others.
            offset.copy_from_slice(&(1_u64 << 20).to_le_bytes());
            kept += 1;
        } else {
            offset.fill(255);
            freed += 1;
        }
        assert!(planned().load(&resealed(forged)[..]).is_err(), "the offset at byte {place}");
    }
    assert_eq!((kept, freed), (1, 11));
}

#[test]
fn forged_files_of_plans_never_make_buffers_overlap() {
    let (file, ops) = saved();
    let mut rng = Rng::with_seed(8);
    let mut accepted = 0;
    for case in 0..cases(20_000) {
        let mut forged = file.clone();
        for _ in 0..1 + case % 3 {
            // Among others, offsets that are those of another buffer.
            let place = 12 + rng.usize(..forged.len() - 20);
            match rng.u8(..3) {
                0 => forged[place] = rng.u8(..),
                1 => forged[place] = forged[12 + rng.usize(..file.len() - 20)],
                _ => {
                    let end = file.len() - 8;
                    let (to, from) = (end - 8 * rng.usize(1..13), end - 8 * rng.usize(1..13));
                    forged.copy_within(from..from + 8, to);
                }
            }
        }
        let alloc = planned();
        if alloc.load(&resealed(forged)[..]).is_ok() {
            accepted += 1;
            let mut model = Model::new(&alloc);
            for round in 0..3 {
                model.step(&renamed(&ops, round));
            }
            model.finish();
        }
    }
    assert!(accepted > 0);
}

#[test]
fn what_begins_where_the_block_ends_is_the_pools() {
    // An arena's blocks lie side by side.
    let arena = ComputeArena::with_capacity(1 << 20);
    let alloc = PlannedAllocator::new(TensorAllocator::new_in(&arena));
    for round in 0..4 {
        alloc.step(|alloc| {
            let _planned = alloc.alloc_filled(1024, 1_u8).unwrap();
            // One more than planned, and only then: it is the first that the pool asks for behind the block.
            let beside = (round == 2).then(|| alloc.alloc_filled(4096, 2_u8).unwrap());
            if let Some(beside) = beside {
                let block = _planned.as_ptr().addr();
                assert_eq!(beside.as_ptr().addr(), block + alloc.stats().height);
            }
        });
    }
    assert_eq!(alloc.upstream().stats().bytes_in_use, 1024);
}
