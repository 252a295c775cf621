//! `ComputeArena`: scratch space that is bumped forward, then reset or rewound all at once.
//!
//! The memory is a list of blocks, filled in order. A **cursor** says how far: which block, and how many bytes of it.
//! Everything before the cursor is handed out or padding; everything behind it is free. Rewinding is moving the cursor
//! back to where it stood, which frees nothing and keeps every block.
//!
//! A scope takes the cursor at its start and moves it back there at its end. Its buffers borrow it, so they are gone by
//! then. What the *outer* scope (or the arena) hands out while an inner scope is open lies behind the inner one's start
//! and has to survive its end: the **floor** is the cursor below which no inner scope may rewind.
#![allow(unsafe_code)]

mod blocks;
mod scope;
mod usage;

use std::alloc::Layout;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem::MaybeUninit;
use std::panic::RefUnwindSafe;
use std::ptr::{self, NonNull};

use bytemuck::Zeroable;

use self::blocks::{BLOCK_ALIGNMENT, block_layout, place};
pub use self::scope::Scope;
pub use self::usage::ArenaUsage;
use crate::backing::{Backing, System};
use crate::buffer::Buffer;
use crate::error::{AllocError, AllocErrorKind};
use crate::layout::{align_up, dangling};
use crate::provider::{Provider, typed_requests};

/// Scratch space for a computation: requests bump a cursor, and all of it is reclaimed at once.
///
/// Dropping a buffer runs its elements' destructors and reclaims nothing; [`reset`](Self::reset) reclaims everything, the
/// end of a [`scope`](Self::scope) all that was requested in it. An arena belongs to one thread at a time (it is `Send`,
/// not `Sync`); the slices in it can be shared freely.
///
/// ```
/// use tenzor_memory::ComputeArena;
///
/// let mut arena = ComputeArena::with_capacity(1 << 20);
/// for step in 0..100 {
///     arena.reset(); // the buffers of the last round are gone
///     let input = arena.alloc_filled(1000, step as f32)?;
///     let output = arena.alloc_from_fn(1000, |i| input[i] * 2.0)?;
///     assert_eq!(output[999], 2.0 * step as f32);
/// }
/// assert_eq!(arena.usage().blocks, 1);
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
pub struct ComputeArena<B: Backing = System> {
    backing: B,
    blocks: RefCell<Vec<Block>>,
    /// The block that the cursor stands in; empty while there is none.
    current: Cell<Block>,
    cursor: Cell<Cursor>,
    floor: Cell<Option<Floor>>,
    /// The depth of the innermost scope that is open; the arena's own is 0.
    depth: Cell<usize>,
    /// Scopes that ended before an inner one, which reclaims their memory when it ends: depth and start.
    ended: RefCell<Vec<(usize, Cursor)>>,
    reserved: Cell<usize>,
    peak_reserved: Cell<usize>,
    /// The most requested bytes before the cursor, up to when it last went back.
    peak_requested: Cell<usize>,
}

/// A buffer of a [`ComputeArena`].
pub type ArenaBuffer<'a, T, B = System> = Buffer<T, &'a ComputeArena<B>>;

/// A buffer of a [`Scope`].
pub type ScopeBuffer<'a, T, B = System> = Buffer<T, &'a Scope<'a, B>>;

/// A block from the backing.
#[derive(Clone, Copy)]
struct Block {
    ptr: NonNull<u8>,
    layout: Layout,
}

const NO_BLOCK: Block = Block { ptr: NonNull::dangling(), layout: Layout::new::<()>() };

#[derive(Clone, Copy, Default, PartialEq, PartialOrd)]
struct Cursor {
    block: usize,
    /// Bytes of the block before the cursor.
    offset: usize,
    requested: usize,
    allocations: usize,
}

/// The cursor that no scope deeper than `depth` may rewind beyond. Such a scope is open as long as there is a floor.
#[derive(Clone, Copy)]
struct Floor {
    cursor: Cursor,
    depth: usize,
}

// What the cells hold is valid after every single step, so a panic elsewhere leaves nothing half done behind it.
impl<B: Backing + RefUnwindSafe> RefUnwindSafe for ComputeArena<B> {}

// SAFETY: the blocks are owned by the arena alone; what was handed out of them borrows the arena, so nothing points into
// them from another thread when the arena moves there. The cells are `Send` as their contents are.
unsafe impl<B: Backing + Send> Send for ComputeArena<B> {}

impl ComputeArena {
    /// An empty arena over the process's malloc; it takes memory with its first request.
    pub fn new() -> Self {
        Self::new_in(System)
    }

    /// An arena over the process's malloc with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self::with_capacity_in(bytes, System)
    }
}

impl Default for ComputeArena {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Backing> ComputeArena<B> {
    /// An empty arena over `backing`, which may be a [`TensorAllocator`](crate::TensorAllocator); it takes memory with
    /// its first request.
    pub fn new_in(backing: B) -> Self {
        Self {
            backing,
            blocks: RefCell::new(Vec::new()),
            current: Cell::new(NO_BLOCK),
            cursor: Cell::default(),
            floor: Cell::default(),
            depth: Cell::new(0),
            ended: RefCell::new(Vec::new()),
            reserved: Cell::new(0),
            peak_reserved: Cell::new(0),
            peak_requested: Cell::new(0),
        }
    }

    /// An arena over `backing` with room for `bytes`. If the backing refuses them, the arena is empty, and requests ask it for
    /// what they need themselves.
    pub fn with_capacity_in(bytes: usize, backing: B) -> Self {
        let arena = Self::new_in(backing);
        if let Some(layout) = block_layout(bytes, BLOCK_ALIGNMENT)
            && bytes > 0
            && let Ok(block) = arena.add_block(layout)
        {
            arena.current.set(block);
        }
        arena
    }

    typed_requests!("let alloc = tenzor_memory::ComputeArena::new();");

    /// The allocator that [`alloc`](Self::alloc)'s buffers carry, for std-style containers.
    pub fn allocator(&self) -> &Self {
        self
    }

    /// Reclaims everything and keeps the capacity. If the arena had to grow, its blocks are exchanged for one that holds
    /// as much, so that the same requests again need not grow it.
    ///
    /// No buffer can be alive: they borrow the arena. Should the backing refuse the exchange, the arena is empty, and
    /// requests ask it for what they need themselves.
    pub fn reset(&mut self) {
        self.floor.set(None);
        self.depth.set(0);
        self.ended.get_mut().clear();
        self.go_back(Cursor::default());
        let alignment = self.block_alignment();
        let blocks = self.blocks.get_mut();
        if blocks.len() > 1 {
            // What was placed in several blocks, each aligned for it, lies no further back in one block in which each of them
            // would begin at a multiple of the largest alignment.
            let mut sizes = blocks.iter().map(|block| align_up(block.layout.size(), alignment));
            let capacity = sizes.try_fold(0_usize, |sum, size| sum.checked_add(size?));
            self.release_blocks();
            if let Some(layout) = capacity.and_then(|capacity| block_layout(capacity, alignment))
                && let Ok(block) = self.add_block(layout)
            {
                self.current.set(block);
            }
        }
    }

    /// Runs `f` with a scope, and reclaims all that was requested from it, also when `f` panics. Buffers from outside
    /// stay usable inside, and requests made outside stay valid after it.
    ///
    /// ```
    /// let arena = tenzor_memory::ComputeArena::new();
    /// let mut sums = arena.alloc_filled(2, 0.0)?;
    /// for (i, sum) in sums.iter_mut().enumerate() {
    ///     *sum = arena.scope(|arena| {
    ///         let scratch = arena.alloc_filled(1000, i as f64)?;
    ///         Ok(scratch.iter().sum())
    ///     })?;
    /// }
    /// assert_eq!(*sums, [0.0, 1000.0]);
    /// assert_eq!(arena.usage().bytes_in_use, 16);
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    pub fn scope<R>(&self, f: impl FnOnce(&Scope<'_, B>) -> R) -> R {
        f(&self.checkpoint())
    }

    /// A scope that ends where it is dropped or [rewound](Scope::rewind).
    ///
    /// ```
    /// let arena = tenzor_memory::ComputeArena::new();
    /// let checkpoint = arena.checkpoint();
    /// let scratch = checkpoint.alloc_filled(1000, 1.0)?;
    /// assert_eq!(scratch[999], 1.0);
    /// drop(scratch);
    /// checkpoint.rewind();
    /// assert_eq!(arena.usage().bytes_in_use, 0);
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    pub fn checkpoint(&self) -> Scope<'_, B> {
        let depth = self.depth.get() + 1;
        self.depth.set(depth);
        Scope { arena: self, start: self.cursor.get(), depth }
    }

    /// How much is used.
    pub fn usage(&self) -> ArenaUsage {
        let cursor = self.cursor.get();
        let blocks = self.blocks.borrow();
        let passed: usize = blocks.iter().take(cursor.block).map(|block| block.layout.size()).sum();
        let reserved_bytes = self.reserved.get();
        ArenaUsage {
            bytes_in_use: cursor.requested,
            peak_bytes_in_use: self.peak_requested.get().max(cursor.requested),
            reserved_bytes,
            peak_reserved_bytes: self.peak_reserved.get(),
            pooled_bytes: reserved_bytes - (passed + cursor.offset),
            overhead_bytes: passed + cursor.offset - cursor.requested,
            blocks: blocks.len(),
            allocations: cursor.allocations,
        }
    }

    /// Where the arena takes its blocks from.
    pub fn backing(&self) -> &B {
        &self.backing
    }

    /// Hands out memory to the arena (`depth` 0) or the scope of that depth.
    #[inline]
    fn bump(&self, depth: usize, request: Layout, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        if request.size() == 0 {
            return Ok(dangling(request));
        }
        let block = self.current.get();
        let ptr = match place(block, self.cursor.get().offset, request) {
            Some(start) => self.hand_out(depth, block, start, request),
            None => self.next_block(depth, request)?,
        };
        if zeroed {
            // SAFETY: that many bytes were handed out, to this caller alone.
            unsafe { ptr.write_bytes(0, request.size()) };
        }
        Ok(ptr)
    }

    /// Moves the cursor past a request placed at `start` in the current block.
    #[inline]
    fn hand_out(&self, depth: usize, block: Block, start: usize, request: Layout) -> NonNull<u8> {
        debug_assert!(start.is_multiple_of(request.align()) && start + request.size() <= block.layout.size());
        let cursor = self.cursor.get();
        debug_assert!(start >= cursor.offset);
        let (requested, allocations) = (cursor.requested + request.size(), cursor.allocations + 1);
        self.advance_to(depth, Cursor { offset: start + request.size(), requested, allocations, ..cursor });
        // SAFETY: `place` found `start + request.size()` within the block.
        unsafe { block.ptr.add(start) }
    }

    /// Moves the cursor forward for the arena or a scope, and raises the floor where that is not the innermost one.
    #[inline]
    fn advance_to(&self, depth: usize, cursor: Cursor) {
        self.cursor.set(cursor);
        if depth < self.depth.get() {
            let depth = self.floor.get().map_or(depth, |floor| floor.depth.min(depth));
            self.floor.set(Some(Floor { cursor, depth }));
        }
    }

    /// Moves the cursor back.
    fn go_back(&self, to: Cursor) {
        self.peak_requested.set(self.peak_requested.get().max(self.cursor.get().requested));
        self.cursor.set(to);
        self.current.set(self.blocks.borrow().get(to.block).copied().unwrap_or(NO_BLOCK));
    }

    /// Ends a scope, and with it those around it that have ended before.
    fn end_scope(&self, mut depth: usize, mut start: Cursor) {
        let mut ended = self.ended.borrow_mut();
        if self.depth.get() != depth {
            // Without memory to note it, its part of the arena is reclaimed with what encloses it.
            if ended.try_reserve(1).is_ok() {
                ended.push((depth, start));
            }
            return;
        }
        loop {
            if let Some(floor) = self.floor.get() {
                if floor.cursor > start {
                    start = floor.cursor;
                }
                // This is the last scope deeper than the one whose requests the floor protects.
                if floor.depth + 1 == depth {
                    self.floor.set(None);
                }
            }
            depth -= 1;
            match ended.iter().position(|&(enclosing, _)| enclosing == depth) {
                Some(index) => start = ended.swap_remove(index).1,
                None => break,
            }
        }
        self.depth.set(depth);
        self.go_back(start);
    }

    fn error(&self, kind: AllocErrorKind, requested: usize, alignment: usize) -> AllocError {
        let usage = self.usage();
        AllocError {
            kind,
            in_use: usage.bytes_in_use,
            pooled: usage.pooled_bytes,
            ..AllocError::never_fits(requested, alignment)
        }
    }

    /// Grows a buffer where it is the last one handed out and its block has room, else moves it; shrinks in place.
    ///
    /// # Safety
    /// `ptr` was handed out by this arena for `old`, at this depth, and is alive.
    unsafe fn resize_at(
        &self,
        depth: usize,
        ptr: NonNull<u8>,
        old: Layout,
        new: Layout,
        zeroed: bool,
    ) -> Result<NonNull<u8>, AllocError> {
        debug_assert!(ptr.addr().get().is_multiple_of(old.align()) && depth <= self.depth.get());
        let aligned = new.align() <= old.align();
        let result = if aligned && (new.size() <= old.size() || self.extend(depth, ptr, old, new)) {
            ptr
        } else {
            let moved = self.bump(depth, new, false)?;
            // SAFETY: both are live and hold that many bytes, and `moved` is new, so they are disjoint.
            unsafe { ptr::copy_nonoverlapping(ptr.as_ptr(), moved.as_ptr(), old.size().min(new.size())) };
            moved
        };
        if zeroed && new.size() > old.size() {
            // SAFETY: `result` has at least `new.size()` bytes and belongs to the caller alone.
            unsafe { result.add(old.size()).write_bytes(0, new.size() - old.size()) };
        }
        Ok(result)
    }

    /// Lets the last buffer handed out reach further, if it is that and there is room.
    fn extend(&self, depth: usize, ptr: NonNull<u8>, old: Layout, new: Layout) -> bool {
        let (block, cursor) = (self.current.get(), self.cursor.get());
        let end = block.ptr.addr().get() + cursor.offset;
        let growth = new.size() - old.size();
        if old.size() == 0 || ptr.addr().get() + old.size() != end || block.layout.size() - cursor.offset < growth {
            return false;
        }
        debug_assert!(cursor.offset >= old.size());
        let (offset, requested) = (cursor.offset + growth, cursor.requested + growth);
        self.advance_to(depth, Cursor { offset, requested, ..cursor });
        true
    }
}

impl<B: Backing> Drop for ComputeArena<B> {
    fn drop(&mut self) {
        self.release_blocks();
    }
}

impl<B: Backing> fmt::Debug for ComputeArena<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComputeArena").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

macro_rules! provide_by_bumping {
    ($provider:ty, |$this:ident| $arena:expr, $depth:expr) => {
        // SAFETY: each request moves the arena's cursor behind what it grants, so no two overlap. The memory is reclaimed
        // only when the arena is reset, which borrows it mutably, or the scope is dropped.
        unsafe impl<B: Backing> Provider for $provider {
            #[inline]
            fn request(&self, layout: Layout, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
                let $this = self;
                $arena.bump($depth, layout, zeroed)
            }

            /// Reclaims nothing, so anything may be given back.
            #[inline]
            unsafe fn release(&self, _: NonNull<u8>, _: Layout) {}

            unsafe fn resize(
                &self,
                ptr: NonNull<u8>,
                old: Layout,
                new: Layout,
                zeroed: bool,
            ) -> Result<NonNull<u8>, AllocError> {
                let $this = self;
                // SAFETY: the caller's word, passed on.
                unsafe { $arena.resize_at($depth, ptr, old, new, zeroed) }
            }

            fn never_fits(&self, requested: usize, alignment: usize) -> AllocError {
                let $this = self;
                $arena.error(AllocErrorKind::NeverFits, requested, alignment)
            }
        }
    };
}

provide_by_bumping!(ComputeArena<B>, |this| this, 0);
provide_by_bumping!(Scope<'_, B>, |this| this.arena, this.depth);
