//! The plan of one step: what is requested and freed, in which order, and where it lies.

use std::collections::HashMap;

use super::planner::Planner;
use super::problem::{BufferSpec, Problem};
use super::validate::validate;

/// What happened in a step: the order of its requests and frees, each buffer called by the number of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A buffer is requested.
    Request {
        /// Requested bytes, one at least.
        size: usize,
        /// A power of two.
        align: usize,
    },
    /// A buffer that was requested in the step is freed.
    Free {
        /// The number of its request, from 0.
        request: u32,
    },
}

/// The offset of a buffer that outlives its step: it is not in the block.
pub const ELSEWHERE: usize = usize::MAX;

/// All offsets and sizes in the block are multiples of it: a cache line.
const LINE: u64 = 64;

/// A planned step. No two of its buffers that are alive at the same time overlap: whoever makes one is checked.
///
/// ```
/// use tenzor_plan::{Action, Planner, StepPlan};
///
/// let request = |size| Action::Request { size, align: 8 };
/// let free = |request| Action::Free { request };
/// let step = vec![request(100), free(0), request(50), free(1)];
/// let plan = StepPlan::make(step, &Planner::new(), |_| None).expect("a step as it can be");
/// assert_eq!((plan.offsets(), plan.height(), plan.align()), (&[0, 0][..], 128, 64));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepPlan {
    actions: Vec<Action>,
    offsets: Vec<usize>,
    height: usize,
    align: usize,
}

impl StepPlan {
    /// The most actions of a step; one with more is not planned.
    pub const MAX_ACTIONS: usize = 1 << 24;

    /// Places the buffers of a step. Those that `fixed` knows the offset of, by their number, stay there. `None` for what cannot have
    /// happened, for too long a step, and where nothing fits around what is fixed.
    pub fn make(actions: Vec<Action>, planner: &Planner<'_>, fixed: impl Fn(usize) -> Option<usize>) -> Option<Self> {
        let (problem, requests) = problem(&actions, fixed)?;
        let plan = planner.plan(&problem);
        let mut offsets =
            vec![ELSEWHERE; actions.iter().filter(|action| matches!(action, Action::Request { .. })).count()];
        for (&request, &offset) in requests.iter().zip(plan.offsets()) {
            *offsets.get_mut(request)? = usize::try_from(offset).ok()?;
        }
        Self::new(actions, offsets)
    }

    /// Puts actions and offsets together; `None` if buffers overlap, or are not where they may be: a request has an offset in the block if,
    /// and only if, it is freed within the step. What is kept longer is not known to anybody who checks.
    pub fn new(actions: Vec<Action>, offsets: Vec<usize>) -> Option<Self> {
        let is_in_block = |request: &usize| offsets.get(*request).is_some_and(|&offset| offset != ELSEWHERE);
        let (problem, freed) = problem(&actions, |request| offsets.get(request).copied())?;
        if !(0..offsets.len()).filter(is_in_block).eq(freed) {
            return None;
        }
        let own: Vec<u64> = offsets.iter().filter(|&&at| at != ELSEWHERE).map(|&at| at as u64).collect();
        // The invariant of every plan, whoever made it.
        validate(&problem, &own).ok()?;
        let ends = problem.buffers().iter().zip(&own).map(|(spec, offset)| offset + spec.size);
        let height = usize::try_from(ends.max().unwrap_or(0)).ok().filter(|&height| isize::try_from(height).is_ok())?;
        let mut requests = 0;
        let mut align = LINE as usize;
        for action in &actions {
            if let Action::Request { align: own, .. } = *action {
                align = align.max(own);
                requests += 1;
            }
        }
        (requests == offsets.len()).then_some(Self { actions, offsets, height, align })
    }

    /// What happens in the step.
    pub fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// The offset of each request, in the order of requests: [`ELSEWHERE`] if it outlives the step.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// The bytes of the block that it needs.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The alignment of the block that it needs.
    pub fn align(&self) -> usize {
        self.align
    }
}

/// The buffers that are freed within the step, and the number of the request of each; `None` for actions that cannot have happened.
fn problem(actions: &[Action], fixed: impl Fn(usize) -> Option<usize>) -> Option<(Problem, Vec<usize>)> {
    if actions.len() > StepPlan::MAX_ACTIONS {
        return None;
    }
    let mut live = HashMap::new();
    let mut specs = Vec::new();
    let mut count = 0_usize;
    for (time, action) in (0_u64..).zip(actions) {
        match *action {
            Action::Request { size, align } => {
                if size == 0 || size > isize::MAX as usize || !align.is_power_of_two() {
                    return None;
                }
                live.insert(count, (time, size, align));
                count += 1;
            }
            Action::Free { request } => {
                let request = request as usize;
                let (start, size, align) = live.remove(&request)?;
                let size = (size as u64).next_multiple_of(LINE);
                let spec = BufferSpec::new(size, start..time).with_alignment(LINE.max(align as u64));
                specs.push((request, BufferSpec { offset: fixed(request).map(|at| at as u64), ..spec }));
            }
        }
    }
    specs.sort_unstable_by_key(|&(request, _)| request);
    let mut problem = Problem::new();
    let mut requests = Vec::with_capacity(specs.len());
    for (request, spec) in specs {
        problem.push(spec).ok()?;
        requests.push(request);
    }
    Some((problem, requests))
}
