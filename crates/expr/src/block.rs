//! Memory that an evaluation materialises, or would.
//!
//! Unsafe code gives a buffer the allocator that it came from, which evaluations know by a reference only.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::rc::Rc;

use tenzor_memory::{Allocator, Buffer};

use crate::item::Item;
use crate::ledger::Ledger;
use crate::shape::Shape;

/// Materialised elements.
#[derive(Debug)]
pub enum Block<'e, T: Item> {
    /// Memory.
    Live(Buffer<T, &'e dyn Allocator>),
    /// None, for explanations.
    Planned(Planned),
    /// None, as something failed.
    Missing,
}

/// A block that is only thought of.
#[derive(Debug)]
pub struct Planned {
    id: usize,
    len: usize,
    bytes: usize,
    ledger: Rc<RefCell<Ledger>>,
}

impl Planned {
    /// One of elements of type `T`; `formula` says what is written to it.
    pub(crate) fn new<T: Item>(ledger: &Rc<RefCell<Ledger>>, formula: String, shape: &Shape) -> Self {
        let len = shape.elements();
        let bytes = len * size_of::<T>();
        let id = ledger.borrow_mut().produces(formula, T::NAME, shape, bytes);
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
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Live(buffer) => buffer.len(),
            Self::Planned(planned) => planned.len,
            Self::Missing => 0,
        }
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        match self {
            Self::Live(buffer) => buffer,
            Self::Planned(_) | Self::Missing => &[],
        }
    }

    /// What explanations call it.
    pub(crate) fn id(&self) -> usize {
        match self {
            Self::Live(_) | Self::Missing => 0,
            Self::Planned(planned) => planned.id,
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
            Self::Planned(_) | Self::Missing => None,
        }
    }
}
