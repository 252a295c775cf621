//! Which thread has which cache: one is taken at a thread's first request, and left at its end.
//!
//! *Enrolled*: a cache in the list is a thread's, or was until just now; its memory stays until it is taken from the list, under the lock.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use super::cache::{Cache, Tally};
use super::errands::keep_budget;
use super::shards::{self, Inside, Visit, owner};
use super::tuning::{CACHES_SEEN_A_HOLD, SPARE_CACHES, WALKS};
use super::{Central, aside, central, central_lock, purger};
use crate::heap::classes::{self, Run};
use crate::os::{self, Ends};
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU32};
use crate::sync::{LockGuard, this_thread};

/// The cache of a thread before its first request, and after its end.
static BARREN: Cache = Cache::barren();
static GONE: Cache = Cache::barren();

per_thread! {
    /// *Ours*: made of a reference that is valid for ever. (In Rust 1.88, no constant may hold one to what changes.)
    static CURRENT: *const Cache = &raw const BARREN, as "tenzor_current" at BARREN;
}

/// The calling thread's cache as it is; a barren one before the first request, and after the end.
#[inline]
pub(super) fn at_hand() -> &'static Cache {
    // SAFETY: *Ours*.
    unsafe { &*CURRENT.get() }
}

/// How the end of a thread is seen; `None` if it cannot be.
static ENDS: OnceLock<Option<Ends>> = OnceLock::new();

/// A second thread has made a request. It changes under the lock.
static MANY: AtomicBool = AtomicBool::new(false);

/// Whether more threads than one have made requests.
#[inline]
pub(super) fn are_many() -> bool {
    MANY.load(Relaxed)
}

/// All caches.
#[derive(Debug)]
pub(super) struct Caches {
    /// The list of those in use, linked both ways, and that of the spare ones.
    first: Option<&'static Cache>,
    spare: Option<&'static Cache>,
    spares: usize,
    /// How many there are, spare or not.
    count: usize,
    /// The thread that made the first request, by [`this_thread`].
    pioneer: usize,
    /// How many came into the list so far.
    listed: usize,
    walks: [Option<Walk>; WALKS],
}

/// A way through the list, in which others have the lock in between: where it goes on, what it saw last, if that is there still, and what was
/// counted by those that left before they were seen.
#[derive(Clone, Copy, Debug)]
struct Walk {
    next: Option<&'static Cache>,
    at: Option<&'static Cache>,
    missed: Tally,
}

/// The walks that were given up by who did not get the lock again, a bit each.
static ABANDONED: AtomicU32 = AtomicU32::new(0);

/// Gives a walk up without the lock.
pub(super) fn abandon_walk(walk: usize) {
    ABANDONED.fetch_or(1 << walk, Relaxed);
}

fn link(cache: Option<&'static Cache>) -> *mut Cache {
    cache.map_or(ptr::null_mut(), |cache| ptr::from_ref(cache).cast_mut())
}

impl Caches {
    pub(super) const fn new() -> Self {
        Self { first: None, spare: None, spares: 0, count: 0, pioneer: 0, listed: 0, walks: [None; WALKS] }
    }

    /// Those in use.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'static Cache> + use<> {
        // SAFETY: *Enrolled*; the caller holds the lock, under which the list is part of what is guarded.
        std::iter::successors(self.first, |cache| unsafe { cache.next.load(Relaxed).as_ref() })
    }

    /// A thread that has no cache makes a request. Returns whether it is the second one.
    fn seen(&mut self) -> bool {
        if self.pioneer == 0 {
            self.pioneer = this_thread();
        }
        self.pioneer != this_thread() && !MANY.swap(true, Relaxed)
    }

    /// The calling thread is the only one of the process.
    pub(super) fn only_one_is_left(&mut self) {
        self.pioneer = this_thread();
        MANY.store(false, Relaxed);
        self.walks = [None; WALKS];
    }

    /// Begins a walk at the cache that came last; returns its number. `None` if too many are under way.
    pub(super) fn begin_walk(&mut self) -> Option<usize> {
        let abandoned = ABANDONED.swap(0, Relaxed);
        for (number, walk) in self.walks.iter_mut().enumerate() {
            if abandoned & 1 << number != 0 {
                *walk = None;
            }
        }
        let number = self.walks.iter().position(Option::is_none)?;
        self.walks[number] = Some(Walk { next: self.first, at: None, missed: Tally::new() });
        Some(number)
    }

    /// The next cache of a walk.
    pub(super) fn walk_on(&mut self, walk: usize) -> Option<&'static Cache> {
        let walk = self.walks[walk].as_mut()?;
        walk.at = walk.next;
        // SAFETY: *Enrolled*.
        walk.next = walk.at.and_then(|at| unsafe { at.next.load(Relaxed).as_ref() });
        walk.at
    }

    /// The cache that was seen last, if it is in the list still.
    pub(super) fn walk_at(&self, walk: usize) -> Option<&'static Cache> {
        self.walks[walk]?.at
    }

    /// Ends a walk. Returns what those counted that left before they were seen.
    pub(super) fn end_walk(&mut self, walk: usize) -> Tally {
        self.walks[walk].take().map_or(Tally::new(), |walk| walk.missed)
    }

    /// A spare cache.
    fn take_spare(&mut self) -> Option<&'static Cache> {
        let cache = self.spare?;
        debug_assert!(!cache.taken.load(Relaxed));
        // SAFETY: spare caches are linked to each other.
        self.spare = unsafe { cache.next.load(Relaxed).as_ref() };
        self.spares -= 1;
        self.count -= 1;
        Some(cache)
    }

    /// Puts a cache into the list, for a thread that has it from now on.
    fn list(&mut self, cache: &'static Cache) {
        debug_assert!(!cache.taken.load(Relaxed));
        if let Some(first) = self.first {
            first.before.store(link(Some(cache)), Relaxed);
        }
        cache.next.store(link(self.first), Relaxed);
        cache.before.store(ptr::null_mut(), Relaxed);
        self.listed += 1;
        self.count += 1;
        cache.number.store(self.listed, Relaxed);
        cache.taken.store(true, Relaxed);
        cache.attend();
        self.first = Some(cache);
    }

    /// Takes a cache out of the list that is empty, and whose thread is no more; adds what it counted. It is returned if it is not kept.
    fn leave(&mut self, cache: &'static Cache, retired: &mut Tally) -> Option<&'static Cache> {
        debug_assert!(cache.taken.load(Relaxed));
        cache.add_to(retired);
        for walk in self.walks.iter_mut().flatten() {
            walk.at = walk.at.filter(|at| !ptr::eq(*at, cache));
            let Some(next) = walk.next else { continue };
            if cache.number.load(Relaxed) <= next.number.load(Relaxed) {
                cache.add_to(&mut walk.missed);
            }
            if ptr::eq(next, cache) {
                // SAFETY: *Enrolled*: so are its neighbours.
                walk.next = unsafe { cache.next.load(Relaxed).as_ref() };
            }
        }
        // SAFETY: *Enrolled*: so are its neighbours.
        let (before, next) = unsafe { (cache.before.load(Relaxed).as_ref(), cache.next.load(Relaxed).as_ref()) };
        debug_assert!(before.map_or(link(self.first), |before| before.next.load(Relaxed)) == link(Some(cache)));
        debug_assert!(next.is_none_or(|next| next.before.load(Relaxed) == link(Some(cache))));
        match before {
            Some(before) => before.next.store(link(next), Relaxed),
            None => self.first = next,
        }
        if let Some(next) = next {
            next.before.store(link(before), Relaxed);
        }
        cache.taken.store(false, Relaxed);
        cache.give_up_portions(usize::MAX);
        cache.begin_anew();
        if self.spares == SPARE_CACHES {
            self.count -= 1;
            return Some(cache);
        }
        cache.next.store(link(self.spare), Relaxed);
        self.spare = Some(cache);
        self.spares += 1;
        None
    }
}

/// Shows all caches, some at a time under one hold of the lock, but for those that come meanwhile. Returns what was counted by those that
/// are not shown: they were left before they could be.
/// `None` where `lock` gives none, before the end.
pub(super) fn see_all(
    lock: fn() -> Option<LockGuard<'static, Central>>,
    mut see: impl FnMut(&'static Cache),
) -> Option<Tally> {
    let mut central = lock()?;
    let mut left = central.retired;
    let Some(walk) = central.caches.begin_walk() else {
        central.caches.iter().for_each(see);
        return Some(left);
    };
    loop {
        for _ in 0..CACHES_SEEN_A_HOLD {
            let Some(cache) = central.caches.walk_on(walk) else {
                left.add(&central.caches.end_walk(walk));
                return Some(left);
            };
            see(cache);
        }
        central.let_others();
        central = lock().or_else(|| {
            ABANDONED.fetch_or(1 << walk, Relaxed);
            None
        })?;
    }
}

/// Bytes of the heap's pages that all caches are, whatever lies in them.
pub(super) fn bytes_of_caches() -> usize {
    central_lock().caches.count * run().map_or(0, |run| run.capacity())
}

/// What a cache takes of the heap: pages of its own, as most of them are never touched.
fn run() -> Option<Run> {
    classes::run(Layout::new::<Cache>())
}

/// A new cache, made where it stays: it is larger than the stack that a thread may have.
fn fresh(mut inside: Inside) -> Option<&'static Cache> {
    let misses = inside.heap.misses();
    let granted = inside.heap.obtain_now(run()?)?;
    if inside.heap.misses() > misses {
        inside = keep_budget(inside);
    }
    drop(inside);
    debug_assert!(granted.start.addr().get().is_multiple_of(align_of::<Cache>()));
    debug_assert!(granted.dirty.start <= granted.dirty.end && granted.dirty.end <= size_of::<Cache>());
    // SAFETY: the range was just granted for a cache, and is the caller's alone until it is given back. All zero bytes are a barren
    // cache.
    let cache: &'static Cache = unsafe {
        granted.start.add(granted.dirty.start).write_bytes(0, granted.dirty.len());
        granted.start.cast().as_ref()
    };
    cache.begin();
    Some(cache)
}

/// From now on the ends of threads are seen, if the system lets us. Called once, before the first request is served.
pub(super) fn see_ends() {
    ENDS.get_or_init(|| Ends::seen_by(leave));
}

/// The calling thread's cache, given to it now if it has none; a barren one if it cannot have one.
pub(super) fn current() -> &'static Cache {
    let cache = at_hand();
    if cache.taken.load(Relaxed) { cache } else { arrive(cache) }
}

#[cold]
fn arrive(barren: &'static Cache) -> &'static Cache {
    if ptr::eq(barren, &GONE) {
        return barren;
    }
    let spare = {
        let Some(mut central) = central() else { return barren };
        if central.caches.seen() {
            purger::reconsider();
        }
        central.caches.take_spare()
    };
    let Some(Some(ends)) = ENDS.get().copied() else {
        // It is served all the same.
        CURRENT.set(&raw const GONE);
        static SAID: AtomicBool = AtomicBool::new(false);
        os::complain_once(&SAID, format_args!("the process has no thread-specific key left: threads have no caches"));
        return &GONE;
    };
    let Some(cache) = spare.or_else(|| fresh(shards::home(barren).enter()?)) else { return barren };
    let Some(mut central) = central() else {
        // Nobody will ever use it.
        return barren;
    };
    central.caches.list(cache);
    drop(central);
    // From here on it may make requests of its own: to watch its end may take memory.
    CURRENT.set(cache);
    if !ends.watch(cache) {
        CURRENT.set(&raw const GONE);
        retire(cache);
        return &GONE;
    }
    cache
}

unsafe extern "C" fn leave(cache: *mut libc::c_void) {
    CURRENT.set(&raw const GONE);
    // SAFETY: the value that the ending thread had set: its cache, which is *Enrolled*.
    if let Some(cache) = unsafe { cache.cast::<Cache>().cast_const().as_ref::<'static>() } {
        retire(cache);
    }
}

/// No thread has this cache from now on.
pub(super) fn retire(cache: &'static Cache) {
    let at_leases = cache.enter();
    loop {
        let mut visit = Visit::default();
        let more = cache.drain_some(|class, block| visit.give(class, block));
        if !more {
            break;
        }
        visit.end().map(purger::keep_within_idle_limit).into_iter().for_each(Inside::let_others);
    }
    let mut visit = Visit::default();
    let mut left = true;
    while let Some(parcel) = cache.parcels.last()
        && left
    {
        left = visit.give_pages(parcel, || cache.parcels.leave(parcel));
    }
    drop(visit);
    drop(at_leases);
    if !left || !part_with(cache) {
        return aside::leave_cache(cache);
    }
    if let Some(inside) = shards::home(&GONE).enter() {
        let homeless = inside.shard.homeless();
        purger::freed(inside, homeless);
    }
}

/// Takes over what a cache counted, whose thread is no more, and its memory. What it holds is lost. Returns whether it could be done.
pub(super) fn part_with(cache: &'static Cache) -> bool {
    let Some(mut home) = shards::home(cache).enter() else { return false };
    home.tallies.settle(cache);
    drop(home);
    let Some(mut central) = central() else { return false };
    let Central { caches, retired, .. } = &mut *central;
    let gone = caches.leave(cache, retired);
    drop(central);
    let (Some(gone), Some(run)) = (gone.map(|cache| NonNull::from(cache).cast()), run()) else { return true };
    match owner(gone).enter() {
        Some(mut inside) => {
            // SAFETY: it was granted for this run, and neither a thread nor a list has it any more.
            unsafe { inside.heap.give_back_run(run, gone) };
            purger::keep_within_idle_limit(inside);
        }
        // SAFETY: as above.
        None => unsafe { aside::leave_uncounted(gone, Layout::new::<Cache>()) },
    }
    true
}
