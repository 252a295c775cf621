//! No two buffers overlap and none shows what others had, whatever a program does.

use std::alloc::Layout;
use std::cell::Cell;
use std::mem;
use std::ptr::NonNull;

use super::taken;
use fastrand::Rng;
use tenzor_memory::{Backing, ComputeArena, PlannedAllocator, PoolConfig, Refused, System, TensorAllocator};

use super::program::{Model, Op, cases, planned, renamed, script};

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
        if taken(alloc) > live + alloc.stats().height {
            beside_retired += alloc.stats().followed - followed;
        }
    }
    model.finish();
    assert_eq!(taken(alloc), alloc.stats().height, "a block was not given back");
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
        assert_eq!(taken(&alloc), alloc.stats().height);
    }
    assert!(!backing.0.get(), "something was not zeroed");
}

/// Where a page can be put at an address that one chooses.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[test]
fn what_has_no_size_is_not_taken_for_what_begins_at_its_address() {
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
    assert_eq!(taken(&alloc), 1024);
}
