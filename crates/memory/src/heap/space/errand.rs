//! What the system is asked to do with free pages, by a call that is made without the heap's lock.
//!
//! Such a call takes long, and others would wait for it. So its pages are lent to the errand, as others' are to their users: nothing else
//! is done to them until it [comes back](Space::returned).
#![allow(unsafe_code)]

use std::ops::Range;
use std::ptr::NonNull;

use super::{Advice, PAGE, Space, UNIT, parts};
use crate::os::{Os, Purge};

/// A call to the system on its way.
#[derive(Debug)]
#[must_use]
pub(crate) struct Errand<O> {
    os: O,
    what: What,
    start: NonNull<u8>,
    pages: Range<u32>,
    resident: u32,
}

/// What an errand comes back with.
#[derive(Debug)]
#[must_use]
pub(crate) struct Return {
    what: What,
    pages: Range<u32>,
    resident: u32,
    came: Came,
}

impl Return {
    pub(crate) fn pages(&self) -> Range<u32> {
        self.pages.clone()
    }

    /// How many of them were resident when it began.
    pub(crate) fn resident(&self) -> u32 {
        self.resident
    }
}

// SAFETY: the pages are nobody else's until it comes back.
unsafe impl<O: Send> Send for Errand<O> {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Purge,
    /// If any of them is resident, which should not be.
    PurgeResident,
    Unmap,
}

/// What became of the pages of an errand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// They are as before, as the system takes nothing back.
    Refused,
    /// They are as before: nothing of them was resident, as far as is told.
    Untouched,
    /// Nothing is resident of them any more.
    Purged,
    /// They hold nothing, and are mapped no more.
    Unmapped,
    /// They are nobody's.
    Lost,
    /// They are not the heap's any more.
    Gone,
}

impl<O: Os> Errand<O> {
    /// Makes the call.
    pub(crate) fn run(self) -> Return {
        let bytes = self.pages.len() * PAGE;
        let came = match self.what {
            // SAFETY: *Lent*: the pages are mapped and were free; until the errand is back they are lent to it, or the heap knows nothing
            // of them. So nobody uses them.
            What::Unmap => match unsafe { self.os.unmap(self.start, bytes) } {
                true => Came::Unmapped,
                false => Came::Lost,
            },
            What::PurgeResident if self.os.resident(self.start, bytes).is_none_or(|resident| resident == 0) => {
                Came::Untouched
            }
            What::Purge | What::PurgeResident => self.purge(),
        };
        Return { what: self.what, pages: self.pages, resident: self.resident, came }
    }

    fn purge(&self) -> Came {
        // SAFETY: *Lent*, as above.
        match unsafe { self.os.purge(self.start, self.pages.len() * PAGE) } {
            Purge::Zero => Came::Purged,
            Purge::Kept => Came::Refused,
            Purge::Lost => Came::Lost,
        }
    }
}

impl<O: Os> Space<O> {
    /// Free pages, so many of them resident, of which the memory goes back; `None` while that is not to be tried. With `only_resident`, the system is asked first
    /// whether any is.
    pub(crate) fn purge(&mut self, pages: Range<u32>, resident: u32, only_resident: bool) -> Option<Errand<O>> {
        if !self.purges.may_try() {
            return None;
        }
        let what = if only_resident { What::PurgeResident } else { What::Purge };
        Some(self.errand(what, pages, resident))
    }

    /// Free units, of which the addresses go back as well, as long as the process has mappings to spare. Where the system chose them, they
    /// may be anybody's before it is back: they are the heap's no more.
    pub(crate) fn unmap(&mut self, of: Range<u32>) -> Option<Errand<O>> {
        if self.cuts + 2 > self.max_cuts || !self.unmaps.may_try() {
            return None;
        }
        let pages = of.start * UNIT..of.end * UNIT;
        let errand = self.errand(What::Unmap, pages.clone(), 0);
        self.set(of, |_, frame| (frame.mapped, frame.moved, frame.advice) = (0, false, Advice::None));
        if self.is_closed() {
            self.end(pages);
        }
        Some(errand)
    }

    fn errand(&mut self, what: What, pages: Range<u32>, resident: u32) -> Errand<O> {
        debug_assert!(!pages.is_empty() && resident as usize <= pages.len());
        self.lend(pages.clone());
        parts(pages.clone()).for_each(|(unit, part)| self.frames[unit].away += part.len() as u32);
        Errand { os: self.os.clone(), what, start: self.address(pages.start), pages, resident }
    }

    /// An errand is back. Its pages are free again, unless they are lost, or anybody's.
    pub(crate) fn returned(&mut self, with: &Return) -> Came {
        match with.what {
            What::Unmap => self.unmaps.tried(with.came == Came::Unmapped),
            What::Purge | What::PurgeResident if with.came == Came::Untouched => {}
            What::Purge | What::PurgeResident => self.purges.tried(with.came == Came::Purged),
        }
        if with.what == What::Unmap && self.is_closed() {
            return Came::Gone;
        }
        self.end(with.pages());
        if with.came == Came::Lost {
            self.withdraw(with.pages());
        }
        with.came
    }

    /// No errand is about pages any more.
    fn end(&mut self, pages: Range<u32>) {
        parts(pages.clone()).for_each(|(unit, part)| self.frames[unit].away -= part.len() as u32);
        self.reclaim(pages);
    }
}
