//! The few figures that a recording is held to. They are counts, so the same recording always has the same.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{Read, Seek};
use std::ops::ControlFlow;

use serde::Serialize;
use tenzor_trace::recording::format::Block;
use tenzor_trace::recording::names::Kind;
use tenzor_trace::recording::{Recording, What};

use crate::live::Live;
use crate::pass::{Flaws, pass};
use crate::words::bytes;

/// What a recording is held to, and how exact that is.
///
/// A **step** is what lies between two that begin. What follows the last one is a step too if it requests anything, and a recording without any is one step. Steps of several
/// threads come in one row. A request of no size counts as neither hit nor miss; a resize counts as a request where the block moved or memory was taken from below for it.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Figures {
    /// The most bytes in use at an instant, as they were requested.
    pub peak_live_bytes: u64,
    /// The most bytes that sources held from below at an instant, all of them together; what one takes from another counts for both. None where the recording does not tell.
    pub peak_reserved_bytes: Option<u64>,
    /// The misses of the step with the most of them, but for the first, which fills the pools. None where the recording does not tell.
    pub misses_per_step: Option<u64>,
    /// The share of the steps' requests that were hits. None where the recording does not tell.
    pub hit_rate: Option<f64>,
    /// How many steps there are.
    pub steps: u64,
    /// The steps' requests that were hits, as far as the recording tells.
    pub hits: u64,
    /// Those that were misses.
    pub misses: u64,
    /// It tells hits from misses.
    pub tells_misses: bool,
    /// What of it is missing.
    #[serde(flatten)]
    pub flaws: Flaws,
}

/// One of the figures, in the order of their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Figure {
    /// [`Figures::hit_rate`]. The more, the better.
    HitRate,
    /// [`Figures::misses_per_step`]. The less, the better; as for the others.
    MissesPerStep,
    /// [`Figures::peak_live_bytes`].
    PeakLiveBytes,
    /// [`Figures::peak_reserved_bytes`].
    PeakReservedBytes,
}

/// How much a figure is, or may be.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Amount {
    /// So many bytes.
    Bytes(u64),
    /// So many of something.
    Count(u64),
    /// A part of a whole, from 0 to 1.
    Share(f64),
}

/// A recording does not tell a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Untold {
    /// Which.
    pub figure: Figure,
    why: &'static str,
}

impl Figure {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::HitRate, Self::MissesPerStep, Self::PeakLiveBytes, Self::PeakReservedBytes];

    /// What it is called in files.
    pub fn key(self) -> &'static str {
        match self {
            Self::HitRate => "hit_rate",
            Self::MissesPerStep => "misses_per_step",
            Self::PeakLiveBytes => "peak_live_bytes",
            Self::PeakReservedBytes => "peak_reserved_bytes",
        }
    }
}

/// What it is called in text.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::HitRate => "hit rate",
            Self::MissesPerStep => "misses a step",
            Self::PeakLiveBytes => "peak live",
            Self::PeakReservedBytes => "peak reserved",
        })
    }
}

/// With all digits, as two that differ have to look different.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Bytes(bytes) if bytes < 1024 => write!(f, "{bytes} bytes"),
            Self::Bytes(number) => write!(f, "{number} bytes ({})", bytes(number)),
            Self::Count(count) => write!(f, "{count}"),
            Self::Share(share) => write!(f, "{share}"),
        }
    }
}

impl fmt::Display for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it does not tell its {}: {}", self.figure, self.why)
    }
}

impl std::error::Error for Untold {}

impl Figures {
    /// A figure.
    ///
    /// # Errors
    /// [`Untold`] if the recording does not tell it, with the reason.
    pub fn get(&self, figure: Figure) -> Result<Amount, Untold> {
        let (amount, why) = match figure {
            Figure::PeakLiveBytes => (Some(Amount::Bytes(self.peak_live_bytes)), ""),
            Figure::PeakReservedBytes => (
                self.peak_reserved_bytes.map(Amount::Bytes),
                "nothing in it says what allocators took from below, or what they gave back was taken before it began",
            ),
            Figure::MissesPerStep => (
                self.misses_per_step.map(Amount::Count),
                if self.tells_misses { "it has no step after the first" } else { TELLS_NO_MISSES },
            ),
            Figure::HitRate => (
                self.hit_rate.map(Amount::Share),
                if self.tells_misses { "its steps request nothing" } else { TELLS_NO_MISSES },
            ),
        };
        amount.ok_or(Untold { figure, why })
    }

    /// Why they are not exact: a line for each reason, and none if they are.
    pub fn doubts(&self) -> Vec<String> {
        let Flaws { lost, ref damaged, is_cut, .. } = self.flaws;
        let lost = (lost > 0).then(|| format!("{lost} events are missing, as there was no room for them"));
        let cut = is_cut.then(|| "it ends in the midst of a block".to_owned());
        lost.into_iter().chain(cut).chain(damaged.iter().cloned()).collect()
    }
}

const TELLS_NO_MISSES: &str = "nothing in it tells misses from hits";

/// Reads a recording, once, and counts. What is damaged is left out, and told.
pub fn figures<R: Read + Seek>(recording: &mut Recording<R>) -> Figures {
    let mut told = Figures::default();
    let (mut live, mut reserved, mut steps) = (Live::default(), Reserved::default(), Steps::default());
    told.flaws = pass(recording, |_, event| {
        live.happen(&event.what, |_, _| ());
        reserved.happen(&event.what);
        steps.happen(&event.what);
        told.peak_live_bytes = told.peak_live_bytes.max(live.bytes());
        ControlFlow::Continue(())
    });
    told.peak_reserved_bytes = reserved.peak();
    let is_pool = |source: &u16| {
        let name = recording.name(Kind::Source, (*source).into());
        name.is_some_and(|name| name == b"pool" || name.starts_with(b"pool "))
    };
    // Where all were hits, it is the sources' names that tell.
    told.tells_misses = steps.has_miss || reserved.is_told || steps.sources.iter().any(is_pool);
    steps.end();
    (told.steps, told.hits, told.misses) = (steps.count, steps.requests - steps.misses, steps.misses);
    if told.tells_misses {
        told.misses_per_step = (steps.count > 1).then_some(steps.worst);
        told.hit_rate = (steps.requests > 0).then(|| told.hits as f64 / steps.requests as f64);
    }
    told
}

/// What sources hold from below.
#[derive(Debug, Default)]
struct Reserved {
    /// By source and address.
    taken: HashMap<(u16, u64), u64>,
    bytes: u64,
    peak: u64,
    is_told: bool,
    /// Something was given back that was taken before.
    is_partial: bool,
}

impl Reserved {
    fn happen(&mut self, what: &What) {
        match *what {
            What::Taken(block) => {
                let before = self.taken.insert((block.source, block.address), block.size).unwrap_or(0);
                self.bytes = self.bytes.saturating_sub(before).saturating_add(block.size);
                self.peak = self.peak.max(self.bytes);
                self.is_told = true;
            }
            What::Given(block) => {
                let before = self.taken.remove(&(block.source, block.address));
                self.bytes = self.bytes.saturating_sub(before.unwrap_or(0));
                self.is_partial |= before.is_none();
                self.is_told = true;
            }
            _ => {}
        }
    }

    fn peak(&self) -> Option<u64> {
        (self.is_told && !self.is_partial).then_some(self.peak)
    }
}

/// Requests and misses, by steps.
#[derive(Debug, Default)]
struct Steps {
    /// A step began, and whatever was before is set-up.
    is_begun: bool,
    now: Step,
    count: u64,
    requests: u64,
    misses: u64,
    /// The most misses of a step after the first.
    worst: u64,
    has_miss: bool,
    /// Who was asked.
    sources: HashSet<u16>,
}

#[derive(Debug, Default)]
struct Step {
    /// It has one, if of no size.
    has_request: bool,
    requests: u64,
    misses: u64,
}

impl Steps {
    fn happen(&mut self, what: &What) {
        match *what {
            What::Request(block) => {
                self.now.has_request = true;
                self.request(&block);
            }
            What::Resize { from, to } if to.missed || from.address != to.address => self.request(&to),
            What::Step(_) => {
                let ended = std::mem::take(&mut self.now);
                if std::mem::replace(&mut self.is_begun, true) {
                    self.ended(&ended);
                }
            }
            _ => {}
        }
    }

    fn request(&mut self, block: &Block) {
        let counts = u64::from(block.size > 0);
        let misses = if block.missed { counts } else { 0 };
        self.now.requests += counts;
        self.now.misses += misses;
        self.has_miss |= misses > 0;
        self.sources.insert(block.source);
    }

    fn ended(&mut self, step: &Step) {
        if self.count > 0 {
            self.worst = self.worst.max(step.misses);
        }
        self.count += 1;
        self.requests += step.requests;
        self.misses += step.misses;
    }

    /// Nothing comes any more: the program takes itself down, or this is a step, too.
    fn end(&mut self) {
        let last = std::mem::take(&mut self.now);
        if last.has_request {
            self.ended(&last);
        }
    }
}
