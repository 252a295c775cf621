//! An arena's blocks: which one a request goes to, how large the next one is, how they go back.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;

use super::{Block, ComputeArena, Cursor, NO_BLOCK};
use crate::backing::{Backing, Refused};
use crate::error::{AllocError, AllocErrorKind};
use crate::layout::{MIN_ALIGNMENT, align_up};

/// The least size of a block that the arena adds when it grows, in bytes.
const MIN_BLOCK: usize = 64 << 10;

/// The least alignment of a block, in bytes: only requests aligned to more than a page may have to pass a block over.
pub(super) const BLOCK_ALIGNMENT: usize = 4096;

impl<B: Backing> ComputeArena<B> {
    /// Continues in the next block that is large enough, or in a new one.
    #[cold]
    pub(super) fn next_block(&self, depth: usize, request: Layout) -> Result<NonNull<u8>, AllocError> {
        let next = self.cursor.get().block + 1;
        let fits = |&(_, block): &(usize, Block)| place(block, 0, request).is_some();
        let later = self.blocks.borrow().iter().copied().enumerate().skip(next).find(fits);
        let (index, block) = match later {
            Some(found) => found,
            None => {
                let block = self.grow(request)?;
                (self.blocks.borrow().len() - 1, block)
            }
        };
        self.current.set(block);
        self.cursor.set(Cursor { block: index, offset: 0, ..self.cursor.get() });
        Ok(self.hand_out(depth, block, 0, request))
    }

    /// Adds a block that holds the request: half as large as all blocks so far, so that the arena grows geometrically, or
    /// as large as it must be where the backing refuses that.
    fn grow(&self, request: Layout) -> Result<Block, AllocError> {
        let alignment = request.align().max(self.block_alignment());
        let least = block_layout(request.size(), alignment);
        let ample = block_layout(request.size().max(self.reserved.get() / 2).max(MIN_BLOCK), alignment);
        let Some(least) = least else {
            return Err(self.error(AllocErrorKind::NeverFits, request.size(), request.align()));
        };
        self.add_block(ample.unwrap_or(least))
            .or_else(|Refused| self.add_block(least))
            .map_err(|Refused| self.error(AllocErrorKind::BackingRefused, request.size(), request.align()))
    }

    /// The largest alignment of a block so far: what was asked for once is likely to be asked for again.
    pub(super) fn block_alignment(&self) -> usize {
        self.blocks.borrow().iter().map(|block| block.layout.align()).max().unwrap_or(BLOCK_ALIGNMENT)
    }

    pub(super) fn add_block(&self, layout: Layout) -> Result<Block, Refused> {
        self.blocks.borrow_mut().try_reserve(1).map_err(|_| Refused)?;
        // No borrow is held here: the backing is not ours, and may come back to this arena.
        let ptr = self.backing.obtain(layout)?;
        debug_assert!(ptr.addr().get().is_multiple_of(layout.align()));
        let block = Block { ptr, layout };
        self.blocks.borrow_mut().push(block);
        self.reserved.set(self.reserved.get() + layout.size());
        self.peak_reserved.set(self.peak_reserved.get().max(self.reserved.get()));
        Ok(block)
    }

    pub(super) fn release_blocks(&mut self) {
        self.current.set(NO_BLOCK);
        self.reserved.set(0);
        for Block { ptr, layout } in self.blocks.get_mut().drain(..) {
            // SAFETY: the block came from the backing with this layout (`add_block`); what was handed out of it borrowed
            // the arena, which `&mut self` says is over.
            unsafe { self.backing.give_back(ptr, layout) };
        }
    }
}

/// Where in a block a request can start, at or after `offset`. Offsets alone decide, not addresses, so that the same requests
/// find the same places in every run.
#[inline]
pub(super) fn place(block: Block, offset: usize, request: Layout) -> Option<usize> {
    if request.align() > block.layout.align() {
        return None;
    }
    let start = align_up(offset, request.align())?;
    let end = start.checked_add(request.size())?;
    (end <= block.layout.size()).then_some(start)
}

pub(super) fn block_layout(bytes: usize, alignment: usize) -> Option<Layout> {
    Layout::from_size_align(align_up(bytes, MIN_ALIGNMENT)?, alignment).ok()
}
