//! The process's one heap: its lock, the caches of the threads before it, the thread that gives idle memory back, and what
//! happens when the process forks.
#![allow(unsafe_code)]

mod aside;
mod cache;
mod fork;
mod purger;
mod runs;
mod settings;
mod tally;
mod threads;

use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::alloc::Layout;
use std::hint;
use std::ptr::NonNull;

pub(crate) use self::runs::relocate;
pub(crate) use self::settings::{config, configure};

use self::cache::Cache;
use self::purger::Purger;
use self::runs::{give_back_run, obtain_run, resize_run};
use self::tally::Tallies;
use self::threads::{CURRENT, Caches, current};
use crate::heap::{Granted, Heap, Promotion};
use crate::heap_config::HeapSettings;
use crate::layout::blocks::{self, class_capacity};
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
    /// Requests that have left the lock to others for a moment.
    under_way: u32,
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
            under_way: 0,
        }
    }
}

static STARTED: AtomicBool = AtomicBool::new(false);

fn lock() -> LockGuard<'static, Shared> {
    if !STARTED.load(Relaxed) {
        start();
    }
    entered(SHARED.lock())
}

/// As [`lock`], for who may have what the process's fork waits for: `None` if that does not come about. See [`aside`].
fn enter() -> Option<LockGuard<'static, Shared>> {
    if !STARTED.load(Relaxed) {
        start();
    }
    SHARED.lock_unless_forking().map(entered)
}

#[inline]
fn entered(mut shared: LockGuard<'static, Shared>) -> LockGuard<'static, Shared> {
    if WORK_IS_LEFT.load(Relaxed) {
        shared.catch_up();
    }
    shared
}

/// There is something to do for who has the lock next: what was served [`aside`], or a child of a [`fork`] to be closed.
static WORK_IS_LEFT: AtomicBool = AtomicBool::new(false);

fn leave_work() {
    WORK_IS_LEFT.store(true, Release);
}

impl Shared {
    #[cold]
    fn catch_up(&mut self) {
        WORK_IS_LEFT.swap(false, Acquire);
        if fork::is_bereft() {
            self.close();
        }
        if aside::work_off(self) {
            leave_work();
        }
    }
}

/// From now on the child of a fork finds the heap whole. Handlers around forks that are registered later take their locks before the
/// heap's.
pub(crate) fn survive_forks() {
    drop(lock());
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
        os::complain_once(&LOST, format_args!("the library that Tenzor is in cannot be kept loaded: do not unload it"));
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
            None => obtain_class(class, request),
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
    unsafe { os::clear(start.add(dirty.start), dirty.len()) };
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
        Some(class) => give_back_class(class, request, block),
        None => give_back_run(request, block),
    }
}

/// By itself, as [`obtain`] needs no room for a whole `Granted` then.
fn obtain_run_start(request: Layout) -> Option<NonNull<u8>> {
    obtain_run(request).map(|granted| granted.start)
}

#[cold]
fn obtain_class(class: usize, request: Layout) -> Option<NonNull<u8>> {
    let size = request.size();
    let cache = current();
    let Some(mut shared) = enter() else { return aside::obtain(request) };
    let Shared { heap, tallies, .. } = &mut *shared;
    let misses = heap.misses();
    let block = cache.refill(heap, class);
    if block.is_some() {
        tallies.served(cache, Some(class), class_capacity(class), size, heap.misses() > misses);
        return block;
    }
    drop(shared);
    yield_to_request(cache);
    let Some(mut shared) = enter() else { return aside::obtain(request) };
    let Shared { heap, tallies, .. } = &mut *shared;
    let block = cache.refill(heap, class);
    match block {
        Some(_) => tallies.served(cache, Some(class), class_capacity(class), size, true),
        None => tallies.refused(),
    }
    purger::counted(shared, cache);
    block
}

/// Under pressure, what is cached yields first.
#[cold]
fn yield_to_request(cache: &Cache) {
    if let Some(mut shared) = enter() {
        cache.drain(&mut shared.heap);
    }
    trim_heap();
}

#[cold]
fn give_back_class(class: usize, request: Layout, block: NonNull<u8>) {
    let cache = current();
    let Some(mut shared) = enter() else {
        // SAFETY: the caller's word.
        return unsafe { aside::leave(block, request) };
    };
    let Shared { heap, tallies, .. } = &mut *shared;
    cache.overflow(heap, class, block);
    tallies.freed(cache, Some(class), class_capacity(class), request.size());
    purger::freed(shared, cache);
}

/// Makes a block fit another request of the same alignment in place, if it can. With `zeroed`, the bytes beyond the old
/// size are zero.
#[inline]
pub(crate) fn resize(block: NonNull<u8>, old: Layout, new: Layout, zeroed: bool) -> bool {
    let dirty = match (blocks::class(old), blocks::class(new)) {
        (Some(before), Some(after)) if before == after => {
            let cache = CURRENT.get();
            if cache.taken.load(Relaxed) {
                cache.resized(old.size(), new.size());
            }
            if !cache.taken.load(Relaxed) || cache.is_due() {
                resize_slowly(cache, old.size(), new.size());
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
        unsafe { os::clear(block.add(dirty.start), dirty.len()) };
    }
    true
}

/// Of a thread without a cache, or one that is to look at the clock.
#[cold]
fn resize_slowly(cache: &Cache, old: usize, new: usize) {
    if cache.taken.load(Relaxed) {
        return purger::visit(cache);
    }
    let cache = current();
    let Some(mut shared) = enter() else { return };
    shared.tallies.resized(cache, old, new);
    purger::counted(shared, cache);
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
    while let Some(mut shared) = enter() {
        let (bytes, more) = shared.heap.trim();
        all += bytes;
        if !more {
            break;
        }
        shared.let_others();
    }
    all
}

/// Puts a unit that grew full by small pages onto a huge one. Returns whether there may be more of these.
fn promote() -> bool {
    let Some((promotion, more)) = enter().map(|mut shared| shared.heap.promotion()) else { return false };
    if let Some(promotion) = promotion {
        promote_now(&promotion);
    }
    more
}

/// Without the lock: it takes long.
fn promote_now(promotion: &Promotion<Linux>) {
    let whole = promotion.run();
    if let Some(mut shared) = enter() {
        shared.heap.promoted(promotion, whole);
    }
}

/// A snapshot of what all threads did.
pub(crate) fn stats() -> Stats {
    let cache = current();
    // All of what was left aside is counted.
    while WORK_IS_LEFT.load(Relaxed) && enter().is_some() {
        hint::spin_loop();
    }
    let snapshot = {
        let mut shared = lock();
        shared.tallies.settle(cache);
        shared.tallies.snapshot(shared.caches.iter(), &shared.heap)
    };
    // Its rows take memory: not under the lock.
    snapshot.into()
}
