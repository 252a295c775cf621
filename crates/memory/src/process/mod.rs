//! The process's one heap: its lock, the caches of the threads before it, the thread that gives idle memory back, and what
//! happens when the process forks.
#![allow(unsafe_code)]

mod cache;
mod fork;
mod purger;
mod runs;
mod settings;
mod tally;

use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::Relaxed;
use std::alloc::Layout;
use std::cell::Cell;
use std::ptr::NonNull;

use self::cache::Cache;
use self::runs::{give_back_run, obtain_run};
pub(crate) use self::runs::{relocate, resize};
pub(crate) use self::settings::configure;

use self::purger::Purger;
use self::tally::Tallies;
use crate::heap::{Granted, Heap, Promotion};
use crate::layout::blocks::{self, class_capacity};
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
    let block = cache.refill(heap, class);
    if block.is_some() {
        tallies.served(cache, Some(class), class_capacity(class), size, heap.misses() > misses);
        return block;
    }
    drop(shared);
    yield_to_request(cache);
    let mut shared = lock();
    let Shared { heap, tallies, .. } = &mut *shared;
    let block = cache.refill(heap, class);
    match block {
        Some(_) => tallies.served(cache, Some(class), class_capacity(class), size, true),
        None => tallies.refused(),
    }
    block
}

/// Under pressure, what is cached yields first.
#[cold]
fn yield_to_request(cache: &Cache) {
    cache.drain(&mut lock().heap);
    trim_heap();
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

/// Gives all free memory back to the operating system; returns how many bytes.
pub(crate) fn trim() -> usize {
    let cache = current();
    cache.drain(&mut lock().heap);
    trim_heap()
}

/// A piece at a time: whoever waits for the lock gets it in between.
fn trim_heap() -> usize {
    let mut all = 0;
    loop {
        let (bytes, more) = lock().heap.trim();
        all += bytes;
        if !more {
            return all;
        }
    }
}

/// Puts a unit that grew full by small pages onto a huge one. Returns whether there may be more of these.
fn promote() -> bool {
    let (promotion, more) = lock().heap.promotion();
    if let Some(promotion) = promotion {
        run(&promotion);
    }
    more
}

/// Without the lock: it takes long.
fn run(promotion: &Promotion<Linux>) {
    let whole = promotion.run();
    lock().heap.promoted(promotion, whole);
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
