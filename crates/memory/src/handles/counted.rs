//! An allocator that knows how many of its blocks are alive.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;

use crate::arena::ComputeArena;
use crate::backing::Backing;
use crate::error::AllocError;
use crate::provider::Provider;

#[derive(Debug)]
pub(super) struct Counted<A> {
    pub(super) alloc: A,
    /// Blocks granted and not released, without those of no size; none, where it is never reset.
    live: Cell<usize>,
}

impl<A> Counted<A> {
    pub(super) fn new(alloc: A) -> Self {
        Self { alloc, live: Cell::new(0) }
    }

    pub(super) fn in_use(&self) -> InUse {
        InUse { buffers: self.live.get() }
    }
}

impl<A: Provider> Counted<A> {
    #[inline]
    fn count(&self, layout: Layout) {
        self.live.set(self.live.get() + Self::counts(layout));
    }

    #[inline]
    fn uncount(&self, layout: Layout) {
        debug_assert!(self.live.get() >= Self::counts(layout));
        self.live.set(self.live.get() - Self::counts(layout));
    }

    /// A block has its new layout where it lies, if it `is_resized`; passes that on.
    fn recounted(&self, old: Layout, new: Layout, is_resized: bool) -> bool {
        if is_resized {
            self.count(new);
            self.uncount(old);
        }
        is_resized
    }

    #[inline]
    fn counts(layout: Layout) -> usize {
        usize::from(A::IS_RESET && layout.size() > 0)
    }
}

impl<B: Backing> Counted<ComputeArena<B>> {
    pub(super) fn reset(&mut self) -> Result<(), InUse> {
        self.unused()?.reset();
        Ok(())
    }

    pub(super) fn shrink_to(&mut self, bytes: usize) -> Result<usize, InUse> {
        Ok(self.unused()?.shrink_to(bytes))
    }

    fn unused(&mut self) -> Result<&mut ComputeArena<B>, InUse> {
        if self.live.get() == 0 { Ok(&mut self.alloc) } else { Err(self.in_use()) }
    }
}

// SAFETY: the promises are those of the allocator. Who has it mutably, though the handles that its blocks belong to are not borrowed, sees to it that none
// of them is alive: they are counted.
unsafe impl<A: Provider> Provider for Counted<A> {
    #[inline]
    fn request(&self, layout: Layout, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        let granted = self.alloc.request(layout, zeroed)?;
        self.count(layout);
        Ok(granted)
    }

    #[inline]
    unsafe fn release(&self, ptr: NonNull<u8>, layout: Layout) {
        self.uncount(layout);
        // SAFETY: the caller's word, passed on.
        unsafe { self.alloc.release(ptr, layout) };
    }

    unsafe fn resize_in_place(&self, ptr: NonNull<u8>, old: Layout, new: Layout) -> bool {
        // SAFETY: the caller's word, passed on.
        self.recounted(old, new, unsafe { self.alloc.resize_in_place(ptr, old, new) })
    }

    unsafe fn stays(&self, ptr: NonNull<u8>, old: Layout, new: Layout) -> bool {
        // SAFETY: the caller's word, passed on.
        self.recounted(old, new, unsafe { self.alloc.stays(ptr, old, new) })
    }

    #[inline]
    fn alignment(&self) -> usize {
        self.alloc.alignment()
    }

    fn never_fits(&self, requested: usize, alignment: usize) -> AllocError {
        self.alloc.never_fits(requested, alignment)
    }
}

/// An arena cannot be reset: something of it is in use.
///
/// ```
/// use tenzor_memory::{ComputeArena, Handle};
///
/// let arena = Handle::new(ComputeArena::new());
/// let buffer = arena.alloc_filled(10, 1.0)?.into_owned();
/// let refusal = arena.reset().unwrap_err();
/// assert_eq!(refusal.to_string(), "the arena is in use: 1 of its buffers is alive");
/// drop(buffer);
/// assert!(arena.reset().is_ok());
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse {
    pub(super) buffers: usize,
}

impl InUse {
    /// How many of its buffers are alive, or of the blocks of containers. If there are none, a scope is open.
    pub fn buffers(&self) -> usize {
        self.buffers
    }
}

impl fmt::Display for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the arena is in use: ")?;
        match self.buffers {
            0 => f.write_str("a scope of it is open"),
            1 => f.write_str("1 of its buffers is alive"),
            buffers => write!(f, "{buffers} of its buffers are alive"),
        }
    }
}

impl std::error::Error for InUse {}
