//! The numbers that planned steps were tuned by: what is kept of steps, what planning one may take, and how soon a block is given up.
//!
//! None of them decides whether two live buffers overlap; each trades speed or memory for the other. What was measured for a value, or why it was
//! chosen, stands with it; where nothing stands, nothing of its own is on record. What all of them come to is in `bench/RESULTS.md`: the times of
//! pairs as planned, and of planning a step, which are to be measured again where one is changed.

use std::time::Duration;

// What becomes a plan, and what making it may take: `state`.

/// How many plans are kept, and how many recordings that may become one: steps of more shapes take each other's place, and each of these holds
/// all actions of a step. The documentation and the guide say eight plans.
pub(super) const PLANS_KEPT: usize = 8;
pub(super) const RECORDINGS_KEPT: usize = 4;

/// What it takes to plan a step, at its end, if nobody says otherwise: so much, and so much for each action. The program waits for it, and the
/// height is lower for it. See [`Planner::with_effort`](tenzor_plan::Planner::with_effort).
pub(super) const STEP_EFFORT: u64 = 1 << 14;
pub(super) const ACTION_EFFORT: u64 = 32;

/// The search ends then, whatever effort is left: a step that repeats often enough to be planned can wait for it. The documentation and the
/// guide say 250 ms. A step of 1000 requests takes some 50, one of 10,000 requests 270 in all, and one of 100,000 takes 600.
pub(super) const STEP_DEADLINE: Duration = Duration::from_millis(250);

// Which block is in use: `renewal`.

/// The longest rest after a block was refused, in steps: each attempt empties the pool, and after a longer one the block comes later where there
/// is memory again.
pub(super) const LONGEST_REST: u64 = 1 << 10;

/// So many steps may begin with something alive in the block, and are watched; with the next one, another block is taken, which is memory
/// beside the first. The documentation and the guide say eight.
pub(super) const CROWDED_STEPS: u32 = 8;

// A step that departed from its plan: `recording`.

/// How far ahead a request is looked for in a plan that was departed from: farther, more is served from the block, and each request that is not
/// there takes longer.
pub(super) const REQUESTS_AHEAD: usize = 16;
