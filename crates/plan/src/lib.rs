//! Static memory planning: buffers of known sizes and lifetimes get their places beforehand, in as little memory as can be.
//!
//! A [`Problem`] has buffers: sizes, lifetimes, alignments, offsets that are fixed, gaps, groups that share an offset, and spaces with capacities.
//! A [`Planner`] places them, within an effort, a deadline, or until it is stopped; the [`Plan`] says what is known of how good it is.
//! [`validate()`] judges any placement, by whomever. Nothing here touches memory: the offsets are numbers, and what they are offsets into is
//! yours.
//!
//! ```
//! use tenzor_plan::{BufferSpec, Planner, Problem, Status, validate};
//!
//! let mut problem = Problem::new();
//! for (size, lifetime) in [(100, 0..2), (50, 1..3), (100, 2..4)] {
//!     problem.push(BufferSpec::new(size, lifetime))?;
//! }
//! let plan = Planner::new().plan(&problem);
//! assert!(matches!(plan.status(), Status::Optimal));
//! assert_eq!(plan.offsets()[0], plan.offsets()[2]);
//! assert!(validate(&problem, plan.offsets()).is_ok());
//! # Ok::<(), tenzor_plan::ProblemError>(())
//! ```
//!
//! A [`StepPlan`] is the plan of a step that a program repeats: its requests and frees in their order, and where each buffer lies.
//! `tenzor-memory` serves programs by them.

mod blocks;
mod bound;
mod clock;
mod core;
mod csv;
mod events;
mod exact;
mod improve;
mod lowered;
mod peak;
mod plan;
mod planner;
mod problem;
mod random;
mod saved;
mod settle;
mod skyline;
mod space;
mod step;
mod tuning;
mod validate;

pub use csv::{read_csv, write_csv};
pub use plan::{Plan, Progress, Proof, SpacePlan, Status};
pub use planner::Planner;
pub use problem::{BufferSpec, MAX_BUFFERS, MAX_REACH, MAX_SPACES, Problem, ProblemError};
pub use saved::{PlanFileError, read_plans, write_plans};
pub use step::{Action, ELSEWHERE, StepPlan};
/// Why a file is no problem.
pub use tenzor_trace::ParseError;
pub use validate::{Violation, validate};

/// Its examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
