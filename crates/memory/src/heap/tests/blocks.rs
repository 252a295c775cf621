//! Where blocks are, how they change, and what is no block.
#![allow(unsafe_code)]

use std::collections::VecDeque;

use super::*;

#[test]
fn random_sizes_leave_few_gaps() {
    for seed in 0..8 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut heap = Heap::new(Linux);
        let mut live = VecDeque::new();
        let (mut bytes, mut peak) = (0, 0);
        for _ in 0..4000 {
            let size = (1024.0 * 16384.0_f64.powf(random.f64())) as usize;
            let layout = Layout::from_size_align(size, 64).unwrap();
            if live.len() == 16 {
                let (block, old): (_, Layout) = live.pop_front().unwrap();
                bytes -= old.size();
                heap.give_back(block, old);
            }
            live.push_back((heap.obtain(layout).unwrap().start, layout));
            bytes += size;
            peak = peak.max(bytes);
        }
        let resident = heap.peak_resident() as f64 / peak as f64;
        assert!(resident < 1.15, "{resident} with seed {seed}");
        heap.pages.space().release();
    }
}

#[test]
fn small_blocks_do_not_cut_the_space_of_large_ones() {
    let mut heap = Heap::new(Linux);
    let [large, small] = [1 << 20, 8 << 10].map(|bytes| Layout::from_size_align(bytes, 64).unwrap());
    let blocks: Vec<_> = (0..64).map(|_| (heap.obtain(large).unwrap(), heap.obtain(small).unwrap())).collect();
    for (block, _) in &blocks {
        heap.give_back(block.start, large);
    }
    let misses = heap.misses();
    assert!(heap.obtain(Layout::from_size_align(64 << 20, 64).unwrap()).is_some());
    assert_eq!(heap.misses(), misses);
    heap.pages.space().release();
}

#[test]
fn no_block_grows_beyond_the_limit() {
    let mut heap = Heap::new(Linux);
    heap.set_limits(40 << 20, usize::MAX);
    let [old, fits, exceeds] = [20, 36, 60].map(|mib| Layout::from_size_align(mib << 20, 64).unwrap());
    let block = heap.obtain(old).unwrap().start;
    assert!(heap.resize_in_pieces(block, run_of(old), run_of(exceeds), || {}).is_none());
    assert!(heap.relocate_in_pieces(block, run_of(old), run_of(exceeds), || {}).is_none());
    assert!(heap.resize_in_pieces(block, run_of(old), run_of(fits), || {}).is_some());
    heap.check();
    heap.pages.space().release();
}

#[test]
fn a_moved_block_is_as_aligned_as_before() {
    let [old, new] = [20, 40].map(|mib| Layout::from_size_align(mib << 20, 4 << 20).unwrap());
    // Whatever stands behind it, free units start at even and at odd ones.
    for others in 1..4 {
        let mut heap = Heap::new(Linux);
        let block = heap.obtain(old).unwrap().start;
        for _ in 0..others {
            heap.obtain(Layout::from_size_align(2 << 20, 4096).unwrap()).unwrap();
        }
        if let Some(start) = heap.relocate_in_pieces(block, run_of(old), run_of(new), || {}) {
            assert_eq!(start.addr().get() % old.align(), 0);
        }
        heap.pages.space().release();
    }
}

#[test]
fn what_was_freed_last_is_at_hand_first() {
    let mut heap = Heap::new(Linux);
    let [plain, aligned, both] =
        [(200, 64), (200, 64 << 10), (400, 64)].map(|(kib, align)| Layout::from_size_align(kib << 10, align).unwrap());
    let blocks = [(); 4].map(|()| heap.obtain(plain).unwrap().start);
    for freed in [[0, 2], [2, 0]] {
        freed.iter().for_each(|&block| heap.give_back(blocks[block], plain));
        heap.check();
        for block in freed.into_iter().rev() {
            assert_eq!(heap.obtain(plain).unwrap().start, blocks[block]);
        }
        heap.check();
    }
    // Not if it is not aligned as asked.
    let off = blocks.iter().position(|block| block.addr().get() % aligned.align() != 0).unwrap();
    heap.give_back(blocks[off], plain);
    let other = heap.obtain(aligned).unwrap().start;
    assert_eq!(other.addr().get() % aligned.align(), 0);
    assert_eq!(heap.obtain(plain).unwrap().start, blocks[off]);
    // And it is free like any other: for its neighbours, for more, and for the system.
    heap.give_back(blocks[1], plain);
    assert!(heap.resize_in_pieces(blocks[0], run_of(plain), run_of(both), || {}).is_some());
    heap.give_back(blocks[0], both);
    assert_eq!(heap.obtain(both).unwrap().start, blocks[0]);
    heap.give_back(blocks[2], plain);
    assert!(heap.trim_all() >= plain.size());
    heap.check();
    heap.pages.space().release();
}

#[test]
fn owners_tell_what_lies_at_an_address_without_the_lock() {
    let mut heap = Heap::new(Linux);
    let layouts = [(10, 1), (7000, 8), (60_000, 64), (300 << 10, 64), (5 << 20, 64), (1 << 20, 8 << 20)]
        .map(|(size, align)| Layout::from_size_align(size, align).unwrap());
    let blocks = layouts.map(|layout| (heap.obtain(layout).unwrap().start, layout));
    let view = heap.view();
    std::thread::scope(|scope| {
        let blocks = blocks.map(|(block, layout)| (block.addr(), layout));
        scope.spawn(move || {
            for (address, layout) in blocks {
                let block = NonNull::dangling().with_addr(address);
                assert_eq!(view.block(block), Ok(classes::place(layout).unwrap()));
                for off in [1, 64, 65, PAGE, PAGE + 8] {
                    // In a slab, there may be a block there.
                    if classes::class(layout).is_none_or(|class| !off.is_multiple_of(classes::class_capacity(class))) {
                        let inside = block.map_addr(|addr| addr.saturating_add(off));
                        assert!(view.block(inside).is_err(), "{off} bytes into {layout:?}");
                    }
                }
            }
            let local = 0_u8;
            assert_eq!(view.block(NonNull::from(&local)), Err(Holding::Nothing));
            assert_eq!(view.block(NonNull::dangling()), Err(Holding::Nothing));
        });
    });
    for (block, layout) in blocks {
        heap.give_back(block, layout);
    }
    heap.check();
    for (block, layout) in blocks {
        if matches!(classes::place(layout), Some(Place::Run(_))) {
            assert!(view.block(block).is_err(), "{layout:?} is free");
        }
    }
    heap.pages.space().release();
}

#[test]
fn what_is_no_block_in_use_is_not_taken_back() {
    let mut heap = Heap::new(Linux);
    let layouts =
        [(10, 1), (7000, 8), (60_000, 64), (300 << 10, 64), (5 << 20, 64), (1 << 20, 8 << 20), (65 << 30, 64)]
            .map(|(size, align)| Layout::from_size_align(size, align).unwrap());
    // SAFETY: what is refused, nothing happens to; what is not, is used no more.
    let give = |heap: &mut Heap<Linux>, block: NonNull<u8>, layout| unsafe {
        match classes::place(layout).unwrap() {
            Place::Run(run) => heap.give_back_run(run, block),
            Place::Class(class) => heap.give_back_block(class, block),
        }
    };
    for layout in layouts {
        // There may be no machine so large.
        let Some(Granted { start, .. }) = heap.obtain(layout) else { continue };
        for other in layouts {
            let place = |layout| classes::place(layout).unwrap();
            assert!(place(other) == place(layout) || !give(&mut heap, start, other), "{layout:?} freed as {other:?}");
        }
        for off in [1, 64, PAGE, 2 * PAGE + 16] {
            let inside = start.map_addr(|addr| addr.saturating_add(off));
            // In a slab, there may be a block there.
            if classes::class(layout).is_none_or(|class| !off.is_multiple_of(classes::class_capacity(class))) {
                assert!(!give(&mut heap, inside, layout), "{off} bytes into {layout:?}");
            }
        }
        assert!(give(&mut heap, start, layout));
        assert!(!give(&mut heap, start, layout), "{layout:?} was freed twice");
        heap.check();
    }
    let local = 0_u8;
    assert!(layouts.into_iter().all(|layout| !give(&mut heap, NonNull::from(&local), layout)));
    heap.pages.space().release();
}
