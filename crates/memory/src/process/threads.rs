//! Which thread has which cache: one is taken at a thread's first request, and left at its end.
//!
//! *Listed*: a cache in the list is a thread's, or was until just now; its memory stays until it is taken from the list, under the lock.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use super::cache::Cache;
use super::{Shared, aside, enter, purger};
use crate::heap::Heap;
use crate::layout::blocks::{self, Run};
use crate::os::{self, Ends, Os};
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::this_thread;

/// The cache of a thread before its first request, and after its end.
static BARREN: Cache = Cache::barren();
static GONE: Cache = Cache::barren();

/// Where requests count that have no cache of their thread's; used under the lock only.
pub(super) static HOMELESS: Cache = Cache::barren();

thread_local! {
    pub(super) static CURRENT: Cell<&'static Cache> = const { Cell::new(&BARREN) };
}

/// How the end of a thread is seen; `None` if it cannot be.
static ENDS: OnceLock<Option<Ends>> = OnceLock::new();

/// Free caches that are kept for the next threads.
const SPARE: usize = 8;

/// All caches.
#[derive(Debug)]
pub(super) struct Caches {
    /// The list of those in use, linked both ways, and that of the spare ones.
    first: Option<&'static Cache>,
    spare: Option<&'static Cache>,
    spares: usize,
    /// The thread that made the first request, by [`this_thread`], and whether others made some as well.
    pioneer: usize,
    many: bool,
}

fn link(cache: Option<&'static Cache>) -> *mut Cache {
    cache.map_or(ptr::null_mut(), |cache| ptr::from_ref(cache).cast_mut())
}

impl Caches {
    pub(super) const fn new() -> Self {
        Self { first: None, spare: None, spares: 0, pioneer: 0, many: false }
    }

    /// Those in use.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'static Cache> + use<> {
        // SAFETY: *Listed*; the caller holds the lock, under which the list is part of what is guarded.
        std::iter::successors(self.first, |cache| unsafe { cache.next.load(Relaxed).as_ref() })
    }

    /// Whether more threads than one made requests.
    pub(super) fn are_many(&self) -> bool {
        self.many
    }

    /// A thread that has no cache makes a request. Returns whether it is the second one.
    fn seen(&mut self) -> bool {
        let (me, many) = (this_thread(), self.many);
        if self.pioneer == 0 {
            self.pioneer = me;
        }
        self.many |= self.pioneer != me;
        self.many && !many
    }

    /// The calling thread is the only one of the process.
    pub(super) fn only_one_is_left(&mut self) {
        (self.pioneer, self.many) = (this_thread(), false);
    }

    /// A cache for the calling thread, `None` if there is no memory.
    fn take<O: Os>(&mut self, heap: &mut Heap<O>) -> Option<&'static Cache> {
        let cache = match self.spare {
            Some(cache) => {
                // SAFETY: spare caches are linked to each other.
                self.spare = unsafe { cache.next.load(Relaxed).as_ref() };
                self.spares -= 1;
                cache
            }
            None => fresh(heap)?,
        };
        if let Some(first) = self.first {
            first.before.store(link(Some(cache)), Relaxed);
        }
        cache.next.store(link(self.first), Relaxed);
        cache.before.store(ptr::null_mut(), Relaxed);
        cache.taken.store(true, Relaxed);
        cache.attend();
        self.first = Some(cache);
        Some(cache)
    }

    /// Takes a cache out of the list that is empty and was counted, and whose thread is no more.
    pub(super) fn leave<O: Os>(&mut self, heap: &mut Heap<O>, cache: &'static Cache) {
        // SAFETY: *Listed*: so are its neighbours.
        let (before, next) = unsafe { (cache.before.load(Relaxed).as_ref(), cache.next.load(Relaxed).as_ref()) };
        match before {
            Some(before) => before.next.store(link(next), Relaxed),
            None => self.first = next,
        }
        if let Some(next) = next {
            next.before.store(link(before), Relaxed);
        }
        cache.taken.store(false, Relaxed);
        if self.spares < SPARE {
            cache.next.store(link(self.spare), Relaxed);
            self.spare = Some(cache);
            self.spares += 1;
        } else if let Some(run) = run() {
            // SAFETY: it was granted for this run, and neither a thread nor a list has it any more.
            unsafe { heap.give_back_run(run, NonNull::from(cache).cast()) };
        }
    }
}

/// What a cache takes of the heap: pages of its own, as most of them are never touched.
fn run() -> Option<Run> {
    blocks::run(Layout::new::<Cache>())
}

/// A new cache, made where it stays: it is larger than the stack that a thread may have.
fn fresh<O: Os>(heap: &mut Heap<O>) -> Option<&'static Cache> {
    let granted = heap.obtain_now(run()?, size_of::<Cache>())?;
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

/// The calling thread's cache, given to it now if it has none; that of the homeless if it cannot have one.
pub(super) fn current() -> &'static Cache {
    let cache = CURRENT.get();
    if cache.taken.load(Relaxed) { cache } else { arrive(cache) }
}

#[cold]
fn arrive(cache: &'static Cache) -> &'static Cache {
    if ptr::eq(cache, &GONE) {
        return &HOMELESS;
    }
    let Some(mut shared) = enter() else { return &HOMELESS };
    if shared.caches.seen() {
        shared.purger.reconsider();
    }
    let Some(Some(ends)) = ENDS.get().copied() else {
        drop(shared);
        // It is served all the same.
        CURRENT.set(&GONE);
        static SAID: AtomicBool = AtomicBool::new(false);
        os::complain_once(&SAID, format_args!("the process has no thread-specific key left: threads have no caches"));
        return &HOMELESS;
    };
    let Shared { heap, caches, .. } = &mut *shared;
    let Some(cache) = caches.take(heap) else { return &HOMELESS };
    drop(shared);
    // From here on it may make requests of its own: to watch its end may take memory.
    CURRENT.set(cache);
    if !ends.watch(cache) {
        retire(cache);
        return &HOMELESS;
    }
    cache
}

unsafe extern "C" fn leave(cache: *mut libc::c_void) {
    // SAFETY: the value that the ending thread had set: its cache, which is *Listed*.
    if let Some(cache) = unsafe { cache.cast::<Cache>().cast_const().as_ref::<'static>() } {
        retire(cache);
    }
}

/// The calling thread has no cache from now on.
fn retire(cache: &'static Cache) {
    CURRENT.set(&GONE);
    loop {
        let Some(mut shared) = enter() else { return aside::leave_cache(cache) };
        if !cache.drain_some(&mut shared.heap) {
            shared.part_with(cache);
            return purger::freed(shared, &HOMELESS);
        }
        shared.let_others();
    }
}

impl Shared {
    /// Takes over what a cache counted, whose thread is no more, and its memory. What it holds is lost.
    pub(super) fn part_with(&mut self, cache: &'static Cache) {
        self.tallies.retire(cache);
        self.caches.leave(&mut self.heap, cache);
    }
}
