//! How much of some blocks is used: the system is asked without the heap's lock.

use std::ptr::NonNull;

use super::PageHeap;
use crate::heap::classes::PAGE;
use crate::heap::filling::{Seen, Watched, look};
use crate::os::Os;

/// A look at watched blocks. Whoever has them by then, what is told of them harms nobody.
#[derive(Debug)]
pub(crate) struct Look<O> {
    os: O,
    /// Where pages are counted from.
    origin: NonNull<u8>,
    watched: Watched,
}

impl<O: Os> Look<O> {
    /// Asks.
    pub(crate) fn run(&self) -> Seen {
        look(&self.watched, |pages| {
            let start = self.origin.map_addr(|addr| addr.saturating_add(pages.start as usize * PAGE));
            let bytes = self.os.resident(start, pages.len() * PAGE)?;
            u32::try_from(bytes / PAGE).ok()
        })
    }
}

impl<O: Os> PageHeap<O> {
    /// The blocks to look at, if it is time to.
    pub(crate) fn look(&mut self) -> Option<Look<O>> {
        let watched = self.filling.due()?;
        Some(Look { os: self.space.os().clone(), origin: self.space.address(0), watched })
    }

    /// What was seen.
    pub(crate) fn saw(&mut self, look: &Look<O>, seen: Seen) {
        self.filling.judge(&look.watched, seen);
    }
}
