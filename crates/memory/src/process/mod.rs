//! The process's heap: its shards, the caches of the threads before them, the thread that gives idle memory back, and what
//! happens when the process forks.
#![allow(unsafe_code)]

mod aside;
pub(crate) mod by_address;
mod cache;
mod errands;
mod footprint;
mod fork;
mod parcels;
mod pot;
mod purger;
mod reach;
mod refusal;
mod runs;
mod settings;
mod shards;
mod tally;
mod threads;
mod tuning;

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicUsize};
use std::alloc::Layout;
use std::hint;
use std::ptr::NonNull;

pub use self::footprint::Footprint;
pub(crate) use self::footprint::footprint;
pub(crate) use self::refusal::{explain, on_refusal};
pub(crate) use self::runs::relocate;
pub(crate) use self::settings::{config, configure};

use self::cache::{Cache, Tally};
use self::errands::{keep_budget, once_more, pursue_all};
use self::purger::Purger;
use self::runs::{give_back_run, obtain_run, obtain_run_start, resize_run};
use self::shards::{ShardState, Visit, enter_home, owner};
use self::tally::Snapshot;
use self::threads::{Caches, at_hand, current};
use crate::heap::classes::{self, SLAB_CLASSES, class_capacity, class_pages};
use crate::heap::{Granted, Holding, Promotion};
use crate::heap_config::HeapSettings;
use crate::os::{self, Linux};
use crate::pressure::HEAP;
use crate::stats::Stats;
use crate::sync::{Lock, LockGuard};

/// What there is once, however many shards.
#[derive(Debug)]
struct Central {
    caches: Caches,
    /// What threads counted that ended.
    retired: Tally,
    purger: Purger,
    settings: HeapSettings,
    /// The environment variables are among the settings.
    heeds_environment: bool,
}

static CENTRAL: Lock<Central> = Lock::new(Central {
    caches: Caches::new(),
    retired: Tally::new(),
    purger: Purger::new(),
    settings: HeapSettings::new(),
    heeds_environment: false,
});

static STARTED: AtomicBool = AtomicBool::new(false);

/// What is to be done before any of the locks is taken.
#[inline]
fn prepare() {
    if !STARTED.load(Relaxed) {
        start();
    }
    if WORK_IS_LEFT.load(Relaxed) {
        catch_up();
    }
}

fn central_lock() -> LockGuard<'static, Central> {
    prepare();
    CENTRAL.lock()
}

/// As [`central_lock`], for who may have what the process's fork waits for: `None` if that does not come about. See [`aside`].
fn central() -> Option<LockGuard<'static, Central>> {
    prepare();
    CENTRAL.lock_unless_forking()
}

/// There is something to do for who comes next: what was served [`aside`], or a child of a [`fork`] to be closed.
static WORK_IS_LEFT: AtomicBool = AtomicBool::new(false);

fn leave_work() {
    WORK_IS_LEFT.store(true, Release);
}

#[cold]
fn catch_up() {
    WORK_IS_LEFT.swap(false, Acquire);
    if fork::is_bereft() {
        fork::close();
    }
    if aside::work_off() {
        leave_work();
    }
    shards::work_off_noted();
}

/// Calls the functions around each fork of the process from now on. Of what stands above the heap: in `before`, locks are taken while the
/// heap still serves requests.
pub(crate) fn at_fork(before: Option<os::Hook>, in_parent: Option<os::Hook>, in_child: Option<os::Hook>) {
    // The heap's own come first, so that in `before` they are called last.
    prepare();
    os::at_fork(before, in_parent, in_child);
}

/// Before the first request is served.
#[cold]
fn start() {
    let _errno = os::Errno::kept();
    let mut central = CENTRAL.lock();
    if STARTED.load(Relaxed) {
        return;
    }
    os::remember_standard_error();
    os::remember_processors();
    threads::see_ends();
    central.heed_environment();
    shards::begin(&central.settings);
    STARTED.store(true, Relaxed);
    // The loader, and who registers handlers, may take memory, and have locks of their own.
    drop(central);
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
        let settings = {
            let mut central = central_lock();
            central.heed_environment();
            central.settings
        };
        settings::heed(&settings);
    }
    early
};

/// A block for a request that is not zero-sized.
#[inline]
pub(crate) fn obtain(request: Layout) -> Option<NonNull<u8>> {
    debug_assert!(request.size() != 0);
    if let Some(class) = classes::class(request) {
        return match at_hand().pop(class, request.size()) {
            Some(block) => Some(block),
            None => obtain_class(class, request),
        };
    }
    obtain_run_start(request)
}

/// As [`obtain`], all zero.
#[inline]
pub(crate) fn obtain_zeroed(request: Layout) -> Option<NonNull<u8>> {
    let Granted { start, dirty } = match classes::class(request) {
        Some(_) => Granted { start: obtain(request)?, dirty: 0..request.size() },
        None => obtain_run(request)?,
    };
    debug_assert!(dirty.start <= dirty.end && dirty.end <= request.size());
    // SAFETY: the range lies within the block just granted, which is the caller's alone.
    unsafe { os::clear(start.add(dirty.start), dirty.len()) };
    Some(start)
}

/// Whether what lies at an address is the heap's.
pub(crate) fn has(at: NonNull<u8>) -> bool {
    shards::owner(at).enter().is_some_and(|mut inside| inside.heap.holding(at) != Holding::Nothing)
}

/// Takes a block back that was granted for `request`, and is not used any more.
#[inline]
pub(crate) fn give_back(block: NonNull<u8>, request: Layout) {
    let cache = at_hand();
    let taken = classes::class(request).is_some_and(|class| cache.push(class, request.size(), block));
    if !taken || cache.is_due() {
        give_back_slowly(block, request, taken);
    }
}

/// One call for all that is not a hit, which keeps the path of these short.
#[cold]
fn give_back_slowly(block: NonNull<u8>, request: Layout, taken: bool) {
    match classes::class(request) {
        _ if taken => purger::visit(at_hand()),
        Some(class) => give_back_class(class, request, block),
        None => match classes::run(request) {
            Some(run) => give_back_run(run, block),
            None => give_back_none(block),
        },
    }
}

/// No block was ever granted for such a request.
#[cold]
fn give_back_none(block: NonNull<u8>) {
    if let Some(mut inside) = owner(block).enter() {
        cache::misuse(&mut inside.heap, block);
    }
}

#[cold]
fn obtain_class(class: usize, request: Layout) -> Option<NonNull<u8>> {
    let attempt = || try_class(class, request);
    attempt().or_else(|| refusal::answer(request, attempt, |block| block))
}

fn try_class(class: usize, request: Layout) -> Option<NonNull<u8>> {
    let cache = current();
    let _at_leases = cache.enter();
    if class >= SLAB_CLASSES {
        if let Some(block) = grant(cache, class, request.size()) {
            return Some(block);
        }
    } else if let Some(block) = cache.pop(class, request.size()) {
        // It was not empty, but shut.
        return Some(block);
    }
    if let Some(block) = refill(cache, class, request, false)? {
        return Some(block);
    }
    // None of the attempts but the last says that it was in vain.
    let again = once_more(cache, || match refill(cache, class, request, false) {
        Some(None) => None,
        Some(block) => Some(block),
        None => Some(None),
    });
    if let Some(block) = again {
        return block;
    }
    refill(cache, class, request, true)?
}

/// A block of pages, of the thread's own parcels.
fn grant(cache: &Cache, class: usize, size: usize) -> Option<NonNull<u8>> {
    let parcels = &cache.parcels;
    if parcels.ask(class) && cache.is_of_parcels(class) {
        let mut visit = Visit::default();
        cache.end_a_lease(class, |class, block| visit.give(class, block));
    }
    let pages = class_pages(class);
    let block = match parcels.grant(pages) {
        Some(block) => block,
        None if parcels.collect() => {
            let block = parcels.grant(pages)?;
            if parcels.has_surplus() {
                Visit::default().give_surplus(cache);
            }
            block
        }
        None => return None,
    };
    cache.served(Some(class), size);
    Some(block)
}

/// A block of a class, and some more for the cache; `Some(None)` if there is no memory. `None` if there is none aside either.
fn refill(cache: &'static Cache, class: usize, request: Layout, is_last: bool) -> Option<Option<NonNull<u8>>> {
    let mut visit = Visit::default();
    // What a request finds does not depend on what the thread keeps.
    if cache.keeps_runs() {
        cache.give_runs(|kind, run| visit.give(kind, run));
    }
    if class < SLAB_CLASSES {
        cache.widen(class, &mut |class, block| visit.give(class, block));
    }
    let is_of_parcel = class >= SLAB_CLASSES && cache.taken.load(Relaxed);
    while is_of_parcel
        && let Some(parcel) = cache.parcels.to_leave()
        && visit.give_pages(parcel, || cache.parcels.leave(parcel))
    {}
    let is_of_parcel = is_of_parcel && !cache.parcels.is_full();
    let inside = if is_last {
        // Nobody waits for one lock with another.
        drop(visit);
        shards::first().enter()
    } else {
        visit.home(cache)
    };
    let Some(mut inside) = inside else { return aside::obtain(request).map(Some) };
    let counts = inside.shard.counts(cache);
    let ShardState { heap, tallies, .. } = &mut *inside;
    let misses = heap.misses();
    let block = if is_of_parcel && heap.can_have_parcels() {
        let pages = class_pages(class);
        let wanted = if is_last { pages } else { cache.parcels.next(pages) };
        heap.obtain_parcel(wanted, pages, shards::mark(cache)).and_then(|parcel| {
            cache.parcels.add(parcel);
            cache.parcels.grant(pages)
        })
    } else {
        counts.refill(class, |wanted, take| heap.obtain_blocks(class, wanted, take))
    };
    let missed = heap.misses() > misses;
    match block {
        Some(_) => tallies.served(counts, Some(class), class_capacity(class), request.size(), missed),
        None => return Some(None),
    }
    inside.show();
    if missed {
        shards::balance(keep_budget(inside));
    } else if is_last {
        purger::counted(inside, counts);
    } else {
        purger::keep_within_idle_limit(inside).note();
    }
    Some(block)
}

/// Under pressure, what is cached yields first.
#[cold]
fn yield_to_request(cache: &Cache) {
    drain(cache);
    reach::call_in(false);
    trim_heap();
    shards::renew_limits();
}

fn drain(cache: &Cache) {
    let _at_leases = cache.enter();
    let mut visit = Visit::default();
    cache.drain(|class, block| visit.give(class, block));
    drain_parcels(cache, &mut visit);
}

/// Gives back what is free in the parcels of a cache. For who is at its leases.
fn drain_parcels(cache: &Cache, visit: &mut Visit) {
    for parcel in cache.parcels.with_free() {
        if !visit.give_pages(parcel, || cache.parcels.take_out(parcel)) {
            break;
        }
    }
    cache.parcels.tell_nothing();
}

/// Time has passed: what the only thread has in parcels, and asked for none of, goes back; and what runs it keeps.
fn tire() {
    let cache = at_hand();
    runs::tire(cache);
    if cache.parcels.rest() {
        let _at_leases = cache.enter();
        drain_parcels(cache, &mut Visit::default());
    }
}

#[cold]
fn give_back_class(class: usize, request: Layout, block: NonNull<u8>) {
    let cache = current();
    if !cache.taken.load(Relaxed) {
        return give_back_homeless(class, request, block);
    }
    let is_slab = class < SLAB_CLASSES;
    let is_of_parcels = cache.is_of_parcels(class);
    if is_of_parcels && !cache.parcels.is_asked(class) && shards::take_back_own(cache, class, block) {
        cache.freed(Some(class), request.size());
        return purger::freed_without_lock(cache);
    }
    let mut visit = Visit::default();
    // Where sizes change, parcels keep all blocks of pages in less room than stacks: only what is asked for again at once is at hand.
    if !is_of_parcels || cache.parcels.is_asked(class) {
        let _at_leases = cache.enter();
        cache.overflow(class, block, |class, block| visit.give(class, block));
    } else {
        visit.give(class, block);
    }
    // It is counted where the last of them went.
    let inside = visit.end().or_else(|| if is_slab { enter_home(cache) } else { None });
    let Some(mut inside) = inside else {
        cache.freed(Some(class), request.size());
        return purger::freed_without_lock(cache);
    };
    inside.tallies.freed(cache, Some(class), class_capacity(class), request.size());
    purger::freed(inside, cache);
}

/// Of a thread without a cache.
fn give_back_homeless(class: usize, request: Layout, block: NonNull<u8>) {
    let Some(mut inside) = owner(block).enter() else {
        // SAFETY: the caller's word.
        return unsafe { aside::leave(block, request) };
    };
    let homeless = inside.shard.homeless();
    cache::give_back(&mut inside.heap, class, block);
    inside.tallies.freed(homeless, Some(class), class_capacity(class), request.size());
    purger::freed(inside, homeless);
}

/// Makes a block fit another request of the same alignment in place, if it can. With `zeroed`, the bytes beyond the old
/// size are zero.
#[inline]
pub(crate) fn resize(block: NonNull<u8>, old: Layout, new: Layout, zeroed: bool) -> bool {
    let dirty = match (classes::class(old), classes::class(new)) {
        (Some(before), Some(after)) if before == after => {
            let cache = at_hand();
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
    debug_assert!(dirty.start >= old.size().min(new.size()) && dirty.end <= new.size());
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
    let Some(mut inside) = enter_home(cache) else { return };
    let counts = inside.shard.counts(cache);
    inside.tallies.resized(counts, old, new);
    purger::counted(inside, counts);
}

/// Gives all free memory, and what is kept for reuse above the heap, back to the operating system; returns how many bytes.
pub(crate) fn trim() -> usize {
    HEAP.reclaim(usize::MAX);
    drain(current());
    reach::call_in(false);
    trim_heap()
}

/// A piece at a time: whoever waits for the lock gets it in between.
fn trim_heap() -> usize {
    let mut all = 0;
    for shard in shards::all() {
        let Some(inside) = shard.enter() else { continue };
        let (inside, bytes) = pursue_all(inside, |inside| inside.heap.trim());
        inside.publish();
        all += bytes;
    }
    all
}

/// Puts a unit that grew full by small pages onto a huge one. Returns whether there may be more of these.
fn promote() -> bool {
    // One shard after the other, each to its end: of two that are looked at in turns, one may begin again whenever the other ends.
    static AT: AtomicUsize = AtomicUsize::new(0);
    let number = AT.load(Relaxed);
    let Some(shard) = shards::all().nth(number) else {
        AT.store(0, Relaxed);
        return false;
    };
    let Some((promotion, more)) = shard.enter().map(|mut inside| inside.heap.promotion()) else { return false };
    if let Some(promotion) = promotion {
        promote_now(shard, &promotion);
    } else if !more {
        AT.store(number + 1, Relaxed);
    }
    true
}

/// Without the lock: it takes long.
fn promote_now(shard: &'static shards::Shard, promotion: &Promotion<Linux>) {
    let whole = promotion.run();
    if let Some(mut inside) = shard.enter() {
        inside.heap.promoted(promotion, whole);
    }
}

/// How often each lock was held, or the system's for mappings, and for how many ticks.
#[cfg(tenzor_serial)]
pub(crate) fn serial() -> Vec<(&'static str, (u64, u64))> {
    let heaps = shards::held().map(|held| ("a heap", held));
    let others =
        [("threads", CENTRAL.held()), ("common", shards::common_held()), ("mappings", os::serial::MAPPINGS.so_far())];
    heaps.chain(others).collect()
}

/// A snapshot of what all threads did.
pub(crate) fn stats() -> Stats {
    // Its rows take memory: not under the locks.
    let mut stats: Stats = snapshot().into();
    stats.keep_above(HEAP.settled().all());
    stats
}

fn snapshot() -> Snapshot {
    let cache = current();
    // All of what was left aside is counted.
    while WORK_IS_LEFT.load(Relaxed) && central().is_some() {
        hint::spin_loop();
    }
    shards::sum(cache).snapshot()
}

/// As [`stats`]; the peaks are taken anew from now on.
pub(crate) fn take_peaks() -> Stats {
    let stats = stats();
    tally::forget_peak(stats.bytes_in_use + stats.kept_above_bytes);
    shards::all().filter_map(|shard| shard.enter()).for_each(|mut inside| inside.heap.forget_peak());
    stats
}
