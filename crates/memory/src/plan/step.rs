//! The plan of one step: what is requested and freed, in which order, and where it lies.

use std::collections::HashMap;

use super::planner::Planner;
use super::problem::{BufferSpec, Problem};
use super::validate::validate;

/// What happened in a step: the order of its requests and frees, each buffer called by the number of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Request { size: usize, align: usize },
    Free { request: u32 },
}

/// What has to happen next for a step to go on as planned, and the offset that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    /// Of a request; [`FREE`] and [`END`] are sizes that no request has.
    pub(super) size: usize,
    pub(super) align: usize,
    /// [`ELSEWHERE`] for a buffer that is not in the block.
    pub(super) offset: usize,
}

/// The `size` of a free.
pub(super) const FREE: usize = 0;
/// The `size` of the last move, which nothing is like.
pub(super) const END: usize = usize::MAX;
/// The `offset` of a buffer that outlives its step: the pool serves it.
pub(super) const ELSEWHERE: usize = usize::MAX;

/// All offsets and sizes in the block are multiples of it: a cache line, and what the pool's buffers are aligned to.
pub(super) const UNIT: u64 = 64;

/// The most actions of a step; one with more is not planned.
pub(super) const MAX_ACTIONS: usize = 1 << 24;

/// A planned step. No two of its buffers that are alive at the same time overlap: [`StepPlan::new`] sees to it.
#[derive(Clone, Debug)]
pub(super) struct StepPlan {
    pub(super) actions: Vec<Action>,
    /// The offset of each request, in the order of requests.
    pub(super) offsets: Vec<usize>,
    /// One for each action, and [`END`].
    pub(super) moves: Box<[Move]>,
    /// The bytes of the block that it needs.
    pub(super) height: usize,
    /// The alignment of the block that it needs.
    pub(super) align: usize,
}

impl StepPlan {
    /// Places the buffers of a step. Those that `fixed` knows the offset of, by their number, stay there.
    pub(super) fn make(
        actions: Vec<Action>,
        planner: &Planner,
        fixed: impl Fn(usize) -> Option<usize>,
    ) -> Option<Self> {
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
    pub(super) fn new(actions: Vec<Action>, offsets: Vec<usize>) -> Option<Self> {
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
        let mut align = UNIT as usize;
        let mut moves = Vec::new();
        let mut requests = offsets.iter();
        for action in &actions {
            moves.push(match *action {
                Action::Request { size, align: own } => {
                    align = align.max(own);
                    Move { size, align: own, offset: *requests.next()? }
                }
                Action::Free { request } => Move { size: FREE, align: 0, offset: *offsets.get(request as usize)? },
            });
        }
        if requests.next().is_some() {
            return None;
        }
        moves.push(Move { size: END, align: 0, offset: ELSEWHERE });
        Some(Self { actions, offsets, moves: moves.into(), height, align })
    }
}

/// The buffers that are freed within the step, and the number of the request of each; `None` for actions that cannot have happened.
fn problem(actions: &[Action], fixed: impl Fn(usize) -> Option<usize>) -> Option<(Problem, Vec<usize>)> {
    if actions.len() > MAX_ACTIONS {
        return None;
    }
    let mut live = HashMap::new();
    let mut specs = Vec::new();
    let mut count = 0_usize;
    for (time, action) in (0_u64..).zip(actions) {
        match *action {
            Action::Request { size, align } => {
                if size == FREE || size > isize::MAX as usize || !align.is_power_of_two() {
                    return None;
                }
                live.insert(count, (time, size, align));
                count += 1;
            }
            Action::Free { request } => {
                let request = request as usize;
                let (start, size, align) = live.remove(&request)?;
                let size = (size as u64).next_multiple_of(UNIT);
                let spec = BufferSpec::new(size, start..time).with_alignment(UNIT.max(align as u64));
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
