//! Small blocks: slabs of equal blocks, cut from runs of pages.
//!
//! Which of a slab's blocks are free is told by bits beside it, not by links in the blocks: a write through a dangling
//! pointer cannot corrupt them, and a free touches no cold memory.

use super::owners::{Holding, SLABS};
use super::pages::PageHeap;
use super::space::{Table, zeroable};
use crate::heap::classes::{PAGE, SLAB_BLOCKS, SLAB_CLASSES, class_capacity, class_pages, is_start};
use crate::os::Os;

const WORDS: usize = SLAB_BLOCKS / 64;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slab {
    /// Blocks that are not handed out, and how many.
    free: [u64; WORDS],
    count: u16,
    class: u16,
    start: u32,
    /// The list of its class, if it has free blocks; that of the vacant numbers.
    previous: u32,
    next: u32,
}

zeroable!(Slab { free, count, class, start, previous, next });

/// All slabs, by number. Number 0 is none.
#[derive(Debug)]
pub(crate) struct Slabs {
    slabs: Table<Slab, SLABS, 2048>,
    /// The slabs of each class that have free blocks.
    partial: [u32; SLAB_CLASSES],
    vacant: u32,
    unused: u32,
}

impl Slabs {
    pub(crate) const fn empty() -> Self {
        Self { slabs: Table::empty(), partial: [0; SLAB_CLASSES], vacant: 0, unused: 1 }
    }

    /// Takes up to `wanted` blocks of a class, each passed to `take` as the page that starts its slab and the offset from
    /// there, in bytes; fewer only if there is no memory.
    pub(crate) fn take<O: Os>(
        &mut self,
        pages: &mut PageHeap<O>,
        class: usize,
        mut wanted: usize,
        mut take: impl FnMut(u32, usize),
    ) {
        while wanted > 0 {
            let number = match self.partial[class] {
                0 => match self.new_slab(pages, class) {
                    Some(number) => number,
                    None => return,
                },
                number => number,
            };
            let slab = &mut self.slabs[number];
            for word in 0..WORDS {
                while slab.free[word] != 0 && wanted > 0 {
                    let bit = slab.free[word].trailing_zeros();
                    slab.free[word] &= slab.free[word] - 1;
                    slab.count -= 1;
                    wanted -= 1;
                    take(slab.start, (word * 64 + bit as usize) * class_capacity(class));
                }
            }
            if slab.count == 0 {
                self.unlink(number);
            }
        }
    }

    /// Takes back a block of a class that starts so many bytes into a page. Returns whether there was such a block in use.
    pub(crate) fn give<O: Os>(&mut self, pages: &mut PageHeap<O>, class: usize, page: u32, offset: usize) -> bool {
        let Holding::Slab { class: found, number, place } = pages.owners().at(page) else { return false };
        let offset = place as usize * PAGE + offset;
        if found != class || !is_start(class, offset) {
            return false;
        }
        let slab = &mut self.slabs[number];
        let block = offset / class_capacity(class);
        let (word, bit) = (block / 64, 1 << (block % 64));
        if slab.free[word] & bit != 0 {
            return false;
        }
        slab.free[word] |= bit;
        slab.count += 1;
        let (count, start) = (slab.count, slab.start);
        if count == 1 {
            self.link(class, number);
        }
        if usize::from(count) == blocks(class) {
            self.unlink(number);
            self.slabs[number] = Slab { next: self.vacant, ..Slab::default() };
            self.vacant = number;
            pages.owners().clear_slab(start..start + class_pages(class));
            pages.give(start, class_pages(class));
        }
        true
    }

    /// Whether a block starts so many bytes into a page of a slab that is not handed out.
    pub(crate) fn is_free(&self, class: usize, number: u32, offset: usize) -> bool {
        let block = offset / class_capacity(class);
        is_start(class, offset) && self.slabs[number].free[block / 64] & 1 << (block % 64) != 0
    }

    fn new_slab<O: Os>(&mut self, pages: &mut PageHeap<O>, class: usize) -> Option<u32> {
        let number = if self.vacant == 0 { self.unused } else { self.vacant };
        if number as usize >= SLABS || !pages.room_in(&mut self.slabs, number) {
            return None;
        }
        let start = pages.take_now(class_pages(class))?.start();
        if self.vacant == 0 {
            self.unused += 1;
        } else {
            self.vacant = self.slabs[number].next;
        }
        pages.owners().set_slab(start..start + class_pages(class), class, number);
        let count = blocks(class);
        let free = std::array::from_fn(|word| match count.saturating_sub(word * 64) {
            0 => 0,
            bits @ 1..64 => (1 << bits) - 1,
            _ => u64::MAX,
        });
        self.slabs[number] = Slab { free, count: count as u16, class: class as u16, start, previous: 0, next: 0 };
        self.link(class, number);
        Some(number)
    }

    fn link(&mut self, class: usize, number: u32) {
        let next = std::mem::replace(&mut self.partial[class], number);
        if next != 0 {
            self.slabs[next].previous = number;
        }
        self.slabs[number].previous = 0;
        self.slabs[number].next = next;
    }

    fn unlink(&mut self, number: u32) {
        let Slab { class, previous, next, .. } = self.slabs[number];
        if next != 0 {
            self.slabs[next].previous = previous;
        }
        if previous != 0 {
            self.slabs[previous].next = next;
        } else {
            self.partial[usize::from(class)] = next;
        }
    }
}

/// The blocks of a slab.
fn blocks(class: usize) -> usize {
    class_pages(class) as usize * PAGE / class_capacity(class)
}
