//! Memory that an evaluation materialises, or would.
//!
//! Unsafe code gives a buffer the allocator that it came from, which evaluations know by a reference only, and lends the memory of an output to
//! one block at a time.
#![allow(unsafe_code)]

use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::rc::Rc;
use std::slice;

use tenzor_memory::{Allocator, Buffer};

use crate::item::Item;
use crate::ledger::Ledger;
use crate::shape::Shape;

/// Materialised elements.
#[derive(Debug)]
pub(crate) enum Block<'e, T: Item> {
    /// Memory.
    Live(Buffer<T, &'e dyn Allocator>),
    /// That of the output, as long as it is lent.
    Lent(&'e mut [T], #[expect(dead_code, reason = "its end is what it is for")] Loan<'e>),
    /// None, for explanations.
    Planned(Planned, Option<Loan<'e>>),
    /// None, as something failed.
    Missing,
}

/// The memory of an output, which is lent to a block that may stand there.
#[derive(Debug)]
pub(crate) struct Output<'c> {
    ptr: NonNull<u8>,
    len: usize,
    element: TypeId,
    state: Cell<State>,
    borrowed: PhantomData<&'c mut [u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody has it.
    Free,
    /// Nobody has it, nor may have it: who asks now has a block that is no part of the result.
    Withheld,
    Lent,
}

/// The output is lent as long as this lives.
#[derive(Debug)]
pub(crate) struct Loan<'e>(&'e Cell<State>);

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        self.0.set(State::Withheld);
    }
}

impl<'c> Output<'c> {
    pub(crate) fn new<T: Item>(output: &'c mut [T]) -> Self {
        let len = output.len();
        Self {
            ptr: NonNull::from(output).cast(),
            len,
            element: TypeId::of::<T>(),
            state: Cell::new(State::Free),
            borrowed: PhantomData,
        }
    }

    /// One of so many elements, which is only thought of.
    pub(crate) fn imagined<T: Item>(len: usize) -> Self {
        Self { len, ..Self::new::<T>(&mut []) }
    }

    pub(crate) fn state(&self) -> &Cell<State> {
        &self.state
    }

    /// Its elements, if they are of this type.
    pub(crate) fn values<T: Item>(&self) -> Option<&[T]> {
        // SAFETY: the elements that were borrowed for 'c, of this type; only `values_mut` gives out others, whose caller says that these are gone.
        (self.element == TypeId::of::<T>())
            .then(|| unsafe { slice::from_raw_parts(self.ptr.cast().as_ptr(), self.len) })
    }

    /// As above, to be written to.
    ///
    /// # Safety
    /// Nobody has its elements any more.
    #[expect(clippy::mut_from_ref, reason = "that nobody has another reference is the caller's word")]
    pub(crate) unsafe fn values_mut<T: Item>(&self) -> Option<&mut [T]> {
        let is_of = self.element == TypeId::of::<T>();
        // SAFETY: the elements that were borrowed for 'c, of this type; and the caller's word.
        is_of.then(|| unsafe { slice::from_raw_parts_mut(self.ptr.cast().as_ptr(), self.len) })
    }

    /// Lends it, if it is there, and for just so many elements of this type.
    pub(crate) fn lend<T: Item>(&self, len: usize) -> Option<Loan<'_>> {
        let fits = self.len == len && self.element == TypeId::of::<T>();
        (fits && self.state.get() == State::Free).then(|| {
            self.state.set(State::Lent);
            Loan(&self.state)
        })
    }

    /// The memory itself, to who borrowed it.
    ///
    /// # Safety
    /// It is no imagined one, and was lent for elements of this type.
    pub(crate) unsafe fn block<'e, T: Item>(&'e self, loan: Loan<'e>) -> Block<'e, T> {
        // SAFETY: the elements that were borrowed for 'c, of this type; there is one loan at a time, and it dies with the block.
        Block::Lent(unsafe { slice::from_raw_parts_mut(self.ptr.cast().as_ptr(), self.len) }, loan)
    }
}

/// A block on its way from a leaf to who takes it over, without its lifetime: with one, the trait of sources had one as well, and the compiler took
/// exponential time for what expressions are made of.
#[derive(Debug)]
pub struct Taken<T: Item>(pub(crate) Block<'static, T>);

/// A block that is only thought of.
#[derive(Debug)]
pub(crate) struct Planned {
    id: usize,
    len: usize,
    bytes: usize,
    ledger: Rc<RefCell<Ledger>>,
}

impl Planned {
    /// One of elements of type `T`, in the output or not; `formula` says what is written to it.
    pub(crate) fn new<T: Item>(ledger: &Rc<RefCell<Ledger>>, formula: String, shape: &Shape, in_output: bool) -> Self {
        let len = shape.elements();
        let bytes = if in_output { 0 } else { len * size_of::<T>() };
        let id = ledger.borrow_mut().produces(formula, T::NAME, shape, bytes, in_output);
        Self { id, len, bytes, ledger: Rc::clone(ledger) }
    }

    /// Something else is written to it.
    pub(crate) fn rewrite<T: Item>(&mut self, formula: String, shape: &Shape) {
        self.id = self.ledger.borrow_mut().rewrites(self.id, formula, T::NAME, shape);
    }
}

impl Drop for Planned {
    fn drop(&mut self) {
        self.ledger.borrow_mut().frees(self.bytes);
    }
}

impl<T: Item> Block<'_, T> {
    /// On its way up.
    pub(crate) fn take(self) -> Taken<T> {
        // SAFETY: types that differ in a lifetime alone. Sources are asked for a block by `materialise` and `write_to` alone, which give it its
        // lifetime back at once, that of their context; the source has another of that. So does the context with a block that it keeps.
        Taken(unsafe { std::mem::transmute::<Block<'_, T>, Block<'static, T>>(self) })
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Live(buffer) => buffer.len(),
            Self::Lent(elements, _) => elements.len(),
            Self::Planned(planned, _) => planned.len,
            Self::Missing => 0,
        }
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        match self {
            Self::Live(buffer) => buffer,
            Self::Lent(elements, _) => elements,
            Self::Planned(..) | Self::Missing => &[],
        }
    }

    /// What explanations call it.
    pub(crate) fn id(&self) -> usize {
        match self {
            Self::Live(_) | Self::Lent(..) | Self::Missing => 0,
            Self::Planned(planned, _) => planned.id,
        }
    }

    /// The memory, if there is some.
    ///
    /// # Safety
    /// `alloc` is the allocator of the evaluation, or its clone.
    pub(crate) unsafe fn into_buffer<A: Allocator>(self, alloc: A) -> Option<Buffer<T, A>> {
        match self {
            Self::Live(buffer) => {
                let (ptr, len, alignment, _) = buffer.into_raw_parts();
                // SAFETY: the parts of a buffer, whose memory is a live block of `alloc`: it came from what that is, or is a clone of.
                Some(unsafe { Buffer::from_raw_parts(ptr, len, alignment, alloc) })
            }
            Self::Lent(..) | Self::Planned(..) | Self::Missing => None,
        }
    }

    /// Whether it is the output's memory.
    pub(crate) fn is_lent(&self) -> bool {
        matches!(self, Self::Lent(..) | Self::Planned(_, Some(_)))
    }
}
