//! What happens in a step, as long as it is not known to go as planned.

use std::alloc::Layout;
use std::collections::HashMap;

use tenzor_plan::{Action, ELSEWHERE, StepPlan};
use tenzor_trace::Event;

use super::script::{END, FREE, Script};
use super::tuning::REQUESTS_AHEAD;

/// What happens in a step.
#[derive(Default)]
pub(super) struct Recording {
    pub(super) actions: Vec<Action>,
    pub(super) requests: u32,
    /// The request that each live buffer came from, by its address, or whatever else tells it apart.
    pub(super) of: HashMap<usize, u32>,
    /// What the first of the plans would do next, to be served from the block where that is possible.
    pub(super) hint: usize,
    /// Too long to be planned.
    pub(super) overflown: bool,
}

impl Recording {
    pub(super) fn requested(&mut self, buffer: usize, layout: Layout) {
        self.push(Action::Request { size: layout.size(), align: layout.align() });
        if !self.overflown {
            self.of.insert(buffer, self.requests);
            self.requests += 1;
        }
    }

    pub(super) fn freed(&mut self, buffer: usize) {
        // What was requested before the step is not part of it.
        if let Some(request) = self.of.remove(&buffer) {
            self.push(Action::Free { request });
        }
    }

    pub(super) fn push(&mut self, action: Action) {
        self.overflown |= self.actions.len() >= StepPlan::MAX_ACTIONS || self.actions.try_reserve(1).is_err();
        if !self.overflown {
            self.actions.push(action);
        }
    }

    /// Where the plan has a buffer of this layout, among those that should come soon.
    pub(super) fn place(&mut self, script: &Script, layout: Layout) -> Option<usize> {
        let moves = script.moves.get(self.hint..)?;
        let requests = moves.iter().enumerate().filter(|(_, planned)| planned.size != FREE && planned.size != END);
        let (ahead, planned) = requests
            .take(REQUESTS_AHEAD)
            .find(|(_, planned)| planned.size == layout.size() && planned.align == layout.align())?;
        self.hint += ahead + 1;
        Some(planned.offset).filter(|&offset| offset != ELSEWHERE)
    }
}

/// What the events of a step come to here, where a resize is a request and a free.
pub(super) fn actions(step: &[Event]) -> Vec<Action> {
    let mut recording = Recording::default();
    for event in step {
        match *event {
            Event::Allocate { slot, layout, .. } if layout.size() > 0 => recording.requested(slot as usize, layout),
            Event::Resize { slot, layout } => {
                let old = recording.of.remove(&(slot as usize));
                if layout.size() > 0 {
                    recording.requested(slot as usize, layout);
                }
                old.into_iter().for_each(|request| recording.push(Action::Free { request }));
            }
            Event::Free { slot } => recording.freed(slot as usize),
            _ => {}
        }
    }
    if recording.overflown { Vec::new() } else { recording.actions }
}
