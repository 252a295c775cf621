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
use std::ptr::NonNull;

use bytemuck::Zeroable;

use self::blocks::{BLOCK_ALIGNMENT, MIN_BLOCK, place};
pub use self::scope::Scope;
pub use self::usage::ArenaUsage;
use crate::backing::{Backing, DefaultBacking, Standby};
use crate::buffer::Buffer;
use crate::error::AllocError;
use crate::layout::dangling;
use crate::provider::{Provider, typed_requests};
use crate::retention::Retention;

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
pub struct ComputeArena<B: Backing = DefaultBacking> {
    /// What the blocks come from. The only one is put aside there while nothing of it is handed out since a reset.
    home: Standby<B>,
    is_aside: Cell<bool>,
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
    /// The furthest place of the cursor since the last reset, up to when it last went back.
    furthest: Cell<Cursor>,
    /// How many bytes the recent passes needed, from one reset to the next; and how many passes there were.
    recent: Retention,
    passes: u32,
    /// Bytes of room that the arena was made with.
    least: usize,
}

/// A buffer of a [`ComputeArena`].
pub type ArenaBuffer<'a, T, B = DefaultBacking> = Buffer<T, &'a ComputeArena<B>>;

/// A buffer of a [`Scope`].
pub type ScopeBuffer<'a, T, B = DefaultBacking> = Buffer<T, &'a Scope<'a, B>>;

/// A block from the backing.
#[derive(Clone, Copy)]
struct Block {
    ptr: NonNull<u8>,
    layout: Layout,
}

/// What so many passes needed is forgotten together.
const PASSES_A_TICK: u32 = 16;

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
    /// An empty arena over the process's heap, or malloc where there is none; it takes memory with its first request.
    pub fn new() -> Self {
        Self::new_in(DefaultBacking::default())
    }

    /// An arena over the process's heap, or malloc where there is none, with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self::with_capacity_in(bytes, DefaultBacking::default())
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
            home: Standby::new(backing),
            is_aside: Cell::new(false),
            blocks: RefCell::new(Vec::new()),
            current: Cell::new(NO_BLOCK),
            cursor: Cell::default(),
            floor: Cell::default(),
            depth: Cell::new(0),
            ended: RefCell::new(Vec::new()),
            reserved: Cell::new(0),
            peak_reserved: Cell::new(0),
            peak_requested: Cell::new(0),
            furthest: Cell::default(),
            recent: Retention::new(),
            passes: 0,
            least: 0,
        }
    }

    /// An arena over `backing` with room for `bytes`. If the backing refuses them, the arena is empty, and requests ask it for
    /// what they need themselves.
    pub fn with_capacity_in(bytes: usize, backing: B) -> Self {
        let mut arena = Self::new_in(backing);
        arena.least = bytes;
        arena.renew(bytes, BLOCK_ALIGNMENT);
        arena.put_aside();
        arena
    }

    typed_requests!("let alloc = tenzor_memory::ComputeArena::new();");

    /// The allocator that [`alloc`](Self::alloc)'s buffers carry, for std-style containers.
    pub fn allocator(&self) -> &Self {
        self
    }

    /// Reclaims everything and keeps as much as the last 48 to 64 passes needed, from one reset to the next, but no less than it was
    /// [made with](Self::with_capacity). If the arena had to grow, its blocks are exchanged for one, so that the same requests again need not
    /// grow it.
    ///
    /// No buffer can be alive: they borrow the arena. Should the backing refuse the exchange, the arena is empty, and
    /// requests ask it for what they need themselves. Until the next request, what the arena keeps can be asked back by others who need it: see
    /// [`Budget`](crate::Budget).
    pub fn reset(&mut self) {
        self.floor.set(None);
        self.depth.set(0);
        self.ended.get_mut().clear();
        self.take_back();
        self.go_back(Cursor::default());
        let alignment = self.block_alignment();
        let Some(needed) = self.needed(alignment) else { return self.release_blocks() };
        self.furthest.set(Cursor::default());
        self.recent.in_use(needed);
        let wanted = self.recent.peak().max(self.least);
        self.passes = self.passes.wrapping_add(1);
        if self.passes.is_multiple_of(PASSES_A_TICK) {
            self.recent.tick(0);
        }
        // What is a little too large stays.
        if self.blocks.get_mut().len() > 1 || self.reserved.get() / 4 * 3 > wanted.max(MIN_BLOCK) {
            self.renew(wanted, alignment);
        }
        self.put_aside();
    }

    /// Gives memory back until the arena holds at most so many bytes. No buffer can be alive. Returns how many bytes were given back.
    ///
    /// ```
    /// let mut arena = tenzor_memory::ComputeArena::with_capacity(1 << 20);
    /// assert_eq!(arena.shrink_to(1 << 16), (1 << 20) - (1 << 16));
    /// assert_eq!(arena.usage().reserved_bytes, 1 << 16);
    /// ```
    pub fn shrink_to(&mut self, bytes: usize) -> usize {
        self.reset();
        self.see_whether_aside();
        let before = self.reserved.get();
        if before > bytes {
            (self.least, self.recent) = (self.least.min(bytes), Retention::new());
            self.renew(bytes, BLOCK_ALIGNMENT);
            self.put_aside();
        }
        before - self.reserved.get()
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
        self.see_whether_aside();
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
        self.home.backing()
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
        let from = self.cursor.replace(to);
        self.peak_requested.set(self.peak_requested.get().max(from.requested));
        if from > self.furthest.get() {
            self.furthest.set(from);
        }
        let current = self.blocks.borrow().get(to.block).copied().filter(|_| !self.is_aside.get());
        self.current.set(current.unwrap_or(NO_BLOCK));
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

    /// Grows a buffer where it is the last one handed out and its block has room; shrinks any.
    fn resize_at(&self, depth: usize, ptr: NonNull<u8>, old: Layout, new: Layout) -> bool {
        debug_assert!(depth <= self.depth.get());
        new.align() <= old.align() && (new.size() <= old.size() || self.extend(depth, ptr, old, new))
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
            const IS_RESET: bool = true;

            #[inline]
            fn request(&self, layout: Layout, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
                let $this = self;
                $arena.bump($depth, layout, zeroed)
            }

            /// Reclaims nothing, so anything may be given back.
            #[inline]
            unsafe fn release(&self, _: NonNull<u8>, _: Layout) {}

            unsafe fn resize_in_place(&self, ptr: NonNull<u8>, old: Layout, new: Layout) -> bool {
                let $this = self;
                $arena.resize_at($depth, ptr, old, new)
            }

            fn never_fits(&self, requested: usize, alignment: usize) -> AllocError {
                AllocError::never_fits(requested, alignment)
            }
        }
    };
}

provide_by_bumping!(ComputeArena<B>, |this| this, 0);
provide_by_bumping!(Scope<'_, B>, |this| this.arena, this.depth);
