//! The planner: from a problem to a placement, and to what is known about it.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::bound;
use super::clock::Clock;
use super::core::{Core, gcd};
use super::exact::{self, Verdict};
use super::improve::{self, Placement, improve};
use super::problem::{Lowered, Problem};
use super::validate::{Violation, check};

/// Places buffers.
///
/// A placement comes first from skyline passes in many orders, then from an exact search, which finds a lower one, or proves that there is
/// none. Without a deadline the result depends on the problem and the seed alone.
///
/// ```
/// use tenzor_plan::{BufferSpec, Planner, Problem, Status};
///
/// let mut problem = Problem::new();
/// for (size, lifetime) in [(30, 0..3), (20, 1..4), (30, 3..6), (20, 4..7)] {
///     problem.push(BufferSpec::new(size, lifetime))?;
/// }
/// let plan = Planner::new().plan(&problem);
/// assert_eq!((plan.height(), plan.status()), (50, Status::Optimal));
///
/// problem.set_capacity(0, Some(49))?;
/// let plan = Planner::new().plan(&problem);
/// assert_eq!(plan.status().to_string(), "infeasible: 50 are alive at 1");
/// # Ok::<(), tenzor_plan::ProblemError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Planner<'a> {
    deadline: Option<Duration>,
    effort: Option<u64>,
    seed: u64,
    stop: Option<&'a AtomicBool>,
}

/// What is known about a placement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Status {
    /// None is lower.
    Optimal,
    /// It fits, and its height is by this share more than the lower bound: 0.01 for a hundredth.
    Feasible {
        /// (height − lower bound) / lower bound.
        gap: f64,
    },
    /// None fits into the capacity.
    Infeasible {
        /// Why.
        proof: Proof,
    },
    /// None was found that fits into the capacity, and none was proven not to exist: the least height is within these.
    Unknown {
        /// The greatest lower bound, and the least height found.
        bracket: (u64, u64),
    },
}

/// Why nothing fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// At this time, more is alive than there is room.
    Alive {
        /// The time.
        time: u64,
        /// What is alive then.
        bytes: u64,
    },
    /// No placement is lower than this, as alignments, sizes and fixed offsets have it.
    Bound {
        /// The least possible height.
        least: u64,
    },
    /// A buffer whose offset is given is not where it may be.
    Fixed {
        /// What is wrong.
        violation: Violation,
    },
    /// All possibilities were searched.
    Searched,
}

/// The placement of a space.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SpacePlan {
    /// Where the highest buffer ends.
    pub height: u64,
    /// What no height can be less than.
    pub lower_bound: u64,
    /// When most is alive: what is alive then is what makes the plan high.
    pub peak_time: u64,
    /// What is known.
    pub status: Status,
    /// How many placements of a buffer the exact search tried.
    pub nodes: u64,
}

/// Where each buffer of a problem lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    offsets: Vec<u64>,
    spaces: Vec<SpacePlan>,
}

impl Plan {
    /// The offset of each buffer, in its space. They are valid, but where a space's status is [`Status::Infeasible`] or
    /// [`Status::Unknown`]: then its capacity is exceeded, or a fixed buffer is in the way of another.
    pub fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    /// What came of each space.
    pub fn spaces(&self) -> &[SpacePlan] {
        &self.spaces
    }

    /// The greatest height of a space.
    pub fn height(&self) -> u64 {
        self.spaces.iter().map(|space| space.height).max().unwrap_or(0)
    }

    /// The worst status of a space; [`Status::Optimal`] without any.
    pub fn status(&self) -> Status {
        let rank = |status: &Status| match status {
            Status::Optimal => (0, 0.0),
            Status::Feasible { gap } => (1, *gap),
            Status::Unknown { .. } => (2, 0.0),
            Status::Infeasible { .. } => (3, 0.0),
        };
        let worst = self.spaces.iter().map(|space| space.status).max_by(|a, b| {
            let ((a, gap), (b, other)) = (rank(a), rank(b));
            a.cmp(&b).then(gap.total_cmp(&other))
        });
        worst.unwrap_or(Status::Optimal)
    }

    /// Whether every buffer has a place within the capacity of its space.
    pub fn is_feasible(&self) -> bool {
        matches!(self.status(), Status::Optimal | Status::Feasible { .. })
    }
}

/// How far planning has come.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// The space that is planned.
    pub space: u32,
    /// The least height found so far.
    pub height: u64,
    /// What no height can be less than.
    pub lower_bound: u64,
}

/// The effort of planning without a word about it. See [`Planner::with_effort`].
const EFFORT: u64 = 1 << 24;

impl<'a> Planner<'a> {
    /// One that ends after an effort of 2^24: see [`with_effort`](Self::with_effort).
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the search after some time, and not before unless an effort is given, too; the best placement so far is the answer. There is always
    /// one, even if it takes longer.
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Ends the search after so much effort, of all spaces together. The unit is about what it takes to place one buffer in a pass over all
    /// of them: a tenth of a microsecond for some hundreds, one or two for a hundred thousand.
    pub fn with_effort(self, effort: u64) -> Self {
        Self { effort: Some(effort), ..self }
    }

    fn effort(&self) -> u64 {
        self.effort.unwrap_or(if self.deadline.is_some() { u64::MAX } else { EFFORT })
    }

    /// Another seed leads the search elsewhere.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Ends the search once this is true; somebody else may set it.
    pub fn with_stop(self, stop: &'a AtomicBool) -> Self {
        Self { stop: Some(stop), ..self }
    }

    /// Places all buffers of a problem: in each space within its capacity or, where it has none, as low as possible.
    pub fn plan(&self, problem: &Problem) -> Plan {
        self.plan_with(problem, &mut |_| ())
    }

    /// As [`plan`](Self::plan), and tells of each better placement and bound.
    pub fn plan_with(&self, problem: &Problem, progress: &mut dyn FnMut(Progress)) -> Plan {
        let deadline = self.deadline.and_then(|deadline| Instant::now().checked_add(deadline));
        let clock = Clock { deadline, stop: self.stop };
        let spaces = problem.by_space();
        let lowered: Vec<Lowered> = spaces.iter().map(|own| problem.lower(own)).collect();
        let mut searches = Vec::with_capacity(spaces.len());
        for (space, (own, lowered)) in (0..).zip(spaces.iter().zip(&lowered)) {
            let misplaced = check(problem, problem.fixed(own)).err().map(|violation| Proof::Fixed { violation });
            searches.push(SpaceSearch::new(space, problem.capacity(space), lowered, misplaced, self.seed));
        }
        self.search(&mut searches, clock, progress);
        let mut offsets = vec![0; problem.buffers().len()];
        for (search, lowered) in searches.iter().zip(&lowered) {
            let placed = lowered.members().zip(&search.offsets);
            let placed = placed.flat_map(|(members, &offset)| members.iter().map(move |&index| (index, offset)));
            for (index, offset) in placed.chain(lowered.free.iter().copied()) {
                offsets[index as usize] = offset;
            }
        }
        Plan { offsets, spaces: searches.iter().map(SpaceSearch::result).collect() }
    }

    /// First an answer for each space; then they take turns, each with its part of the effort and the time that are left. A space by
    /// itself needs but one.
    fn search(&self, searches: &mut [SpaceSearch<'_>], clock: Clock<'_>, progress: &mut dyn FnMut(Progress)) {
        let mut left = self.effort();
        let mut turn = |search: &mut SpaceSearch<'_>, effort: u64, waiting: usize| {
            let now = Instant::now();
            let part = |deadline: Instant| now + deadline.saturating_duration_since(now) / waiting as u32;
            let clock = Clock { deadline: clock.deadline.map(part), ..clock };
            let mut turn = Turn { left: effort, clock, progress };
            search.run(&mut turn);
            effort - turn.left
        };
        let first = if searches.len() > 1 { 0 } else { left };
        for search in searches.iter_mut() {
            left -= turn(search, first, 1);
        }
        while left > 0 && !clock.has_run_out() {
            let open: Vec<_> = searches.iter_mut().filter(|search| !search.is_done()).collect();
            if open.is_empty() {
                break;
            }
            for (waiting, search) in (1..=open.len()).rev().zip(open) {
                left -= turn(search, left.div_ceil(waiting as u64), waiting);
            }
        }
    }
}

/// What a space may spend until it is the next one's turn, and who wants to know what it finds.
struct Turn<'a> {
    left: u64,
    clock: Clock<'a>,
    progress: &'a mut dyn FnMut(Progress),
}

impl Turn<'_> {
    /// The effort that it comes to, by the clock as well.
    fn reach(&self) -> u64 {
        let time = self.clock.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        self.left.min(time.map_or(u64::MAX, |time| u64::try_from(time.as_nanos() / UNIT).unwrap_or(u64::MAX)))
    }

    fn goes_on(&self) -> bool {
        self.left > 0 && !self.clock.has_run_out()
    }
}

/// The search for a placement of one space.
struct SpaceSearch<'a> {
    space: u32,
    core: &'a Core,
    capacity: Option<u64>,
    seed: u64,
    /// Why nothing fits, if that is known.
    proof: Option<Proof>,
    offsets: Vec<u64>,
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

/// The unit of effort is as many looks of the exact search, and no less than so many nanoseconds.
const LOOKS: u64 = 64;
const UNIT: u128 = 256;

/// The first share of the effort.
const PASSES: u64 = 1 << 16;

/// How many exact searches may end without a result before each gets more effort.
const FAILURES: u32 = 4;

impl<'a> SpaceSearch<'a> {
    /// One that has placed nothing yet. `proof` says why nothing fits, if that is known.
    fn new(space: u32, capacity: Option<u64>, lowered: &'a Lowered, proof: Option<Proof>, seed: u64) -> Self {
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
        let dive = dive(core) / LOOKS;
        let (offsets, height) = (Vec::new(), if core.items().is_empty() { 0 } else { u64::MAX });
        let (peak_time, nodes, share) = (time, 0, 0);
        Self { space, core, capacity, seed, proof, offsets, height, lower, unit, peak_time, nodes, dive, share }
    }

    /// Searches until its turn is over, or nothing is left to be found.
    fn run(&mut self, turn: &mut Turn<'_>) {
        let (count, dive) = (self.core.items().len() as u64, self.dive);
        if self.share == 0 && count > 0 {
            // What an exact search cannot even come to the bottom of is for passes alone.
            self.share = if turn.reach() < dive { turn.left } else { PASSES.max(32 * count) };
            self.pass(turn, if self.proof.is_some() { 0 } else { self.share }, self.seed);
        }
        // More each time, now for exact searches, now for passes, until something is known for sure.
        while !self.is_done() && turn.goes_on() {
            let share = self.share;
            if share >= dive {
                self.search(turn, share);
            }
            if !self.is_done() {
                self.pass(turn, if share >= dive { share / 8 } else { share }, self.seed ^ share);
            }
            self.share = share.saturating_mul(2);
        }
    }

    /// What is wanted: to fit, or to be as low as possible, or to know that nothing fits.
    fn is_done(&self) -> bool {
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
        while self.height > self.lower && failures < FAILURES && turn.goes_on() {
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
                    stride = if stride == u64::MAX { steps / 8 } else { stride / 2 }.max(1);
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
        let looks = effort.min(turn.left).saturating_mul(LOOKS);
        // Another way each time; the very first one without any chance is the best on average.
        let seed = if self.nodes == 0 { self.seed } else { self.seed ^ effort };
        let mut budget = exact::Quota { nodes: 0, looks, clock: turn.clock, seed };
        let verdict = exact::fit(self.core, goal, &mut budget);
        self.nodes += budget.nodes;
        turn.left -= ((looks - budget.looks) / LOOKS + 1).min(turn.left);
        if let Verdict::Placed(offsets) = &verdict {
            let tops =
                (0..offsets.len()).flat_map(|item| self.core.pieces(item).iter().map(move |piece| (item, piece.size)));
            let height = tops.map(|(item, size)| offsets[item] + size).max().unwrap_or(0);
            self.found(turn, offsets, height);
        }
        verdict
    }

    fn result(&self) -> SpacePlan {
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

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Optimal => f.write_str("optimal"),
            Self::Feasible { gap } => write!(f, "feasible, at most {:.2} % above the least height", gap * 100.0),
            Self::Infeasible { proof } => write!(f, "infeasible: {proof}"),
            Self::Unknown { bracket: (lower, height) } => {
                write!(f, "unknown: the least height is within {lower} and {height}")
            }
        }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alive { time, bytes } => write!(f, "{bytes} are alive at {time}"),
            Self::Bound { least } => write!(f, "no placement is lower than {least}"),
            Self::Fixed { violation } => write!(f, "{violation}"),
            Self::Searched => f.write_str("all possibilities were searched"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_the_only_limit_unless_there_is_another() {
        let second = Duration::from_secs(1);
        assert_eq!(Planner::new().effort(), EFFORT);
        assert_eq!(Planner::new().with_deadline(second).effort(), u64::MAX);
        assert_eq!(Planner::new().with_deadline(second).with_effort(EFFORT).effort(), EFFORT);
        assert_eq!(Planner::new().with_effort(EFFORT).with_deadline(second).effort(), EFFORT);
    }
}
