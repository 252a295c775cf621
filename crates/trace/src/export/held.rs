//! Who holds what at the peak, and who requested how much in all.
//!
//! A recording is read twice: first until its end, for the peak; then up to the first event at which the most bytes are in use.

use std::collections::HashMap;
use std::io::{Read, Seek};

use super::labels::{Nest, Paths};
use super::live::Live;
use crate::recording::format::Block;
use crate::recording::{ConvertError, Event, Recording, What};

/// Who requests: what all requests that are summed up together have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Holder {
    pub(super) thread: u32,
    /// Its labels, among the [`Paths`].
    pub(super) path: usize,
    pub(super) stack: Option<u64>,
    /// The [class](class) of the size, where there is neither label nor stack.
    pub(super) class: Option<u32>,
}

/// What a holder has.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sums {
    /// At the peak.
    pub(super) inuse_objects: u64,
    pub(super) inuse_bytes: u64,
    /// In all.
    pub(super) alloc_objects: u64,
    pub(super) alloc_bytes: u64,
}

/// What is held, by whom.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) paths: Paths,
    /// In order.
    pub(super) holders: Vec<(Holder, Sums)>,
    /// When the last event came.
    pub(super) last: u64,
}

/// The number of a size's class, from one power of two to the next: 0 of no bytes, 1 of one.
pub(super) fn class(size: u64) -> u32 {
    size.checked_ilog2().map_or(0, |log| log + 1)
}

/// What is held at the peak.
///
/// # Errors
/// The first block that is damaged.
pub(super) fn at_peak<R: Read + Seek>(recording: &mut Recording<R>) -> Result<Held, ConvertError> {
    recording.first_damage().map_or(Ok(()), |damage| Err(ConvertError::Recording(damage)))?;
    let mut held = Held::default();
    let (mut numbers, mut watch) = (Numbers::default(), Watch::default());
    let (mut peak, mut until, mut events) = (0, 0_u64, 0_u64);
    for event in recording.events() {
        let event = event.map_err(ConvertError::Recording)?;
        events += 1;
        held.last = held.last.max(event.tick);
        if let Some((holder, size)) = watch.happen(&event, &mut held, &mut numbers)
            && let Some((_, sums)) = held.holders.get_mut(holder)
        {
            sums.alloc_objects = sums.alloc_objects.saturating_add(1);
            sums.alloc_bytes = sums.alloc_bytes.saturating_add(size);
        }
        if watch.live.bytes() > peak {
            (peak, until) = (watch.live.bytes(), events);
        }
    }
    watch = Watch::default();
    for (_, event) in (0..until).zip(recording.events()) {
        watch.happen(&event.map_err(ConvertError::Recording)?, &mut held, &mut numbers);
    }
    for &(size, holder) in watch.live.blocks() {
        if let Some((_, sums)) = held.holders.get_mut(holder) {
            sums.inuse_objects = sums.inuse_objects.saturating_add(1);
            sums.inuse_bytes = sums.inuse_bytes.saturating_add(size);
        }
    }
    held.holders.sort_by_key(|(holder, _)| *holder);
    Ok(held)
}

/// Where each holder is among those that are held.
type Numbers = HashMap<Holder, usize>;

/// The blocks in use, with their holders' numbers, and the labels of each thread.
#[derive(Debug, Default)]
struct Watch {
    live: Live<usize>,
    labels: HashMap<u32, Nest<usize>>,
}

impl Watch {
    /// An event happens. Whose request it is, if it is one, and for how many bytes.
    fn happen(&mut self, event: &Event, held: &mut Held, numbers: &mut Numbers) -> Option<(usize, u64)> {
        match event.what {
            What::Request(block) => return Some(self.come(event, &block, event.stack, held, numbers)),
            What::Live(block) => _ = self.come(event, &block, event.stack, held, numbers),
            What::Free(block) => _ = self.live.go(block.address),
            What::Resize { from, to } => {
                let before = self.live.go(from.address).and_then(|(_, holder)| held.holders.get(holder));
                let stack = event.stack.or_else(|| before.and_then(|(holder, _)| holder.stack));
                return Some(self.come(event, &to, stack, held, numbers));
            }
            What::Enter(label) => {
                let path = self.path(event.thread);
                let nest = self.labels.entry(event.thread).or_default();
                nest.enter(label, || held.paths.longer(path, label));
            }
            What::Leave(label) => {
                let nest = self.labels.entry(event.thread).or_default();
                let left = nest.left(label);
                nest.entered().truncate(left);
            }
            _ => {}
        }
        None
    }

    fn come(
        &mut self,
        event: &Event,
        block: &Block,
        stack: Option<u64>,
        held: &mut Held,
        numbers: &mut Numbers,
    ) -> (usize, u64) {
        let path = self.path(event.thread);
        let class = (path == Paths::NONE && stack.is_none()).then(|| class(block.size));
        let holder = Holder { thread: event.thread, path, stack, class };
        let number = *numbers.entry(holder).or_insert_with(|| {
            held.holders.push((holder, Sums::default()));
            held.holders.len() - 1
        });
        self.live.come(block, number);
        (number, block.size)
    }

    /// The labels that a thread is in.
    fn path(&mut self, thread: u32) -> usize {
        let nest = self.labels.entry(thread).or_default();
        nest.entered().last().map_or(Paths::NONE, |(_, path)| *path)
    }
}
