//! The buffers of recorded events, as a problem.

use std::alloc::Layout;
use std::collections::HashMap;
use std::mem;

use tenzor_trace::{Event, Trace};

use super::problem::{BufferSpec, Problem, ProblemError};

impl Problem {
    /// The buffers of some events of a trace, each event an instant. A resize keeps the place of its buffer.
    ///
    /// Buffers that were requested before the first of the events are not among them, and those that are not freed by the last are alive to the end.
    /// A request for a slot that is taken, as no [`Trace`] has it, ends the buffer there.
    ///
    /// # Errors
    /// [`ProblemError`] if their sizes are too much for one space.
    pub fn from_events(events: &[Event]) -> Result<Self, ProblemError> {
        let mut problem = Self::new();
        // Of each slot the buffer in it, the group of its resized forms, and since when it is as it is.
        let mut live = HashMap::new();
        let mut groups = 0;
        let end = |problem: &mut Self, (layout, alias, start): (Layout, Option<u32>, u64), end: u64| {
            let spec = BufferSpec::new(layout.size() as u64, start..end).with_alignment(layout.align() as u64);
            problem.push(BufferSpec { alias, ..spec }).map(drop)
        };
        for (time, event) in (0_u64..).zip(events) {
            match *event {
                Event::Allocate { slot, layout, .. } => {
                    if let Some(old) = live.insert(slot, (layout, None, time)) {
                        end(&mut problem, old, time)?;
                    }
                }
                Event::Resize { slot, layout } => {
                    if let Some(old) = live.get_mut(&slot) {
                        if old.1.is_none() {
                            old.1 = Some(groups);
                            groups += 1;
                        }
                        let alias = old.1;
                        end(&mut problem, mem::replace(old, (layout, alias, time)), time)?;
                    }
                }
                Event::Free { slot } => {
                    if let Some(old) = live.remove(&slot) {
                        end(&mut problem, old, time)?;
                    }
                }
                // A mark, or what says nothing of memory.
                _ => {}
            }
        }
        let mut rest: Vec<_> = live.into_iter().collect();
        rest.sort_unstable_by_key(|&(slot, _)| slot);
        for (_, old) in rest {
            end(&mut problem, old, events.len() as u64)?;
        }
        Ok(problem)
    }

    /// The buffers of a whole trace, as [`from_events`](Self::from_events).
    ///
    /// # Errors
    /// As [`from_events`](Self::from_events).
    pub fn from_trace(trace: &Trace) -> Result<Self, ProblemError> {
        Self::from_events(trace.events())
    }
}
