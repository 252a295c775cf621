//! Requests and frees: as the plan has them, or else.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::hint::black_box;
use std::ptr::NonNull;

use tenzor_plan::ELSEWHERE;

use super::PlannedAllocator;
use super::script::FREE;
use super::state::{Phase, Plans};
use crate::backing::{Backing, without_lock};
use crate::error::{AllocError, AllocErrorKind};
use crate::layout::dangling;
use crate::provider::Provider;

impl<B: Backing> PlannedAllocator<B> {
    /// A request that is not what comes next. While the pool is asked for it, nobody can come in.
    #[cold]
    fn request_otherwise(&self, layout: Layout, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        without_lock(|| self.request_alone(layout, zeroed))
    }

    fn request_alone(&self, layout: Layout, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        let mut borrowed = self.state.borrow_mut();
        let state = &mut *borrowed;
        let is_first = match &state.phase {
            Phase::Following => state.position(self.next.get()) == 0,
            Phase::Watching(recording) => recording.actions.is_empty(),
            Phase::Outside => false,
        };
        if is_first && self.begins_thriftily(state, layout) {
            state.phase = Phase::Following;
            self.next.set(state.plans[0].moves.as_ptr());
        }
        if let Phase::Following = state.phase {
            let done = state.position(self.next.get());
            if state.goes_on(done, |next| next.size == layout.size() && next.align == layout.align()) {
                if state.plans[0].moves[done].offset != ELSEWHERE {
                    self.next.set(&raw const state.plans[0].moves[done]);
                    drop(borrowed);
                    return self.request(layout, zeroed);
                }
                // It outlives the step, so the pool serves it.
                if let Ok(ptr) = self.pool.request(layout, zeroed) {
                    self.next.set(&raw const state.plans[0].moves[done + 1]);
                    return Ok(ptr);
                }
            }
            self.depart(state, done);
        }
        let place = match (&mut state.phase, state.plans.first()) {
            (Phase::Watching(recording), Some(script)) => recording.place(script, layout),
            _ => None,
        };
        let ptr = match state.block.as_mut().zip(place).filter(|(block, place)| block.has_room(*place, layout)) {
            Some((block, offset)) => {
                block.live.insert(offset, offset + layout.size());
                // SAFETY: it lies within the block.
                let ptr = unsafe { block.base.add(offset) };
                if zeroed {
                    // SAFETY: the buffer has so many bytes, and nobody else has it.
                    unsafe { ptr.write_bytes(0, layout.size()) };
                }
                ptr
            }
            None => self.request_elsewhere(state, layout, zeroed)?,
        };
        if let Phase::Watching(recording) = &mut state.phase {
            recording.requested(ptr.addr().get(), layout);
        }
        Ok(ptr)
    }

    /// A request to the pool, in whose way no block is left in which nothing is alive.
    fn request_elsewhere(&self, state: &mut Plans, layout: Layout, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        let first = self.pool.request(layout, zeroed);
        let is_idle = state.block.as_ref().is_some_and(|block| block.live.is_empty());
        match first {
            Err(refusal) if is_idle && refusal.kind() != AllocErrorKind::NeverFits => {
                self.take_back(state);
                self.set_block(state, None);
                state.is_thrifty = true;
                self.pool.request(layout, zeroed)
            }
            first => first,
        }
    }

    /// A free that is not what comes next.
    ///
    /// # Safety
    /// As [`Provider::release`].
    #[cold]
    unsafe fn release_otherwise(&self, ptr: NonNull<u8>, layout: Layout) {
        debug_assert!(ptr.addr().get().is_multiple_of(layout.align()));
        if layout.size() == 0 {
            return;
        }
        let mut borrowed = self.state.borrow_mut();
        let state = &mut *borrowed;
        // What was put aside may be somebody else's by now, who had it given back.
        let offset = state.block.as_ref().filter(|_| !state.is_aside).and_then(|block| block.offset(ptr));
        let mut retired = state.retired.iter().enumerate();
        let retired = retired.find_map(|(index, block)| Some((index, block.offset(ptr)?)));
        debug_assert!(offset.is_none_or(|offset| state.has_in_block(offset, layout)));
        if self.zero_on_free && (offset.is_some() || retired.is_some()) {
            // SAFETY: as in `release`.
            unsafe { wipe(ptr, layout.size()) };
        }
        if let Phase::Following = state.phase
            && let Some(offset) = offset
        {
            let done = state.position(self.next.get());
            if state.goes_on(done, |next| next.size == FREE && next.offset == offset) {
                self.next.set(&raw const state.plans[0].moves[done + 1]);
                return;
            }
            self.depart(state, done);
        }
        if let Phase::Watching(recording) = &mut state.phase {
            recording.freed(ptr.addr().get());
        }
        if let Some((block, offset)) = state.block.as_mut().zip(offset) {
            let end = block.live.remove(&offset);
            debug_assert!(end == Some(offset + layout.size()));
            if let Phase::Outside = state.phase {
                self.put_aside(state);
            }
        } else if let Some((index, offset)) = retired {
            let block = &mut state.retired[index];
            let end = block.live.remove(&offset);
            debug_assert!(end == Some(offset + layout.size()));
            if block.live.is_empty() {
                self.give_back(state.retired.swap_remove(index));
            }
        } else {
            // SAFETY: it is not in a block, so it came from the pool; the rest is the caller's word.
            unsafe { self.pool.release(ptr, layout) };
        }
    }
}

/// Overwrites what nobody uses any more.
///
/// # Safety
/// So many bytes there are the caller's.
#[cold]
pub(super) unsafe fn wipe(ptr: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's word.
    unsafe { ptr.write_bytes(0, bytes) };
    // Keeps the writes from being seen as dead.
    black_box(ptr);
}

// SAFETY: what is granted comes from the pool, whose promises hold, or from the block: then it lies within it, aligned as the plan says, which
// is at least as asked. While a step is followed, what is alive in the block is exactly what the plan has alive after the moves
// made (nothing was when it began, and each request and free in the block was the next move), and no two buffers of a plan that are alive
// together overlap (`StepPlan::new`). While it is not, `live` has all that is alive in the block, and nothing is granted over it. Nothing is
// granted from retired blocks, which stay as long as something is alive in them.
unsafe impl<B: Backing> Provider for PlannedAllocator<B> {
    #[inline]
    fn request(&self, layout: Layout, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        let next = self.next.get();
        // SAFETY: it points to a move of a plan, which no request or free changes while a step is followed, or to `ANYTHING_ELSE`.
        let planned = unsafe { &*next };
        if planned.size != layout.size() || planned.align != layout.align() || planned.offset == ELSEWHERE {
            return self.request_otherwise(layout, zeroed);
        }
        // SAFETY: its size is that of a request, so it is not the last of the plan.
        self.next.set(unsafe { next.add(1) });
        debug_assert!(self.state.try_borrow().is_ok_and(|state| state.has_in_block(planned.offset, layout)));
        // SAFETY: the plan's offsets lie within the block.
        let ptr = unsafe { self.base.get().add(planned.offset) };
        if zeroed {
            // SAFETY: the buffer has so many bytes, and nobody else has it.
            unsafe { ptr.write_bytes(0, layout.size()) };
        }
        Ok(ptr)
    }

    #[inline]
    unsafe fn release(&self, ptr: NonNull<u8>, layout: Layout) {
        let next = self.next.get();
        // SAFETY: as in `request`.
        let planned = unsafe { &*next };
        // What has no size lies nowhere, at an address that may be the block's.
        let is_free = planned.size == FREE && layout.size() != 0;
        if is_free && ptr.addr().get() == self.base.get().addr().get().wrapping_add(planned.offset) {
            // SAFETY: it is a free, so it is not the last of the plan.
            self.next.set(unsafe { next.add(1) });
            debug_assert!(self.state.try_borrow().is_ok_and(|state| state.has_in_block(planned.offset, layout)));
            if self.zero_on_free {
                // SAFETY: it was granted with this layout, and the caller gives it up.
                unsafe { wipe(ptr, layout.size()) };
            }
        } else {
            // SAFETY: the caller's word, passed on.
            unsafe { self.release_otherwise(ptr, layout) };
        }
    }

    unsafe fn stays(&self, ptr: NonNull<u8>, old: Layout, new: Layout) -> bool {
        let state = &mut *self.state.borrow_mut();
        let block = state.block.iter_mut().filter(|_| !state.is_aside);
        let Some((block, offset)) =
            block.chain(&mut state.retired).find_map(|block| block.offset(ptr).map(|offset| (block, offset)))
        else {
            // SAFETY: it is not in a block, so it came from the pool; the rest is the caller's word.
            return unsafe { self.pool.stays(ptr, old, new) };
        };
        let fits = new.size() != 0 && new.size() <= old.size() && new.align() <= old.align();
        if fits && self.zero_on_free {
            // SAFETY: the old layout ends so many bytes behind the new one, and the caller gives these up.
            unsafe { wipe(ptr.add(new.size()), old.size() - new.size()) };
        }
        // While a step is followed, there is no list.
        if fits && let Some(end) = block.live.get_mut(&offset) {
            *end = offset + new.size();
        }
        fits
    }

    #[inline]
    fn alignment(&self) -> usize {
        self.pool.alignment()
    }

    fn never_fits(&self, requested: usize, alignment: usize) -> AllocError {
        self.pool.never_fits(requested, alignment)
    }
}
