//! The heap: memory from the operating system, managed so that it flows between all sizes.
//!
//! | module | decides |
//! |---|---|
//! | `slabs` | which block serves a small request |
//! | `pages` | which pages serve a large one, how many may be resident, which are given back |
//! | `extents` | which free ranges there are, by size and by neighbourhood |
//! | `units` | which pages are resident, and which may not be zero |

mod extents;
mod pages;
mod slabs;
#[cfg(test)]
mod tests;
mod units;

use std::ops::Range;
use std::ptr::NonNull;

use self::pages::PageHeap;
use self::slabs::Slabs;
use self::units::UNIT;
use crate::layout::blocks::{self, PAGE, Run, SLAB_CLASSES, class_pages};
use crate::os::Os;

/// A granted block.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) start: NonNull<u8>,
    /// The bytes of it that may not be zero.
    pub(crate) dirty: Range<usize>,
}

/// A moved block.
#[derive(Debug)]
pub(crate) struct Relocated {
    pub(crate) start: NonNull<u8>,
    /// The bytes of it that are there already; the others are to be copied.
    pub(crate) moved: Range<usize>,
}

/// Runs of fewer pages are copied as fast as their whole units are moved.
const WORTHWHILE: u32 = 4 * UNIT;

#[derive(Debug)]
pub(crate) struct Heap<O> {
    pages: PageHeap<O>,
    slabs: Slabs,
}

impl<O: Os> Heap<O> {
    pub(crate) const fn new(os: O) -> Self {
        Self { pages: PageHeap::new(os), slabs: Slabs::empty() }
    }

    fn start(&mut self) {
        if let Some(slabs) = self.pages.start() {
            self.slabs = Slabs::new(slabs);
        }
    }

    /// A run of pages for a request of `size` bytes.
    pub(crate) fn obtain_run(&mut self, run: Run, size: usize) -> Option<Granted> {
        self.start();
        let taken = self.pages.take(run.pages, run.align)?;
        let colour = if run.coloured { blocks::colour(taken.start) } else { 0 };
        let start = self.pages.address(taken.start).map_addr(|addr| addr.saturating_add(colour));
        let byte = |page: u32| ((page - taken.start) as usize * PAGE).saturating_sub(colour).min(size);
        Some(Granted { start, dirty: byte(taken.dirty.0)..byte(taken.dirty.1) })
    }

    /// Takes back what was granted for `run`.
    pub(crate) fn give_back_run(&mut self, run: Run, start: NonNull<u8>) {
        let page = self.pages.page(start);
        self.pages.give(page, run.pages);
    }

    /// Up to `wanted` blocks of a class, fewer only if there is no memory.
    pub(crate) fn obtain_blocks(&mut self, class: usize, wanted: usize, mut take: impl FnMut(NonNull<u8>)) {
        self.start();
        if class < SLAB_CLASSES {
            // The slabs know pages and offsets only.
            let mut found = [(0, 0); 64];
            let mut count = 0;
            self.slabs.take(&mut self.pages, class, wanted.min(found.len()), |page, offset| {
                found[count] = (page, offset);
                count += 1;
            });
            for &(page, offset) in &found[..count] {
                take(self.pages.address(page).map_addr(|addr| addr.saturating_add(offset)));
            }
        } else {
            for _ in 0..wanted {
                let Some(run) = self.pages.take(class_pages(class), 1) else { return };
                take(self.pages.address(run.start));
            }
        }
    }

    pub(crate) fn give_back_block(&mut self, class: usize, block: NonNull<u8>) {
        let page = self.pages.page(block);
        if class < SLAB_CLASSES {
            self.slabs.give(&mut self.pages, page, block.addr().get() % PAGE);
        } else {
            self.pages.give(page, class_pages(class));
        }
    }

    /// Makes what was granted for `old` fit a request of `size` bytes that needs `new`, in place. The bytes that may not be
    /// zero, at or beyond the least of both sizes, are in the result; `None` if the neighbourhood is taken.
    pub(crate) fn resize(&mut self, block: NonNull<u8>, old: (Run, usize), new: (Run, usize)) -> Option<Range<usize>> {
        let ((old, old_size), (new, size)) = (old, new);
        if (old.align, old.coloured) != (new.align, new.coloured) {
            return None;
        }
        let (before, after) = (old.pages, new.pages);
        let start = self.pages.page(block);
        // The rest of the last page was never cleared.
        let mut dirty = (start, start + before);
        if after > before {
            let grown = self.pages.extend(start, before, after)?.dirty;
            if grown.0 < grown.1 {
                dirty.1 = grown.1;
            }
        } else if after < before {
            self.pages.cut(start + after, before - after);
        }
        let offset = block.addr().get() - self.pages.address(start).addr().get();
        let end = ((dirty.1 - start) as usize * PAGE).saturating_sub(offset);
        Some(old_size..end.clamp(old_size.min(size), size))
    }

    /// Moves what was granted for `old` to where `new` fits, without copying what can be moved instead.
    pub(crate) fn relocate(&mut self, block: NonNull<u8>, old: (Run, usize), new: Run) -> Option<Relocated> {
        let (old, size) = old;
        let alike = (old.align, old.coloured) == (new.align, new.coloured) && old.align == 1;
        if old.pages < WORTHWHILE || new.pages < old.pages || !alike {
            return None;
        }
        let page = self.pages.page(block);
        let offset = block.addr().get() - self.pages.address(page).addr().get();
        let (start, from, to) = self.pages.relocate(page, old.pages, new.pages)?;
        // Pages that differ by whole units have the same colour.
        let start = self.pages.address(start).map_addr(|addr| addr.saturating_add(offset));
        let byte = |page: u32| (page as usize * PAGE).saturating_sub(offset).min(size);
        Some(Relocated { start, moved: byte(from)..byte(to) })
    }

    /// Takes back what was left by a move.
    pub(crate) fn leave(&mut self, run: Run, start: NonNull<u8>) {
        let page = self.pages.page(start);
        self.pages.leave(page, run.pages);
    }

    /// See [`PageHeap::tick`].
    pub(crate) fn tick(&mut self) {
        self.pages.tick();
    }

    /// See [`PageHeap::decay`].
    pub(crate) fn decay(&mut self) -> bool {
        self.pages.decay()
    }

    /// See [`PageHeap::promote`].
    pub(crate) fn promote(&mut self) -> bool {
        self.pages.promote()
    }

    /// See [`PageHeap::keep_shared`].
    pub(crate) fn keep_shared(&mut self) {
        self.pages.keep_shared();
    }

    /// See [`PageHeap::is_at_rest`].
    pub(crate) fn is_at_rest(&self) -> bool {
        self.pages.is_at_rest()
    }

    /// See [`PageHeap::is_idle`].
    pub(crate) fn is_idle(&self) -> bool {
        self.pages.is_idle()
    }

    /// The most bytes that may be in use, and resident but free, from now on; both in whole pages.
    pub(crate) fn set_limits(&mut self, in_use: usize, idle: usize) {
        let pages = |bytes: usize| u32::try_from(bytes / PAGE).unwrap_or(u32::MAX);
        self.pages.set_limits(pages(in_use), pages(idle));
    }

    /// Gives all free pages back to the system; returns how many bytes.
    pub(crate) fn trim(&mut self) -> usize {
        self.pages.trim() as usize * PAGE
    }

    /// How often a request took memory from the system.
    pub(crate) fn misses(&self) -> u64 {
        self.pages.misses()
    }

    /// Resident bytes, in whole pages; and their peak.
    pub(crate) fn resident(&self) -> usize {
        self.pages.resident() as usize * PAGE
    }

    pub(crate) fn peak_resident(&self) -> usize {
        self.pages.peak_resident() as usize * PAGE
    }
}

#[cfg(test)]
impl<O: Os> Heap<O> {
    fn check(&self) {
        self.pages.check();
    }
}
