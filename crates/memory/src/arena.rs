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

use std::alloc::Layout;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use bytemuck::Zeroable;

use crate::backing::{Backing, Refused, System};
use crate::buffer::Buffer;
use crate::error::{AllocError, AllocErrorKind};
use crate::layout::{MIN_ALIGNMENT, align_up};
use crate::provider::{Provider, typed_requests};

/// The least size of a block that the arena adds when it grows, in bytes.
const MIN_BLOCK: usize = 64 << 10;

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
    /// How many scopes are open; each scope knows its own depth, the arena's is 0.
    depth: Cell<usize>,
    peaks: Cell<Peaks>,
    reserved: Cell<usize>,
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
    /// Where the cursor would stand had all requests been placed in one block aligned for every one of them.
    contiguous: usize,
    requested: usize,
    allocations: usize,
}

/// The cursor that no scope deeper than `depth` may rewind beyond.
#[derive(Clone, Copy)]
struct Floor {
    cursor: Cursor,
    depth: usize,
}

#[derive(Clone, Copy, Default)]
struct Peaks {
    requested: usize,
    reserved: usize,
    contiguous: usize,
    alignment: usize,
}

/// How much of an arena is used. All fields count bytes, but for `blocks` and `allocations`.
///
/// `reserved_bytes = bytes_in_use + pooled_bytes + overhead_bytes` always holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct ArenaUsage {
    /// Requested since the last reset and not rewound since, dropped buffers included.
    pub bytes_in_use: usize,
    /// The largest `bytes_in_use` so far.
    pub peak_bytes_in_use: usize,
    /// Held from the backing.
    pub reserved_bytes: usize,
    /// The largest `reserved_bytes` so far.
    pub peak_reserved_bytes: usize,
    /// Free for requests to come.
    pub pooled_bytes: usize,
    /// Spent on alignment, and at the ends of blocks where the next request did not fit.
    pub overhead_bytes: usize,
    /// The number of blocks from the backing: 1 once the arena has settled.
    pub blocks: usize,
    /// Requests since the last reset and not rewound since.
    pub allocations: usize,
}

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
            peaks: Cell::default(),
            reserved: Cell::new(0),
        }
    }

    /// An arena over `backing` with room for `bytes`. If the backing refuses them now, the arena is empty, and the first
    /// request asks again and reports what it hears.
    pub fn with_capacity_in(bytes: usize, backing: B) -> Self {
        let arena = Self::new_in(backing);
        if let Some(layout) = block_layout(bytes, MIN_ALIGNMENT)
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
    /// as much, and enough for all that was requested, so that the same requests again need not grow it.
    ///
    /// No buffer can be alive: they borrow the arena. Should the backing refuse the exchange, the arena starts empty, and
    /// the next request asks again and reports what it hears.
    pub fn reset(&mut self) {
        self.cursor.set(Cursor::default());
        self.floor.set(None);
        self.depth.set(0);
        let peaks = self.peaks.get();
        let reserved = self.reserved.get();
        if self.blocks.get_mut().len() > 1 {
            self.release_blocks();
            if let Some(layout) = block_layout(reserved.max(peaks.contiguous), peaks.alignment)
                && let Ok(block) = self.add_block(layout)
            {
                self.current.set(block);
            }
        } else {
            let first = self.blocks.get_mut().first().copied();
            self.current.set(first.unwrap_or(NO_BLOCK));
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
        let (cursor, peaks) = (self.cursor.get(), self.peaks.get());
        let blocks = self.blocks.borrow();
        let passed: usize = blocks.iter().take(cursor.block).map(|block| block.layout.size()).sum();
        let reserved_bytes = self.reserved.get();
        ArenaUsage {
            bytes_in_use: cursor.requested,
            peak_bytes_in_use: peaks.requested,
            reserved_bytes,
            peak_reserved_bytes: peaks.reserved,
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
            return Ok(request.dangling_ptr());
        }
        let block = self.current.get();
        let ptr = match place(block, self.cursor.get().offset, request) {
            Some(start) => self.hand_out(depth, block, start, request),
            None => self.advance(depth, request)?,
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
        let mut cursor = self.cursor.get();
        cursor.offset = start + request.size();
        // The sum of what fits in live blocks, each padded by less than it is long or aligned, is far from overflow.
        cursor.contiguous =
            align_up(cursor.contiguous, request.align()).unwrap_or(usize::MAX).saturating_add(request.size());
        cursor.allocations += 1;
        self.move_cursor(depth, cursor, request);
        // SAFETY: `place` found `start + request.size()` within the block.
        unsafe { block.ptr.add(start) }
    }

    /// Moves the cursor forward for a request of the arena or a scope, and raises the floor where that is not the
    /// innermost one. Every advance of the cursor comes through here.
    #[inline]
    fn move_cursor(&self, depth: usize, mut cursor: Cursor, request: Layout) {
        cursor.requested += request.size();
        self.cursor.set(cursor);
        let mut peaks = self.peaks.get();
        peaks.alignment = peaks.alignment.max(request.align());
        peaks.requested = peaks.requested.max(cursor.requested);
        peaks.contiguous = peaks.contiguous.max(cursor.contiguous);
        self.peaks.set(peaks);
        if depth < self.depth.get() {
            let depth = self.floor.get().map_or(depth, |floor| floor.depth.min(depth));
            self.floor.set(Some(Floor { cursor, depth }));
        }
    }

    /// Continues in the next block that is large enough, or in a new one.
    #[cold]
    fn advance(&self, depth: usize, request: Layout) -> Result<NonNull<u8>, AllocError> {
        let next = self.cursor.get().block + 1;
        let later = self.blocks.borrow().iter().copied().enumerate().skip(next).find_map(|(index, block)| {
            let start = place(block, 0, request)?;
            Some((index, block, start))
        });
        let (index, block, start) = match later {
            Some(found) => found,
            None => {
                let block = self.grow(request)?;
                (self.blocks.borrow().len() - 1, block, 0)
            }
        };
        self.current.set(block);
        self.cursor.set(Cursor { block: index, offset: 0, ..self.cursor.get() });
        Ok(self.hand_out(depth, block, start, request))
    }

    /// Adds a block that holds the request: half as large as all blocks so far, so that the arena grows geometrically, or
    /// as large as it must be where the backing refuses that.
    fn grow(&self, request: Layout) -> Result<Block, AllocError> {
        let alignment = request.align().max(MIN_ALIGNMENT);
        let least = block_layout(request.size(), alignment);
        let ample = block_layout(request.size().max(self.reserved.get() / 2).max(MIN_BLOCK), alignment);
        let Some(least) = least else {
            return Err(self.error(AllocErrorKind::NeverFits, request.size(), request.align()));
        };
        self.add_block(ample.unwrap_or(least))
            .or_else(|Refused| self.add_block(least))
            .map_err(|Refused| self.error(AllocErrorKind::BackingRefused, request.size(), request.align()))
    }

    fn add_block(&self, layout: Layout) -> Result<Block, Refused> {
        self.blocks.borrow_mut().try_reserve(1).map_err(|_| Refused)?;
        // No borrow is held here: the backing is not ours, and may come back to this arena.
        let ptr = self.backing.allocate(layout)?;
        let block = Block { ptr, layout };
        self.blocks.borrow_mut().push(block);
        self.reserved.set(self.reserved.get() + layout.size());
        let mut peaks = self.peaks.get();
        peaks.reserved = peaks.reserved.max(self.reserved.get());
        self.peaks.set(peaks);
        Ok(block)
    }

    fn release_blocks(&mut self) {
        self.current.set(NO_BLOCK);
        self.reserved.set(0);
        for Block { ptr, layout } in self.blocks.get_mut().drain(..) {
            // SAFETY: the block came from the backing with this layout (`add_block`); what was handed out of it borrowed
            // the arena, which `&mut self` says is over.
            unsafe { self.backing.deallocate(ptr, layout) };
        }
    }

    fn error(&self, kind: AllocErrorKind, requested: usize, alignment: usize) -> AllocError {
        let usage = self.usage();
        AllocError { kind, requested, alignment, in_use: usage.bytes_in_use, pooled: usage.pooled_bytes, limit: None }
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
        let aligned = ptr.addr().get().is_multiple_of(new.align());
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
        let (block, mut cursor) = (self.current.get(), self.cursor.get());
        let end = block.ptr.addr().get() + cursor.offset;
        let Ok(growth) = Layout::from_size_align(new.size() - old.size(), 1) else { return false };
        if old.size() == 0
            || ptr.addr().get() + old.size() != end
            || block.layout.size() - cursor.offset < growth.size()
        {
            return false;
        }
        cursor.offset += growth.size();
        cursor.contiguous = cursor.contiguous.saturating_add(growth.size());
        self.move_cursor(depth, cursor, growth);
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

/// Where in a block a request can start, at or after `offset`.
#[inline]
fn place(block: Block, offset: usize, request: Layout) -> Option<usize> {
    let base = block.ptr.addr().get();
    let start = align_up(base + offset, request.align())? - base;
    let end = start.checked_add(request.size())?;
    (end <= block.layout.size()).then_some(start)
}

fn block_layout(bytes: usize, alignment: usize) -> Option<Layout> {
    Layout::from_size_align(align_up(bytes, MIN_ALIGNMENT)?, alignment.max(MIN_ALIGNMENT)).ok()
}

/// A stretch of an arena's life: what is requested from it is reclaimed when it ends. See [`ComputeArena::scope`].
///
/// It offers the same requests as the arena. Scopes nest; each may be used while inner ones are open, and what it hands
/// out then is reclaimed when it ends itself. (The memory between is then reclaimed with it, too.)
pub struct Scope<'a, B: Backing = System> {
    arena: &'a ComputeArena<B>,
    start: Cursor,
    /// Open scopes have distinct depths, none above the arena's.
    depth: usize,
}

impl<B: Backing> Scope<'_, B> {
    typed_requests!("let arena = tenzor_memory::ComputeArena::new(); let alloc = arena.checkpoint();");

    /// The allocator that [`alloc`](Self::alloc)'s buffers carry, for std-style containers.
    pub fn allocator(&self) -> &Self {
        self
    }

    /// An inner scope; see [`ComputeArena::scope`].
    pub fn scope<R>(&self, f: impl FnOnce(&Scope<'_, B>) -> R) -> R {
        self.arena.scope(f)
    }

    /// An inner scope; see [`ComputeArena::checkpoint`].
    pub fn checkpoint(&self) -> Scope<'_, B> {
        self.arena.checkpoint()
    }

    /// Ends the scope: the same as dropping it.
    pub fn rewind(self) {}

    /// How much of the whole arena is used.
    pub fn usage(&self) -> ArenaUsage {
        self.arena.usage()
    }
}

impl<B: Backing> Drop for Scope<'_, B> {
    fn drop(&mut self) {
        let arena = self.arena;
        // A scope dropped before an inner one leaves its memory to whatever encloses both.
        if arena.depth.get() != self.depth {
            return;
        }
        arena.depth.set(self.depth - 1);
        let mut to = self.start;
        if let Some(floor) = arena.floor.get() {
            if floor.depth < self.depth && floor.cursor > to {
                to = floor.cursor;
            }
            // No open scope is deeper than the one whose requests the floor protects.
            if floor.depth + 1 >= self.depth {
                arena.floor.set(None);
            }
        }
        if let Some(&block) = arena.blocks.borrow().get(to.block) {
            arena.current.set(block);
            arena.cursor.set(to);
        }
    }
}

impl<B: Backing> fmt::Debug for Scope<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("depth", &self.depth).field("usage", &self.usage()).finish_non_exhaustive()
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
