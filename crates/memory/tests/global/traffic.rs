//! Threads that allocate, resize and free, and leave blocks for each other.
#![allow(dead_code)]

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::block::{Block, any_layout};

/// Where threads leave blocks for each other.
pub(crate) struct Exchange([AtomicPtr<Block>; 64]);

impl Exchange {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicPtr::new(ptr::null_mut()) }; 64])
    }

    /// Leaves a block at a place, or nothing, and takes what was there.
    fn swap(&self, place: usize, block: Option<Block>) -> Option<Block> {
        let left = block.map_or(ptr::null_mut(), |block| Box::into_raw(Box::new(block)));
        let found = self.0[place].swap(left, Ordering::AcqRel);
        // SAFETY: whoever left it there made it from a box, and the swap took it away.
        (!found.is_null()).then(|| *unsafe { Box::from_raw(found) })
    }

    /// Frees what nobody took.
    pub(crate) fn clear(&self) {
        (0..self.0.len()).for_each(|place| drop(self.swap(place, None)));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What one thread does, with blocks up to a size.
pub(crate) fn work(seed: u64, operations: usize, largest: usize, exchange: &Exchange) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut own: Vec<Block> = Vec::new();
    for number in 0..operations as u64 {
        let block = match own.len() {
            0..8 => None,
            len => Some(own.swap_remove(rng.usize(0..len))),
        };
        match (rng.u32(0..8), block) {
            (0..3, block) => own.extend(exchange.swap(rng.usize(0..64), block)),
            (3, Some(mut block)) => {
                block.resize(new_size(&mut rng, block.size(), largest));
                own.push(block);
            }
            (_, block) => {
                drop(block);
                let (layout, stamp) = (any_layout(&mut rng, largest), number << 16 | seed);
                own.push(if rng.u32(0..4) == 0 { Block::zeroed(layout, stamp) } else { Block::new(layout, stamp) });
            }
        }
    }
}

/// A little more or less, or something else altogether.
pub(crate) fn new_size(rng: &mut fastrand::Rng, old: usize, largest: usize) -> usize {
    match rng.u32(0..4) {
        0 => old + rng.usize(1..=64),
        1 => old.saturating_sub(rng.usize(1..=64)).max(1),
        2 => rng.usize(1..=2 * old),
        _ => any_layout(rng, largest).size(),
    }
}
