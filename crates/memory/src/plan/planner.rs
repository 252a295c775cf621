//! The planner: from a problem to a placement, and to what is known about it.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::bound::{self, gcd};
use super::clock::Clock;
use super::core::Core;
use super::exact::{self, Verdict};
use super::improve::{self, Placement, improve};
use super::problem::Problem;
use super::validate::{Violation, check};

/// Places buffers.
///
/// A placement comes first from skyline passes in many orders, then from an exact search, which finds a lower one, or proves that there is
/// none. Without a deadline the result depends on the problem and the seed alone.
///
/// ```
/// use tenzor_memory::plan::{BufferSpec, Planner, Problem, Status};
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
/// # Ok::<(), tenzor_memory::plan::ProblemError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Planner<'a> {
    deadline: Option<Duration>,
    effort: u64,
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
pub struct Progress {
    /// The space that is planned.
    pub space: u32,
    /// The least height found so far.
    pub height: u64,
    /// What no height can be less than.
    pub lower_bound: u64,
}

/// The efforts of planning without a word about it, and of planning at the end of a small step. See [`Planner::with_effort`].
const EFFORT: u64 = 1 << 24;
const STEP_EFFORT: u64 = 1 << 14;

impl Default for Planner<'_> {
    fn default() -> Self {
        Self { deadline: None, effort: EFFORT, seed: 0, stop: None }
    }
}

impl<'a> Planner<'a> {
    /// One that ends after some seconds at the most.
    pub fn new() -> Self {
        Self::default()
    }

    /// One for the end of a step of so many actions, where a program waits.
    pub(super) fn for_step(actions: usize) -> Self {
        Self { effort: STEP_EFFORT + 32 * actions as u64, ..Self::default() }
    }

    /// Ends the search after some time; the best placement so far is the answer. There is always one.
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Ends the search after so much effort: 2^24 at first, which is some seconds. The unit is about what it takes to place one buffer in a pass
    /// over all of them: half a microsecond.
    pub fn with_effort(self, effort: u64) -> Self {
        Self { effort, ..self }
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
        let mut plan = Plan { offsets: vec![0; problem.buffers().len()], spaces: Vec::new() };
        for (space, own) in (0..).zip(problem.by_space()) {
            let lowered = problem.lower(&own);
            let mut search = Search {
                core: &lowered.core,
                capacity: problem.capacity(space),
                planner: self,
                clock,
                offsets: Vec::new(),
                height: u64::MAX,
                lower: 0,
                peak_time: 0,
                nodes: 0,
                work: (0..lowered.core.items().len()).map(|item| lowered.core.span(item).len() as u64).sum(),
                progress: &mut |height, lower_bound| progress(Progress { space, height, lower_bound }),
            };
            let fixed = |&index: &u32| {
                let index = index as usize;
                Some((index, problem.fixed_offset(&problem.buffers()[index])?))
            };
            let misplaced = check(problem, own.iter().filter_map(fixed)).err();
            let misplaced = misplaced.map(|violation| Proof::Fixed { violation });
            let proof = search.run(misplaced, &lowered.times);
            for (members, &offset) in lowered.members().zip(&search.offsets) {
                for &index in members {
                    plan.offsets[index as usize] = offset;
                }
            }
            for &(index, offset) in &lowered.free {
                plan.offsets[index as usize] = offset;
            }
            plan.spaces.push(search.result(proof));
        }
        plan
    }
}

/// The search for a placement of one space.
struct Search<'a> {
    core: &'a Core,
    capacity: Option<u64>,
    planner: &'a Planner<'a>,
    clock: Clock<'a>,
    offsets: Vec<u64>,
    height: u64,
    lower: u64,
    peak_time: u64,
    nodes: u64,
    /// The number of sections in the spans of all items together.
    work: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

/// The first share of the effort.
const PASSES: u64 = 1 << 16;

/// How many exact searches may end without a result before each gets more effort.
const FAILURES: u32 = 4;

impl Search<'_> {
    /// Searches until nothing is left to be found, and returns why nothing fits if that is so, as it is if `proof` says it already.
    /// Sections begin at `times`.
    fn run(&mut self, proof: Option<Proof>, times: &[u64]) -> Option<Proof> {
        let count = self.core.items().len() as u64;
        if count == 0 {
            (self.height, self.lower) = (0, 0);
            return proof;
        }
        let live = bound::live(self.core, |_| true);
        // The first of the sections with the most.
        let first = |most: (u64, u64), section: (u64, u64)| if section.1 > most.1 { section } else { most };
        let (time, bytes) = times.iter().copied().zip(live).fold((0, 0), first);
        self.peak_time = time;
        let unit = self.unit();
        self.lower = bound::lower(self.core).and_then(|lower| lower.checked_next_multiple_of(unit)).unwrap_or(u64::MAX);
        let proof = proof.or(match self.capacity {
            Some(capacity) if bytes > capacity => Some(Proof::Alive { time, bytes }),
            Some(capacity) if self.lower > capacity => Some(Proof::Bound { least: self.lower }),
            _ => None,
        });
        let mut left = self.planner.effort;
        let dive = 2 * count * self.node_effort();
        // What an exact search cannot even come to the bottom of is for passes alone.
        let mut share = if left < dive { left } else { PASSES.max(32 * count) };
        self.pass(&mut left, if proof.is_some() { 0 } else { share }, self.planner.seed);
        if proof.is_some() {
            return proof;
        }
        // More each time, now for exact searches, now for passes, until something is known for sure.
        while !self.is_done() && left > 0 && !self.clock.has_run_out() {
            if share >= dive
                && let Some(proof) = self.search(&mut left, share, unit)
            {
                return Some(proof);
            }
            if !self.is_done() {
                self.pass(&mut left, if share >= dive { share / 8 } else { share }, self.planner.seed ^ share);
            }
            share = share.saturating_mul(4);
        }
        None
    }

    /// What is wanted: to fit, or to be as low as possible.
    fn is_done(&self) -> bool {
        self.height <= self.capacity.unwrap_or(0).max(self.lower)
    }

    fn found(&mut self, offsets: &[u64], height: u64) {
        if height < self.height {
            self.offsets.clear();
            self.offsets.extend_from_slice(offsets);
            self.height = height;
            (self.progress)(self.height, self.lower);
        }
    }

    /// Skyline passes, for some of the effort.
    fn pass(&mut self, left: &mut u64, share: u64, seed: u64) {
        let items = share.min(*left);
        *left -= items;
        let mut budget = improve::Budget { items, clock: self.clock };
        let (core, goal) = (self.core, self.lower.max(self.capacity.unwrap_or(0)));
        let (best, lower, progress) = (self.height, self.lower, &mut self.progress);
        let placement = improve(core, goal, &mut budget, seed, &mut |height| {
            if height < best {
                progress(height, lower);
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
    fn search(&mut self, left: &mut u64, effort: u64, unit: u64) -> Option<Proof> {
        if let Some(capacity) = self.capacity {
            let verdict = self.fit(capacity, left, effort);
            return matches!(verdict, Verdict::Impossible).then_some(Proof::Searched);
        }
        let mut stride = u64::MAX;
        let mut failures = 0;
        while self.height > self.lower && failures < FAILURES && *left > 0 && !self.clock.has_run_out() {
            let steps = (self.height - self.lower).div_ceil(unit);
            let goal = self.height.saturating_sub(stride.min(steps).saturating_mul(unit)).max(self.lower);
            match self.fit(goal, left, effort) {
                Verdict::Placed(_) => stride = stride.saturating_mul(2),
                Verdict::Impossible => {
                    self.lower = (goal + 1).next_multiple_of(unit);
                    (self.progress)(self.height, self.lower);
                    stride = (stride.min(steps) / 2).max(1);
                }
                Verdict::GaveUp => {
                    failures += 1;
                    stride = if stride == u64::MAX { steps / 8 } else { stride / 2 }.max(1);
                }
            }
        }
        None
    }

    fn fit(&mut self, goal: u64, left: &mut u64, effort: u64) -> Verdict {
        let seed = self.planner.seed;
        let max_nodes = effort.min(*left).div_ceil(self.node_effort());
        // Another way each time; the very first one without any chance is the best on average.
        let seed = if self.nodes == 0 { seed } else { seed ^ effort };
        let mut budget = exact::Budget { nodes: 0, max_nodes, clock: self.clock, seed };
        let verdict = exact::fit(self.core, goal, &mut budget);
        self.nodes += budget.nodes;
        *left -= (budget.nodes.max(1).saturating_mul(self.node_effort())).min(*left);
        if let Verdict::Placed(offsets) = &verdict {
            let tops =
                (0..offsets.len()).flat_map(|item| self.core.pieces(item).iter().map(move |piece| (item, piece.size)));
            let height = tops.map(|(item, size)| offsets[item] + size).max().unwrap_or(0);
            self.found(offsets, height);
        }
        verdict
    }

    /// What a node of the exact search costs, where placing a buffer in a pass is 1: it goes through the sections of all items, at some
    /// nanosecond each.
    fn node_effort(&self) -> u64 {
        1 + self.work / 512
    }

    /// What all heights worth trying are multiples of: in a placement from which no item can fall, each rests on another one, or on the ground.
    fn unit(&self) -> u64 {
        let items = self.core.items();
        let pieces = (0..items.len()).flat_map(|item| self.core.pieces(item));
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

    fn result(&self, proof: Option<Proof>) -> SpacePlan {
        let Self { height, lower, peak_time, capacity, nodes, .. } = *self;
        let status = match proof {
            Some(proof) => Status::Infeasible { proof },
            None if capacity.is_some_and(|capacity| height > capacity) => Status::Unknown { bracket: (lower, height) },
            None if height <= lower => Status::Optimal,
            None => Status::Feasible { gap: (height - lower) as f64 / lower.max(1) as f64 },
        };
        SpacePlan { height, lower_bound: lower, peak_time, status, nodes }
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
