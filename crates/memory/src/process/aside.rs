//! What is served without the heap's lock, where that is held for a fork that does not come about.
//!
//! The thread that forks may wait for what another thread has: a handler that runs after ours takes a library's lock, and who holds that
//! waits for the heap. No order of handlers helps everybody. So whoever has waited for some milliseconds goes another way: a
//! request is served from a mapping of its own, and a block that is freed is left in a list, written into the block itself. Who has
//! the lock next works some of that off, in the child as well. All here is changed by single atomic steps, so that the child finds it whole.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::{self, NonNull};

use super::cache::{Cache, give_back};
use super::runs::take_back_run;
use super::shards::{Visit, owner};
use super::tuning::{ASIDE_BLOCKS, ASIDE_BLOCKS_A_HOLD};
use super::{central, threads};
use crate::heap::classes::{self, PAGE, Place, class_capacity};
use crate::os::{Linux, Os};
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicUsize};

/// Where such a block is, and the bytes of its mapping. A place without a start is vacant; one that starts at `TAKEN` is being filled.
struct Served {
    start: AtomicUsize,
    bytes: AtomicUsize,
    /// The request; and whether it is counted.
    request: AtomicUsize,
}

const TAKEN: usize = 1;

static SERVED: [Served; ASIDE_BLOCKS] =
    [const { Served { start: AtomicUsize::new(0), bytes: AtomicUsize::new(0), request: AtomicUsize::new(0) } };
        ASIDE_BLOCKS];

/// A request in one word: the logarithm of its alignment above its size, which is not zero.
fn pack(request: Layout) -> usize {
    request.size() | (request.align().trailing_zeros() as usize) << SIZE
}

const SIZE: u32 = 58;

/// In a packed request: the block was counted as free already, or never as in use.
const COUNTED: usize = 1 << (SIZE - 1);

/// `None` for zero.
fn unpack(request: usize) -> Option<Layout> {
    let size = request & (COUNTED - 1);
    Layout::from_size_align(size, 1 << (request >> SIZE)).ok().filter(|request| request.size() > 0)
}

/// A block for a request that is not zero-sized. All of it is zero.
#[cold]
pub(super) fn obtain(request: Layout) -> Option<NonNull<u8>> {
    let size = match classes::place(request)? {
        // Caches take it for any other block of the class.
        Place::Class(class) => class_capacity(class),
        Place::Run(_) => request.size(),
    };
    let bytes = size.checked_next_multiple_of(PAGE)?;
    let place = SERVED.iter().find(|place| place.start.compare_exchange(0, TAKEN, Acquire, Relaxed).is_ok())?;
    let Some(start) = Linux.map_anywhere(bytes, request.align().max(PAGE)) else {
        place.start.store(0, Relaxed);
        return None;
    };
    place.bytes.store(bytes, Relaxed);
    place.request.store(pack(request), Relaxed);
    place.start.store(start.addr().get(), Release);
    super::leave_work();
    Some(start)
}

/// Where a block is noted that was served so, and is in use.
fn place_of(block: NonNull<u8>) -> Option<&'static Served> {
    SERVED.iter().find(|place| place.start.load(Acquire) == block.addr().get())
}

/// What was requested of a block that was served so, and is in use.
#[cold]
pub(super) fn request(block: NonNull<u8>) -> Option<Layout> {
    unpack(place_of(block)?.request.load(Relaxed))
}

/// Bytes of what was served so, and is in use.
#[cold]
pub(super) fn bytes_in_use() -> usize {
    let is_in_use = |place: &&Served| place.start.load(Acquire) > TAKEN;
    SERVED.iter().filter(is_in_use).map(|place| place.bytes.load(Relaxed)).sum()
}

/// Whether a block was served so, and is in use.
#[cold]
pub(super) fn has_served(block: NonNull<u8>) -> bool {
    place_of(block).is_some()
}

/// Takes back a block that was served so; returns whether it was.
///
/// # Safety
/// If it was, nobody uses it any more.
#[cold]
pub(super) unsafe fn take_back(block: NonNull<u8>) -> bool {
    let Some(place) = place_of(block) else { return false };
    let bytes = place.bytes.load(Relaxed);
    if place.start.compare_exchange(block.addr().get(), TAKEN, Acquire, Relaxed).is_err() {
        return false;
    }
    // SAFETY: it was mapped for this block alone, which nobody uses (the caller's word). If it stays, nobody will.
    unsafe { Linux.unmap(block, bytes) };
    place.start.store(0, Release);
    true
}

/// In a freed block: what it was requested as, and the one that was freed before it. *Left*: what is in the list is nobody's, and was
/// written before it came there.
struct FreedAside {
    before: *mut FreedAside,
    request: usize,
}

/// The block that was freed last, and not given back yet.
static FREED: AtomicPtr<FreedAside> = AtomicPtr::new(ptr::null_mut());

/// A thread's cache that it left, by `Cache::left`.
static LEFT: AtomicPtr<Cache> = AtomicPtr::new(ptr::null_mut());

/// Leaves a freed block to who has the lock next.
///
/// # Safety
/// It was granted for `request`, and nobody uses it any more.
#[cold]
pub(super) unsafe fn leave(block: NonNull<u8>, request: Layout) {
    // SAFETY: the caller's word.
    unsafe { leave_packed(block, pack(request)) };
}

/// As [`leave`], what was counted as free already, or never as in use.
///
/// # Safety
/// As for [`leave`].
#[cold]
pub(super) unsafe fn leave_uncounted(block: NonNull<u8>, request: Layout) {
    // SAFETY: the caller's word.
    unsafe { leave_packed(block, COUNTED | pack(request)) };
}

/// # Safety
/// As for [`leave`].
unsafe fn leave_packed(block: NonNull<u8>, request: usize) {
    let freed = block.cast::<FreedAside>().as_ptr();
    // SAFETY: all blocks have 16 bytes and are aligned to as many, and this one is nobody else's.
    push(&FREED, freed, |before| unsafe { freed.write(FreedAside { before, request }) });
}

/// Leaves the cache of a thread that ends to who has the lock next.
#[cold]
pub(super) fn leave_cache(cache: &'static Cache) {
    push(&LEFT, ptr::from_ref(cache).cast_mut(), |before| cache.left.store(before, Relaxed));
}

/// Puts an item before those of a list, once `link` has noted in it which was the first before.
fn push<T>(list: &AtomicPtr<T>, item: *mut T, link: impl Fn(*mut T)) {
    let mut before = list.load(Relaxed);
    loop {
        link(before);
        match list.compare_exchange_weak(before, item, Release, Relaxed) {
            Ok(_) => return super::leave_work(),
            Err(now) => before = now,
        }
    }
}

/// Takes the item that was put last, for who has the heap's lock: as nobody else takes, the first item is the same until it is taken.
fn pop<T>(list: &AtomicPtr<T>, before: impl Fn(NonNull<T>) -> *mut T) -> Option<NonNull<T>> {
    loop {
        let first = NonNull::new(list.load(Acquire))?;
        if list.compare_exchange_weak(first.as_ptr(), before(first), Acquire, Relaxed).is_ok() {
            return Some(first);
        }
    }
}

/// Counts what was served, and gives back some of what was left. Returns whether there is more.
pub(super) fn work_off() -> bool {
    let mut visit = Visit::default();
    for place in &SERVED {
        let packed = place.request.load(Relaxed);
        let Some(request) = unpack(packed).filter(|_| packed & COUNTED == 0) else { continue };
        let Some(counted) = classes::place(request) else { continue };
        let Some(inside) = visit.to(owner(NonNull::dangling())) else { return true };
        // Others may look as well.
        if place.request.compare_exchange(packed, packed | COUNTED, Relaxed, Relaxed).is_ok() {
            let homeless = inside.shard.homeless();
            inside.tallies.served(homeless, counted.class(), counted.capacity(), request.size(), true);
        }
    }
    drop(visit);
    let mut blocks = [None; ASIDE_BLOCKS_A_HOLD];
    let left = {
        let Some(_central) = central() else { return true };
        for place in &mut blocks {
            // SAFETY: *Left*: `leave` wrote it.
            *place = pop(&FREED, |block| unsafe { block.as_ref() }.before);
        }
        // SAFETY: *Enrolled*: a cache that was left is still in the list of all.
        let cache = |cache: NonNull<Cache>| -> &'static Cache { unsafe { cache.as_ref() } };
        pop(&LEFT, |left| cache(left).left.load(Relaxed)).map(cache)
    };
    let mut visit = Visit::default();
    for block in blocks.into_iter().flatten() {
        // SAFETY: *Left*: `leave` wrote it, and it was taken from the list.
        let packed = unsafe { block.as_ref() }.request;
        let (block, Some(request)) = (block.cast(), unpack(packed)) else { continue };
        let Some(place) = classes::place(request) else { continue };
        let Some(inside) = visit.to(owner(block)) else {
            // SAFETY: as above.
            unsafe { leave_packed(block, packed) };
            continue;
        };
        match place {
            Place::Class(class) => give_back(&mut inside.heap, class, block),
            // SAFETY: *Left*.
            Place::Run(run) => unsafe { take_back_run(&mut inside.heap, run, block) },
        }
        if packed & COUNTED == 0 {
            let homeless = inside.shard.homeless();
            inside.tallies.freed(homeless, place.class(), place.capacity(), request.size());
        }
    }
    drop(visit);
    left.into_iter().for_each(threads::retire);
    !FREED.load(Relaxed).is_null() || !LEFT.load(Relaxed).is_null()
}
