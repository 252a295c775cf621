//! Blocks in use, as another recorder tells of them.

use std::collections::HashMap;

use crate::recording::format::{Block, Record};

/// Blocks in use, by their addresses.
#[derive(Debug, Default)]
pub(super) struct Live(HashMap<u64, Block>);

impl Live {
    /// A block comes. The free of the one that was there, if there was one: nobody told of it, and no two are at one address.
    pub(super) fn come(&mut self, block: Block) -> Option<Record> {
        self.0.insert(block.address, block).map(Record::Free)
    }

    /// The block at an address goes; `None` if none is known to be there.
    pub(super) fn go(&mut self, address: u64) -> Option<Record> {
        self.0.remove(&address).map(Record::Free)
    }
}
