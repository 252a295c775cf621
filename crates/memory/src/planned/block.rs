//! A block, what is alive in it, and where it comes from.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::ptr::NonNull;

use crate::allocator::TensorAllocator;
use crate::backing::{Backing, Grounds, Refused};

/// A pool as a backing of blocks that are none of its classes.
#[derive(Debug)]
pub(super) struct Apart<B: Backing>(pub(super) TensorAllocator<B>);

// SAFETY: the promises are the pool's.
unsafe impl<B: Backing> Backing for Apart<B> {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        Ok(self.0.request_apart(layout)?)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's word, passed on.
        unsafe { self.0.release_apart(block, layout) };
    }

    fn grounds(&self, grounds: &mut Grounds) {
        self.0.name_grounds(grounds);
    }
}

pub(super) struct PlannedBlock {
    pub(super) base: NonNull<u8>,
    pub(super) layout: Layout,
    /// What is alive in it, unless a step is followed: where it begins, and where it ends.
    pub(super) live: BTreeMap<usize, usize>,
}

impl PlannedBlock {
    /// Where in the block something lies.
    pub(super) fn offset(&self, ptr: NonNull<u8>) -> Option<usize> {
        let offset = ptr.addr().get().wrapping_sub(self.base.addr().get());
        (offset < self.layout.size()).then_some(offset)
    }

    /// Whether a request can be served there: offsets of a plan are as aligned as its requests, but the plan may be of a block to come.
    pub(super) fn has_room(&self, offset: usize, request: Layout) -> bool {
        let end = offset.saturating_add(request.size());
        let before = self.live.range(..end).next_back();
        end <= self.layout.size()
            && request.align() <= self.layout.align()
            && before.is_none_or(|(_, &end)| end <= offset)
    }
}
