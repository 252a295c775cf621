//! Where the heap's addresses are: a place of its own choice, or whatever the system gives.

use bytemuck::Zeroable;

use super::{Frame, PAGES, Space, UNIT};
use crate::heap::classes::PAGE;
use crate::heap::tuning::{MAPPINGS_PART, PLACES_TRIED, SMALL_MAPPING_PAGES};
use crate::os::{HUGE, Os};

/// Where the system's own choice is below this, it does not begin at the top, or there is not much room.
const SPACIOUS: usize = 1 << 36;

/// Where the heap's memory may lie, by page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Layout {
    /// Anywhere up to here, as it is needed; small runs before the border.
    Open { border: u32, end: u32 },
    /// Where the system puts it.
    Closed,
}

impl<O: Os> Space<O> {
    /// From the start on, this is its place, and it is one of so many that share the process's mappings.
    pub(crate) fn open_at(&mut self, origin: usize, bytes: usize, of: usize) {
        self.place = Some((origin, u32::try_from(bytes / PAGE).unwrap_or(u32::MAX)));
        self.share = MAPPINGS_PART * 2 * of;
    }

    /// Where there may be addresses for other heaps, and how many bytes of them. `None` where the system chooses the places.
    pub(crate) fn neighbourhood(&mut self) -> Option<(usize, usize)> {
        let Some(Layout::Open { end, .. }) = self.layout else { return None };
        // From now on others need some mappings.
        self.max_cuts = self.os.max_mappings() / MAPPINGS_PART / 2;
        let mine = end as usize * PAGE;
        Some((self.origin + mine, self.room.checked_sub(mine)?))
    }

    /// Chooses the place; `None` if there is no memory.
    pub(crate) fn start(&mut self) -> Option<Layout> {
        if let Some(layout) = self.layout {
            return Some(layout);
        }
        self.frames.open(&self.os, &mut self.memory)?;
        self.taken.open(&self.os, &mut self.memory)?;
        self.max_cuts = self.os.max_mappings() / self.share;
        self.page_size = (self.os.page_size() / PAGE).max(1) as u32;
        if let Some((origin, end)) = self.place {
            self.origin = origin;
            self.map(0..SMALL_MAPPING_PAGES).ok()?;
            let border = (end / 16).next_multiple_of(UNIT);
            self.layout = Some(Layout::Open { border, end });
            return self.layout;
        }
        // The system puts mappings near the top of the addresses that there are, and programs from two thirds of them on, both at
        // random. Above the programs is nothing, and memory and thread sanitizer, which want much of the rest, allow it.
        let near_top = self.memory.address();
        let room = (near_top / 8).min(PAGES * PAGE);
        let tries = if near_top >= SPACIOUS { PLACES_TRIED } else { 0 };
        for attempt in 1..=tries {
            let random = (near_top as u64 / PAGE as u64 * attempt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            let origin = (near_top / 128 * 87 + (random as usize * HUGE) % (near_top / 128)) / HUGE * HUGE;
            let end = ((room / HUGE) as u32).saturating_mul(UNIT).max(2 * UNIT) & !(UNIT - 1);
            let border = (end / 16).next_multiple_of(UNIT);
            self.origin = origin;
            if self.map(0..SMALL_MAPPING_PAGES).is_ok() {
                self.room = near_top / 8;
                self.layout = Some(Layout::Open { border, end });
                return self.layout;
            }
            // What is known of the pages there is true of that place only.
            if self.frames.get(0).is_some() {
                self.frames[0] = Frame::zeroed();
                self.taken.remove(0);
            }
        }
        self.origin = 0;
        self.layout = Some(Layout::Closed);
        self.layout
    }

    /// Whether the system chooses the heap's places: one that is given back is anybody's.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.layout, Some(Layout::Closed))
    }

    /// The most pages that a run may have.
    pub(crate) fn largest(&self) -> u32 {
        match self.layout {
            Some(Layout::Open { border, end }) => end - border,
            _ => PAGES as u32,
        }
    }
}
