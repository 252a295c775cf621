//! The buffers of a replay, by slot: taken, written, resized and freed without a check that the trace makes needless.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::fmt;
use std::hint::black_box;
use std::ptr::NonNull;

use tenzor::memory::allocator_api2::alloc::Allocator;

use super::Heap;

/// What buffers are filled with; not zero, so that no layer below can get away with not storing it.
const FILL: u8 = 0xa5;

/// The allocator refused a request.
#[derive(Debug)]
pub(crate) struct OutOfMemory(Layout);

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, align) = (self.0.size(), self.0.align());
        write!(f, "out of memory: {size} bytes aligned to {align}")
    }
}

impl std::error::Error for OutOfMemory {}

struct Block {
    address: NonNull<u8>,
    layout: Layout,
    /// Whether the heap's scratch allocator handed it out, or its lasting one.
    scratch: bool,
}

/// The buffers in use. A block in a slot is one that the heap handed out and that has not been freed since.
pub(crate) struct Blocks<H: Heap> {
    slots: Vec<Option<Block>>,
    lasting_bytes: usize,
    scratch_blocks: usize,
    heap: H,
}

impl<H: Heap> Blocks<H> {
    /// No buffers yet, and room for as many as there are `slots`.
    pub(crate) fn new(mut heap: H, slots: usize) -> Self {
        let slots = std::iter::repeat_with(|| None).take(slots).collect();
        heap.start();
        Self { slots, lasting_bytes: 0, scratch_blocks: 0, heap }
    }

    pub(crate) fn heap(&self) -> &H {
        &self.heap
    }

    /// Bytes reserved by the heap; see [`Heap::reserved`].
    pub(crate) fn reserved(&self) -> Option<usize> {
        self.heap.reserved(self.lasting_bytes)
    }

    /// Requests a buffer for a vacant slot, and writes all of it.
    #[inline]
    pub(crate) fn take(&mut self, slot: u32, layout: Layout, zeroed: bool, scratch: bool) -> Result<(), OutOfMemory> {
        let address = if scratch {
            let address = allocate(&self.heap.scratch(), layout, zeroed)?;
            self.scratch_blocks += 1;
            address
        } else {
            let address = allocate(&self.heap.lasting(), layout, zeroed)?;
            self.lasting_bytes += layout.size();
            address
        };
        // SAFETY: the heap just handed out `layout.size()` bytes at `address`.
        unsafe { fill(address, layout.size()) };
        self.slots[slot as usize] = Some(Block { address, layout, scratch });
        Ok(())
    }

    /// Resizes the buffer in a slot, and writes what it gained.
    #[inline]
    pub(crate) fn resize(&mut self, slot: u32, layout: Layout) -> Result<(), OutOfMemory> {
        let Some(block) = &mut self.slots[slot as usize] else {
            return Ok(());
        };
        // SAFETY: a block in a slot is live and its heap's, of the layout noted with it, and the same kind of allocator serves it
        // again. The address is replaced at once; on an error the old block stays as it is.
        block.address = unsafe {
            if block.scratch {
                reallocate(&self.heap.scratch(), block.address, block.layout, layout)
            } else {
                reallocate(&self.heap.lasting(), block.address, block.layout, layout)
            }
        }?;
        let old = std::mem::replace(&mut block.layout, layout).size();
        if !block.scratch {
            self.lasting_bytes = self.lasting_bytes - old + layout.size();
        }
        if let Some(gained) = layout.size().checked_sub(old) {
            // SAFETY: the block now has `old + gained` bytes.
            unsafe { fill(block.address.add(old), gained) };
        }
        Ok(())
    }

    /// Frees the buffer in a slot.
    #[inline]
    pub(crate) fn release(&mut self, slot: u32) {
        let Some(block) = self.slots[slot as usize].take() else {
            return;
        };
        // SAFETY: as in `resize`; the block has left its slot, so nobody frees it again.
        unsafe {
            if block.scratch {
                self.scratch_blocks -= 1;
                let scratch = self.heap.scratch();
                scratch.deallocate(block.address, block.layout);
            } else {
                self.lasting_bytes -= block.layout.size();
                let lasting = self.heap.lasting();
                lasting.deallocate(block.address, block.layout);
            }
        }
    }

    /// Begins a step.
    #[inline]
    pub(crate) fn begin_step(&mut self) {
        self.heap.begin_step();
    }

    /// Ends a step: what scratch buffers are left are gone.
    #[inline]
    pub(crate) fn end_step(&mut self) {
        if self.scratch_blocks > 0 {
            self.scratch_blocks = 0;
            for slot in &mut self.slots {
                slot.take_if(|block| block.scratch);
            }
        }
        self.heap.end_step();
    }

    /// Moves buffers between slots, all at once: the slots moved to are vacant or moved from.
    pub(crate) fn rename(&mut self, moves: &[(u32, u32)]) {
        let moved: Vec<_> = moves.iter().map(|&(from, _)| self.slots[from as usize].take()).collect();
        for (&(_, to), block) in moves.iter().zip(moved) {
            self.slots[to as usize] = block;
        }
    }
}

impl<H: Heap> Drop for Blocks<H> {
    fn drop(&mut self) {
        for slot in 0..self.slots.len() {
            self.release(slot as u32);
        }
    }
}

#[inline]
fn allocate(allocator: &impl Allocator, layout: Layout, zeroed: bool) -> Result<NonNull<u8>, OutOfMemory> {
    let block = if zeroed { allocator.allocate_zeroed(layout) } else { allocator.allocate(layout) };
    Ok(block.map_err(|_| OutOfMemory(layout))?.cast())
}

/// # Safety
/// `address` is a live block of `old` layout from this allocator, and `new` is aligned as `old` is. On success the block at
/// `address` is gone, unless it is the one returned.
#[inline]
unsafe fn reallocate(
    allocator: &impl Allocator,
    address: NonNull<u8>,
    old: Layout,
    new: Layout,
) -> Result<NonNull<u8>, OutOfMemory> {
    // SAFETY: the caller's promises are those that `grow` and `shrink` ask for; the sizes are compared here.
    let block = unsafe {
        if new.size() >= old.size() { allocator.grow(address, old, new) } else { allocator.shrink(address, old, new) }
    };
    Ok(block.map_err(|_| OutOfMemory(new))?.cast())
}

/// Writes a buffer as a program does that computes into it.
///
/// # Safety
/// `size` bytes at `address` may be written.
#[inline]
unsafe fn fill(address: NonNull<u8>, size: usize) {
    // SAFETY: promised by the caller. `black_box` may read what was written, so the write happens.
    unsafe { black_box(address).write_bytes(FILL, size) };
    black_box(address);
}
