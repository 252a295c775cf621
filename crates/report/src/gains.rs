//! What the peak would be without one of those who hold it.

use std::io::{Read, Seek};
use std::ops::ControlFlow;

use tenzor_trace::recording::{Recording, What};

use crate::holders::Held;
use crate::labels::Labels;
use crate::live::Live;
use crate::pass::pass;

/// The most bytes that are live beside those of each of so many holders. One reading; memory for the blocks in use.
pub(crate) fn without<R: Read + Seek>(recording: &mut Recording<R>, held: &Held, holders: usize) -> Vec<u64> {
    let (mut live, mut labels) = (Live::default(), Labels::default());
    let (mut theirs, mut most) = (vec![0_u64; holders], vec![0_u64; holders]);
    pass(recording, |_, happened| {
        labels.happen(happened);
        let (path, stack) = match happened.what {
            What::Live(_) => (0, None),
            What::Request(_) | What::Resize { .. } => (labels.of(happened.thread), happened.stack),
            What::Free(_) => (0, None),
            _ => return ControlFlow::Continue(()),
        };
        let stack = stack.and_then(|stack| u32::try_from(stack).ok());
        let (mut gone, mut come) = ([None; 2], None);
        live.exchange(
            &happened.what,
            |block, _| {
                let holder = held.of(block, path, stack);
                come = holder.map(|holder| (holder, block.size));
                holder
            },
            |block, holder: &Option<usize>| {
                let free = gone.iter_mut().find(|gone| gone.is_none());
                if let (Some(gone), Some(holder)) = (free, *holder) {
                    *gone = Some((holder, block.size));
                }
            },
        );
        for (holder, size) in gone.into_iter().flatten() {
            theirs[holder] = theirs[holder].saturating_sub(size);
        }
        if let Some((holder, size)) = come {
            theirs[holder] = theirs[holder].saturating_add(size);
        }
        for (most, theirs) in most.iter_mut().zip(&theirs) {
            *most = (*most).max(live.bytes().saturating_sub(*theirs));
        }
        ControlFlow::Continue(())
    });
    most
}
