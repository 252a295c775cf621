//! The planner: what it may take, and how the spaces of a problem share that.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::clock::Clock;
use super::lowered::Lowered;
use super::plan::{Plan, Progress, Proof};
use super::problem::Problem;
use super::space::{SpaceSearch, Turn};
use super::tuning::DEFAULT_EFFORT;
use super::validate::check;

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
        self.effort.unwrap_or(if self.deadline.is_some() { u64::MAX } else { DEFAULT_EFFORT })
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
        let lowered: Vec<Lowered> = spaces.iter().map(|own| Lowered::new(problem, own)).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_the_only_limit_unless_there_is_another() {
        let second = Duration::from_secs(1);
        assert_eq!(Planner::new().effort(), DEFAULT_EFFORT);
        assert_eq!(Planner::new().with_deadline(second).effort(), u64::MAX);
        assert_eq!(Planner::new().with_deadline(second).with_effort(DEFAULT_EFFORT).effort(), DEFAULT_EFFORT);
        assert_eq!(Planner::new().with_effort(DEFAULT_EFFORT).with_deadline(second).effort(), DEFAULT_EFFORT);
    }
}
