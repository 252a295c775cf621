//! From a first placement to ever better ones.
//!
//! 1. What does not meet in time is placed apart. An item that lives through all of a part lies at the bottom, and what it held
//!    together may fall into parts of its own. Only the highest part needs work.
//! 2. A part is placed by skyline passes in several orders that are known to do well.
//! 3. Then the best order is improved. A pass with a limit below the best height ends in a section where bytes that nothing can fill
//!    have become too many. To blame are the items of that section that are left: they had come earlier, had they been wanted more.
//!    Some of them are from now on, and the change is kept if the next pass comes about as far.
//! 4. By turns with that, the peak of the best placement is taken off and placed anew; and items that fit together without a gap are placed
//!    as one, again and again where they make few blocks.

mod solver;
mod split;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::mem;

use self::solver::{Best, Solver};
use self::split::split;
use crate::clock::Clock;
use crate::core::Core;
use crate::random::Random;

/// Where the items are, and how high that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) offsets: Vec<u64>,
    pub(crate) height: u64,
}

/// How much may be done. A first placement is made in any case.
#[derive(Debug)]
pub(crate) struct Budget<'a> {
    /// How many items may be placed, all passes together.
    pub(crate) items: u64,
    pub(crate) clock: Clock<'a>,
}

impl Budget<'_> {
    fn goes_on(&self) -> bool {
        self.items > 0 && !self.clock.has_run_out()
    }

    fn spend(&mut self, items: usize) {
        self.items = self.items.saturating_sub(items as u64);
    }
}

/// A first placement, made ever lower until its height is `lower` or the budget is used up. Calls `lowered` with each height that it comes
/// to. Without a deadline and a stop, the same seed finds the same. Finds nothing where offsets would exceed 64 bits.
pub(crate) fn improve(
    core: &Core,
    lower: u64,
    budget: &mut Budget<'_>,
    seed: u64,
    lowered: &mut dyn FnMut(u64),
) -> Option<Placement> {
    let mut offsets = vec![0; core.items().len()];
    let (mut parts, base) = split(core, &mut offsets);
    let mut random = Random(seed);
    let mut heights = BinaryHeap::with_capacity(parts.len());
    for (number, part) in parts.iter_mut().enumerate() {
        let mut solver = Solver::new(&part.core, part.floor.clone(), Best::default());
        part.height = solver.first(budget)?;
        part.best = solver.best;
        heights.push((part.height, Reverse(number)));
    }
    let mut height = heights.peek().map_or(base, |&(height, _)| height.max(base));
    lowered(height);
    // Only the highest part needs work, until another one is.
    while height > lower.max(base)
        && budget.goes_on()
        && let Some((_, Reverse(number))) = heights.pop()
    {
        let others = heights.peek().map_or(base, |&(height, _)| height.max(base));
        let part = &mut parts[number];
        let mut solver = Solver::new(&part.core, part.floor.clone(), mem::take(&mut part.best));
        // At least once: another part may be as high.
        while let Some(better) = solver.better(part.height, lower, budget, &mut random) {
            part.height = better;
            if better.max(others) < height {
                height = better.max(others);
                lowered(height);
            }
            if better <= others.max(lower) {
                break;
            }
        }
        part.best = solver.best;
        heights.push((part.height, Reverse(number)));
    }
    for part in &parts {
        copy(&part.best.offsets, &part.items, &mut offsets);
    }
    Some(Placement { offsets, height })
}

fn copy(offsets: &[u64], items: &[u32], all: &mut [u64]) {
    for (&item, &offset) in items.iter().zip(offsets) {
        all[item as usize] = offset;
    }
}
