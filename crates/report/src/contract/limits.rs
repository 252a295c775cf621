//! Limits of figures, and whether they hold.

use std::fmt;

use serde::Serialize;

use super::baseline::Baseline;
use super::figures::{Amount, Figure, Figures, Untold};
use super::percent::Percent;

/// Limits: hard ones, and soft ones, which are a baseline and how much worse than that a figure may be.
///
/// ```
/// use tenzor_report::{Baseline, Contract, Figures, Strictness};
///
/// let mut figures = Figures::default();
/// figures.peak_live_bytes = 105;
/// let baseline = Baseline::parse(b"version = 1\npeak_live_bytes = 100\n")?;
/// let contract = Contract::default().with_max_peak(200).with_baseline(&baseline, "5%".parse()?);
/// assert_eq!(contract.check(&figures)?.broken(), None);
///
/// figures.peak_live_bytes = 106;
/// let verdict = contract.check(&figures)?;
/// assert_eq!(verdict.broken(), Some(Strictness::Soft));
/// assert_eq!(verdict.checks[1].to_string(), "peak live: 106 bytes, at most 105 bytes: 5% above the baseline's 100 bytes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Contract {
    limits: Vec<Limit>,
}

/// How a limit is meant. The hard ones are the worse to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strictness {
    /// It is a part over a baseline, which may be written anew.
    Soft,
    /// It was named.
    Hard,
}

/// A limit of one figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Limit {
    /// Which.
    pub figure: Figure,
    /// How it is meant.
    pub strictness: Strictness,
    /// The most that it may be; of a hit rate, the least.
    pub bound: Amount,
    /// Of a soft one, what the baseline says.
    pub baseline: Option<Amount>,
    /// Of a soft one, how much worse it may be.
    pub within: Option<Percent>,
}

/// A limit, and whether it holds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// The limit.
    #[serde(flatten)]
    pub limit: Limit,
    /// What the figure is.
    pub amount: Amount,
    /// Whether that is within the limit.
    pub holds: bool,
}

/// What came of a contract: each limit, in the order in which they were given. Shown as a line for each.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Verdict {
    /// All limits.
    pub checks: Vec<Check>,
}

impl Contract {
    /// Not more bytes in use at once.
    #[must_use]
    pub fn with_max_peak(self, bytes: u64) -> Self {
        self.hard(Figure::PeakLiveBytes, Amount::Bytes(bytes))
    }

    /// Not more bytes held from below at once.
    #[must_use]
    pub fn with_max_reserved(self, bytes: u64) -> Self {
        self.hard(Figure::PeakReservedBytes, Amount::Bytes(bytes))
    }

    /// Not more misses in any step after the first.
    #[must_use]
    pub fn with_max_misses_per_step(self, misses: u64) -> Self {
        self.hard(Figure::MissesPerStep, Amount::Count(misses))
    }

    /// Not fewer hits, as a share of the steps' requests.
    #[must_use]
    pub fn with_min_hit_rate(self, share: f64) -> Self {
        self.hard(Figure::HitRate, Amount::Share(share))
    }

    /// Each figure of the baseline is at most so much worse. Of a number, that is a part of it, rounded down; a hit rate may be less by such a part of it.
    #[must_use]
    pub fn with_baseline(mut self, baseline: &Baseline, within: Percent) -> Self {
        self.limits.extend(baseline.figures().map(|(figure, before)| Limit {
            figure,
            strictness: Strictness::Soft,
            bound: match before {
                Amount::Bytes(bytes) => Amount::Bytes(within.more_than(bytes)),
                Amount::Count(count) => Amount::Count(within.more_than(count)),
                Amount::Share(share) => Amount::Share(within.less_than(share)),
            },
            baseline: Some(before),
            within: Some(within),
        }));
        self
    }

    fn hard(mut self, figure: Figure, bound: Amount) -> Self {
        let strictness = Strictness::Hard;
        self.limits.push(Limit { figure, strictness, bound, baseline: None, within: None });
        self
    }

    /// Holds figures to the limits.
    ///
    /// # Errors
    /// [`Untold`] of the first limit whose figure the recording does not tell.
    pub fn check(&self, figures: &Figures) -> Result<Verdict, Untold> {
        let check = |limit: &Limit| {
            let amount = figures.get(limit.figure)?;
            let holds = if limit.is_least() { amount >= limit.bound } else { amount <= limit.bound };
            Ok(Check { limit: *limit, amount, holds })
        };
        Ok(Verdict { checks: self.limits.iter().map(check).collect::<Result<_, _>>()? })
    }
}

impl Limit {
    /// Whether the bound is the least, not the most.
    pub fn is_least(&self) -> bool {
        self.figure == Figure::HitRate
    }
}

impl Verdict {
    /// The strictest limit that is broken, if any is.
    pub fn broken(&self) -> Option<Strictness> {
        self.breaches().map(|check| check.limit.strictness).max()
    }

    /// The limits that are broken.
    pub fn breaches(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.holds)
    }
}

impl fmt::Display for Strictness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Soft => "soft",
            Self::Hard => "hard",
        })
    }
}

/// What is allowed.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (most, beyond) = if self.is_least() { ("at least", "below") } else { ("at most", "above") };
        write!(f, "{most} {}", self.bound)?;
        match (self.baseline, self.within) {
            (Some(baseline), Some(within)) => write!(f, ": {within} {beyond} the baseline's {baseline}"),
            _ => Ok(()),
        }
    }
}

/// What is, and what is allowed.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, {}", self.limit.figure, self.amount, self.limit)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            writeln!(f, "  {:<6}  {}  {check}", if check.holds { "holds" } else { "BROKEN" }, check.limit.strictness)?;
        }
        Ok(())
    }
}
