//! The instants at which most is live.

use std::io::{Read, Seek};
use std::ops::ControlFlow;
use std::time::Duration;

use serde::Serialize;
use tenzor_trace::recording::{Recording, What};

use crate::live::Live;
use crate::pass::{Flaws, pass};

/// An instant, and how much was live.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Instant {
    /// The requested bytes of the blocks in use.
    pub bytes: u64,
    /// How many blocks that are.
    pub blocks: u64,
    /// When it was.
    pub seconds: f64,
    /// In which step, counted from 1 over all threads; 0 is before the first.
    pub step: u32,
    /// After which event it was, counted from 0 in the order of the recording.
    pub event: u64,
}

/// The instants at which most is live, and how often steps began.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) peak: Option<Instant>,
    pub(crate) second: Option<Instant>,
    pub(crate) steps: u32,
    pub(crate) flaws: Flaws,
}

/// Looks for the highest instant, and the highest that is separate from it.
#[derive(Debug, Default)]
struct Highest {
    /// What was live when the first step began.
    base: u64,
    peak: Option<Instant>,
    /// The least that was live since.
    least: u64,
    second: Option<Instant>,
}

impl Highest {
    /// Whether so much is separate from the peak by what was live since.
    fn is_separate(&self, bytes: u64) -> bool {
        // All of it if the first step began with more.
        let above = bytes.checked_sub(self.base).filter(|above| *above > 0).unwrap_or(bytes);
        self.least <= bytes - above.div_ceil(10)
    }

    /// What was the highest is the second once there is a higher one, if it is separate. Otherwise the second before stays: it comes before what was the highest, or that
    /// would be separate. So one look at each instant is enough.
    fn see(&mut self, now: Instant) {
        self.least = self.least.min(now.bytes);
        let second = self.second.map_or(0, |second| second.bytes);
        let peak = self.peak.unwrap_or_default();
        if now.bytes > peak.bytes {
            if peak.bytes > 0 && self.is_separate(peak.bytes) {
                self.second = self.peak;
            }
            (self.peak, self.least) = (Some(now), now.bytes);
        } else if now.bytes > second && self.is_separate(now.bytes) {
            self.second = Some(now);
        }
    }
}

/// Looks for the peak, the first if there are several, and for the highest instant that is separate from it: in between, live fell by a tenth or more of what the lower one
/// is above what was live when the first step began (above nothing, if both are before that, or it is less). One reading; memory for the blocks in use.
pub(crate) fn find<R: Read + Seek>(recording: &mut Recording<R>) -> Found {
    let tick = recording.header().tick;
    let (mut live, mut highest, mut steps) = (Live::default(), Highest::default(), 0_u32);
    let flaws = pass(recording, |event, happened| {
        live.happen(&happened.what, |_, _| ());
        match happened.what {
            What::Step(_) => {
                steps = steps.saturating_add(1);
                if steps == 1 {
                    highest.base = live.bytes();
                }
            }
            What::Request(_) | What::Live(_) | What::Free(_) | What::Resize { .. } => highest.see(Instant {
                bytes: live.bytes(),
                blocks: live.len() as u64,
                seconds: Duration::from_nanos(happened.tick.saturating_mul(tick)).as_secs_f64(),
                step: steps,
                event,
            }),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    Found { peak: highest.peak, second: highest.second, steps, flaws }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(event: u64, bytes: u64) -> Instant {
        Instant { bytes, event, ..Instant::default() }
    }

    /// Each pair of instants.
    fn naive(lives: &[u64], first_step: usize) -> Option<(u64, u64)> {
        let most = *lives.iter().max()?;
        let peak = lives.iter().position(|bytes| *bytes == most)?;
        let base = lives.get(first_step.wrapping_sub(1)).copied().unwrap_or(0);
        let is_separate = |at: usize| {
            let (from, to) = (at.min(peak), at.max(peak));
            let base = if to >= first_step { base } else { 0 };
            let above = if lives[at] > base { lives[at] - base } else { lives[at] };
            lives[from..=to].iter().min().is_some_and(|least| *least <= lives[at] - above.div_ceil(10))
        };
        let others = (0..lives.len()).filter(|at| lives[*at] > 0 && *at != peak && is_separate(*at));
        let best = others.map(|at| (lives[at], u64::MAX - at as u64)).max()?;
        Some((best.0, u64::MAX - best.1))
    }

    #[test]
    fn one_look_finds_what_all_pairs_tell() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut below = |bound| random.u64(..bound);
        for _ in 0..20_000 {
            let (length, bound) = (below(30), [3, 30, 1000][below(3) as usize]);
            let lives: Vec<u64> = (0..length).map(|_| below(bound)).collect();
            let first_step = below(40) as usize;
            let mut highest = Highest::default();
            for (event, bytes) in (0..).zip(&lives) {
                if event as usize == first_step {
                    highest.base = lives.get(first_step.wrapping_sub(1)).copied().unwrap_or(0);
                }
                highest.see(at(event, *bytes));
            }
            let found = highest.second.map(|second| (second.bytes, second.event));
            let expected = naive(&lives, first_step);
            // Of several that are as high, any will do.
            assert_eq!(
                found.map(|second| second.0),
                expected.map(|second| second.0),
                "{lives:?} {first_step} {found:?} {expected:?}"
            );
            assert_eq!(highest.peak.map_or(0, |peak| peak.bytes), lives.iter().copied().max().unwrap_or(0));
        }
    }
}
