//! Whether the steps of a trace leave things as they found them, so that they can be replayed again for steadier medians.

use std::alloc::Layout;
use std::collections::HashMap;

use tenzor::trace::{Event, Trace};

/// A live buffer: the place of its request, which tells it apart from a later one in the same slot, and its layout.
type Buffer = (usize, Layout);

/// The moves between slots after which the buffers that the steps leave stand where the steps expect those they began with.
///
/// Each step may free a buffer of the step before it and leave one for the next. In the trace these have different slots; once
/// all steps are over, the one left takes the place of the first. `None` if their layouts do not match in this way.
pub(crate) fn moves(trace: &Trace) -> Option<Vec<(u32, u32)>> {
    let mut live = Live::default();
    live.play(trace.setup());
    let before = live.buffers.clone();
    trace.steps().for_each(|step| live.play(step));
    let (gone, left) = (only(&before, &live.buffers), only(&live.buffers, &before));
    let pairs = || left.iter().zip(&gone);
    let matching = left.len() == gone.len() && pairs().all(|(left, gone)| left.1 == gone.1);
    matching.then(|| pairs().map(|(left, gone)| (left.0, gone.0)).collect())
}

#[derive(Default)]
struct Live {
    buffers: HashMap<u32, Buffer>,
    place: usize,
}

impl Live {
    fn play(&mut self, events: &[Event]) {
        for &event in events {
            self.place += 1;
            match event {
                Event::Allocate { slot, layout, .. } => {
                    self.buffers.insert(slot, (self.place, layout));
                }
                Event::Resize { slot, layout } => {
                    self.buffers.entry(slot).and_modify(|buffer| buffer.1 = layout);
                }
                Event::Free { slot } => {
                    self.buffers.remove(&slot);
                }
                _ => {}
            }
        }
    }
}

/// Slots and layouts of the buffers that are among `these` but not among `those`, ordered by layout.
fn only(these: &HashMap<u32, Buffer>, those: &HashMap<u32, Buffer>) -> Vec<(u32, Layout)> {
    let mut only: Vec<_> = these
        .iter()
        .filter(|&(slot, buffer)| those.get(slot) != Some(buffer))
        .map(|(&slot, &(_, layout))| (slot, layout))
        .collect();
    only.sort_by_key(|&(slot, layout)| (layout.size(), layout.align(), slot));
    only
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenzor::trace::HEADER;

    fn moves_of(lines: &str) -> Option<Vec<(u32, u32)>> {
        moves(&Trace::parse(format!("{HEADER}\n{lines}").as_bytes()).unwrap())
    }

    #[test]
    fn a_buffer_handed_on_from_step_to_step_moves_back() {
        let lines = "a,1,8,8,0,0\na,2,9,8,0,0\nm,1,0,0,0,0\na,3,9,8,0,0\nf,2,0,0,0,0\nm,2,0,0,0,0\n";
        assert_eq!(moves_of(lines), Some(vec![(2, 1)]));
    }

    #[test]
    fn steps_that_leave_nothing_need_no_moves() {
        let lines = "a,1,8,8,0,0\nm,1,0,0,0,0\na,3,9,8,0,0\nf,3,0,0,0,0\nm,2,0,0,0,0\n";
        assert_eq!(moves_of(lines), Some(vec![]));
    }

    #[test]
    fn steps_that_change_what_is_live_do_not_repeat() {
        assert_eq!(moves_of("m,1,0,0,0,0\na,3,9,8,0,0\nm,2,0,0,0,0\n"), None);
        assert_eq!(moves_of("a,1,8,8,0,0\nm,1,0,0,0,0\nr,1,9,0,0,0\nm,2,0,0,0,0\n"), None);
    }
}
