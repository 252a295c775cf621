//! What is mapped, and how far ahead; and the room in the tables for what is noted of it.

use std::ops::Range;

use bytemuck::Zeroable;

use super::PageHeap;
use crate::heap::extents::Extent;
use crate::heap::space::{Table, UNIT, Unmapped, units};
use crate::heap::tuning::{MAPPED_AHEAD_PART, MAPPED_AHEAD_UNITS, SMALL_MAPPING_PAGES, UNITS_WORTH_A_MAPPING};
use crate::heap_config::HugePages;
use crate::os::Os;

impl<O: Os> PageHeap<O> {
    /// Where there are no open addresses: takes some wherever the system likes, ever more of them.
    #[cold]
    pub(super) fn expand(&mut self, pages: u32, align: u32) -> bool {
        let Some(wanted) = pages.checked_add(align - 1) else { return false };
        if !self.space.is_closed() {
            return false;
        }
        let least = wanted.div_ceil(UNIT);
        for units in [self.mapped.max(UNITS_WORTH_A_MAPPING).max(least), least] {
            let Some(found) = self.space.map_anywhere(units) else { continue };
            let pages = found.start * UNIT..found.end * UNIT;
            if self.room(pages.clone()).is_none() || self.prepare().is_none() {
                self.space.unmap_unused(found);
                return false;
            }
            self.mapped += units;
            self.extents.give(Extent::fresh(pages.start, pages.end - pages.start));
            return true;
        }
        false
    }

    /// Maps what is not mapped of a part of an extent, and somewhat more, so that the next part is.
    pub(super) fn map(&mut self, number: u32, pages: Range<u32>) -> Result<(), Unmapped> {
        // What is mapped has its room, and so has what is beside it.
        if self.space.are_mapped(&pages) {
            return Ok(());
        }
        let wanted = units(&pages);
        let start = wanted.start * UNIT;
        self.room(start..wanted.end * UNIT).ok_or(Unmapped::Refused)?;
        // Where little is mapped, and no huge page is due, less than a unit will do: all of it may be locked, or counted.
        if self.mapped < 2 && wanted.len() == 1 && self.filling.policy() == HugePages::Auto {
            let end =
                (pages.end - start).next_multiple_of(SMALL_MAPPING_PAGES).max(2 * self.space.mapped(wanted.start));
            return self.map_to(start..start + end.min(UNIT));
        }
        let end = self.extents.get(number).end() / UNIT;
        let ahead = (wanted.end + (self.mapped / MAPPED_AHEAD_PART).min(MAPPED_AHEAD_UNITS)).min(end);
        let grows = ahead > wanted.end && !self.space.is_mapped(wanted.end - 1) && !self.space.os().is_locked();
        if grows && self.room(start..ahead * UNIT).is_some() {
            let mapped = self.map_to(start..ahead * UNIT);
            if mapped != Err(Unmapped::Refused) {
                return mapped;
            }
        }
        self.map_to(start..wanted.end * UNIT)
    }

    /// Maps pages, and counts the units that are.
    pub(super) fn map_to(&mut self, pages: Range<u32>) -> Result<(), Unmapped> {
        let count = |heap: &Self| units(&pages).filter(|&unit| heap.space.is_mapped(unit)).count() as u32;
        let before = count(self);
        let mapped = self.space.map(pages.clone());
        self.mapped += count(self) - before;
        mapped
    }

    /// As [`map`](Self::map), for who can use no other pages: what others have is left out.
    pub(super) fn map_here(&mut self, number: u32, pages: Range<u32>) -> Option<()> {
        match self.map(number, pages) {
            Ok(()) => Some(()),
            Err(Unmapped::Taken(pages)) => {
                self.leave_out(number, pages);
                None
            }
            Err(Unmapped::Refused) => None,
        }
    }

    /// Room for what is noted of some pages and their neighbours.
    pub(super) fn room(&mut self, pages: Range<u32>) -> Option<()> {
        // Across the border nobody looks.
        let before = u32::from(pages.start > 0 && pages.start != self.extents.border());
        let pages = pages.start - before..pages.end + 1;
        let units = units(&pages);
        let (os, memory) = self.space.tables();
        (self.extents.ensure(os, memory, pages)
            && self.units.ensure(os, memory, units.clone())
            && self.spare.ensure(os, memory, units.clone())
            && self.partly.ensure(os, memory, units))
        .then_some(())
    }

    /// A place for a table of somebody else's.
    pub(crate) fn open<T: Zeroable, const LEN: usize, const PIECE: usize>(
        &mut self,
        table: &mut Table<T, LEN, PIECE>,
    ) -> Option<()> {
        let (os, memory) = self.space.tables();
        table.open(os, memory)
    }

    /// Room for an item of such a table.
    pub(crate) fn room_in<T: Zeroable, const LEN: usize, const PIECE: usize>(
        &mut self,
        table: &mut Table<T, LEN, PIECE>,
        index: u32,
    ) -> bool {
        let (os, memory) = self.space.tables();
        table.open(os, memory).is_some() && table.ensure(os, memory, index..index + 1)
    }

    /// Room for what the next run may leave behind: each live run and each hole at most one extent, and some more where one is cut.
    pub(super) fn prepare(&mut self) -> Option<()> {
        let most = self.runs + self.holes + 8;
        let (os, memory) = self.space.tables();
        (most <= self.extents.capacity() || self.extents.grow(os, memory, 2 * most)).then_some(())
    }
}
