//! Where an evaluation takes memory from, and who keeps its books.
//!
//! The same code evaluates an expression and explains it: to explain, blocks have no memory, nothing is written to them, and a
//! [`Ledger`] notes what would have happened. So the explanation cannot differ from what happens.

use std::cell::RefCell;
use std::rc::Rc;

use tenzor_memory::{Allocator, Buffer, Slots};

use crate::block::{Block, Planned};
use crate::error::EvalError;
use crate::item::Item;
use crate::ledger::Ledger;
use crate::shape::Shape;
use crate::simd::Mode;

/// What an evaluation works with.
#[expect(missing_debug_implementations, reason = "nobody else sees one")]
pub struct Context<'c> {
    alloc: &'c dyn Allocator,
    pub(crate) mode: Mode,
    ledger: Option<Rc<RefCell<Ledger>>>,
    /// Why there is no result. Nothing is computed any more then.
    failure: RefCell<Option<EvalError>>,
}

impl<'c> Context<'c> {
    /// Whether nothing is computed.
    pub(crate) fn is_planning(&self) -> bool {
        self.ledger.is_some()
    }

    /// Whether everything was computed so far.
    pub(crate) fn check(&self) -> Result<(), EvalError> {
        self.failure.take().map_or(Ok(()), Err)
    }

    pub(crate) fn new(alloc: &'c dyn Allocator, mode: Mode) -> Self {
        Self { alloc, mode, ledger: None, failure: RefCell::new(None) }
    }

    /// One that only notes what would be done.
    pub(crate) fn planning(alloc: &'c dyn Allocator, ledger: Rc<RefCell<Ledger>>) -> Self {
        Self { alloc, mode: Mode::sequential(), ledger: Some(ledger), failure: RefCell::new(None) }
    }

    /// A new block, which `write` fills.
    pub(crate) fn produce<T: Item>(
        &self,
        shape: &Shape,
        text: impl FnOnce() -> String,
        write: impl FnOnce(Slots<'_, T>),
    ) -> Block<'c, T> {
        if self.failure.borrow().is_some() {
            return Block::Missing;
        }
        if let Some(ledger) = &self.ledger {
            return Block::Planned(Planned::new::<T>(ledger, text(), shape));
        }
        let error = match Buffer::<T, _>::uninit_in(shape.elements(), self.alloc) {
            Ok(buffer) => match buffer.init_parts(write) {
                Ok(buffer) => return Block::Live(buffer),
                Err(_) => EvalError::Unfinished,
            },
            Err(error) => error.into(),
        };
        *self.failure.borrow_mut() = Some(error);
        Block::Missing
    }

    /// Writes to a block that was taken over.
    pub(crate) fn reuse<T: Item>(
        &self,
        mut block: Block<'c, T>,
        shape: &Shape,
        text: impl FnOnce() -> String,
        write: impl FnOnce(&mut [T]),
    ) -> Block<'c, T> {
        if self.failure.borrow().is_some() {
            return Block::Missing;
        }
        match &mut block {
            Block::Live(buffer) => write(buffer),
            Block::Planned(planned) => planned.rewrite::<T>(text(), shape),
            Block::Missing => {}
        }
        block
    }
}
