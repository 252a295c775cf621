//! What a recording is held to: limits of a few figures, hard ones, and soft ones beside a baseline.

mod baseline;
mod figures;
mod limits;
mod percent;
#[cfg(test)]
mod tests;

pub use baseline::Baseline;
pub use figures::{Amount, Figure, Figures, Untold, figures};
pub use limits::{Check, Contract, Limit, Strictness, Verdict};
pub use percent::{NoPercent, Percent};
