//! Which plans there are, which of them is followed, and what may become one.

use std::alloc::Layout;
use std::collections::VecDeque;
use std::ptr;

use tenzor_plan::{Action, ELSEWHERE, Planner, StepPlan};

use super::block::PlannedBlock;
use super::recording::Recording;
use super::script::{Expected, FREE, Script};
use super::stats::PlannedStats;
use super::tuning::{ACTION_EFFORT, PLANS_KEPT, RECORDINGS_KEPT, STEP_DEADLINE, STEP_EFFORT};

#[derive(Default)]
pub(super) struct Plans {
    /// The user's, if there is one.
    pub(super) planner: Option<Planner<'static>>,
    /// The last followed first.
    pub(super) plans: Vec<Script>,
    pub(super) phase: Phase,
    pub(super) block: Option<PlannedBlock>,
    /// The block was put aside: others may have it given back.
    pub(super) is_aside: bool,
    /// A block was given up, and what there is now need not suffice for all plans: a step that begins takes what its own plan needs.
    pub(super) is_thrifty: bool,
    /// Blocks that were replaced while something was alive in them. Each is given back when the last of it is freed.
    pub(super) retired: Vec<PlannedBlock>,
    /// How many steps in a row began with something alive in the block.
    pub(super) crowded: u32,
    /// After a block was refused, no plan is made for so many steps, twice as many each time: each attempt empties the pool.
    pub(super) rest: u64,
    /// The number of the step with which the rest is over.
    pub(super) rested: u64,
    /// Recordings that may be repeated, the newest first.
    pub(super) seen: VecDeque<Vec<Action>>,
    pub(super) stats: PlannedStats,
}

#[derive(Default)]
pub(super) enum Phase {
    /// Between steps.
    #[default]
    Outside,
    /// The first of the plans is followed.
    Following,
    Watching(Recording),
}

impl Plans {
    /// Makes a plan of a step that was recorded, if it was the second of its kind.
    pub(super) fn learn(&mut self, recording: Recording) {
        let Recording { actions, overflown, .. } = recording;
        if overflown || actions.is_empty() || self.is_at_rest() {
            return;
        }
        if let Some(index) = self.plans.iter().position(|script| script.plan.actions() == actions) {
            // Known; something was in the way.
            self.plans[..=index].rotate_right(1);
            return;
        }
        let Some(index) = self.seen.iter().position(|seen| *seen == actions) else {
            self.seen.truncate(RECORDINGS_KEPT - 1);
            self.seen.push_front(actions);
            return;
        };
        if let Some(actions) = self.seen.remove(index)
            && let Some(plan) = self.make(actions)
        {
            self.adopt(plan);
        }
    }

    /// Takes a plan into use, in the place of the one that was not used longest if there are too many.
    pub(super) fn adopt(&mut self, plan: StepPlan) {
        self.plans.truncate(PLANS_KEPT - 1);
        self.plans.insert(0, Script::of(plan));
        self.stats.plans += 1;
    }

    #[inline]
    pub(super) fn is_at_rest(&self) -> bool {
        self.stats.steps < self.rested
    }

    /// What a block has to be: for all plans, or for the first alone.
    pub(super) fn needed(&self) -> Option<Layout> {
        let most = |(size, align), Script { plan, .. }: &Script| (plan.height().max(size), plan.align().max(align));
        let count = if self.is_thrifty { 1 } else { self.plans.len() };
        let (size, align) = self.plans.iter().take(count).fold((1, 1), most);
        Layout::from_size_align(size, align).ok()
    }

    /// Whether the block is all that a plan needs.
    pub(super) fn suffices(&self, script: &Script) -> bool {
        let Script { plan, .. } = script;
        let suffices =
            |PlannedBlock { layout, .. }: &_| layout.size() >= plan.height() && layout.align() >= plan.align();
        self.block.as_ref().is_some_and(suffices)
    }

    /// Whether nothing is alive in the block, if there is one.
    pub(super) fn is_idle(&self) -> bool {
        self.block.as_ref().is_none_or(|block| block.live.is_empty())
    }

    /// Whether what lies there is within the block, and aligned as asked.
    pub(super) fn has_in_block(&self, offset: usize, request: Layout) -> bool {
        self.block.as_ref().is_some_and(|PlannedBlock { base, layout, .. }| {
            let end = offset.saturating_add(request.size());
            end <= layout.size() && (base.addr().get() + offset).is_multiple_of(request.align())
        })
    }

    /// The number of the move of the first plan that is next.
    #[inline]
    pub(super) fn position(&self, next: *const Expected) -> usize {
        let first = self.plans.first().map_or(next, |script| script.moves.as_ptr());
        next.addr().wrapping_sub(first.addr()) / size_of::<Expected>()
    }

    /// Makes the plan the first that begins as the first did for `done` moves, and goes on with one that suits, all of it within the block. Returns
    /// whether there is one.
    #[inline]
    pub(super) fn goes_on(&mut self, done: usize, suits: impl Fn(&Expected) -> bool) -> bool {
        let begins = |script: &Script| {
            ptr::eq(script, &raw const self.plans[0]) || script.moves[..done] == self.plans[0].moves[..done]
        };
        let goes_on =
            |script: &Script| script.moves.get(done).is_some_and(&suits) && begins(script) && self.suffices(script);
        let found = self.plans.iter().position(goes_on);
        if let Some(index) = found {
            self.plans[..=index].rotate_right(1);
        }
        found.is_some()
    }

    /// The recording of a step that followed the first plan for `done` moves; from now on, it is known what is alive.
    pub(super) fn recorded(&mut self, done: usize) -> Recording {
        let mut recording = Recording { hint: done, ..Recording::default() };
        let Some((script, block)) = self.plans.first().zip(self.block.as_mut()) else { return recording };
        recording.actions.extend_from_slice(&script.plan.actions()[..done]);
        for &Expected { size, offset, .. } in &script.moves[..done] {
            let address = block.base.addr().get().wrapping_add(offset);
            if size == FREE {
                block.live.remove(&offset);
                recording.of.remove(&address);
                continue;
            }
            if offset != ELSEWHERE {
                block.live.insert(offset, offset + size);
                recording.of.insert(address, recording.requests);
            }
            recording.requests += 1;
        }
        recording
    }

    /// Plans a step so that it agrees with the other plans for as long as it does the same: then it can be followed before it is known
    /// which of them it will be.
    pub(super) fn make(&mut self, actions: Vec<Action>) -> Option<StepPlan> {
        let common = |plan: &StepPlan| plan.actions().iter().zip(&actions).take_while(|(a, b)| a == b).count();
        let nearest = self.plans.iter().map(|script| &script.plan).max_by_key(|plan| common(plan));
        let effort = STEP_EFFORT + ACTION_EFFORT * actions.len() as u64;
        let default = || Planner::new().with_effort(effort).with_deadline(STEP_DEADLINE);
        let planner = self.planner.unwrap_or_else(default);
        if let Some(nearest) = nearest {
            let requests = |action: &&Action| matches!(action, Action::Request { .. });
            let shared = actions[..common(nearest)].iter().filter(requests).count();
            let fixed = |request: usize| {
                let offset = nearest.offsets().get(request).copied().filter(|_| request < shared);
                offset.filter(|&offset| offset != ELSEWHERE)
            };
            if let Some(plan) = StepPlan::make(actions.clone(), &planner, fixed) {
                return Some(plan);
            }
        }
        StepPlan::make(actions, &planner, |_| None)
    }
}
