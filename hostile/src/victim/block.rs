//! A block of the global allocator's that knows what is in it: every page of it bears a stamp.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, realloc};
use std::hint::black_box;

use tenzor_hostile::ensure;
use tenzor_hostile::sys::PAGE;

const WORD: usize = size_of::<u64>();
/// The least size of a block.
pub const LEAST: usize = 2 * WORD;
/// Up to here every word is stamped, above the first of each page and the last two.
const WHOLE: usize = 2 * PAGE;

/// A stamped block. Its size and stamp are known from outside, so nothing in the memory itself is believed. The compiler, which knows what
/// allocators are to do and would take it for done, does not see where a block comes from.
#[derive(Debug)]
pub struct Block {
    at: *mut u8,
    layout: Layout,
    stamp: u64,
}

// SAFETY: a block is owned by who has it, and the global allocator takes frees from any thread.
unsafe impl Send for Block {}

impl Block {
    /// A block of `size` bytes, rounded up to words, or none where that is refused.
    pub fn new(size: usize, align: usize, stamp: u64) -> Option<Self> {
        let layout = Layout::from_size_align(size.max(LEAST).next_multiple_of(WORD), align.max(WORD)).ok()?;
        // SAFETY: the layout is not empty.
        let at = black_box(unsafe { alloc(layout) });
        Self::of(at, layout, stamp)
    }

    /// A block that was asked for as zeroed: every byte of it is looked at.
    pub fn zeroed(size: usize, stamp: u64) -> Option<Self> {
        let layout = Layout::from_size_align(size.max(LEAST).next_multiple_of(WORD), 64).ok()?;
        // SAFETY: the layout is not empty.
        let at = black_box(unsafe { alloc_zeroed(layout) });
        if !at.is_null() {
            for word in 0..layout.size() / WORD {
                // SAFETY: within the block, and initialised by the allocator's promise.
                let found = unsafe { at.cast::<u64>().add(word).read() };
                ensure!(found == 0, "zeroed {} bytes: {found:#x} at {:#x}", layout.size(), word * WORD);
            }
        }
        Self::of(at, layout, stamp)
    }

    fn of(at: *mut u8, layout: Layout, stamp: u64) -> Option<Self> {
        if at.is_null() {
            return None;
        }
        ensure!(at as usize & (layout.align() - 1) == 0, "{at:?} is not aligned to {}", layout.align());
        let block = Block { at, layout, stamp };
        block.fill(0);
        Some(block)
    }

    pub fn size(&self) -> usize {
        self.layout.size()
    }

    pub fn at(&self) -> *mut u8 {
        self.at
    }

    /// The words that bear stamps, from word `from` on.
    fn stamped(&self, from: usize) -> impl Iterator<Item = usize> {
        let words = self.size() / WORD;
        let step = if self.size() <= WHOLE { 1 } else { PAGE / WORD };
        (from.next_multiple_of(step)..words).step_by(step).chain([words - 2, words - 1])
    }

    fn fill(&self, from: usize) {
        for word in self.stamped(from) {
            // SAFETY: within the block, which is ours and aligned for words.
            unsafe { self.at.cast::<u64>().add(word).write(self.stamp ^ word as u64) };
        }
    }

    /// Fills every byte, so that what comes after has something to betray.
    pub fn soil(&self) {
        // SAFETY: the block is ours for its size.
        unsafe { self.at.write_bytes(0xa5, self.size()) };
        self.fill(0);
    }

    /// Every stamp is there.
    pub fn check(&self) {
        self.check_below(self.size() / WORD, self.size());
        for word in self.stamped(self.size() / WORD) {
            self.check_word(word);
        }
    }

    /// The stamps that a block of `size` bytes had are there, below word `end`, but for the two at its end.
    fn check_below(&self, end: usize, size: usize) {
        let step = if size <= WHOLE { 1 } else { PAGE / WORD };
        for word in (0..end).step_by(step) {
            self.check_word(word);
        }
    }

    fn check_word(&self, word: usize) {
        // SAFETY: within the block; stamped before.
        let found = unsafe { self.at.cast::<u64>().add(word).read() };
        let wanted = self.stamp ^ word as u64;
        ensure!(
            found == wanted,
            "block of {} bytes at {:?}: {found:#x} at {:#x} instead of {wanted:#x}",
            self.size(),
            self.at,
            word * WORD
        );
    }

    /// Makes it larger or smaller and checks that the contents came along; whether it was done. Refused, it is as it was.
    pub fn resize(&mut self, size: usize) -> bool {
        let size = size.max(LEAST).next_multiple_of(WORD);
        // SAFETY: the block is the allocator's, of this layout, and the new size is not zero.
        let at = black_box(unsafe { realloc(self.at, self.layout, size) });
        if at.is_null() {
            self.check();
            return false;
        }
        let old = self.size();
        let Ok(layout) = Layout::from_size_align(size, self.layout.align()) else { return false };
        (self.at, self.layout) = (at, layout);
        ensure!(at as usize & (layout.align() - 1) == 0, "{at:?} is not aligned to {}", layout.align());
        self.check_below(old.min(size) / WORD, old);
        self.fill(0);
        true
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.check();
        // SAFETY: the block is the allocator's, of this layout, and nobody has it any more.
        unsafe { dealloc(self.at, self.layout) };
    }
}
