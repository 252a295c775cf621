//! The search for a placement of one space: by turns skyline passes and exact searches, with ever more effort.

use std::time::Instant;

use super::bound;
use super::clock::Clock;
use super::core::{Core, gcd};
use super::exact::{self, Verdict};
use super::improve::{self, Placement, improve};
use super::lowered::Lowered;
use super::plan::{Progress, Proof, SpacePlan, Status};
use super::tuning::{
    FAILED_SEARCHES, FIRST_SHARE, FIRST_SHARE_PASSES, PASSES_PART, SHORTER_STRIDE, UNIT_LOOKS, UNIT_NANOSECONDS,
};

/// What a space may spend until it is the next one's turn, and who wants to know what it finds.
pub(super) struct Turn<'a> {
    pub(super) left: u64,
    pub(super) clock: Clock<'a>,
    pub(super) progress: &'a mut dyn FnMut(Progress),
}

impl Turn<'_> {
    /// The effort that it comes to, by the clock as well.
    fn reach(&self) -> u64 {
        let time = self.clock.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        self.left
            .min(time.map_or(u64::MAX, |time| u64::try_from(time.as_nanos() / UNIT_NANOSECONDS).unwrap_or(u64::MAX)))
    }

    fn goes_on(&self) -> bool {
        self.left > 0 && !self.clock.has_run_out()
    }
}

/// The search for a placement of one space.
pub(super) struct SpaceSearch<'a> {
    space: u32,
    core: &'a Core,
    capacity: Option<u64>,
    seed: u64,
    /// Why nothing fits, if that is known.
    proof: Option<Proof>,
    pub(super) offsets: Vec<u64>,
    height: u64,
    lower: u64,
    /// What all heights worth trying are multiples of.
    unit: u64,
    peak_time: u64,
    nodes: u64,
    /// The effort without which an exact search does not come to the bottom.
    dive: u64,
    /// The effort of the next search; 0 before the first.
    share: u64,
}

impl<'a> SpaceSearch<'a> {
    /// One that has placed nothing yet. `proof` says why nothing fits, if that is known.
    pub(super) fn new(
        space: u32,
        capacity: Option<u64>,
        lowered: &'a Lowered,
        proof: Option<Proof>,
        seed: u64,
    ) -> Self {
        let core = &lowered.core;
        let live = bound::live(core, |_| true);
        // The first of the sections with the most.
        let first = |most: (u64, u64), section: (u64, u64)| if section.1 > most.1 { section } else { most };
        let (time, bytes) = lowered.times.iter().copied().zip(live).fold((0, 0), first);
        let unit = unit(core);
        let lower = bound::lower(core).and_then(|lower| lower.checked_next_multiple_of(unit)).unwrap_or(u64::MAX);
        let proof = proof.or(match capacity {
            Some(capacity) if bytes > capacity => Some(Proof::Alive { time, bytes }),
            Some(capacity) if lower > capacity => Some(Proof::Bound { least: lower }),
            _ => None,
        });
        let dive = dive(core) / UNIT_LOOKS;
        let (offsets, height) = (Vec::new(), if core.items().is_empty() { 0 } else { u64::MAX });
        let (peak_time, nodes, share) = (time, 0, 0);
        Self { space, core, capacity, seed, proof, offsets, height, lower, unit, peak_time, nodes, dive, share }
    }

    /// Searches until its turn is over, or nothing is left to be found.
    pub(super) fn run(&mut self, turn: &mut Turn<'_>) {
        let (count, dive) = (self.core.items().len() as u64, self.dive);
        if self.share == 0 && count > 0 {
            // What an exact search cannot even come to the bottom of is for passes alone.
            self.share = if turn.reach() < dive { turn.left } else { FIRST_SHARE.max(FIRST_SHARE_PASSES * count) };
            self.pass(turn, if self.proof.is_some() { 0 } else { self.share }, self.seed);
        }
        // More each time, now for exact searches, now for passes, until something is known for sure.
        while !self.is_done() && turn.goes_on() {
            let share = self.share;
            if share >= dive {
                self.search(turn, share);
            }
            if !self.is_done() {
                self.pass(turn, if share >= dive { share / PASSES_PART } else { share }, self.seed ^ share);
            }
            self.share = share.saturating_mul(2);
        }
    }

    /// What is wanted: to fit, or to be as low as possible, or to know that nothing fits.
    pub(super) fn is_done(&self) -> bool {
        self.proof.is_some() || self.height <= self.capacity.unwrap_or(0).max(self.lower)
    }

    fn found(&mut self, turn: &mut Turn<'_>, offsets: &[u64], height: u64) {
        if height < self.height {
            self.offsets.clear();
            self.offsets.extend_from_slice(offsets);
            self.height = height;
            self.tell(turn);
        }
    }

    fn tell(&self, turn: &mut Turn<'_>) {
        (turn.progress)(Progress { space: self.space, height: self.height, lower_bound: self.lower });
    }

    /// Skyline passes, for some of the effort.
    fn pass(&mut self, turn: &mut Turn<'_>, share: u64, seed: u64) {
        let items = share.min(turn.left);
        turn.left -= items;
        let mut budget = improve::Budget { items, clock: turn.clock };
        let (core, goal) = (self.core, self.lower.max(self.capacity.unwrap_or(0)));
        let (best, space, lower_bound) = (self.height, self.space, self.lower);
        let placement = improve(core, goal, &mut budget, seed, &mut |height| {
            if height < best {
                (turn.progress)(Progress { space, height, lower_bound });
            }
        });
        if let Some(Placement { offsets, height }) = placement
            && height < best
        {
            (self.offsets, self.height) = (offsets, height);
        }
    }

    /// Exact searches of so much effort each: for what is wanted or, without a capacity, first for a height of the lower bound, then for less and
    /// less, by longer strides while they succeed, and shorter ones when they do not.
    fn search(&mut self, turn: &mut Turn<'_>, effort: u64) {
        let unit = self.unit;
        if let Some(capacity) = self.capacity {
            if let Verdict::Impossible = self.fit(capacity, turn, effort) {
                self.proof = Some(Proof::Searched);
                self.rule_out(turn, capacity);
            }
            return;
        }
        let mut stride = u64::MAX;
        let mut failures = 0;
        while self.height > self.lower && failures < FAILED_SEARCHES && turn.goes_on() {
            let steps = (self.height - self.lower).div_ceil(unit);
            let goal = self.height.saturating_sub(stride.min(steps).saturating_mul(unit)).max(self.lower);
            match self.fit(goal, turn, effort) {
                Verdict::Placed(_) => stride = stride.saturating_mul(2),
                Verdict::Impossible => {
                    self.rule_out(turn, goal);
                    stride = (stride.min(steps) / 2).max(1);
                }
                Verdict::GaveUp => {
                    failures += 1;
                    stride = if stride == u64::MAX { steps / SHORTER_STRIDE } else { stride / 2 }.max(1);
                }
            }
        }
    }

    /// No placement is as low as this.
    fn rule_out(&mut self, turn: &mut Turn<'_>, height: u64) {
        let above = height.checked_add(1).and_then(|above| above.checked_next_multiple_of(self.unit));
        self.lower = above.unwrap_or(u64::MAX);
        self.tell(turn);
    }

    fn fit(&mut self, goal: u64, turn: &mut Turn<'_>, effort: u64) -> Verdict {
        let looks = effort.min(turn.left).saturating_mul(UNIT_LOOKS);
        // Another way each time; the very first one without any chance is the best on average.
        let seed = if self.nodes == 0 { self.seed } else { self.seed ^ effort };
        let mut budget = exact::Quota { nodes: 0, looks, clock: turn.clock, seed };
        let verdict = exact::fit(self.core, goal, &mut budget);
        self.nodes += budget.nodes;
        turn.left -= ((looks - budget.looks) / UNIT_LOOKS + 1).min(turn.left);
        if let Verdict::Placed(offsets) = &verdict {
            let tops =
                (0..offsets.len()).flat_map(|item| self.core.pieces(item).iter().map(move |piece| (item, piece.size)));
            let height = tops.map(|(item, size)| offsets[item] + size).max().unwrap_or(0);
            self.found(turn, offsets, height);
        }
        verdict
    }

    pub(super) fn result(&self) -> SpacePlan {
        let Self { proof, height, lower, peak_time, capacity, nodes, .. } = *self;
        let status = match proof {
            Some(proof) => Status::Infeasible { proof },
            None if capacity.is_some_and(|capacity| height > capacity) => Status::Unknown { bracket: (lower, height) },
            None if height <= lower => Status::Optimal,
            None => Status::Feasible { gap: (height - lower) as f64 / lower.max(1) as f64 },
        };
        SpacePlan { height, lower_bound: lower, peak_time, status, nodes }
    }
}

/// How many looks a way down of the exact search takes: each item is placed once, with a look at all of its part and their sections.
fn dive(core: &Core) -> u64 {
    let mut spans: Vec<_> = (0..core.items().len()).map(|item| core.span(item)).collect();
    spans.sort_unstable_by_key(|span| span.start);
    let (mut all, mut count, mut looks, mut end) = (0_u64, 0_u64, 0, 0);
    for span in spans {
        if span.start >= end {
            all = all.saturating_add(count.saturating_mul(looks));
            (count, looks) = (0, 0);
        }
        (count, looks, end) = (count + 1, looks + span.len() as u64, span.end.max(end));
    }
    all.saturating_add(count.saturating_mul(looks))
}

/// What all heights worth trying are multiples of: in a placement from which no item can fall, each rests on another one, or on the ground.
fn unit(core: &Core) -> u64 {
    let items = core.items();
    let pieces = (0..items.len()).flat_map(|item| core.pieces(item));
    let fixed = items.iter().filter_map(|item| item.fixed);
    let mut unit = pieces.map(|piece| piece.size).chain(fixed).fold(0, gcd).max(1);
    // A multiple of the unit, brought up to a multiple of an alignment, has to be one still.
    let fits = |unit: u64, align: u64| if unit.is_multiple_of(align) { unit } else { gcd(unit, align) };
    loop {
        let next = items.iter().fold(unit, |unit, item| fits(unit, item.align));
        if next == unit {
            return unit;
        }
        unit = next;
    }
}
