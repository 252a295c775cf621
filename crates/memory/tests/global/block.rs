//! Blocks whose bytes tell who wrote them.
#![allow(dead_code)]

use std::alloc::{self, Layout};

use crate::common::{layout, random_size};

/// A block of the global allocator, filled with a pattern of its own. Whoever frees it looks at the pattern first.
#[derive(Debug)]
pub(crate) struct Block {
    start: *mut u8,
    layout: Layout,
    stamp: u64,
}

// SAFETY: a block is its owner's alone.
unsafe impl Send for Block {}

impl Block {
    /// `None` if there is no memory.
    pub(crate) fn try_new(layout: Layout, stamp: u64) -> Option<Self> {
        // SAFETY: no layout here has size 0.
        Self::written(unsafe { alloc::alloc(layout) }, layout, stamp)
    }

    pub(crate) fn new(layout: Layout, stamp: u64) -> Self {
        Self::try_new(layout, stamp).expect("memory")
    }

    /// From zeroed memory, which has to be zero to the last byte.
    pub(crate) fn zeroed(layout: Layout, stamp: u64) -> Self {
        // SAFETY: no layout here has size 0.
        let start = unsafe { alloc::alloc_zeroed(layout) };
        assert!(!start.is_null(), "memory");
        // SAFETY: so many bytes were granted, initialised ones.
        let (head, words, tail) = unsafe { std::slice::from_raw_parts(start, layout.size()).align_to::<u64>() };
        assert!(
            head.iter().chain(tail).all(|&byte| byte == 0) && words.iter().all(|&word| word == 0),
            "{layout:?} is not all zero"
        );
        Self::written(start, layout, stamp).expect("memory")
    }

    fn written(start: *mut u8, layout: Layout, stamp: u64) -> Option<Self> {
        if start.is_null() {
            return None;
        }
        assert!(start.addr().is_multiple_of(layout.align()), "{start:?} is not aligned to {}", layout.align());
        let block = Self { start, layout, stamp };
        for at in block.places() {
            // SAFETY: within the block.
            unsafe { start.add(at).write(block.byte(at)) };
        }
        Some(block)
    }

    /// Where the pattern stands: in each 16 bytes of a small block, in each cache line of a large one, and at both ends.
    fn places(&self) -> impl Iterator<Item = usize> + use<> {
        let size = self.layout.size();
        (0..size).step_by(if size <= 4096 { 13 } else { 61 }).chain([size - 1])
    }

    fn byte(&self, at: usize) -> u8 {
        ((self.stamp ^ at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
    }

    pub(crate) fn is_intact(&self) -> bool {
        // Read to the end: it takes less time than to look out for the first difference.
        // SAFETY: within the block, where the pattern was written.
        self.places().fold(true, |intact, at| intact & (unsafe { self.start.add(at).read() } == self.byte(at)))
    }

    /// Grows or shrinks it, and writes it anew. If there is no memory for that, nothing happens.
    pub(crate) fn try_resize(&mut self, size: usize) -> Result<(), ()> {
        assert!(self.is_intact(), "somebody else wrote to {self:?}");
        let kept = self.layout.size().min(size);
        // SAFETY: the block is of the global allocator and has this layout; the size is in range.
        let start = unsafe { alloc::realloc(self.start, self.layout, size) };
        if start.is_null() {
            return Err(());
        }
        for at in self.places().take_while(|&at| at < kept) {
            // SAFETY: within what was kept.
            assert_eq!(unsafe { start.add(at).read() }, self.byte(at), "byte {at} of {self:?} got lost");
        }
        let new = Self::written(start, layout(size, self.layout.align()), self.stamp);
        // The old block is gone.
        std::mem::forget(std::mem::replace(self, new.expect("it is not null")));
        Ok(())
    }

    pub(crate) fn resize(&mut self, size: usize) {
        self.try_resize(size).expect("memory");
    }

    pub(crate) fn range(&self) -> std::ops::Range<usize> {
        self.start.addr()..self.start.addr() + self.layout.size()
    }

    pub(crate) fn size(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // A second panic would hide the first.
        assert!(std::thread::panicking() || self.is_intact(), "somebody else wrote to {self:?}");
        // SAFETY: granted with this layout, and gone now.
        unsafe { alloc::dealloc(self.start, self.layout) };
    }
}

/// A request of any kind up to a size, 16 MiB at most: small ones mostly, all borders of classes and one byte to each side
/// of them, large ones, and alignments up to 4 MiB.
pub(crate) fn any_layout(rng: &mut fastrand::Rng, largest: usize) -> Layout {
    let size = match rng.u32(0..20) {
        0..10 => random_size(rng, 4 << 10),
        // All capacities are four to seven times a power of two.
        10..15 => (rng.usize(4..8) << rng.u32(2..=14)) + rng.usize(0..3) - 1,
        15 => (rng.usize(4..8) << rng.u32(14..=20)) + rng.usize(0..3) - 1,
        16..19 => random_size(rng, 256 << 10),
        _ => random_size(rng, 8 << 20),
    };
    let align = 1 << if rng.u32(0..16) == 0 { rng.u32(0..=22) } else { rng.u32(0..=6) };
    layout(if size > largest { size % largest + 1 } else { size }, align)
}
