//! What recordings mean: plain functions from [recordings](tenzor_trace::recording) to values, that show themselves as text, and serialise.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod align;
mod changes;
mod contract;
mod gains;
mod holders;
mod instants;
mod labels;
mod live;
mod names;
mod pass;
mod peak;
mod requests;
mod simulate;
mod summary;
mod words;

pub use changes::{Cause, Changes, PathChange, Side, changes};
pub use contract::{
    Amount, Baseline, Check, Contract, Figure, Figures, Limit, NoPercent, Percent, Strictness, Untold, Verdict, figures,
};
pub use holders::{Holders, Row};
pub use instants::Instant;
pub use live::Live;
pub use pass::Flaws;
pub use peak::{Gain, Peak, Second, peak};
pub use requests::Counts;
pub use simulate::{Simulation, SimulationError, simulate};
pub use summary::{Summary, summary};

/// Its examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
