//! The heap against a naive model: who wrote this byte?
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::alloc::Layout;
use std::cell::Cell;
use std::collections::VecDeque;
use std::ptr::NonNull;

use super::*;
use crate::layout::blocks::Place;
use crate::os::Linux;

/// Refuses calls to the system as a rule says.
#[derive(Debug, Default)]
struct Faulty {
    calls: Cell<u64>,
    /// Every call with a number that this divides is refused; 0 refuses none.
    every: Cell<u64>,
    /// The addresses there are, if it is not 0.
    addresses: usize,
    /// Calls of `collapse`.
    collapsed: Cell<usize>,
}

impl Faulty {
    fn fails(&self) -> bool {
        self.calls.set(self.calls.get() + 1);
        self.every.get() != 0 && self.calls.get().is_multiple_of(self.every.get())
    }
}

// SAFETY: what is not refused, Linux does.
unsafe impl Os for Faulty {
    fn reserve(&self, bytes: usize) -> Option<NonNull<u8>> {
        if self.fails() { None } else { Linux.reserve(bytes) }
    }
    unsafe fn commit(&self, start: NonNull<u8>, bytes: usize) -> bool {
        // SAFETY: passed on.
        !self.fails() && unsafe { Linux.commit(start, bytes) }
    }
    unsafe fn prefer_huge(&self, start: NonNull<u8>, bytes: usize) {
        if !self.fails() {
            // SAFETY: passed on.
            unsafe { Linux.prefer_huge(start, bytes) };
        }
    }
    unsafe fn collapse(&self, start: NonNull<u8>) -> bool {
        self.collapsed.set(self.collapsed.get() + 1);
        // SAFETY: passed on.
        !self.fails() && unsafe { Linux.collapse(start) }
    }
    unsafe fn purge(&self, start: NonNull<u8>, bytes: usize) -> bool {
        // SAFETY: passed on.
        !self.fails() && unsafe { Linux.purge(start, bytes) }
    }
    unsafe fn remap(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> bool {
        // SAFETY: passed on.
        !self.fails() && unsafe { Linux.remap(from, to, bytes) }
    }
    unsafe fn release(&self, start: NonNull<u8>, bytes: usize) {
        // SAFETY: passed on.
        unsafe { Linux.release(start, bytes) };
    }
    fn address_limit(&self) -> Option<usize> {
        if self.addresses > 0 { Some(self.addresses) } else { Linux.address_limit() }
    }
    fn page_size(&self) -> usize {
        Linux.page_size()
    }
}

/// By layouts, as the heap's users do.
impl<O: Os> Heap<O> {
    fn obtain(&mut self, layout: Layout) -> Option<Granted> {
        match blocks::place(layout)? {
            Place::Run(run) => self.obtain_run(run, layout.size()),
            Place::Class(class) => {
                let mut granted = None;
                self.obtain_blocks(class, 1, |block| granted = Some(block));
                granted.map(|start| Granted { start, dirty: 0..layout.size() })
            }
        }
    }

    fn give_back(&mut self, block: NonNull<u8>, layout: Layout) {
        match blocks::place(layout).unwrap() {
            Place::Run(run) => self.give_back_run(run, block),
            Place::Class(class) => self.give_back_block(class, block),
        }
    }
}

struct Live {
    block: NonNull<u8>,
    layout: Layout,
    stamp: u64,
}

/// Writes a stamp to each 64th word and to the last byte.
fn write(live: &Live) {
    let bytes = live.layout.size();
    for at in (0..bytes.saturating_sub(8)).step_by(512) {
        // SAFETY: within the block.
        unsafe { live.block.add(at).cast::<u64>().write_unaligned(live.stamp ^ at as u64) };
    }
    // SAFETY: within the block.
    unsafe { live.block.add(bytes - 1).write(live.stamp as u8) };
}

fn verify(live: &Live, bytes: usize) {
    for at in (0..bytes.saturating_sub(8)).step_by(512) {
        // SAFETY: within the block.
        let found = unsafe { live.block.add(at).cast::<u64>().read_unaligned() };
        assert_eq!(found, live.stamp ^ at as u64, "byte {at} of {:?}", live.layout);
    }
    if bytes == live.layout.size() {
        // SAFETY: within the block.
        assert_eq!(unsafe { live.block.add(bytes - 1).read() }, live.stamp as u8);
    }
}

/// Random operations; `largest` is a power of two.
fn run(seed: u64, operations: u64, largest: u32, every: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut heap = Heap::new(Faulty { every: Cell::new(every), ..Faulty::default() });
    let mut live: Vec<Live> = vec![];
    let (mut refused, mut stamp, mut relocations) = (0, 0, 0);
    for operation in 0..operations {
        match random.u32(0..100) {
            0..50 => {
                let power = random.u32(0..=largest);
                let size = random.usize(1..=1 << power);
                let align = 1 << if random.u32(0..8) == 0 { random.u32(0..=22) } else { random.u32(0..=6) };
                let layout = Layout::from_size_align(size, align).unwrap();
                stamp += 1;
                match heap.obtain(layout) {
                    None => refused += 1,
                    Some(Granted { start: block, dirty }) => {
                        assert_eq!(block.addr().get() % align, 0);
                        assert!(dirty.end <= size);
                        // SAFETY: the block was just granted.
                        let bytes = unsafe { std::slice::from_raw_parts(block.as_ptr(), size) };
                        let clean = bytes.iter().enumerate().filter(|(at, _)| !dirty.contains(at)).step_by(97);
                        for (at, byte) in clean {
                            assert_eq!(*byte, 0, "byte {at} is not zero");
                        }
                        let block = Live { block, layout, stamp };
                        write(&block);
                        live.push(block);
                    }
                }
            }
            50..90 if !live.is_empty() => {
                let gone = live.swap_remove(random.usize(0..live.len()));
                verify(&gone, gone.layout.size());
                heap.give_back(gone.block, gone.layout);
            }
            90..98 if !live.is_empty() => {
                let index = random.usize(0..live.len());
                let old = live[index].layout;
                let size = random.usize(1..=2 * old.size());
                let new = Layout::from_size_align(size, old.align()).unwrap();
                let (Some(Place::Run(before)), Some(Place::Run(after))) = (blocks::place(old), blocks::place(new))
                else {
                    continue;
                };
                if let Some(dirty) = heap.resize(live[index].block, (before, old.size()), (after, size)) {
                    verify(&live[index], old.size().min(size).saturating_sub(8));
                    if size > old.size() {
                        // SAFETY: the block now has `size` bytes.
                        let bytes = unsafe { std::slice::from_raw_parts(live[index].block.as_ptr(), size) };
                        assert!(bytes[dirty.end.max(old.size())..].iter().all(|byte| *byte == 0));
                    }
                    live[index].layout = new;
                    write(&live[index]);
                } else if let Some(Relocated { start, moved }) =
                    heap.relocate(live[index].block, (before, old.size()), after)
                {
                    relocations += 1;
                    for range in [0..moved.start, moved.end..old.size()] {
                        // SAFETY: within both blocks.
                        unsafe { live[index].block.add(range.start).copy_to(start.add(range.start), range.len()) };
                    }
                    heap.leave(before, live[index].block);
                    live[index].block = start;
                    verify(&live[index], old.size());
                    live[index].layout = new;
                    write(&live[index]);
                }
            }
            98 => {
                heap.tick();
                while heap.decay() || heap.promote() {}
            }
            _ if operation % 7 == 0 => _ = heap.trim(),
            _ => {}
        }
        if operation % 64 == 0 {
            heap.check();
        }
    }
    assert!(every != 0 || refused == 0);
    // A short run may have none, and valgrind knows no moves.
    assert!(every != 0 || largest < 24 || operations < 4000 || relocations > 0);
    for gone in live {
        verify(&gone, gone.layout.size());
        heap.give_back(gone.block, gone.layout);
    }
    heap.check();
    assert_eq!(heap.pages.in_use(), 0, "everything came back");
    heap.pages.release();
}

fn operations(least: u64) -> u64 {
    std::env::var("TENZOR_TEST_OPS").ok().and_then(|n| n.parse::<u64>().ok()).unwrap_or(least)
}

#[test]
fn nobody_loses_a_byte() {
    for (seed, largest, share) in [(1, 12, 1), (2, 17, 1), (3, 20, 1), (4, 23, 4), (5, 25, 5)] {
        run(seed, operations(20_000) / share, largest, 0);
    }
}

#[test]
fn every_refusal_of_the_system_is_survived() {
    for every in 1..40 {
        run(every, 1000, 20, every);
    }
}

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
        heap.pages.release();
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
    heap.pages.release();
}

#[test]
fn what_grew_by_small_pages_comes_onto_huge_ones_once() {
    for forked in [false, true] {
        let mut heap = Heap::new(Faulty::default());
        let layout = Layout::from_size_align(32 << 10, 64).unwrap();
        // Five units and a half on the small side.
        let blocks: Vec<_> = (0..11 << 5).map(|_| heap.obtain(layout).unwrap().start).collect();
        assert_eq!(heap.pages.whole(), 0, "there is no budget for the rest of a huge page");
        if forked {
            heap.keep_shared();
        }
        heap.tick();
        while heap.promote() {}
        // Where the system cannot do it, it was asked.
        let asked = heap.pages.os().collapsed.get();
        assert_eq!(asked, if forked { 0 } else { 5 });
        assert!([0, asked].contains(&heap.pages.whole()));
        while heap.promote() {}
        assert_eq!(heap.pages.os().collapsed.get(), asked, "asked again");
        heap.check();
        for block in blocks {
            heap.give_back(block, layout);
        }
        heap.pages.release();
    }
}

#[test]
fn each_side_serves_to_its_last_page() {
    // Half of the addresses are the heap's: a small side of 2 MiB, and 14 MiB.
    let mut heap = Heap::new(Faulty { addresses: 32 << 20, ..Faulty::default() });
    for _ in 0..2 {
        let live: Vec<Live> = [14, 2]
            .map(|mib| Layout::from_size_align(mib << 20, 4096).unwrap())
            .map(|layout| Live { block: heap.obtain(layout).unwrap().start, layout, stamp: layout.size() as u64 })
            .into();
        assert!(heap.obtain(Layout::from_size_align(1, 1).unwrap()).is_none());
        heap.check();
        live.iter().for_each(write);
        for gone in live {
            verify(&gone, gone.layout.size());
            heap.give_back(gone.block, gone.layout);
            heap.check();
        }
        heap.trim();
    }
    heap.pages.release();
}

#[test]
fn no_block_grows_beyond_the_limit() {
    let mut heap = Heap::new(Linux);
    heap.set_limits(40 << 20, usize::MAX);
    let [old, fits, exceeds] = [20, 36, 60].map(|mib| Layout::from_size_align(mib << 20, 64).unwrap());
    let run = |layout| match blocks::place(layout) {
        Some(Place::Run(run)) => (run, Layout::size(&layout)),
        _ => panic!("no run"),
    };
    let block = heap.obtain(old).unwrap().start;
    assert!(heap.resize(block, run(old), run(exceeds)).is_none());
    assert!(heap.relocate(block, run(old), run(exceeds).0).is_none());
    assert!(heap.resize(block, run(old), run(fits)).is_some());
    heap.check();
    heap.pages.release();
}

#[test]
fn units_are_promoted_whenever_they_fill() {
    let mut heap = Heap::new(Faulty::default());
    let layout = Layout::from_size_align(128 << 10, 64).unwrap();
    let mut promoted = 0;
    for _ in 0..4 {
        // A unit at a time, and a block of the next.
        for _ in 0..17 {
            heap.obtain(layout).unwrap();
        }
        while heap.promote() {}
        let before = std::mem::replace(&mut promoted, heap.pages.os().collapsed.get());
        assert!(promoted > before, "nothing was promoted");
        // What is huge, or refused to be, is left alone.
        while heap.promote() {}
        assert_eq!(heap.pages.os().collapsed.get(), promoted);
    }
    heap.pages.release();
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
        let (Some(Place::Run(before)), Some(Place::Run(after))) = (blocks::place(old), blocks::place(new)) else {
            panic!("no runs");
        };
        if let Some(Relocated { start, .. }) = heap.relocate(block, (before, old.size()), after) {
            assert_eq!(start.addr().get() % old.align(), 0);
        }
        heap.pages.release();
    }
}

#[test]
fn what_fills_the_larger_part_of_a_unit_has_it_on_a_huge_page_at_once() {
    let mut heap = Heap::new(Faulty::default());
    let layout = Layout::from_size_align(4 << 20, 64).unwrap();
    // Each takes two units and a page.
    heap.obtain(layout).unwrap();
    assert_eq!(heap.pages.os().collapsed.get(), 0);
    heap.obtain(layout).unwrap();
    assert_eq!(heap.pages.os().collapsed.get(), 1);
    heap.check();
    heap.pages.release();
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
    let run = |layout| match blocks::place(layout) {
        Some(Place::Run(run)) => (run, Layout::size(&layout)),
        _ => panic!("no run"),
    };
    heap.give_back(blocks[1], plain);
    assert!(heap.resize(blocks[0], run(plain), run(both)).is_some());
    heap.give_back(blocks[0], both);
    assert_eq!(heap.obtain(both).unwrap().start, blocks[0]);
    heap.give_back(blocks[2], plain);
    assert!(heap.trim() >= plain.size());
    heap.check();
    heap.pages.release();
}
