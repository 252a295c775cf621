//! What a thread did, over time: slices of labels, instants of steps and refusals, and of many only those that can be seen.

use crate::export::labels::Nest;
use crate::recording::{Event, What};

/// The most slices and instants of a thread that are all kept.
const MOST: u64 = 100_000;

/// So many parts of a recording can be told from each other, where a thread has more.
const PARTS: u64 = 50_000;

/// Something to be seen of a thread, at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) tick: u64,
    pub(super) what: Mark,
}

/// What is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// The slice of a label begins.
    Begin(u64),
    /// The one that began last ends.
    End,
    Step(u64),
    /// A request of so many bytes.
    Refused(u64),
}

/// Whether something is to be seen of it.
pub(super) fn is_seen(what: &What) -> bool {
    matches!(what, What::Enter(_) | What::Step(_) | What::Refused(_))
}

/// Keeps slices that last for as long as a part, and those around them; and of instants, one of a kind in as long.
#[derive(Debug, Default)]
pub(super) struct Slices {
    /// How many ticks a part has; none if all are kept.
    part: Option<u64>,
    /// When each began, and whether that was kept.
    nest: Nest<(u64, bool)>,
    step: Option<u64>,
    refused: Option<u64>,
}

impl Slices {
    /// Of a thread that has so many slices and instants, in a recording of so many ticks.
    pub(super) fn new(count: u64, ticks: u64) -> Self {
        Self { part: (count > MOST).then(|| (ticks / PARTS).max(1)), ..Self::default() }
    }

    /// Something happens in the thread. What is kept comes behind what is there.
    pub(super) fn happen(&mut self, event: &Event, kept: &mut Vec<Seen>) {
        let tick = event.tick;
        match event.what {
            What::Enter(label) => {
                self.nest.enter(label, || (tick, false));
                if self.part.is_none() {
                    self.begin(kept);
                }
            }
            What::Leave(label) => {
                let left = self.nest.left(label);
                while self.nest.entered().len() > left {
                    let began = self.nest.entered().last().map_or(tick, |(_, (began, _))| *began);
                    if self.part.is_some_and(|part| tick - began >= part) {
                        self.begin(kept);
                    }
                    if let Some((_, (_, true))) = self.nest.entered().pop() {
                        kept.push(Seen { tick, what: Mark::End });
                    }
                }
            }
            What::Step(number) if is_apart(&mut self.step, tick, self.part) => {
                kept.push(Seen { tick, what: Mark::Step(number) });
            }
            What::Refused(block) if is_apart(&mut self.refused, tick, self.part) => {
                kept.push(Seen { tick, what: Mark::Refused(block.size) });
            }
            _ => {}
        }
    }

    /// Where all began of which that was not kept yet, the outermost first.
    pub(super) fn begin(&mut self, kept: &mut Vec<Seen>) {
        for (label, (tick, is_kept)) in self.nest.entered() {
            if !*is_kept {
                *is_kept = true;
                kept.push(Seen { tick: *tick, what: Mark::Begin(*label) });
            }
        }
    }
}

/// Whether the last instant that was kept is a part or more ago. Then this one is the last.
fn is_apart(last: &mut Option<u64>, tick: u64, part: Option<u64>) -> bool {
    let is_apart = last.zip(part).is_none_or(|(last, part)| tick - last >= part);
    if is_apart {
        *last = Some(tick);
    }
    is_apart
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(count: u64, ticks: u64, events: &[(u64, What)]) -> Vec<(u64, Mark)> {
        let (mut slices, mut all) = (Slices::new(count, ticks), Vec::<Seen>::new());
        for &(tick, what) in events {
            let event = Event { thread: 0, number: 0, tick, passed: None, stack: None, what };
            slices.happen(&event, &mut all);
        }
        slices.begin(&mut all);
        all.into_iter().map(|seen| (seen.tick, seen.what)).collect()
    }

    #[test]
    fn of_many_slices_the_long_ones_are_kept_with_those_around_them() {
        use Mark::{Begin, End};
        use What::{Enter, Leave};
        let events = [
            (0, Enter(1)),
            (10, Enter(2)),
            (10, What::Step(1)),
            (11, What::Step(2)),
            (11, Leave(2)),
            (12, Enter(3)),
            (20, Leave(3)),
            (21, What::Step(3)),
            (30, Enter(4)),
        ];
        let all = [(0, Begin(1)), (10, Begin(2)), (10, Mark::Step(1)), (11, Mark::Step(2)), (11, End)];
        let rest = [(12, Begin(3)), (20, End), (21, Mark::Step(3)), (30, Begin(4))];
        assert_eq!(seen(MOST, 250_000, &events), [&all[..], &rest].concat());
        let few = [(10, Mark::Step(1)), (0, Begin(1)), (12, Begin(3)), (20, End), (21, Mark::Step(3)), (30, Begin(4))];
        assert_eq!(seen(MOST + 1, 250_000, &events), few);
        // What is left leaves what is within.
        assert_eq!(seen(3, 9, &[(1, Enter(1)), (2, Enter(2)), (3, Leave(1))])[2..], [(3, End), (3, End)]);
        assert_eq!(seen(3, 9, &[(1, Leave(1))]), []);
    }
}
