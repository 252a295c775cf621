//! The blocks in use at an instant.

use std::collections::HashMap;

use tenzor_trace::recording::What;
use tenzor_trace::recording::format::Block;

/// The blocks in use, by address, with what is known of each, and their bytes in sum. Constant time an event, and memory for each block in use.
#[derive(Debug, Clone)]
pub struct Live<T = ()> {
    blocks: HashMap<u64, (Block, T)>,
    bytes: u64,
}

impl<T> Default for Live<T> {
    fn default() -> Self {
        Self { blocks: HashMap::new(), bytes: 0 }
    }
}

impl<T> Live<T> {
    /// What happened changes what is in use. `known` is told of a block that comes, with what was known of it where it lay before.
    pub fn happen(&mut self, what: &What, known: impl FnOnce(&Block, Option<T>) -> T) {
        self.exchange(what, known, |_, _| ());
    }

    /// The same, and `gone` is told of each block that goes, with what was known of it.
    pub fn exchange(
        &mut self,
        what: &What,
        known: impl FnOnce(&Block, Option<T>) -> T,
        mut gone: impl FnMut(&Block, &T),
    ) {
        let (block, before) = match *what {
            What::Request(block) | What::Live(block) => (block, None),
            What::Resize { from, to } => (to, self.go(from, &mut gone)),
            What::Free(block) => {
                self.go(block, gone);
                return;
            }
            _ => return,
        };
        // Its free was lost.
        self.go(block, gone);
        let known = known(&block, before);
        self.blocks.insert(block.address, (block, known));
        self.bytes = self.bytes.saturating_add(block.size);
    }

    fn go(&mut self, block: Block, mut gone: impl FnMut(&Block, &T)) -> Option<T> {
        let (block, known) = self.blocks.remove(&block.address)?;
        gone(&block, &known);
        self.bytes = self.bytes.saturating_sub(block.size);
        Some(known)
    }

    /// The bytes in use, as they were requested.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many blocks are in use.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The blocks in use, in no order, with what is known of each.
    pub fn blocks(&self) -> impl Iterator<Item = (&Block, &T)> {
        self.blocks.values().map(|(block, known)| (block, known))
    }
}
