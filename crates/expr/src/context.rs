//! Where an evaluation takes memory from, and who keeps its books.
//!
//! The same code evaluates an expression and explains it: to explain, blocks have no memory, nothing is written to them, and a
//! [`Ledger`] notes what would have happened. So the explanation cannot differ from what happens.
//!
//! Unsafe code says that a buffer was initialised, as who fills it promised.
#![allow(unsafe_code)]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::rc::Rc;

use tenzor_memory::{Allocator, Buffer};

use crate::block::{Block, Output, Planned, State, Taken};
use crate::error::EvalError;
use crate::item::Item;
use crate::ledger::Ledger;
use crate::shape::{Shape, Strides};
use crate::simd::Mode;
use crate::slots::uninit;

/// What an evaluation works with.
#[expect(missing_debug_implementations, reason = "nobody else sees one")]
pub struct Context<'c> {
    alloc: &'c dyn Allocator,
    pub(crate) mode: Mode,
    ledger: Option<Rc<RefCell<Ledger>>>,
    /// Where the result is wanted, if anywhere.
    output: Option<Output<'c>>,
    /// The tensor that is updated, and the number by which its values are called.
    current: Option<(Output<'c>, u64)>,
    /// The stack that the boxes around what is prepared take while their values are read.
    pub(crate) boxes: Cell<usize>,
    /// While nothing is computed, but looked for what is nested deep: what was found.
    found: RefCell<Option<Vec<&'c dyn Deep<'c>>>>,
    /// Blocks that were made before their readers, each with its maker's address.
    kept: RefCell<Vec<(usize, Box<dyn Any>)>>,
    /// Why there is no result. Nothing is computed any more then.
    failure: RefCell<Option<EvalError>>,
}

/// An expression so deep within another one that its values are put into memory, before the other one is prepared.
pub(crate) trait Deep<'c> {
    /// Prepares what it is made of, so that it is [found](Context::found) what of that is deep.
    fn look(&'c self, context: &'c Context<'c>);
    /// Puts its values into memory, to be [kept](Context::keep).
    fn keep(&'c self, context: &'c Context<'c>);
}

/// Whether an output was to be had; see [`Context::withhold`].
#[must_use]
pub(crate) struct Withheld(bool);

impl<'c> Context<'c> {
    pub(crate) fn new(alloc: &'c dyn Allocator, mode: Mode) -> Self {
        Self {
            alloc,
            mode,
            ledger: None,
            output: None,
            current: None,
            boxes: Cell::new(0),
            found: RefCell::new(None),
            kept: RefCell::new(Vec::new()),
            failure: RefCell::new(None),
        }
    }

    /// One that only notes what would be done.
    pub(crate) fn planning(alloc: &'c dyn Allocator, ledger: Rc<RefCell<Ledger>>) -> Self {
        Self { ledger: Some(ledger), ..Self::new(alloc, Mode::sequential()) }
    }

    /// With a place for the result.
    pub(crate) fn into(self, output: Output<'c>) -> Self {
        Self { output: Some(output), ..self }
    }

    /// With a tensor that is updated.
    pub(crate) fn updating(self, current: Output<'c>, number: u64) -> Self {
        Self { current: Some((current, number)), ..self }
    }

    /// The values of the tensor that is updated, if that is its number.
    pub(crate) fn current<T: Item>(&self, number: u64) -> &[T] {
        let current = self.current.as_ref().filter(|(_, own)| *own == number);
        let values = current.and_then(|(memory, _)| memory.values());
        values.unwrap_or_else(|| {
            self.fail(EvalError::NotCurrent);
            &[]
        })
    }

    /// The memory of that tensor.
    ///
    /// # Safety
    /// Nobody reads it any more.
    #[expect(clippy::mut_from_ref, reason = "that nobody has another reference is the caller's word")]
    pub(crate) unsafe fn current_mut<T: Item>(&self) -> Option<&mut [T]> {
        // SAFETY: the caller's word.
        self.current.as_ref().and_then(|(memory, _)| unsafe { memory.values_mut() })
    }

    /// Ends the evaluation; of several reasons the first is told.
    pub(crate) fn fail(&self, error: EvalError) {
        self.failure.borrow_mut().get_or_insert(error);
    }

    /// Whether nothing is computed.
    pub(crate) fn is_planning(&self) -> bool {
        self.ledger.is_some()
    }

    /// What formulas call elements in memory, for explanations.
    pub(crate) fn name_of<T: Item>(&self, elements: *const T, shape: &Shape, strides: &Strides) -> Option<Box<str>> {
        let ledger = self.ledger.as_ref()?;
        Some(ledger.borrow_mut().terms.name_of(elements, shape, strides).into())
    }

    /// Whether something deep was looked for, and is found now.
    pub(crate) fn finds(&self, deep: &'c dyn Deep<'c>) -> bool {
        self.found.borrow_mut().as_mut().map(|found| found.push(deep)).is_some()
    }

    /// What is deep within something, of which nothing is computed.
    pub(crate) fn within(&'c self, outer: &'c dyn Deep<'c>) -> Vec<&'c dyn Deep<'c>> {
        self.found.replace(Some(Vec::new()));
        outer.look(self);
        self.found.take().unwrap_or_default()
    }

    /// Keeps a block for who will read it.
    pub(crate) fn keep<T: Item>(&self, maker: usize, block: Block<'_, T>) {
        self.kept.borrow_mut().push((maker, Box::new(block.take())));
    }

    /// The block that was kept.
    pub(crate) fn kept<T: Item>(&self, maker: usize) -> Option<Block<'_, T>> {
        let mut kept = self.kept.borrow_mut();
        let place = kept.iter().rposition(|(own, _)| *own == maker)?;
        let block = kept.swap_remove(place).1.downcast::<Taken<T>>().ok()?;
        Some(self.block(*block))
    }

    /// Drops all blocks that are still kept, which may be lent the output here.
    pub(crate) fn forget(&self) {
        drop(self.kept.take());
    }

    /// Whether nothing is computed or noted, as something failed, or is only looked for.
    fn is_idle(&self) -> bool {
        self.failure.borrow().is_some() || self.found.borrow().is_some()
    }

    /// Whether everything was computed so far.
    pub(crate) fn check(&self) -> Result<(), EvalError> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Keeps the output from the blocks that are produced now, until it is [offered](Self::offer) again: they are no part of the result.
    pub(crate) fn withhold(&self) -> Withheld {
        let state = self.output.as_ref().map(Output::state);
        let was_free = state.is_some_and(|state| state.get() == State::Free);
        if let Some(state) = state.filter(|_| was_free) {
            state.set(State::Withheld);
        }
        Withheld(was_free)
    }

    /// Ends a withholding.
    pub(crate) fn offer(&self, Withheld(was_free): Withheld) {
        if let Some(output) = self.output.as_ref().filter(|_| was_free) {
            output.state().set(State::Free);
        }
    }

    /// Offers the output to the next block of its size, unless somebody has it.
    pub(crate) fn reclaim(&self) -> bool {
        let state = self.output.as_ref().map(Output::state);
        let is_there = state.is_some_and(|state| state.get() != State::Lent);
        if let Some(state) = state.filter(|_| is_there) {
            state.set(State::Free);
        }
        is_there
    }

    /// A new block, which `write` fills.
    ///
    /// # Safety
    /// `write` writes to every slot.
    pub(crate) unsafe fn produce<T: Item>(
        &self,
        shape: &Shape,
        text: impl FnOnce() -> String,
        write: impl FnOnce(&mut [MaybeUninit<T>]),
    ) -> Block<'_, T> {
        if self.is_idle() {
            return Block::Missing;
        }
        let loan = self.output.as_ref().and_then(|output| Some((output, output.lend::<T>(shape.elements())?)));
        if let Some(ledger) = &self.ledger {
            let planned = Planned::new::<T>(ledger, text(), shape, loan.is_some());
            return Block::Planned(planned, loan.map(|(_, loan)| loan));
        }
        if let Some((output, loan)) = loan {
            // SAFETY: it was lent for these.
            let mut block = unsafe { output.block::<T>(loan) };
            if let Block::Lent(elements, _) = &mut block {
                write(uninit(elements));
            }
            return block;
        }
        match Buffer::<T, _>::uninit_in(shape.elements(), self.alloc) {
            Ok(mut buffer) => {
                write(&mut buffer);
                // SAFETY: all slots were written, the caller says.
                Block::Live(unsafe { buffer.assume_init() })
            }
            Err(error) => {
                self.fail(error.into());
                Block::Missing
            }
        }
    }

    /// A block that was taken over.
    pub(crate) fn block<T: Item>(&self, Taken(block): Taken<T>) -> Block<'_, T> {
        block
    }

    /// Writes to a block that was taken over.
    pub(crate) fn reuse<'e, T: Item>(
        &self,
        mut block: Block<'e, T>,
        shape: &Shape,
        text: impl FnOnce() -> String,
        write: impl FnOnce(&mut [T]),
    ) -> Block<'e, T> {
        if self.is_idle() {
            return Block::Missing;
        }
        match &mut block {
            Block::Live(buffer) => write(buffer),
            Block::Lent(elements, _) => write(elements),
            Block::Planned(planned, _) => planned.rewrite::<T>(text(), shape),
            Block::Missing => {}
        }
        block
    }
}
