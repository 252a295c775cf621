//! Which pages serve a request.

use super::{PageHeap, Progress, Transit};
use crate::heap::classes::{CLASS_PAGES, PAGE};
use crate::heap::extents::Side;
use crate::heap::space::Unmapped;
use crate::heap::tuning::PLACES_LEFT_OUT;
use crate::os::Os;

/// The most blocks in a parcel of so many pages: each has two.
fn most_blocks(pages: u32) -> usize {
    pages as usize / 2
}

impl<O: Os> PageHeap<O> {
    /// Takes `pages` pages that start at a multiple of `align` pages, a power of two. `None` when there is no memory.
    pub(crate) fn take(&mut self, pages: u32, align: u32) -> Option<Transit> {
        self.take_on(self.side_of(pages), pages, align)
    }

    pub(super) fn take_on(&mut self, side: Side, pages: u32, align: u32) -> Option<Transit> {
        if !self.budget.allows(pages) {
            return None;
        }
        self.merge();
        self.prepare()?;
        let transit = match self.find(side, pages, align) {
            None if self.expand(pages, align) => self.find(side, pages, align),
            found => found,
        }?;
        self.runs += 1;
        Some(transit)
    }

    /// Takes `pages` pages that need nothing to be done for them, all resident and none of them zero, if those are the best.
    #[inline]
    pub(crate) fn take_at_once(&mut self, pages: u32, align: u32) -> Option<u32> {
        self.take_at_once_on(self.side_of(pages), pages, align)
    }

    #[inline]
    pub(super) fn take_at_once_on(&mut self, side: Side, pages: u32, align: u32) -> Option<u32> {
        if !self.budget.allows(pages) {
            return None;
        }
        self.take_last(side, pages, align).or_else(|| self.take_ready(side, pages, align))
    }

    fn take_ready(&mut self, side: Side, pages: u32, align: u32) -> Option<u32> {
        if align > 1 || !self.started {
            return None;
        }
        self.merge();
        self.prepare()?;
        let number = self.extents.best_resident(side, pages)?;
        let extent = self.extents.get(number);
        if extent.dirty < pages {
            return None;
        }
        let taken = extent.start..extent.start + pages;
        self.runs += 1;
        self.budget.take(pages);
        self.space.lend(taken.clone());
        self.cut_units(&taken, extent.pages > pages);
        self.extents.update(number, extent.rest(taken.end, 0, 0));
        Some(taken.start)
    }

    /// Takes the run that was given back last, if it is the best for `pages` pages.
    #[inline]
    fn take_last(&mut self, side: Side, pages: u32, align: u32) -> Option<u32> {
        let last = self.last.as_ref()?;
        if (last.pages, align, self.extents.side(last.start)) != (pages, 1, side) {
            return None;
        }
        // As long as the extents stay as they are, so does the answer.
        let known = (last.start, last.pages, self.extents.version());
        if known != self.best {
            if !self.extents.is_best(last) {
                return None;
            }
            self.best = known;
        }
        self.last = None;
        self.budget.take(pages);
        self.runs += 1;
        Some(known.0)
    }

    /// As [`take`](Self::take), for few pages: all at once.
    pub(crate) fn take_now(&mut self, pages: u32) -> Option<Transit> {
        self.take_now_on(self.side_of(pages), pages)
    }

    /// As [`take_now`](Self::take_now), for a parcel: there may be free ranges between its blocks, once parts of it were [cut](Self::cut).
    /// With `at_once`, only where nothing needs to be done for them.
    pub(crate) fn take_parcel(&mut self, pages: u32, at_once: bool) -> Option<u32> {
        let side = self.side_of(pages.min(CLASS_PAGES));
        self.runs += most_blocks(pages);
        self.merge();
        let start = self.prepare().and_then(|()| match at_once {
            true => self.take_at_once_on(side, pages, 1),
            false => self.take_now_on(side, pages).map(|transit| transit.start()),
        });
        if start.is_none() {
            self.runs -= most_blocks(pages);
        }
        start
    }

    /// All pages of a parcel were cut.
    pub(crate) fn parcel_ended(&mut self, pages: u32) {
        self.runs -= most_blocks(pages) + 1;
    }

    fn take_now_on(&mut self, side: Side, pages: u32) -> Option<Transit> {
        if let Some(start) = self.take_at_once_on(side, pages, 1) {
            return Some(Transit::ready(start..start + pages));
        }
        let mut transit = self.take_on(side, pages, 1)?;
        // One move at most.
        loop {
            match self.proceed(&mut transit) {
                Progress::More => transit.next = u32::MAX,
                Progress::Ready => return Some(transit),
                Progress::Lost => return None,
            }
        }
    }

    /// Cuts pages out of the extent that fits best, on a side if it can be.
    pub(super) fn find(&mut self, side: Side, pages: u32, align: u32) -> Option<Transit> {
        let wanted = pages.checked_add(align - 1)?;
        for side in [side, side.other()] {
            for _ in 0..PLACES_LEFT_OUT {
                let best = self.extents.best(side, wanted, |extent| match extent.dirty >= wanted {
                    true => 0,
                    false if extent.fresh == extent.pages => pages,
                    false => self.units.extent(extent.start..extent.start + pages).fresh,
                });
                let Some(number) = best else { break };
                // The heap's first page is aligned to a huge page only.
                let skew = (self.space.address(0).addr().get() / PAGE) as u32 & (align - 1);
                let start = (self.extents.get(number).start + skew).next_multiple_of(align) - skew;
                match self.map(number, start..start + pages) {
                    Ok(()) => return Some(self.cut_out(number, start..start + pages)),
                    Err(Unmapped::Taken(pages)) => self.leave_out(number, pages),
                    Err(Unmapped::Refused) => break,
                }
            }
        }
        None
    }
}
