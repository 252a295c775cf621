//! The blocks in use.

use std::collections::HashMap;

use crate::recording::format::Block;

/// The blocks in use, by address: their sizes, and what is known of each. Their bytes in sum.
#[derive(Debug)]
pub(super) struct Live<T> {
    blocks: HashMap<u64, (u64, T)>,
    bytes: u64,
}

impl<T> Default for Live<T> {
    fn default() -> Self {
        Self { blocks: HashMap::new(), bytes: 0 }
    }
}

impl<T> Live<T> {
    /// A block comes into use. What was there before, as its free was lost, is not any more.
    pub(super) fn come(&mut self, block: &Block, known: T) -> Option<(u64, T)> {
        let before = self.go(block.address);
        self.blocks.insert(block.address, (block.size, known));
        self.bytes = self.bytes.saturating_add(block.size);
        before
    }

    /// What is at an address is not in use any more.
    pub(super) fn go(&mut self, address: u64) -> Option<(u64, T)> {
        let (size, known) = self.blocks.remove(&address)?;
        self.bytes = self.bytes.saturating_sub(size);
        Some((size, known))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = &(u64, T)> {
        self.blocks.values()
    }
}
