//! One part: passes in better and better orders, and what else lowers it.

use std::cmp::Reverse;

use super::{Budget, Placement, copy, improve};
use crate::blocks::Blocks;
use crate::core::{Core, lcm};
use crate::peak::Peak;
use crate::random::Random;
use crate::settle::{Effort, fall, settle};
use crate::skyline::{Outcome, Skyline};
use crate::tuning::{
    BLOCKS_PASSES, FAILED_PEAK, FALL_LOOKS, FALL_LOOKS_AN_ITEM, FALL_LOOKS_EACH, FALL_LOOKS_FOR_PADDING, FAR_PART,
    FEW_BLOCKS_PART, HUGE, LARGE, PEAK_LOOKS_AN_ITEM, PEAK_PART, PEAK_PASSES, STALLED_PASSES, STEP_BACK_PART,
    WALK_SHIFT, WALK_SHIFT_FAILURES,
};

/// The best placement so far, and what there was to try.
#[derive(Debug, Default)]
pub(super) struct Best {
    pub(super) offsets: Vec<u64>,
    /// The order that it, or one much like it, comes from.
    order: Vec<u32>,
    /// How many of the known orders have had their pass, and which did best.
    tried: usize,
    favourite: usize,
    /// What passes and peaks have cost so far, which take turns; and what passes have to cost until blocks are placed.
    passes: u64,
    peaks: u64,
    blocks: u64,
}

/// How many orders are known to do well, each with passes that aim and with passes that do not.
const ORDERS: usize = 20;

/// What an item gets wanted more for, at the most: so many ranks, of as many as there are items.
const MANY: u64 = 1 << 32;

/// Steps of an item's length for each section. Lengths that differ by less than one section are taken for the same in a shaken order.
const SHAKE: u64 = 1 << 8;

/// Where the order of a pass comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It is known to do well.
    Known,
    /// A known one, shaken.
    Shaken,
    /// From the last order of the walk, by wanting some items more.
    Walk,
}

/// The search for better placements of one part.
#[derive(Debug)]
pub(super) struct Solver<'a> {
    core: &'a Core,
    /// What the items fall to, if they do: it is level then.
    floor: u64,
    skyline: Skyline<'a>,
    /// Some item is fixed: then lost bytes below it may not be lost, and a pass with a limit could end too early.
    has_fixed: bool,
    /// If the skyline may leave places that can be used: how many looks letting items fall may take.
    looks: Option<u64>,
    /// Another solver looks for blocks and peaks, and this one is for those.
    is_inner: bool,
    pub(super) best: Best,
    /// The order of the current pass, whether it aims, and what it came to.
    order: Vec<u32>,
    aims: bool,
    offsets: Vec<u64>,
    /// How much each item is wanted: now, and in the last attempt that was kept.
    wanted: Vec<u64>,
    kept: Vec<u64>,
    /// How far that one came: section times bytes.
    reached: u128,
    /// Do these attempts aim? By turns they do and do not, since some problems want this and some that.
    walk_aims: bool,
    /// How many passes have failed since one came farther than the one before it, and since one was better than the best.
    stalled: u32,
    failed: u32,
    /// How far down the next peak is taken off.
    depth: u64,
}

impl<'a> Solver<'a> {
    pub(super) fn new(core: &'a Core, floor: Vec<u64>, best: Best) -> Self {
        let items = core.items();
        let has_fixed = items.iter().any(|item| item.fixed.is_some());
        let movable = (0..items.len() as u32).filter(|&item| items[item as usize].fixed.is_none());
        let offsets = items.iter().map(|item| item.fixed.unwrap_or(0)).collect();
        let has_gaps = (0..items.len()).any(|item| core.pieces(item).len() > 1);
        let is_even = items.iter().all(|item| item.align == items[0].align);
        let is_level = floor.iter().all(|height| *height == floor[0]);
        let looks = match has_fixed || has_gaps {
            _ if !is_level => None,
            true => Some((FALL_LOOKS_EACH * items.len() as u64).min(FALL_LOOKS)),
            false if is_even => None,
            false => Some(FALL_LOOKS_FOR_PADDING),
        };
        Self {
            core,
            floor: floor.first().copied().unwrap_or(0),
            skyline: Skyline::new(core, floor),
            has_fixed,
            looks,
            is_inner: false,
            best,
            order: movable.collect(),
            aims: false,
            offsets,
            wanted: Vec::new(),
            kept: Vec::new(),
            walk_aims: false,
            reached: 0,
            stalled: 0,
            failed: 0,
            depth: 0,
        }
    }

    /// A first placement, and its height; `None` if 64 bits do not hold it.
    pub(super) fn first(&mut self, budget: &mut Budget<'_>) -> Option<u64> {
        while self.best.tried < ORDERS {
            self.arrange(self.best.tried, || 0);
            self.best.tried += 1;
            budget.spend(self.order.len());
            // Where offsets exceed 64 bits, another order may do.
            let outcome = self.skyline.pass(&self.order, self.aims, u64::MAX, &mut self.offsets, &mut || true);
            if let Outcome::Placed(height) = outcome {
                let height = self.fall(true, budget).unwrap_or(height);
                self.keep();
                return Some(height);
            }
        }
        None
    }

    /// Makes the last placement the best.
    fn keep(&mut self) {
        self.best.order.clone_from(&self.order);
        self.best.offsets.clone_from(&self.offsets);
        (self.reached, self.stalled, self.failed) = (0, 0, 0);
    }

    /// A placement below `height`, and its height; `None` if the budget is used up.
    pub(super) fn better(
        &mut self,
        height: u64,
        lower: u64,
        budget: &mut Budget<'_>,
        random: &mut Random,
    ) -> Option<u64> {
        while budget.goes_on() {
            let known = self.best.tried < ORDERS;
            if !known
                && self.best.blocks <= self.best.passes
                && !self.is_inner
                && let Some(better) = self.blocks(height, lower, budget, random)
            {
                return Some(better);
            }
            let has_peaks = !known || self.order.len() >= HUGE && self.best.tried > 2;
            if has_peaks && self.best.peaks <= self.best.passes && !self.is_inner && !self.has_fixed {
                let before = budget.items;
                let better = self.peak(height, lower, budget, random);
                if better.is_some() {
                    return better;
                }
                let factor = if self.order.len() < LARGE { FAILED_PEAK } else { 1 };
                self.best.peaks = self.best.peaks.saturating_add(factor * (before - budget.items));
                continue;
            }
            let cost = self.order.len().max(1);
            self.best.passes = self.best.passes.saturating_add(cost as u64);
            budget.spend(cost);
            let (way, limit) = self.next_order(height, lower, random);
            match (self.pass(limit, budget), way) {
                (Outcome::Stopped, _) => return None,
                (Outcome::Placed(better), _) if better < height => {
                    match way {
                        Way::Known => self.best.favourite = self.best.tried - 1,
                        Way::Shaken => {}
                        Way::Walk => self.kept.clone_from(&self.wanted),
                    }
                    if way != Way::Walk {
                        self.wanted.clear();
                    }
                    self.keep();
                    return Some(better);
                }
                (_, Way::Known) => {}
                (_, Way::Shaken) => self.failed += 1,
                (Outcome::Placed(reached), Way::Walk) => {
                    // Nobody is known to be to blame. An attempt is kept if it is not far above the best.
                    let is_far = reached - height > height / FAR_PART;
                    self.judge(if is_far { 0 } else { self.reached });
                    blame(&mut self.wanted, |_| true, random);
                }
                (Outcome::Stuck(section), Way::Walk) => {
                    self.judge(self.skyline.placed());
                    let (core, skyline) = (self.core, &self.skyline);
                    let left = |item: usize| core.span(item).contains(&section) && skyline.is_left(item);
                    let is_known = (0..core.items().len()).any(left);
                    blame(&mut self.wanted, |item| !is_known || left(item), random);
                }
            }
        }
        None
    }

    /// Arranges the next pass, and says what it must stay within.
    fn next_order(&mut self, height: u64, lower: u64, random: &mut Random) -> (Way, u64) {
        if self.best.tried < ORDERS {
            self.arrange(self.best.tried, || 0);
            self.best.tried += 1;
            return (Way::Known, height - 1);
        }
        if self.order.len() >= LARGE && self.failed.is_multiple_of(2) {
            let known = if self.failed.is_multiple_of(4) { 0 } else { self.best.favourite };
            self.arrange(known, || random.below(SHAKE));
            return (Way::Shaken, height - 1);
        }
        self.rearrange();
        self.aims = self.walk_aims;
        // First much lower; then, the more passes fail, the less.
        let shift = WALK_SHIFT + self.failed / WALK_SHIFT_FAILURES;
        (Way::Walk, height - 1 - (height - 1 - lower).checked_shr(shift).unwrap_or(0))
    }

    /// Places blocks of items, and returns the height if that is better. Which blocks there are is left to chance where it can be.
    fn blocks(&mut self, height: u64, lower: u64, budget: &mut Budget<'_>, random: &mut Random) -> Option<u64> {
        let count = self.order.len() as u64;
        let cost = (BLOCKS_PASSES * count).max(self.best.passes);
        self.best.blocks = u64::MAX;
        let unit = self.core.items().iter().try_fold(1, |unit, item| lcm(unit, item.align))?;
        let blocks = Blocks::new(self.core, unit, random)?;
        if !self.floor.is_multiple_of(unit) {
            return None;
        }
        if blocks.core.items().len() as u64 <= count / FEW_BLOCKS_PART {
            self.best.blocks = 2 * cost;
        }
        let items = cost.min(budget.items);
        let mut own = Budget { items, clock: budget.clock };
        let seed = random.below(MANY);
        let placement = improve(&blocks.core, lower.saturating_sub(self.floor), &mut own, seed, &mut |_| ());
        budget.items -= items - own.items;
        let Placement { mut offsets, height: reach } = placement?;
        let better = reach.checked_add(self.floor).filter(|&better| better < height)?;
        offsets.iter_mut().for_each(|offset| *offset += self.floor);
        blocks.place(&offsets, &mut self.offsets);
        self.order.sort_unstable_by_key(|&item| (self.offsets[item as usize], item));
        self.wanted.clear();
        self.keep();
        Some(better)
    }

    /// Takes a peak of the best placement off and places it anew; returns the height if that is better, and not only this peak lower.
    fn peak(&mut self, height: u64, lower: u64, budget: &mut Budget<'_>, random: &mut Random) -> Option<u64> {
        let (core, offsets) = (self.core, &mut self.best.offsets);
        budget.spend(core.items().len() / PEAK_LOOKS_AN_ITEM + 1);
        // Any of those that reach up to the height, and any section of it.
        let (mut highest, mut count) = (None, 0);
        for (item, offset) in offsets.iter().enumerate() {
            for piece in core.pieces(item).iter().filter(|piece| offset + piece.size == height) {
                count += 1;
                if random.below(count) == 0 {
                    highest = Some((*offset, piece));
                }
            }
        }
        let (offset, piece) = highest?;
        let section = piece.start + random.below(u64::from(piece.end - piece.start)) as u32;
        self.depth = self.depth.max(height - offset);
        let base = height.saturating_sub(self.depth).max(self.floor);
        let Some(peak) =
            Peak::new(core, offsets, section, base, (core.items().len() / PEAK_PART).max(LARGE / PEAK_PART))
        else {
            self.depth = 0;
            return None;
        };
        // More comes off the next time, unless less will do.
        self.depth = self.depth.saturating_add(self.depth / 2 + 1).min(height);
        let mut order: Vec<u32> = (0..peak.items.len() as u32).collect();
        order.sort_unstable_by_key(|&item| (offsets[peak.items[item as usize] as usize], item));
        let mut solver = Solver::new(&peak.core, peak.floor, Best { order, ..Best::default() });
        let lower = lower.max(solver.skyline.tightest());
        solver.inside(height, lower, PEAK_PASSES * peak.items.len() as u64, budget, random)?;
        copy(&solver.best.offsets, &peak.items, offsets);
        self.depth /= 4;
        let tops = offsets
            .iter()
            .enumerate()
            .flat_map(|(item, offset)| core.pieces(item).iter().map(move |piece| offset + piece.size));
        tops.max().filter(|&top| top < height)
    }

    /// Looks for placements below `height` at some cost at most, and returns the height of the best.
    fn inside(
        &mut self,
        height: u64,
        lower: u64,
        cost: u64,
        budget: &mut Budget<'_>,
        random: &mut Random,
    ) -> Option<u64> {
        self.is_inner = true;
        let items = cost.min(budget.items);
        let mut own = Budget { items, clock: budget.clock };
        let mut best = height;
        while best > lower
            && let Some(better) = self.better(best, lower, &mut own, random)
        {
            best = better;
        }
        budget.items -= items - own.items;
        Some(best).filter(|&best| best < height)
    }

    /// A pass in the current order. Where the skyline may leave places that can be used, items fall into them, and every second time
    /// they just fall.
    fn pass(&mut self, limit: u64, budget: &mut Budget<'_>) -> Outcome {
        if !self.failed.is_multiple_of(2)
            && let Some(height) = self.fall(false, budget)
        {
            return Outcome::Placed(height);
        }
        let limit = if self.has_fixed { u64::MAX } else { limit };
        match self.skyline.pass(&self.order, self.aims, limit, &mut self.offsets, &mut || budget.goes_on()) {
            Outcome::Placed(height) => Outcome::Placed(self.fall(true, budget).unwrap_or(height)),
            outcome => outcome,
        }
    }

    /// Lets the items fall, from where they are or in the current order, and returns the height; `None` if they need not, or it takes too
    /// much. Then it is not tried again, as it would the next time.
    fn fall(&mut self, from_here: bool, budget: &mut Budget<'_>) -> Option<u64> {
        let looks = self.looks?.min(budget.items.saturating_mul(FALL_LOOKS_AN_ITEM));
        let mut effort = Effort { looks, clock: budget.clock };
        let mut offsets = self.offsets.clone();
        let height = if from_here {
            settle(self.core, self.floor, &mut offsets, &mut effort)
        } else {
            fall(self.core, self.floor, &self.order, &mut offsets, &mut effort)
        };
        budget.spend(((looks - effort.looks) / FALL_LOOKS_AN_ITEM) as usize);
        if height.is_some() {
            self.offsets = offsets;
        } else {
            self.looks = None;
        }
        height
    }

    /// Keeps the last attempt, or goes back to the one before it.
    fn judge(&mut self, reached: u128) {
        self.failed += 1;
        self.stalled += 1;
        if reached > self.reached {
            self.stalled = 0;
        }
        if self.stalled > STALLED_PASSES {
            self.walk_aims = !self.walk_aims;
            self.stalled = 0;
            self.reached = 0;
            self.want_best();
        } else if reached >= self.reached - self.reached / STEP_BACK_PART {
            self.reached = reached;
            self.kept.clone_from(&self.wanted);
        } else {
            self.wanted.clone_from(&self.kept);
        }
    }

    /// Wants the items as the best order has them.
    fn want_best(&mut self) {
        let count = self.best.order.len() as u64;
        self.wanted.resize(self.core.items().len(), 0);
        for (rank, &item) in self.best.order.iter().enumerate() {
            self.wanted[item as usize] = (count - rank as u64) * (MANY / count);
        }
        self.kept.clone_from(&self.wanted);
    }

    /// Makes the order that of how much the items are wanted.
    fn rearrange(&mut self) {
        if self.wanted.is_empty() {
            self.want_best();
        }
        self.order.sort_unstable_by_key(|&item| (Reverse(self.wanted[item as usize]), item));
    }

    /// Makes the order one of the known ones, with something below `SHAKE` added to each length.
    fn arrange(&mut self, known: usize, mut shake: impl FnMut() -> u64) {
        let is_huge = self.order.len() >= HUGE;
        self.aims = known.is_multiple_of(2) != is_huge;
        let known = known / 2;
        let known = if is_huge && known < 4 { (known + 3) % 4 } else { known };
        self.skyline.rewind();
        let (core, skyline) = (self.core, &self.skyline);
        // A thousandth of the height is small: such items are there to fill holes.
        let small = skyline.tightest() >> 10;
        let keyed = self.order.iter().map(|&number| {
            let item = number as usize;
            let span = core.span(item);
            let length = u64::from(span.end - span.start) * SHAKE + shake();
            let area = length.saturating_mul(core.tallest(item));
            let tight = || skyline.tightness(item);
            let big = u64::from(core.tallest(item) > small);
            let key = match known {
                0 => (tight(), length, core.tallest(item)),
                1 => (big, tight(), length),
                2 => (big, length, core.tallest(item)),
                3 => (0, length, core.tallest(item)),
                4 => (0, area, 0),
                5 => (tight() / (skyline.tightest() / 64 + 1), area, 0),
                6 => (big, area, 0),
                7 => (0, u64::from(span.end), length),
                8 => (0, u64::from(u32::MAX - span.start), length),
                _ => (tight(), core.tallest(item), length),
            };
            (Reverse(key), number)
        });
        let mut keyed: Vec<_> = keyed.collect();
        keyed.sort_unstable();
        self.order.clear();
        self.order.extend(keyed.iter().map(|&(_, item)| item));
    }
}

/// Wants some of the guilty items more.
fn blame(wanted: &mut [u64], is_guilty: impl Fn(usize) -> bool, random: &mut Random) {
    // Now a little and now much; now few and now all.
    let most = MANY >> random.below(7);
    let share = random.below(MANY);
    for (item, wanted) in wanted.iter_mut().enumerate() {
        if is_guilty(item) && random.below(MANY) < share {
            *wanted = wanted.saturating_add(random.below(most));
        }
    }
}
