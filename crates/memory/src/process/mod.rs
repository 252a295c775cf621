//! The process's one heap: its lock, the caches of the threads before it, the thread that gives idle memory back, and what
//! happens when the process forks.
#![allow(unsafe_code)]

mod cache;
mod fork;
mod purger;
mod settings;
mod tally;
mod threads;

use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::Relaxed;
use std::alloc::Layout;
use std::ops::Range;
use std::ptr::NonNull;

pub(crate) use self::settings::{config, configure};

use self::cache::Cache;
use self::purger::Purger;
use self::tally::Tallies;
use self::threads::{CURRENT, Caches, current};
use crate::heap::{Granted, Heap, Relocated};
use crate::heap_config::HeapSettings;
use crate::layout::blocks::{self, Place, class_capacity};
use crate::os::{self, Linux};
use crate::stats::Stats;
use crate::sync::{Lock, LockGuard};

static SHARED: Lock<Shared> = Lock::new(Shared::new());

#[derive(Debug)]
struct Shared {
    heap: Heap<Linux>,
    caches: Caches,
    tallies: Tallies,
    purger: Purger,
    settings: HeapSettings,
    /// The environment variables are among the settings.
    heeds_environment: bool,
    /// Forks within forks: a handler around one forks.
    forks: u32,
}

impl Shared {
    const fn new() -> Self {
        Self {
            heap: Heap::new(Linux),
            caches: Caches::new(),
            tallies: Tallies::new(),
            purger: Purger::new(),
            settings: HeapSettings::new(),
            heeds_environment: false,
            forks: 0,
        }
    }
}

static STARTED: AtomicBool = AtomicBool::new(false);

fn lock() -> LockGuard<'static, Shared> {
    if !STARTED.load(Relaxed) {
        start();
    }
    SHARED.lock()
}

/// Before the first request is served.
#[cold]
fn start() {
    let _errno = os::Errno::kept();
    let mut shared = SHARED.lock();
    if STARTED.load(Relaxed) {
        return;
    }
    os::remember_standard_error();
    os::remember_processors();
    threads::see_ends();
    shared.heed_environment();
    STARTED.store(true, Relaxed);
    // The loader, and who registers handlers, may take memory, and have locks of their own.
    drop(shared);
    static LOST: AtomicBool = AtomicBool::new(false);
    if !os::stay_loaded() {
        os::complain_once(
            &LOST,
            &[b"the library that Tenzor is in cannot be kept loaded: the process may crash once it is unloaded"],
        );
    }
    fork::survive();
}

/// When the process starts, or the library is loaded: as early as that handlers around forks come before those of most others, and
/// late enough that the environment is there. An aid: what comes first, this or a request, makes no difference.
#[used]
#[unsafe(link_section = ".init_array")]
static EARLY: extern "C" fn() = {
    extern "C" fn early() {
        lock().heed_environment();
    }
    early
};

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
    let cache = CURRENT.get();
    let taken = blocks::class(request).is_some_and(|class| cache.push(class, request.size(), block));
    if !taken || cache.is_due() {
        give_back_slowly(block, request, taken);
    }
}

/// One call for all that is not a hit, which keeps the path of these short.
#[cold]
fn give_back_slowly(block: NonNull<u8>, request: Layout, taken: bool) {
    match blocks::class(request) {
        _ if taken => purger::visit(CURRENT.get()),
        Some(class) => give_back_class(class, request.size(), block),
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
    purger::counted(shared, cache);
    block
}

fn give_back_class(class: usize, size: usize, block: NonNull<u8>) {
    let cache = current();
    let mut shared = lock();
    let Shared { heap, tallies, .. } = &mut *shared;
    cache.overflow(heap, class, block);
    tallies.freed(cache, Some(class), class_capacity(class), size);
    purger::freed(shared, cache);
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
    purger::counted(shared, cache);
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
    purger::freed(shared, cache);
}

/// Makes a block fit another request of the same alignment in place, if it can. With `zeroed`, the bytes beyond the old
/// size are zero.
#[inline]
pub(crate) fn resize(block: NonNull<u8>, old: Layout, new: Layout, zeroed: bool) -> bool {
    let dirty = match (blocks::class(old), blocks::class(new)) {
        (Some(before), Some(after)) if before == after => {
            let cache = CURRENT.get();
            if !cache.taken.load(Relaxed) {
                resize_class(old.size(), new.size());
            } else {
                cache.resized(old.size(), new.size());
                if cache.is_due() {
                    purger::visit(cache);
                }
            }
            old.size()..new.size()
        }
        (None, None) => match resize_run(block, old, new) {
            Some(dirty) => dirty,
            None => return false,
        },
        _ => return false,
    };
    if zeroed && dirty.start < dirty.end {
        // SAFETY: the range lies within the block, beyond what the caller has there.
        unsafe { block.add(dirty.start).write_bytes(0, dirty.len()) };
    }
    true
}

/// Of a thread without a cache.
#[cold]
fn resize_class(old: usize, new: usize) {
    let cache = current();
    let mut shared = lock();
    cache.resized(old, new);
    shared.tallies.settle(cache);
    purger::counted(shared, cache);
}

fn resize_run(block: NonNull<u8>, old: Layout, new: Layout) -> Option<Range<usize>> {
    let (before, after) = (blocks::run(old)?, blocks::run(new)?);
    let cache = current();
    let mut shared = lock();
    let Shared { heap, tallies, .. } = &mut *shared;
    let dirty = heap.resize(block, (before, old.size()), (after, new.size()))?;
    tallies.run_resized(before.capacity(), after.capacity());
    tallies.resized(cache, old.size(), new.size());
    purger::freed(shared, cache);
    Some(dirty)
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
    purger::freed(shared, cache);
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
        shared.tallies.snapshot(shared.caches.iter(), &shared.heap)
    };
    // Its rows take memory: not under the lock.
    snapshot.into()
}
