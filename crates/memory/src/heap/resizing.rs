//! Runs that change their size: where they stand, or by moving to where they have room, a piece at a time.
#![allow(unsafe_code)]

use std::ops::Range;
use std::ptr::NonNull;

use super::Heap;
use super::classes::{PAGE, Run};
use super::pages::{Progress, Relocation, Transit};
use super::space::UNIT;
use super::tuning::MOVED_UNITS;
use crate::os::Os;

/// A run that is to change its size where it stands.
#[derive(Debug)]
pub(crate) enum Resize {
    /// It has it; the bytes that may not be zero, at or beyond the least of both sizes, are these.
    Done(Range<usize>),
    /// It grows by pages that are on their way.
    Growing(Growth),
    /// The neighbourhood is taken.
    Refused,
    /// There is no such run in use; nothing happened.
    Nowhere,
}

/// A run that grows.
#[derive(Debug)]
pub(crate) struct Growth {
    start: u32,
    /// Where the block starts in its first page, what it had and what it shall have.
    offset: usize,
    old: Run,
    new: Run,
    transit: Transit,
}

impl Growth {
    /// Whether memory was taken from the system for it.
    pub(crate) fn missed(&self) -> bool {
        self.transit.missed()
    }

    /// Once it is grown, the bytes that may not be zero, beyond those it had.
    pub(crate) fn dirty(&self) -> Range<usize> {
        let (Run { pages, size: old, .. }, size) = (self.old, self.new.size);
        let dirty = self.transit.dirty();
        // The rest of the last page was never cleared.
        let end = if dirty.is_empty() { self.start + pages } else { dirty.end };
        let end = ((end - self.start) as usize * PAGE).saturating_sub(self.offset);
        old..end.clamp(old.min(size), size)
    }
}

/// A block on its way to where it has room.
#[derive(Debug)]
pub(crate) struct Moving {
    page: u32,
    run: Run,
    new: Run,
    offset: usize,
    to: NonNull<u8>,
    relocation: Relocation,
}

impl Moving {
    /// Whether memory was taken from the system for it.
    pub(crate) fn missed(&self) -> bool {
        self.relocation.transit.missed()
    }

    /// Where it will start.
    pub(crate) fn to(&self) -> NonNull<u8> {
        self.to
    }

    /// Its bytes that are there already; the others are to be copied.
    pub(crate) fn moved(&self) -> Range<usize> {
        let moved = self.relocation.moved();
        let byte = |page: u32| (page as usize * PAGE).saturating_sub(self.offset).min(self.run.size);
        byte(moved.start)..byte(moved.end)
    }
}

impl<O: Os> Heap<O> {
    /// Makes what was granted for `old` fit `new`, in place.
    ///
    /// # Safety
    /// The block is the caller's, and it uses nothing of it beyond the least of both sizes.
    pub(crate) unsafe fn resize(&mut self, block: NonNull<u8>, old: Run, new: Run) -> Resize {
        let Some(start) = self.page_of(old, block) else { return Resize::Nowhere };
        if (old.align, old.coloured) != (new.align, new.coloured) {
            return Resize::Refused;
        }
        let (before, after) = (old.pages, new.pages);
        let offset = block.addr().get() - self.pages.space().address(start).addr().get();
        if after > before {
            let Some(transit) = self.pages.extend(start, before, after) else { return Resize::Refused };
            return Resize::Growing(Growth { start, offset, old, new, transit });
        }
        self.pages.owners().set_run(start, new);
        if after < before {
            self.pages.cut(start + after, before - after);
        }
        // The rest of the last page was never cleared.
        let end = (before as usize * PAGE).saturating_sub(offset);
        Resize::Done(old.size..end.clamp(old.size.min(new.size), new.size))
    }

    /// Goes on with a run that grows, by a piece of work. Where the pages behind it were lost, it stays as it was.
    pub(crate) fn grow(&mut self, growth: &mut Growth) -> Progress {
        let progress = self.pages.proceed(&mut growth.transit);
        if progress == Progress::Ready {
            self.pages.extended();
            self.pages.owners().set_run(growth.start, growth.new);
        }
        progress
    }

    /// Moves what was granted for `run` to where `new` fits, without copying what can be moved instead: takes the pages.
    ///
    /// # Safety
    /// The block is the caller's, and nobody uses it until it [arrived](Self::arrive) or the move was [called off](Self::call_off).
    pub(crate) unsafe fn relocate(&mut self, block: NonNull<u8>, run: Run, new: Run) -> Option<Moving> {
        let alike = (run.align, run.coloured) == (new.align, new.coloured) && run.align == 1;
        if run.pages < MOVED_UNITS * UNIT || new.pages < run.pages || !alike {
            return None;
        }
        let page = self.page_of(run, block)?;
        let offset = block.addr().get() - self.pages.space().address(page).addr().get();
        let relocation = self.pages.relocate(page, run.pages, new.pages)?;
        // Pages that differ by whole units have the same colour.
        let to = self.pages.space().address(relocation.transit.start()).map_addr(|addr| addr.saturating_add(offset));
        Some(Moving { page, run, new, offset, to, relocation })
    }

    /// Moves a unit; returns whether there may be more of them.
    pub(crate) fn move_on(&mut self, moving: &mut Moving) -> bool {
        let Some((from, to)) = self.pages.next_move(&moving.relocation) else { return false };
        // SAFETY: the pages are lent to the caller of `relocate`, who looks for what `moved` names at the new place.
        let moved = unsafe { self.pages.space().move_lent(from, to) };
        self.pages.moved(&mut moving.relocation, (from, to), moved)
    }

    /// Goes on with pages that memory was moved to, by a piece of work. Where some were lost meanwhile, what was moved is there still, and
    /// is to be copied back before the move is called off.
    pub(crate) fn settle(&mut self, moving: &mut Moving) -> Progress {
        let progress = self.pages.settle(&mut moving.relocation);
        if progress == Progress::Ready {
            self.pages.owners().set_run(moving.relocation.transit.start(), moving.new);
        }
        progress
    }

    /// What was not moved was copied: the old place is free.
    pub(crate) fn arrive(&mut self, moving: &Moving) {
        self.pages.leave(moving.page, moving.run.pages);
    }

    /// The block stays where it is.
    pub(crate) fn call_off(&mut self, moving: &Moving) {
        self.pages.cancel_relocation(&moving.relocation);
    }
}
