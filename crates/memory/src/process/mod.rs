//! The process's one heap: its lock, the caches of the threads before it, the thread that gives idle memory back, and what
//! happens when the process forks.
#![allow(unsafe_code)]

mod cache;
mod fork;
mod purger;
mod settings;
mod tally;

use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::Relaxed;
use std::alloc::Layout;
use std::cell::Cell;
use std::ptr::NonNull;

use self::cache::Cache;
pub(crate) use self::settings::configure;

use self::purger::Purger;
use self::tally::Tallies;
use crate::heap::{Granted, Heap, Relocated};
use crate::layout::blocks::{self, Place, class_capacity};
use crate::os::Linux;
use crate::stats::Stats;
use crate::sync::{Lock, LockGuard};

static SHARED: Lock<Shared> = Lock::new(Shared::new());

#[derive(Debug)]
struct Shared {
    heap: Heap<Linux>,
    /// The list of all caches.
    caches: Option<&'static Cache>,
    tallies: Tallies,
    purger: Purger,
}

/// The cache of a thread before its first request, and after its end.
static BARREN: Cache = Cache::barren();
static GONE: Cache = Cache::barren();

/// Where requests count for which no thread is there any more; used under the lock only.
static HOMELESS: Cache = Cache::barren();

thread_local! {
    static CURRENT: Cell<&'static Cache> = const { Cell::new(&BARREN) };
    /// Its destructor is the thread's end.
    static LEAVING: Leaving = const { Leaving };
}

struct Leaving;

impl Drop for Leaving {
    fn drop(&mut self) {
        let cache = CURRENT.replace(&GONE);
        if cache.taken.load(Relaxed) {
            let mut shared = lock();
            shared.retire(cache);
            purger::wake_if_needed(shared);
        }
    }
}

impl Shared {
    const fn new() -> Self {
        Self { heap: Heap::new(Linux), caches: None, tallies: Tallies::new(), purger: Purger::Asleep }
    }

    fn caches(&self) -> impl Iterator<Item = &'static Cache> + use<> {
        // SAFETY: the list holds caches that live for ever.
        std::iter::successors(self.caches, |cache| unsafe { cache.next.load(Relaxed).as_ref() })
    }

    /// A cache for a thread that has none.
    fn recruit(&mut self) -> Option<&'static Cache> {
        let free = self.caches().find(|cache| !cache.taken.load(Relaxed));
        let cache = match free {
            Some(cache) => cache,
            None => {
                let mut block = None;
                self.heap.obtain_blocks(blocks::class(Layout::new::<Cache>())?, 1, |granted| block = Some(granted));
                let block = block?.cast::<Cache>();
                // SAFETY: the block was just granted for a cache, and is never given back.
                let cache: &'static Cache = unsafe {
                    block.write(Cache::barren());
                    block.as_ref()
                };
                cache
                    .next
                    .store(self.caches.map_or(std::ptr::null_mut(), |next| (&raw const *next).cast_mut()), Relaxed);
                self.caches = Some(cache);
                cache
            }
        };
        cache.begin();
        cache.taken.store(true, Relaxed);
        Some(cache)
    }

    /// Takes the cache of a thread that ends.
    fn retire(&mut self, cache: &'static Cache) {
        cache.drain(&mut self.heap);
        self.tallies.retire(cache);
        cache.taken.store(false, Relaxed);
    }
}

static STARTED: AtomicBool = AtomicBool::new(false);

fn lock() -> LockGuard<'static, Shared> {
    if STARTED.load(Relaxed) { SHARED.lock() } else { start() }
}

/// From now on the child of a fork finds the heap whole. Handlers around forks that are registered later take their locks before the
/// heap's.
pub(crate) fn survive_forks() {
    drop(lock());
}

#[cold]
fn start() -> LockGuard<'static, Shared> {
    let mut shared = SHARED.lock();
    if !STARTED.swap(true, Relaxed) {
        fork::survive();
        settings::from_environment(&mut shared);
    }
    shared
}

/// The calling thread's cache, given to it now if it has none; that of the homeless if it cannot have one.
fn current() -> &'static Cache {
    let cache = CURRENT.get();
    if cache.taken.load(Relaxed) {
        return cache;
    }
    if std::ptr::eq(cache, &GONE) {
        return &HOMELESS;
    }
    let recruited = lock().recruit();
    let Some(cache) = recruited else { return &HOMELESS };
    CURRENT.set(cache);
    // Beyond this call the thread's end is seen. It may make requests of its own.
    if LEAVING.try_with(|_| ()).is_err() {
        CURRENT.set(&GONE);
        lock().retire(cache);
        return &HOMELESS;
    }
    cache
}

/// A block for a request that is not zero-sized.
#[inline]
pub(crate) fn obtain(request: Layout) -> Option<NonNull<u8>> {
    if let Some(class) = blocks::class(request) {
        return match CURRENT.get().pop(class, request.size()) {
            Some(block) => Some(block),
            None => obtain_class(class, request.size()),
        };
    }
    obtain_run_start(request)
}

/// As [`obtain`], all zero.
#[inline]
pub(crate) fn obtain_zeroed(request: Layout) -> Option<NonNull<u8>> {
    let Granted { start, dirty } = match blocks::class(request) {
        Some(_) => Granted { start: obtain(request)?, dirty: 0..request.size() },
        None => obtain_run(request)?,
    };
    // SAFETY: the range lies within the block just granted, which is the caller's alone.
    unsafe { start.add(dirty.start).write_bytes(0, dirty.len()) };
    Some(start)
}

/// Takes a block back that was granted for `request`, and is not used any more.
#[inline]
pub(crate) fn give_back(block: NonNull<u8>, request: Layout) {
    match blocks::class(request) {
        Some(class) => {
            if !CURRENT.get().push(class, request.size(), block) {
                give_back_class(class, request.size(), block);
            }
        }
        None => give_back_run(request, block),
    }
}

/// By itself, as [`obtain`] needs no room for a whole `Granted` then.
fn obtain_run_start(request: Layout) -> Option<NonNull<u8>> {
    obtain_run(request).map(|granted| granted.start)
}

#[cold]
fn obtain_class(class: usize, size: usize) -> Option<NonNull<u8>> {
    let cache = current();
    let mut shared = lock();
    let Shared { heap, tallies, .. } = &mut *shared;
    let misses = heap.misses();
    let block = cache.refill(heap, class).or_else(|| {
        yield_to_request(cache, heap);
        cache.refill(heap, class)
    });
    match block {
        Some(_) => tallies.served(cache, Some(class), class_capacity(class), size, heap.misses() > misses),
        None => tallies.refused(),
    }
    block
}

#[cold]
fn give_back_class(class: usize, size: usize, block: NonNull<u8>) {
    let cache = current();
    let mut shared = lock();
    let Shared { heap, tallies, .. } = &mut *shared;
    cache.overflow(heap, class, block);
    tallies.freed(cache, Some(class), class_capacity(class), size);
    purger::wake_if_needed(shared);
}

fn obtain_run(request: Layout) -> Option<Granted> {
    let run = blocks::run(request);
    let cache = current();
    let mut shared = lock();
    let Shared { heap, tallies, .. } = &mut *shared;
    let misses = heap.misses();
    let granted = run.and_then(|run| {
        heap.obtain_run(run, request.size()).or_else(|| {
            yield_to_request(cache, heap);
            heap.obtain_run(run, request.size())
        })
    });
    match (&granted, run) {
        (Some(_), Some(run)) => tallies.served(cache, None, run.capacity(), request.size(), heap.misses() > misses),
        _ => tallies.refused(),
    }
    granted
}

/// Under pressure, what is cached yields first.
#[cold]
fn yield_to_request(cache: &Cache, heap: &mut Heap<Linux>) {
    cache.drain(heap);
    heap.trim();
}

fn give_back_run(request: Layout, start: NonNull<u8>) {
    // What was granted has a run.
    let Some(run) = blocks::run(request) else { return };
    let cache = current();
    let mut shared = lock();
    let Shared { heap, tallies, .. } = &mut *shared;
    heap.give_back_run(run, start);
    tallies.freed(cache, None, run.capacity(), request.size());
    purger::wake_if_needed(shared);
}

/// Makes a block fit another request of the same alignment in place, if it can. With `zeroed`, the bytes beyond the old
/// size are zero.
pub(crate) fn resize(block: NonNull<u8>, old: Layout, new: Layout, zeroed: bool) -> bool {
    let dirty = match (blocks::place(old), blocks::place(new)) {
        (Some(Place::Run(before)), Some(Place::Run(after))) => {
            let cache = current();
            let mut shared = lock();
            let Shared { heap, tallies, .. } = &mut *shared;
            let Some(dirty) = heap.resize(block, (before, old.size()), (after, new.size())) else { return false };
            tallies.run_resized(before.capacity(), after.capacity());
            tallies.resized(cache, old.size(), new.size());
            purger::wake_if_needed(shared);
            dirty
        }
        (Some(Place::Class(before)), Some(Place::Class(after))) if before == after => {
            let cache = current();
            lock().tallies.resized(cache, old.size(), new.size());
            old.size()..new.size()
        }
        _ => return false,
    };
    if zeroed && dirty.start < dirty.end {
        // SAFETY: the range lies within the block, beyond what the caller has there.
        unsafe { block.add(dirty.start).write_bytes(0, dirty.len()) };
    }
    true
}

/// Moves a large block to where another request of the same alignment fits, its memory rather than its bytes; `None` if that
/// does not pay, or there is no memory.
pub(crate) fn relocate(block: NonNull<u8>, old: Layout, new: Layout) -> Option<NonNull<u8>> {
    let (Some(Place::Run(before)), Some(Place::Run(after))) = (blocks::place(old), blocks::place(new)) else {
        return None;
    };
    let Relocated { start, moved } = lock().heap.relocate(block, (before, old.size()), after)?;
    for range in [0..moved.start, moved.end..old.size()] {
        // SAFETY: the range lies within both blocks, of which one is the caller's and the other was just granted.
        unsafe { block.add(range.start).copy_to_nonoverlapping(start.add(range.start), range.len()) };
    }
    let cache = current();
    let mut shared = lock();
    shared.heap.leave(before, block);
    shared.tallies.run_resized(before.capacity(), after.capacity());
    shared.tallies.resized(cache, old.size(), new.size());
    purger::wake_if_needed(shared);
    Some(start)
}

/// Gives all free memory back to the operating system; returns how many bytes.
pub(crate) fn trim() -> usize {
    let cache = current();
    let mut shared = lock();
    cache.drain(&mut shared.heap);
    shared.heap.trim()
}

/// A snapshot of what all threads did.
pub(crate) fn stats() -> Stats {
    let cache = current();
    let snapshot = {
        let mut shared = lock();
        shared.tallies.settle(cache);
        shared.tallies.snapshot(shared.caches(), &shared.heap)
    };
    // Its rows take memory: not under the lock.
    snapshot.into()
}
