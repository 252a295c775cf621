//! What others use: which pages are lent, set aside, withdrawn, and which are free.

use std::ops::Range;

use super::{Frame, Space, UNIT, WORDS, any, each_mask, expect, parts};
use crate::os::Os;

/// What pages are after a change.
#[derive(Clone, Copy)]
enum Now {
    Taken,
    Free,
    AsBefore,
}

impl<O: Os> Space<O> {
    /// Others use pages from now on, which were free.
    pub(crate) fn lend(&mut self, pages: Range<u32>) {
        self.take(pages, |frame| &mut frame.lent);
    }

    /// Nobody uses pages any more, which were lent.
    pub(crate) fn reclaim(&mut self, pages: Range<u32>) {
        self.each_frame(pages, Now::Free, |frame, part| {
            each_mask(part, |word, mask| {
                expect(!frame.lent[word] & mask == 0);
                frame.lent[word] &= !mask;
            });
        });
    }

    /// Free pages are set aside.
    pub(crate) fn set_aside(&mut self, pages: Range<u32>) {
        self.take(pages, |frame| &mut frame.aside);
    }

    /// Marks free pages.
    #[inline]
    fn take(&mut self, pages: Range<u32>, as_what: impl Fn(&mut Frame) -> &mut [u64; WORDS]) {
        self.each_frame(pages, Now::Taken, |frame, part| {
            expect(part.end <= frame.mapped);
            each_mask(part, |word, mask| {
                expect(frame.not_free(word) & mask == 0);
                as_what(frame)[word] |= mask;
            });
        });
    }

    /// Others use pages from now on that were set aside.
    pub(crate) fn lend_aside(&mut self, pages: Range<u32>) {
        self.each_frame(pages, Now::AsBefore, |frame, part| {
            each_mask(part, |word, mask| {
                expect(!frame.aside[word] & mask == 0 && frame.lent[word] & mask == 0);
                frame.aside[word] &= !mask;
                frame.lent[word] |= mask;
            });
        });
    }

    /// Pages that were set aside are free again, but for those that were withdrawn meanwhile.
    pub(crate) fn put_back(&mut self, pages: Range<u32>) {
        self.each_frame(pages, Now::Free, |frame, part| {
            each_mask(part, |word, mask| {
                expect(!frame.aside[word] & mask == 0);
                frame.aside[word] &= !mask;
                frame.taken = frame.taken.wrapping_add((mask & frame.lent[word]).count_ones());
            });
        });
    }

    /// Pages are nobody's from now on: what lies there is not known.
    pub(crate) fn withdraw(&mut self, pages: Range<u32>) {
        self.each_frame(pages, Now::Taken, |frame, part| {
            each_mask(part, |word, mask| {
                frame.taken = frame.taken.wrapping_sub((mask & frame.not_free(word)).count_ones());
                frame.lent[word] |= mask;
            });
            frame.has_hole = true;
        });
    }

    /// Changes the frames of some pages, which are so from then on.
    #[inline]
    fn each_frame(&mut self, pages: Range<u32>, now: Now, change: impl Fn(&mut Frame, Range<u32>)) {
        for (unit, part) in parts(pages) {
            let frame = &mut self.frames[unit];
            let before = frame.taken;
            match now {
                Now::Taken => frame.taken = before.wrapping_add(part.end - part.start),
                Now::Free => frame.taken = before.wrapping_sub(part.end - part.start),
                Now::AsBefore => {}
            }
            change(frame, part);
            debug_assert!(frame.taken <= UNIT);
            if (before == 0) != (frame.taken == 0) {
                if before == 0 {
                    self.taken.insert(unit);
                } else {
                    self.taken.remove(unit);
                }
            }
        }
    }

    /// Whether some of these pages are lent, or withdrawn.
    pub(crate) fn is_lent(&self, pages: Range<u32>) -> bool {
        parts(pages).any(|(unit, part)| self.frames.get(unit).is_some_and(|frame| any(part, |word| frame.lent[word])))
    }

    /// Whether all of these pages are free.
    pub(super) fn is_free(&self, pages: Range<u32>) -> bool {
        parts(pages).all(|(unit, part)| {
            self.frames.get(unit).is_none_or(|frame| frame.taken == 0 || !any(part, |word| frame.not_free(word)))
        })
    }

    /// The first of the free pages that end with this one; `None` if it is not free itself.
    pub(crate) fn free_from(&self, page: u32) -> Option<u32> {
        // The last page up to a bound that is not free, in a unit.
        let last = |unit: u32, upto: u32| {
            let frame = self.frames.get(unit).filter(|frame| frame.taken > 0)?;
            (0..=upto as usize / 64).rev().find_map(|word| {
                let shift = 63 - upto.saturating_sub(word as u32 * 64).min(63);
                let bits = frame.not_free(word) & u64::MAX >> shift;
                bits.checked_ilog2().map(|bit| unit * UNIT + word as u32 * 64 + bit)
            })
        };
        let unit = page / UNIT;
        let before = last(unit, page % UNIT).or_else(|| {
            let before = self.taken.last_before(unit);
            before.and_then(|unit| last(unit, UNIT - 1))
        });
        let from = before.map_or(0, |before| before + 1);
        // Where the system chose the places, what is not mapped is not free.
        let mapped = || (from / UNIT..unit).rev().take_while(|&unit| self.is_mapped(unit)).last().unwrap_or(unit);
        let from = if self.is_closed() { from.max(mapped() * UNIT) } else { from };
        (from <= page).then_some(from)
    }

    /// The first of some pages, all within one unit, that are free, and those that follow it.
    pub(crate) fn free_within(&self, pages: Range<u32>) -> Option<Range<u32>> {
        let Some(frame) = self.frames.get(pages.start / UNIT) else {
            return Some(pages).filter(|pages| !pages.is_empty());
        };
        // The first page at or behind one that is free, or is not.
        let next = |from: u32, free: bool| {
            if from >= pages.end {
                return None;
            }
            let unit = from / UNIT * UNIT;
            let mut found = None;
            each_mask(from - unit..pages.end - unit, |word, mask| {
                let bits = if free { !frame.not_free(word) } else { frame.not_free(word) } & mask;
                if found.is_none() && bits != 0 {
                    found = Some(unit + word as u32 * 64 + bits.trailing_zeros());
                }
            });
            found
        };
        let start = next(pages.start, true)?;
        Some(start..next(start, false).unwrap_or(pages.end))
    }

    pub(super) fn expect_mapped_and_not_lent(&self, pages: Range<u32>) {
        expect(self.are_mapped(&pages) && !self.is_lent(pages));
    }
}
