//! An arena's blocks: which one a request goes to, how large the next one is, how they go back.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;

use super::{Block, ComputeArena, Cursor, NO_BLOCK};
use crate::backing::{Backing, Refused};
use crate::error::{AllocError, AllocErrorKind};
use crate::layout::{MIN_ALIGNMENT, align_up};
use crate::pressure::tentatively;

/// The least size of a block that the arena adds when it grows, in bytes.
pub(super) const MIN_BLOCK: usize = 64 << 10;

/// The least alignment of a block, in bytes: only requests aligned to more than a page may have to pass a block over.
pub(super) const BLOCK_ALIGNMENT: usize = 4096;

impl<B: Backing> ComputeArena<B> {
    /// Continues in the next block that is large enough, or in a new one.
    #[cold]
    pub(super) fn next_block(&self, depth: usize, request: Layout) -> Result<NonNull<u8>, AllocError> {
        if self.is_aside.get() {
            self.take_back();
            return self.bump(depth, request, false);
        }
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
    /// as large as it must be where that is not to be had for the asking. Blocks in which nothing lies give way to it.
    fn grow(&self, request: Layout) -> Result<Block, AllocError> {
        let alignment = request.align().max(self.block_alignment());
        let least = block_layout(request.size(), alignment);
        let ample = block_layout(request.size().max(self.reserved.get() / 2).max(MIN_BLOCK), alignment);
        let Some(least) = least else {
            return Err(AllocError::never_fits(request.size(), request.align()));
        };
        if let Ok(block) = tentatively(|| self.add_block(ample.unwrap_or(least))) {
            return Ok(block);
        }
        if self.has_vacant_blocks() {
            match tentatively(|| AllocError::asking(least, || self.add_block(least))) {
                Ok(block) => return Ok(block),
                Err(refused) if refused.kind() == AllocErrorKind::NeverFits => {}
                Err(_) => self.release_vacant_blocks(),
            }
        }
        AllocError::asking(least, || self.add_block(least)).map_err(|below| {
            self.put_aside();
            let usage = self.usage();
            let refused = AllocError::refused(request).with_account(usage.bytes_in_use, usage.pooled_bytes, None);
            refused.because_of(below)
        })
    }

    /// The largest alignment of a block so far: what was asked for once is likely to be asked for again.
    pub(super) fn block_alignment(&self) -> usize {
        self.blocks.borrow().iter().map(|block| block.layout.align()).max().unwrap_or(BLOCK_ALIGNMENT)
    }

    pub(super) fn add_block(&self, layout: Layout) -> Result<Block, Refused> {
        self.blocks.borrow_mut().try_reserve(1).map_err(|_| Refused)?;
        // No borrow is held here: the backing is not ours, and may come back to this arena.
        let ptr = self.home.backing().obtain(layout)?;
        debug_assert!(ptr.addr().get().is_multiple_of(layout.align()));
        let block = Block { ptr, layout };
        self.blocks.borrow_mut().push(block);
        self.reserved.set(self.reserved.get() + layout.size());
        self.peak_reserved.set(self.peak_reserved.get().max(self.reserved.get()));
        Ok(block)
    }

    /// How many bytes one block had to have for all that was handed out since the last reset, in the same places or further ahead: what was
    /// placed in several blocks, each aligned for it, lies no further back in one in which each of them would begin at a multiple of the largest
    /// alignment.
    pub(super) fn needed(&self, alignment: usize) -> Option<usize> {
        let cursor = self.furthest.get();
        let blocks = self.blocks.borrow();
        let mut sizes = blocks.iter().take(cursor.block).map(|block| align_up(block.layout.size(), alignment));
        sizes.try_fold(cursor.offset, |sum, size| sum.checked_add(size?))
    }

    /// Exchanges all blocks for one of so many bytes, or none. No buffer is alive.
    pub(super) fn renew(&mut self, bytes: usize, alignment: usize) {
        self.release_blocks();
        if bytes > 0
            && let Some(layout) = block_layout(bytes, alignment)
        {
            // If it is refused, requests ask for what they need themselves.
            _ = self.add_block(layout);
        }
    }

    /// The first block in which nothing lies, as there is none behind it.
    fn first_vacant(&self) -> usize {
        let Cursor { block, offset, .. } = self.cursor.get();
        block + usize::from(offset > 0)
    }

    fn has_vacant_blocks(&self) -> bool {
        self.blocks.borrow().len() > self.first_vacant()
    }

    fn release_vacant_blocks(&self) {
        let _giving = self.home.giving_back();
        let first = self.first_vacant();
        if first == self.cursor.get().block {
            self.current.set(NO_BLOCK);
        }
        while self.has_vacant_blocks() {
            // No borrow is held where the backing is called.
            let Some(Block { ptr, layout }) = self.blocks.borrow_mut().pop() else { break };
            self.reserved.set(self.reserved.get() - layout.size());
            // SAFETY: the block came from there with this layout (`add_block`), and what lies before the cursor is in others.
            unsafe { self.home.backing().give_back(ptr, layout) };
        }
    }

    /// Puts the only block aside, if nothing lies in it.
    pub(super) fn put_aside(&self) {
        let only = <[Block; 1]>::try_from(&**self.blocks.borrow());
        if let Ok([Block { ptr, layout }]) = only
            && self.first_vacant() == 0
            && !self.is_aside.replace(true)
        {
            self.current.set(NO_BLOCK);
            // SAFETY: it came from there with this layout; as there is no current block, it is not used before it is taken back.
            unsafe { self.home.put(ptr, layout) };
        }
    }

    /// Takes back what was put aside, or forgets it, if it is not there any more.
    pub(super) fn take_back(&self) {
        if !self.is_aside.replace(false) {
            return;
        }
        if self.home.take() {
            self.current.set(self.blocks.borrow()[0]);
        } else {
            self.blocks.borrow_mut().clear();
            self.reserved.set(0);
        }
    }

    /// Forgets what was put aside, if it is not there any more.
    pub(super) fn see_whether_aside(&self) {
        if self.is_aside.get() && self.home.kept() == 0 {
            self.take_back();
        }
    }

    /// Gives all blocks back, also what was put aside and is still there.
    pub(super) fn release_blocks(&mut self) {
        let _giving = self.home.giving_back();
        self.take_back();
        // What was handed out borrowed the arena, which `&mut self` says is over.
        self.cursor.set(Cursor::default());
        self.release_vacant_blocks();
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
