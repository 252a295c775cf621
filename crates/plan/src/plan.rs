//! What a planner answers: where the buffers lie, and what is known about that.

use std::fmt;

use super::validate::Violation;

/// What is known about a placement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Status {
    /// None is lower.
    Optimal,
    /// It fits, and its height is by this share more than the lower bound: 0.01 for a hundredth.
    Feasible {
        /// (height − lower bound) / lower bound.
        gap: f64,
    },
    /// None fits into the capacity.
    Infeasible {
        /// Why.
        proof: Proof,
    },
    /// None was found that fits into the capacity, and none was proven not to exist: the least height is within these.
    Unknown {
        /// The greatest lower bound, and the least height found.
        bracket: (u64, u64),
    },
}

/// Why nothing fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// At this time, more is alive than there is room.
    Alive {
        /// The time.
        time: u64,
        /// What is alive then.
        bytes: u64,
    },
    /// No placement is lower than this, as alignments, sizes and fixed offsets have it.
    Bound {
        /// The least possible height.
        least: u64,
    },
    /// A buffer whose offset is given is not where it may be.
    Fixed {
        /// What is wrong.
        violation: Violation,
    },
    /// All possibilities were searched.
    Searched,
}

/// The placement of a space.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SpacePlan {
    /// Where the highest buffer ends.
    pub height: u64,
    /// What no height can be less than.
    pub lower_bound: u64,
    /// When most is alive: what is alive then is what makes the plan high.
    pub peak_time: u64,
    /// What is known.
    pub status: Status,
    /// How many placements of a buffer the exact search tried.
    pub nodes: u64,
}

/// Where each buffer of a problem lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub(super) offsets: Vec<u64>,
    pub(super) spaces: Vec<SpacePlan>,
}

impl Plan {
    /// The offset of each buffer, in its space. They are valid, but where a space's status is [`Status::Infeasible`] or
    /// [`Status::Unknown`]: then its capacity is exceeded, or a fixed buffer is in the way of another.
    pub fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    /// What came of each space.
    pub fn spaces(&self) -> &[SpacePlan] {
        &self.spaces
    }

    /// The greatest height of a space.
    pub fn height(&self) -> u64 {
        self.spaces.iter().map(|space| space.height).max().unwrap_or(0)
    }

    /// The worst status of a space; [`Status::Optimal`] without any.
    pub fn status(&self) -> Status {
        let rank = |status: &Status| match status {
            Status::Optimal => (0, 0.0),
            Status::Feasible { gap } => (1, *gap),
            Status::Unknown { .. } => (2, 0.0),
            Status::Infeasible { .. } => (3, 0.0),
        };
        let worst = self.spaces.iter().map(|space| space.status).max_by(|a, b| {
            let ((a, gap), (b, other)) = (rank(a), rank(b));
            a.cmp(&b).then(gap.total_cmp(&other))
        });
        worst.unwrap_or(Status::Optimal)
    }

    /// Whether every buffer has a place within the capacity of its space.
    pub fn is_feasible(&self) -> bool {
        matches!(self.status(), Status::Optimal | Status::Feasible { .. })
    }
}

/// How far planning has come.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// The space that is planned.
    pub space: u32,
    /// The least height found so far.
    pub height: u64,
    /// What no height can be less than.
    pub lower_bound: u64,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Optimal => f.write_str("optimal"),
            Self::Feasible { gap } => write!(f, "feasible, at most {:.2} % above the least height", gap * 100.0),
            Self::Infeasible { proof } => write!(f, "infeasible: {proof}"),
            Self::Unknown { bracket: (lower, height) } => {
                write!(f, "unknown: the least height is within {lower} and {height}")
            }
        }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alive { time, bytes } => write!(f, "{bytes} are alive at {time}"),
            Self::Bound { least } => write!(f, "no placement is lower than {least}"),
            Self::Fixed { violation } => write!(f, "{violation}"),
            Self::Searched => f.write_str("all possibilities were searched"),
        }
    }
}
