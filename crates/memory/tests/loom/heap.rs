//! A heap that is free blocks of the one class in use.

use std::marker::PhantomData;
use std::ptr::NonNull;

pub(crate) use crate::{classes, parcel};

#[derive(Default)]
pub struct Heap<O> {
    pub free: Vec<NonNull<u8>>,
    pub os: PhantomData<O>,
}

// SAFETY: the blocks belong to whoever takes them.
unsafe impl<O> Send for Heap<O> {}

impl<O> Heap<O> {
    pub fn obtain_blocks(&mut self, _: usize, wanted: usize, take: impl FnMut(NonNull<u8>)) {
        let left = self.free.len().saturating_sub(wanted);
        self.free.drain(left..).for_each(take);
    }

    /// # Safety
    /// None is needed: what is freed is only kept.
    pub unsafe fn give_back_block(&mut self, _: usize, block: NonNull<u8>) -> bool {
        self.free.push(block);
        true
    }

    pub fn give_back_kept(&mut self, run: NonNull<u8>) -> bool {
        self.free.push(run);
        true
    }

    pub fn holding(&mut self, _: NonNull<u8>) -> &'static str {
        "no block"
    }
}
