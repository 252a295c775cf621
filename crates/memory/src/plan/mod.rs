//! Plans: where each buffer of a repeated step lies, decided beforehand.

mod blocks;
mod bound;
mod clock;
mod core;
mod csv;
mod exact;
mod file;
mod improve;
mod peak;
mod planner;
mod problem;
mod serve;
mod settle;
mod skyline;
mod step;
mod validate;

pub use csv::{read_csv, write_csv};
pub use file::PlanFileError;
pub use planner::{Plan, Planner, Progress, Proof, SpacePlan, Status};
pub use problem::{BufferSpec, MAX_BUFFERS, MAX_REACH, MAX_SPACES, Problem, ProblemError};
pub use serve::{PlannedAllocator, PlannedStats, Step};
pub use validate::{Violation, validate};
