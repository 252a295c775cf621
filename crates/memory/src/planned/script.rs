//! A plan as what has to happen next, move by move.

use tenzor_plan::{Action, ELSEWHERE, StepPlan};

/// What has to happen next for a step to go on as planned, and the offset that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
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

/// What is expected where nothing is.
pub(super) static ANYTHING_ELSE: Expected = Expected { size: END, align: 0, offset: ELSEWHERE };

/// A plan, and its moves: one for each action, and [`END`].
#[derive(Debug)]
pub(super) struct Script {
    pub(super) plan: StepPlan,
    pub(super) moves: Box<[Expected]>,
}

impl Script {
    pub(super) fn of(plan: StepPlan) -> Self {
        let offset = |request: usize| plan.offsets().get(request).copied().unwrap_or(ELSEWHERE);
        let mut requests = 0..;
        let moves = plan.actions().iter().map(|action| match *action {
            Action::Request { size, align } => {
                Expected { size, align, offset: requests.next().map_or(ELSEWHERE, offset) }
            }
            Action::Free { request } => Expected { size: FREE, align: 0, offset: offset(request as usize) },
        });
        let moves = moves.chain([Expected { size: END, align: 0, offset: ELSEWHERE }]).collect();
        Self { plan, moves }
    }
}
