//! Allocators, whichever kind they are of, behind one pointer.
//!
//! *One thread*: an arena or a planned allocator is used by one thread at a time, which is the program's word.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::cell::{Cell, UnsafeCell};
use std::ffi::c_void;
use std::ptr::{self, NonNull};

use tenzor_memory::{
    AllocError, Allocator, Backing, ComputeArena, PlannedAllocator, PoolConfig, TensorAllocator, malloc,
};
use tenzor_table::{NONE, is_there_room};

use crate::budget::{Ground, tenzor_budget};
use crate::error::{Failure, answer, layout, tenzor_error};
use crate::heap::Shared;

/// Where blocks come from: the heap, a pool, an arena or a planned allocator. The heap and pools are for all threads; an arena and a planned
/// allocator for one at a time.
pub struct tenzor_allocator {
    pub(crate) kind: Kind,
    /// Blocks of a planned allocator that are in use.
    in_use: Cell<usize>,
    /// Requests that an arena refused.
    pub(crate) failures: Cell<u64>,
}

pub(crate) enum Kind {
    Heap,
    Pool(TensorAllocator<Ground>),
    Arena(UnsafeCell<ComputeArena<Ground>>),
    Planned(PlannedAllocator<Ground>),
}

// SAFETY: the heap and pools are for all threads; the others: *One thread*.
unsafe impl Sync for tenzor_allocator {}

/// The alignment, in bytes, of blocks for which none is named.
pub const TENZOR_ALIGNMENT: usize = 64;

/// Settings of a pool. Odd values are rounded to the next ones that have a meaning.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct tenzor_pool_config {
    /// The most bytes that are kept for reuse.
    pub max_pool_size: usize,
    /// The most blocks that are kept in one bucket.
    pub max_buffers_per_bucket: usize,
    /// Into how many size classes each power of two is cut.
    pub classes_per_bucket: usize,
    /// The least alignment of every block, in bytes: a power of two from 64 to 2^30.
    pub alignment: usize,
    /// The most bytes in use and kept together; `SIZE_MAX` for no limit.
    pub limit: usize,
    /// Overwrite blocks with zeros when they are freed.
    pub zero_on_free: bool,
    /// Keep what the recent working set reuses, and no more.
    pub adaptive: bool,
}

impl tenzor_allocator {
    fn boxed(kind: Kind) -> *mut Self {
        Box::into_raw(Box::new(Self { kind, in_use: Cell::new(0), failures: Cell::new(0) }))
    }

    /// Asks one that has the std-style interface; `None` for the heap, which has it not.
    fn with<R>(&self, ask: impl FnOnce(&dyn Allocator) -> R) -> Option<R> {
        match &self.kind {
            Kind::Heap => None,
            Kind::Pool(pool) => Some(ask(pool)),
            // SAFETY: *One thread*: nobody has it exclusively.
            Kind::Arena(arena) => Some(ask(&unsafe { &*arena.get() })),
            Kind::Planned(planned) => Some(ask(&planned)),
        }
    }

    fn request(&self, request: Layout, zeroed: bool) -> Result<NonNull<u8>, Failure> {
        let ask = |alloc: &dyn Allocator| {
            if zeroed { alloc.allocate_zeroed(request) } else { alloc.allocate(request) }.ok().map(NonNull::cast)
        };
        let of_heap = || if zeroed { Shared.obtain_zeroed(request) } else { Shared.obtain(request) }.ok();
        let block = self.asking(request, || self.with(ask).unwrap_or_else(of_heap))?;
        self.count(request, 1);
        Ok(block)
    }

    /// # Safety
    /// The block was granted here for this layout, and nobody uses it any more.
    unsafe fn free(&self, block: NonNull<u8>, of: Layout) {
        // SAFETY: the caller's word.
        if self.with(|alloc| unsafe { alloc.deallocate(block, of) }).is_none() {
            // SAFETY: the caller's word.
            unsafe { Shared.give_back(block, of) };
        }
        self.count(of, usize::MAX);
    }

    fn count(&self, layout: Layout, by: usize) {
        if matches!(self.kind, Kind::Planned(_)) && layout.size() > 0 {
            self.in_use.set(self.in_use.get().wrapping_add(by));
        }
    }

    /// # Safety
    /// The block was granted here for `old`, and is the caller's.
    unsafe fn resize(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<u8>, Failure> {
        if old.size() == 0 || new.size() == 0 {
            let moved = self.request(new, false)?;
            // SAFETY: the caller's word.
            unsafe { self.free(block, old) };
            return Ok(moved);
        }
        if let Kind::Heap = self.kind {
            // SAFETY: the caller's word.
            if let Some(there) = unsafe { Shared.refit(block, old, new, false) } {
                return Ok(there);
            }
            let moved = self.request(new, false)?;
            // SAFETY: both are the caller's, disjoint, and have so many bytes.
            unsafe {
                block.copy_to_nonoverlapping(moved, old.size().min(new.size()));
                self.free(block, old);
            }
            return Ok(moved);
        }
        let ask = |alloc: &dyn Allocator| {
            let grows = new.size() >= old.size();
            // SAFETY: the caller's word.
            unsafe { if grows { alloc.grow(block, old, new) } else { alloc.shrink(block, old, new) } }
        };
        self.asking(new, || self.with(ask)?.ok().map(NonNull::cast))
    }

    /// Asks through an interface that has no room for a reason.
    fn asking(&self, request: Layout, ask: impl FnOnce() -> Option<NonNull<u8>>) -> Result<NonNull<u8>, Failure> {
        AllocError::take_last();
        ask().ok_or_else(|| {
            if let Kind::Arena(_) = self.kind {
                self.failures.set(self.failures.get() + 1);
            }
            AllocError::take_last().map_or(Failure::Request(request), Failure::Memory)
        })
    }
}

/// What `make` makes, if there is memory for its books.
///
/// # Safety
/// `error` is null or valid.
unsafe fn create(error: *mut tenzor_error, make: impl FnOnce() -> Kind) -> *mut tenzor_allocator {
    let made = if is_there_room() { Ok(tenzor_allocator::boxed(make())) } else { Err(Failure::NoRoom) };
    // SAFETY: the caller's word.
    unsafe { answer(error, ptr::null_mut(), made) }
}

/// # Safety
/// It is null or alive.
unsafe fn known<'a>(allocator: *const tenzor_allocator) -> Result<&'a tenzor_allocator, Failure> {
    // SAFETY: the caller's word.
    unsafe { allocator.as_ref() }.ok_or(Failure::Invalid("there is no allocator"))
}

static HEAP: tenzor_allocator = tenzor_allocator { kind: Kind::Heap, in_use: Cell::new(0), failures: Cell::new(0) };

/// The process's heap, as an allocator that is always there.
#[unsafe(no_mangle)]
pub extern "C" fn tenzor_heap() -> *mut tenzor_allocator {
    ptr::from_ref(&HEAP).cast_mut()
}

/// The settings of a pool for which none are named.
#[unsafe(no_mangle)]
pub extern "C" fn tenzor_pool_config_default() -> tenzor_pool_config {
    let config = PoolConfig::default();
    tenzor_pool_config {
        max_pool_size: config.max_pool_size,
        max_buffers_per_bucket: config.max_buffers_per_bucket,
        classes_per_bucket: config.classes_per_bucket,
        alignment: config.alignment,
        limit: config.limit.unwrap_or(NONE),
        zero_on_free: config.zero_on_free,
        adaptive: config.adaptive,
    }
}

/// # Safety
/// Both are null or valid.
unsafe fn pool(config: *const tenzor_pool_config, budget: *const tenzor_budget) -> TensorAllocator<Ground> {
    // SAFETY: the caller's word.
    let (config, ground) = unsafe { (config.as_ref(), Ground::of(budget)) };
    let config = config.map_or(PoolConfig::default(), |config| {
        PoolConfig::default()
            .with_max_pool_size(config.max_pool_size)
            .with_max_buffers_per_bucket(config.max_buffers_per_bucket)
            .with_classes_per_bucket(config.classes_per_bucket)
            .with_alignment(config.alignment)
            .with_limit(Some(config.limit).filter(|&limit| limit != NONE))
            .with_zero_on_free(config.zero_on_free)
            .with_adaptive(config.adaptive)
    });
    TensorAllocator::with_config_in(config, ground)
}

/// A pool: freed blocks are kept by size class, and reused. Settings, or null for the default; of a budget, or null for the heap. For all threads. Null if there is no memory for its books.
///
/// # Safety
/// `config`, `budget` and `error` are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_pool_create(
    config: *const tenzor_pool_config,
    budget: *const tenzor_budget,
    error: *mut tenzor_error,
) -> *mut tenzor_allocator {
    // SAFETY: the caller's word.
    unsafe { create(error, || Kind::Pool(pool(config, budget))) }
}

/// An arena: blocks are cut one behind the other, and `tenzor_arena_reset` frees all at once. With room for `capacity` bytes, or as much of it as there is; of a
/// budget, or null for the heap. For one thread at a time. Null if there is no memory for its books.
///
/// # Safety
/// `budget` and `error` are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_arena_create(
    capacity: usize,
    budget: *const tenzor_budget,
    error: *mut tenzor_error,
) -> *mut tenzor_allocator {
    // SAFETY: the caller's word.
    unsafe {
        create(error, || Kind::Arena(UnsafeCell::new(ComputeArena::with_capacity_in(capacity, Ground::of(budget)))))
    }
}

/// A planned allocator: a step that repeats, between `tenzor_step_begin` and `tenzor_step_end`, is served from one block by a plan; what is not planned, by a
/// pool of these settings (null for the default); of a budget, or null for the heap. For one thread at a time. Null if there is no memory for its books.
///
/// # Safety
/// `config`, `budget` and `error` are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_planned_create(
    config: *const tenzor_pool_config,
    budget: *const tenzor_budget,
    error: *mut tenzor_error,
) -> *mut tenzor_allocator {
    // SAFETY: the caller's word.
    unsafe { create(error, || Kind::Planned(PlannedAllocator::new(pool(config, budget)))) }
}

/// Ends an allocator. A pool, or a planned allocator, of which blocks are in use stays, and that is the error; of an arena, all blocks go with it. Null does nothing.
///
/// # Safety
/// It is null, or came from one of the functions above and is not used any more; `error` is null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_allocator_destroy(allocator: *mut tenzor_allocator, error: *mut tenzor_error) -> bool {
    let end = || {
        // SAFETY: the caller's word.
        let Some(this) = (unsafe { allocator.as_ref() }) else { return Ok(true) };
        let in_use = match &this.kind {
            Kind::Heap => return Err(Failure::Invalid("the heap stays")),
            Kind::Pool(pool) => {
                let stats = pool.stats();
                stats.allocations.saturating_sub(stats.deallocations) as usize
            }
            Kind::Arena(_) => 0,
            Kind::Planned(_) => this.in_use.get(),
        };
        match in_use {
            0 => {
                // SAFETY: the caller's word: it came from `boxed`.
                drop(unsafe { Box::from_raw(allocator) });
                Ok(true)
            }
            1 => Err(Failure::InUse("1 block of the allocator is in use".to_owned())),
            _ => Err(Failure::InUse(format!("{in_use} blocks of the allocator are in use"))),
        }
    };
    // SAFETY: the caller's word.
    unsafe { answer(error, false, end()) }
}

/// # Safety
/// As for `tenzor_aligned_alloc`.
unsafe fn alloc(
    allocator: *const tenzor_allocator,
    align: usize,
    size: usize,
    zeroed: bool,
    error: *mut tenzor_error,
) -> *mut c_void {
    // SAFETY: the caller's word.
    let block = unsafe { known(allocator) }.and_then(|allocator| allocator.request(layout(size, align)?, zeroed));
    // SAFETY: the caller's word.
    unsafe { answer(error, ptr::null_mut(), block.map(|block| block.as_ptr().cast())) }
}

/// A block of `size` bytes at a multiple of `TENZOR_ALIGNMENT`. Null if it is refused. One of no bytes is no memory: its address is its alignment, as that of
/// all others of no bytes, and it may be freed as others are.
/// Constant time where a block of that size class was freed before.
///
/// # Safety
/// `allocator` and `error` are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_alloc(
    allocator: *const tenzor_allocator,
    size: usize,
    error: *mut tenzor_error,
) -> *mut c_void {
    // SAFETY: the caller's word.
    unsafe { alloc(allocator, TENZOR_ALIGNMENT, size, false, error) }
}

/// As `tenzor_alloc`, with all bytes zero. Memory that is known to be zero is not written.
///
/// # Safety
/// As for `tenzor_alloc`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_alloc_zeroed(
    allocator: *const tenzor_allocator,
    size: usize,
    error: *mut tenzor_error,
) -> *mut c_void {
    // SAFETY: the caller's word.
    unsafe { alloc(allocator, TENZOR_ALIGNMENT, size, true, error) }
}

/// As `tenzor_alloc`, at a multiple of `alignment`, a power of two. To be freed by `tenzor_aligned_free`.
///
/// # Safety
/// As for `tenzor_alloc`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_aligned_alloc(
    allocator: *const tenzor_allocator,
    alignment: usize,
    size: usize,
    error: *mut tenzor_error,
) -> *mut c_void {
    // SAFETY: the caller's word.
    unsafe { alloc(allocator, alignment, size, false, error) }
}

/// As `tenzor_aligned_alloc`, with all bytes zero.
///
/// # Safety
/// As for `tenzor_alloc`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_aligned_alloc_zeroed(
    allocator: *const tenzor_allocator,
    alignment: usize,
    size: usize,
    error: *mut tenzor_error,
) -> *mut c_void {
    // SAFETY: the caller's word.
    unsafe { alloc(allocator, alignment, size, true, error) }
}

/// Makes a block of `old_size` bytes one of `new_size`, and returns where it is now. Its contents stay, up to the lesser of both. Null if it is refused: then the
/// block is as it was. A null block is requested anew.
///
/// # Safety
/// `allocator` and `error` are null or valid; the block came from `tenzor_alloc` or its kin of this allocator with that size, or was resized to it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_resize(
    allocator: *const tenzor_allocator,
    block: *mut c_void,
    old_size: usize,
    new_size: usize,
    error: *mut tenzor_error,
) -> *mut c_void {
    // SAFETY: the caller's word.
    unsafe { tenzor_aligned_resize(allocator, block, TENZOR_ALIGNMENT, old_size, new_size, error) }
}

/// As `tenzor_resize`, for blocks of `tenzor_aligned_alloc` with the same alignment.
///
/// # Safety
/// As for `tenzor_resize`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_aligned_resize(
    allocator: *const tenzor_allocator,
    block: *mut c_void,
    alignment: usize,
    old_size: usize,
    new_size: usize,
    error: *mut tenzor_error,
) -> *mut c_void {
    let Some(at) = NonNull::new(block.cast()) else {
        // SAFETY: the caller's word.
        return unsafe { alloc(allocator, alignment, new_size, false, error) };
    };
    let resize = || {
        let (old, new) = (layout(old_size, alignment)?, layout(new_size, alignment)?);
        // SAFETY: the caller's word.
        unsafe { known(allocator)?.resize(at, old, new) }
    };
    // SAFETY: the caller's word.
    unsafe { answer(error, ptr::null_mut(), resize().map(|block| block.as_ptr().cast())) }
}

/// Frees a block, which had so many bytes when it was requested or resized last. A null block is nothing. What was never granted so ends the process, where that is seen.
///
/// # Safety
/// The block came from `tenzor_alloc` or its kin of this allocator with that size, or was resized to it, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_free(allocator: *const tenzor_allocator, block: *mut c_void, size: usize) {
    // SAFETY: the caller's word.
    unsafe { tenzor_aligned_free(allocator, block, TENZOR_ALIGNMENT, size) };
}

/// As `tenzor_free`, for blocks of `tenzor_aligned_alloc` with the same alignment.
///
/// # Safety
/// As for `tenzor_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_aligned_free(
    allocator: *const tenzor_allocator,
    block: *mut c_void,
    alignment: usize,
    size: usize,
) {
    let Some(at) = NonNull::new(block.cast()) else { return };
    // SAFETY: the caller's word.
    match (unsafe { known(allocator) }, layout(size, alignment)) {
        (Err(_), _) => malloc::die(format_args!("{block:p} was freed, and no allocator was named")),
        // What has no bytes lies at its alignment.
        (_, Ok(layout)) if layout.size() == 0 && at.addr().get() != layout.align() => {
            malloc::die(format_args!("{block:p} was freed as one of no bytes"))
        }
        // SAFETY: the caller's word.
        (Ok(allocator), Ok(layout)) => unsafe { allocator.free(at, layout) },
        _ => malloc::die(format_args!(
            "{block:p} was freed as {size} bytes aligned to {alignment}, as no allocator grants them"
        )),
    }
}

/// Gives back what an allocator keeps for reuse beyond `keep` bytes; returns how many bytes. Of a planned allocator, what its pool keeps; of an arena see `tenzor_arena_shrink`.
///
/// # Safety
/// `allocator` is null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_trim(allocator: *const tenzor_allocator, keep: usize) -> usize {
    // SAFETY: the caller's word.
    match unsafe { allocator.as_ref() }.map(|allocator| &allocator.kind) {
        None | Some(Kind::Arena(_)) => 0,
        Some(Kind::Heap) => crate::heap::tenzor_heap_trim(),
        Some(Kind::Pool(pool)) => pool.trim(keep),
        Some(Kind::Planned(planned)) => planned.upstream().trim(keep),
    }
}

/// # Safety
/// It is null or alive, and nobody uses its blocks.
unsafe fn arena<'a>(allocator: *mut tenzor_allocator) -> Result<&'a mut ComputeArena<Ground>, Failure> {
    // SAFETY: the caller's word.
    match unsafe { &known(allocator)?.kind } {
        // SAFETY: *One thread*.
        Kind::Arena(arena) => Ok(unsafe { &mut *arena.get() }),
        _ => Err(Failure::Invalid("the allocator is no arena")),
    }
}

/// Frees all blocks of an arena at once, and keeps its memory for those to come. Returns whether it is one.
///
/// # Safety
/// `allocator` and `error` are null or valid, and nobody uses blocks of it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_arena_reset(allocator: *mut tenzor_allocator, error: *mut tenzor_error) -> bool {
    // SAFETY: the caller's word.
    unsafe { answer(error, false, arena(allocator).map(ComputeArena::reset).map(|()| true)) }
}

/// As `tenzor_arena_reset`, and gives memory back until the arena has so many bytes at most. Returns how many bytes were given back.
///
/// # Safety
/// As for `tenzor_arena_reset`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_arena_shrink(
    allocator: *mut tenzor_allocator,
    bytes: usize,
    error: *mut tenzor_error,
) -> usize {
    // SAFETY: the caller's word.
    unsafe { answer(error, 0, arena(allocator).map(|arena| arena.shrink_to(bytes))) }
}

/// # Safety
/// It is null or alive.
unsafe fn planned<'a>(allocator: *const tenzor_allocator) -> Result<&'a PlannedAllocator<Ground>, Failure> {
    // SAFETY: the caller's word.
    match unsafe { &known(allocator)?.kind } {
        Kind::Planned(planned) => Ok(planned),
        _ => Err(Failure::Invalid("the allocator is no planned one")),
    }
}

/// Begins a step of a planned allocator. Steps are not nested. Returns whether it began.
///
/// # Safety
/// `allocator` and `error` are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_step_begin(allocator: *const tenzor_allocator, error: *mut tenzor_error) -> bool {
    // SAFETY: the caller's word.
    let begun = unsafe { planned(allocator) }.and_then(|planned| {
        if planned.begin_step() { Ok(true) } else { Err(Failure::InUse("a step runs already".to_owned())) }
    });
    // SAFETY: the caller's word.
    unsafe { answer(error, false, begun) }
}

/// Ends the step that runs. Blocks that are in use stay so. Returns whether there was one.
///
/// # Safety
/// `allocator` and `error` are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_step_end(allocator: *const tenzor_allocator, error: *mut tenzor_error) -> bool {
    // SAFETY: the caller's word.
    let ended = unsafe { planned(allocator) }
        .and_then(|planned| if planned.end_step() { Ok(true) } else { Err(Failure::Invalid("no step runs")) });
    // SAFETY: the caller's word.
    unsafe { answer(error, false, ended) }
}
