//! What is requested in the step of the peak, and what is held then.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek};
use std::ops::ControlFlow;

use serde::Serialize;
use tenzor_trace::recording::format::Block;
use tenzor_trace::recording::{Recording, What};

use crate::instants::{Instant, find};
use crate::labels::{Labels, Path};
use crate::live::Live;
use crate::names::Names;
use crate::pass::{Flaws, pass};

/// How many requests there were; a resize is one of the block's new size.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// All of them.
    pub requests: u64,
    /// What they requested.
    pub bytes: u64,
    /// Those for which no memory was taken from below.
    pub hits: u64,
    /// Those for which some was.
    pub misses: u64,
}

impl Counts {
    fn add(&mut self, block: &Block) {
        self.requests += 1;
        self.bytes = self.bytes.saturating_add(block.size);
        *if block.missed { &mut self.misses } else { &mut self.hits } += 1;
    }
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) size: u64,
    path: Path,
    pub(crate) missed: bool,
    /// Its block is live at the peak.
    pub(crate) is_held: bool,
}

/// Where requests are of one kind: under which labels, and whether they are of the step with the peak, or from before.
pub(crate) type Place = (String, bool);

/// The requests of the step with the peak, and those before it whose blocks are live at the peak.
#[derive(Debug)]
pub(crate) struct Requests {
    pub(crate) peak: Instant,
    pub(crate) steps: u32,
    pub(crate) all: Counts,
    pub(crate) in_step: Counts,
    /// Of each place, in the order of events.
    pub(crate) places: BTreeMap<Place, Vec<Request>>,
    pub(crate) flaws: Flaws,
}

/// What is known of a block in use: its request, by its number among those of the step; or where and when that was.
#[derive(Debug, Clone, Copy)]
enum Known {
    InStep(usize),
    Before(Path, u64),
}

impl Requests {
    /// Two readings; memory for the blocks in use, and for the requests of the step.
    pub(crate) fn new<R: Read + Seek>(recording: &mut Recording<R>) -> Self {
        let found = find(recording);
        let peak = found.peak.unwrap_or_default();
        let (mut all, mut in_step) = (Counts::default(), Counts::default());
        let (mut live, mut labels, mut steps) = (Live::default(), Labels::default(), 0_u32);
        let (mut requests, mut before): (Vec<Request>, Vec<(u64, Request)>) = (Vec::new(), Vec::new());
        pass(recording, |order, happened| {
            labels.happen(happened);
            let path = labels.of(happened.thread);
            let mut now = Known::Before(path, order);
            match happened.what {
                What::Step(_) => steps = steps.saturating_add(1),
                What::Live(_) => now = Known::Before(0, order),
                What::Request(block) | What::Resize { to: block, .. } => {
                    all.add(&block);
                    if steps == peak.step {
                        in_step.add(&block);
                        now = Known::InStep(requests.len());
                        requests.push(Request { size: block.size, path, missed: block.missed, is_held: false });
                    }
                }
                _ => {}
            }
            live.happen(&happened.what, |_, _| now);
            if found.peak.is_some_and(|peak| peak.event == order) {
                for (block, known) in live.blocks() {
                    match *known {
                        Known::InStep(request) => requests[request].is_held = true,
                        // Whether it missed was told in its own step.
                        Known::Before(path, order) => {
                            before.push((order, Request { size: block.size, path, missed: false, is_held: true }));
                        }
                    }
                }
            }
            ControlFlow::Continue(())
        });
        before.sort_by_key(|(order, _)| *order);
        let mut places = BTreeMap::new();
        let names = Names(recording);
        place(&names, &labels, requests.into_iter(), true, &mut places);
        place(&names, &labels, before.into_iter().map(|(_, request)| request), false, &mut places);
        Self { peak, steps: found.steps, all, in_step, places, flaws: found.flaws }
    }

    /// Those of a place.
    pub(crate) fn of(&self, place: &Place) -> &[Request] {
        self.places.get(place).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Puts requests where they belong.
fn place<R>(
    names: &Names<'_, R>,
    labels: &Labels,
    requests: impl Iterator<Item = Request>,
    is_in_step: bool,
    places: &mut BTreeMap<Place, Vec<Request>>,
) {
    // One name may be that of several numbers.
    let mut known: HashMap<Path, usize> = HashMap::new();
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let mut placed: Vec<Vec<Request>> = Vec::new();
    for request in requests {
        let at = *known.entry(request.path).or_insert_with(|| {
            let next = numbers.len();
            let at = *numbers.entry(names.path(labels, request.path)).or_insert(next);
            placed.resize_with(numbers.len(), Vec::new);
            at
        });
        placed[at].push(request);
    }
    places.extend(numbers.into_iter().map(|(name, at)| ((name, is_in_step), std::mem::take(&mut placed[at]))));
}
