//! What recordings mean: plain functions from [recordings](tenzor_trace::recording) to values, that show themselves as text, and serialise.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod contract;
mod live;
mod simulate;
mod summary;

pub use contract::{
    Amount, Baseline, Check, Contract, Figure, Figures, Limit, NoPercent, Percent, Strictness, Untold, Verdict, figures,
};
pub use live::Live;
pub use simulate::{Simulation, SimulationError, simulate};
pub use summary::{Summary, summary};

/// Its examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
