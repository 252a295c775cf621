//! Everything that is kept twice is compared, in tests.

use super::PageHeap;
use crate::heap::extents::Extent;
use crate::heap::space::{UNIT, units, whole_units};
use crate::os::Os;

impl<O: Os> PageHeap<O> {
    /// Compares everything that is kept twice, while nothing is in transit.
    pub(crate) fn check(&self) {
        let mut free: Vec<Extent> = self.extents.all().collect();
        let idle: u32 = free.iter().map(Extent::resident).sum();
        let last = self.last.map_or(0, |last| last.pages);
        assert_eq!(
            self.budget.in_use() + idle + last + self.stray + self.away,
            self.units.resident(),
            "resident pages"
        );
        free.sort_by_key(|extent| extent.start);
        let border = self.extents.border();
        for pair in free.windows(2) {
            let apart = pair[0].end() < pair[1].start;
            let at_border = pair[0].end() == pair[1].start && pair[1].start == border;
            assert!(apart || at_border, "extents overlap or touch: {pair:?}");
        }
        for extent in &free {
            let pages = extent.start..extent.end();
            let known = self.units.extent(pages.clone());
            assert_eq!(extent.fresh, known.fresh, "{extent:?}");
            assert!(extent.zero >= known.zero, "{extent:?}");
            assert!(known.zero > 0 || extent.zero == 0 || extent.dirty <= extent.pages, "{extent:?}");
            self.extents.check(extent);
            for page in [extent.start, extent.start + extent.pages / 2, extent.end() - 1] {
                let found = self.around(page).map(|number| self.extents.get(number));
                assert_eq!(found, Some(*extent), "around page {page}");
            }
            let whole = whole_units(&pages);
            let mut from = units(&pages).start;
            while let Some(unit) = self.units.next(from).filter(|unit| *unit < units(&pages).end) {
                from = unit + 1;
                let part = unit * UNIT..(unit + 1) * UNIT;
                let part = part.start.max(pages.start)..part.end.min(pages.end);
                assert!(!self.space.is_lent(part.clone()), "a free page of {part:?} is lent");
                let full = whole.contains(&unit) && self.units.is_full(unit);
                assert_eq!(full, self.spare.contains(unit), "unit {unit} in {extent:?}");
                let resident = self.units.extent(part).resident();
                assert!(full || resident == 0 || self.partly.contains(unit), "unit {unit} in {extent:?}");
                assert!(self.space.mapped(unit) > 0 || self.units.is_fresh(unit), "unit {unit} is not mapped");
            }
        }
        self.budget.check();
        self.units.check();
        assert!(free.iter().all(|extent| extent.end() <= border || extent.start >= border), "across the border");
    }

    /// Units that are one huge page.
    #[cfg(test)]
    pub(crate) fn whole(&self) -> usize {
        self.units.whole()
    }

    /// Whether no more is resident than shall be, which holds where no call to the system fails.
    pub(crate) fn is_within_budget(&self) -> bool {
        self.staying() <= self.budget.pages().max(self.budget.in_use())
    }
}
