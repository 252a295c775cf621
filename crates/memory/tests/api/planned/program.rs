//! What programs do in steps, at random, and the books that are kept of what they have.

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::ptr::NonNull;

use fastrand::Rng;
use tenzor_memory::{Allocator, Backing, PlannedAllocator, TensorAllocator};

use crate::common::ops;

/// What a program does in a step, each buffer called by a name.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Op {
    Request { name: u32, size: usize, align: usize },
    Free { name: u32 },
    ClearPlans,
}

/// Runs programs over an allocator, and keeps the books: no two live buffers overlap, and each keeps its contents.
pub(super) struct Model<'a, B: Backing> {
    alloc: &'a PlannedAllocator<B>,
    live: BTreeMap<usize, (usize, u8)>,
    pub(super) names: BTreeMap<u32, (NonNull<u8>, Layout)>,
    stamp: u8,
}

impl<'a, B: Backing> Model<'a, B> {
    pub(super) fn new(alloc: &'a PlannedAllocator<B>) -> Self {
        Self { alloc, live: BTreeMap::new(), names: BTreeMap::new(), stamp: 0 }
    }

    pub(super) fn request(&mut self, name: u32, size: usize, align: usize) -> bool {
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

    pub(super) fn free(&mut self, name: u32) {
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

    pub(super) fn run(&mut self, ops: &[Op]) {
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

    pub(super) fn step(&mut self, ops: &[Op]) {
        let alloc = self.alloc;
        alloc.step(|_| self.run(ops));
    }

    /// Frees everything that is left.
    pub(super) fn finish(mut self) {
        for name in self.names.keys().copied().collect::<Vec<_>>() {
            self.free(name);
        }
    }
}

/// A random step, in which everything is freed but now and then a buffer.
pub(super) fn script(rng: &mut Rng, requests: u32, escapes: bool) -> Vec<Op> {
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
pub(super) fn renamed(ops: &[Op], round: u32) -> Vec<Op> {
    let new = |name: u32| name + round * 1000;
    let rename = |op: &Op| match *op {
        Op::Request { name, size, align } => Op::Request { name: new(name), size, align },
        Op::Free { name } => Op::Free { name: new(name) },
        Op::ClearPlans => Op::ClearPlans,
    };
    ops.iter().map(rename).collect()
}

/// How many cases a test takes where it takes `most` if nothing is said.
pub(super) fn cases(most: u64) -> u64 {
    (ops(1_000_000) as u64).saturating_mul(most).div_ceil(1_000_000)
}

pub(super) fn planned() -> PlannedAllocator {
    PlannedAllocator::new(TensorAllocator::new())
}
