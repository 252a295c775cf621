//! Bytes as operations on the heap, against a naive model that knows who wrote each byte. The fuzzer's target and the replay
//! of its corpus both run it.

use std::alloc::{GlobalAlloc, Layout};

use tenzor_memory::TenzorMalloc;

const HEAP: TenzorMalloc = TenzorMalloc::new();
const SLOTS: usize = 64;
/// The most bytes that may live at once.
const LIVE: usize = 128 << 20;

struct Block {
    at: *mut u8,
    layout: Layout,
    stamp: u8,
}

impl Block {
    /// The bytes that are written and checked: the ends, and one in each page.
    fn marks(size: usize) -> impl Iterator<Item = usize> {
        (0..size.min(16)).chain((0..size).step_by(4096)).chain(size.saturating_sub(16)..size)
    }

    fn write(&self) {
        for mark in Self::marks(self.layout.size()) {
            // SAFETY: within the block.
            unsafe { self.at.add(mark).write(self.stamp ^ (mark >> 12) as u8) };
        }
    }

    /// Checks those of the marks that lie in the first `size` bytes.
    fn check(&self, size: usize) {
        for mark in Self::marks(self.layout.size()).filter(|mark| *mark < size) {
            // SAFETY: within the block.
            let found = unsafe { self.at.add(mark).read() };
            assert_eq!(found, self.stamp ^ (mark >> 12) as u8, "byte {mark} of {:?}", self.layout);
        }
    }
}

/// A size near a border between classes: a power of two and some sixteenths, and one less or more. Seldom a large one, as these
/// are slow to check.
fn size(exponent: u8, fine: u8) -> usize {
    let exponent = if exponent < 250 { exponent % 18 } else { 18 + exponent % 7 };
    let power = 1_usize << exponent;
    (power + power / 16 * usize::from(fine >> 4) + usize::from(fine & 3)).saturating_sub(2).max(1)
}

/// Runs four bytes an operation; returns how many there were. Panics where the heap breaks a promise.
pub(crate) fn run(data: &[u8]) -> usize {
    let mut blocks: [Option<Block>; SLOTS] = [const { None }; SLOTS];
    let mut live = 0;
    let mut stamp = 0_u8;
    for operation in data.chunks_exact(4) {
        let [code, slot, exponent, fine] = [operation[0], operation[1], operation[2], operation[3]];
        let block = &mut blocks[usize::from(slot) % SLOTS];
        let size = size(exponent, fine);
        stamp = stamp.wrapping_add(1);
        match (code % 8, block.as_mut()) {
            (0..=3, None) if live + size <= LIVE => {
                let align = 1_usize << if code >> 6 == 3 { (code >> 3) % 8 * 3 } else { (code >> 3) % 8 };
                let Ok(layout) = Layout::from_size_align(size, align) else { continue };
                let zeroed = code % 2 == 1;
                // SAFETY: the size is not zero.
                let at = unsafe { if zeroed { HEAP.alloc_zeroed(layout) } else { HEAP.alloc(layout) } };
                assert!(!at.is_null() && at.addr().is_multiple_of(align), "{layout:?} at {at:?}");
                if zeroed {
                    // SAFETY: the block has so many bytes, all of them zero.
                    let bytes = unsafe { std::slice::from_raw_parts(at, size) };
                    let some = bytes.iter().step_by(if size > 4096 { 61 } else { 1 });
                    assert!(some.chain(bytes.last()).all(|byte| *byte == 0), "{layout:?} is not zero");
                }
                let new = Block { at, layout, stamp };
                new.write();
                live += size;
                *block = Some(new);
            }
            (4..=6, Some(old)) if code % 8 == 4 || live > LIVE / 2 => {
                old.check(old.layout.size());
                // SAFETY: granted with this layout, and forgotten now.
                unsafe { HEAP.dealloc(old.at, old.layout) };
                live -= old.layout.size();
                *block = None;
            }
            (5..=6, Some(old)) if live + size <= LIVE => {
                let kept = size.min(old.layout.size());
                // SAFETY: granted with this layout; the new size is not zero, and no multiple of the alignment overflows.
                let at = unsafe { HEAP.realloc(old.at, old.layout, size) };
                assert!(!at.is_null() && at.addr().is_multiple_of(old.layout.align()));
                old.at = at;
                old.check(kept);
                live = live - old.layout.size() + size;
                // A layout that fitted before, and is at most a power of two now.
                let Ok(layout) = Layout::from_size_align(size, old.layout.align()) else { continue };
                *old = Block { at, layout, stamp };
                old.write();
            }
            (7, _) if fine == 0 => _ = HEAP.trim(),
            (7, _) if fine == 1 => {
                let stats = HEAP.stats();
                assert!(stats.bytes_in_use >= live && stats.bytes_in_use <= stats.bytes_in_use_rounded);
                assert_eq!(
                    stats.bytes_in_use_rounded + stats.pooled_bytes + stats.overhead_bytes,
                    stats.reserved_bytes
                );
            }
            _ => {}
        }
    }
    for block in blocks.iter().flatten() {
        block.check(block.layout.size());
        // SAFETY: granted with this layout, and not used any more.
        unsafe { HEAP.dealloc(block.at, block.layout) };
    }
    data.len() / 4
}
