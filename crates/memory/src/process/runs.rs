//! Requests for runs of pages: each a few short pieces of work under the heap's lock, with all that takes long in between.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ops::Range;
use std::ptr::{self, NonNull};

use super::cache::{Cache, misuse};
use super::errands::{keep_budget, let_others, meanwhile, once_more};
use super::shards::{self, Inside, ShardState, Visit, enter_home, owner};
use super::{aside, at_hand, current, promote_now, purger, refusal};
use crate::heap::classes::{self, Place, Run};
use crate::heap::{Granted, Heap, Progress, Resize};
use crate::os::Os;

/// A run for a request that has no class.
pub(super) fn obtain_run(request: Layout) -> Option<Granted> {
    let mut dirty = 0..request.size();
    let start = use_kept(request).or_else(|| obtain_from_heap(request, &mut dirty))?;
    Some(Granted { start, dirty })
}

/// As [`obtain_run`], where it may be dirty.
#[inline(never)]
pub(super) fn obtain_run_start(request: Layout) -> Option<NonNull<u8>> {
    use_kept(request).or_else(|| obtain_from_heap(request, &mut (0..0)))
}

/// The start of a run that is granted under the lock.
#[inline(never)]
fn obtain_from_heap(request: Layout, dirty: &mut Range<usize>) -> Option<NonNull<u8>> {
    try_request(request, dirty).or_else(|| obtain_refused(request, dirty))
}

#[cold]
fn obtain_refused(request: Layout, dirty: &mut Range<usize>) -> Option<NonNull<u8>> {
    refusal::answer(request, || try_request(request, dirty), |start| start)
}

#[inline(always)]
fn try_request(request: Layout, dirty: &mut Range<usize>) -> Option<NonNull<u8>> {
    let cache = current();
    // What is served aside is zero.
    *dirty = 0..0;
    // One that is larger than any heap has none.
    let run = classes::run(request)?;
    give_runs(cache);
    let Some(mut inside) = enter_home(cache) else { return aside::obtain(request) };
    if let Some(start) = inside.heap.obtain_at_once(run) {
        let counts = inside.shard.counts(cache);
        inside.tallies.served(counts, None, run.capacity(), request.size(), false);
        inside.note();
        *dirty = 0..request.size();
        return Some(start);
    }
    let granted = obtain_other(cache, inside, run)?;
    *dirty = granted.dirty;
    Some(granted.start)
}

/// A run for a request that has no class, if the calling thread kept one for it. All of it may not be zero.
#[inline]
fn use_kept(request: Layout) -> Option<NonNull<u8>> {
    let (kind, run) = classes::kind_and_run(request)?;
    let start = at_hand().pop_run(kind, run)?;
    owner(start).use_kept(start, run);
    Some(start)
}

/// Gives back what the calling thread keeps, before it asks the heap for more.
#[inline]
fn give_runs(cache: &Cache) {
    if cache.keeps_runs() {
        give_kept(cache);
    }
}

#[cold]
fn give_kept(cache: &Cache) {
    let mut visit = Visit::default();
    let _at_leases = cache.enter();
    let give = |kind, run| visit.give(kind, run);
    if shards::is_limited() { cache.end_runs(give) } else { cache.give_runs(give) }
}

/// Time has passed: what the only thread keeps, and used none of, goes back.
pub(super) fn tire(cache: &Cache) {
    if cache.runs_rest() {
        give_kept(cache);
    }
}

/// Whether a run cannot be had, whatever is freed.
pub(super) fn is_beyond(inside: &Inside, run: Run) -> bool {
    shards::is_beyond(run.capacity()) || inside.heap.is_beyond(run)
}

#[cold]
fn obtain_other(cache: &Cache, mut inside: Inside, run: Run) -> Option<Granted> {
    inside = shards::with_limits_renewed(inside)?;
    // Nothing is done, or given up, for what cannot be had.
    if is_beyond(&inside, run) {
        return None;
    }
    let is_first = ptr::eq(inside.shard, shards::first());
    let mut granted = try_run(cache, inside, run);
    if granted.is_none() && !is_first {
        // There are more addresses.
        granted = shards::first().enter().and_then(|inside| try_run(cache, inside, run));
    }
    if granted.is_none() {
        granted = once_more(cache, || try_run(cache, shards::first().enter()?, run));
    }
    granted
}

fn try_run(cache: &Cache, mut inside: Inside, run: Run) -> Option<Granted> {
    let mut request = inside.heap.obtain_run(run)?;
    loop {
        match inside.heap.proceed(&mut request) {
            Progress::More => inside = let_others(inside),
            Progress::Lost => return None,
            Progress::Ready => break,
        }
    }
    let counts = inside.shard.counts(cache);
    let ShardState { heap, tallies, .. } = &mut *inside;
    let granted = heap.granted(&request);
    tallies.served(counts, None, run.capacity(), run.size, request.missed());
    let promotion = heap.promotion_of(&mut request);
    let shard = inside.shard;
    inside.show();
    if request.missed() {
        shards::balance(keep_budget(inside));
    } else {
        purger::counted(inside, counts);
    }
    if let Some(promotion) = promotion {
        promote_now(shard, &promotion);
    }
    Some(granted)
}

/// The calling thread keeps the run that starts at an address and is in use, if it is of a kind and `wanted`, and there is room. Returns whether it does; if not,
/// nothing happened.
#[inline(always)]
pub(super) fn keep(start: NonNull<u8>, wanted: impl FnOnce(Run) -> bool) -> bool {
    let cache = at_hand();
    let wanted = |kind, run| wanted(run) && (cache.has_room(kind) || make_room(cache, kind));
    let Some((kind, run)) = owner(start).keep(start, wanted) else { return false };
    let pushed = cache.push_run(kind, run, start);
    if !pushed {
        // It was called in just now.
        owner(start).end_keeping(start);
    } else if cache.is_due() {
        purger::freed_and_kept(cache);
    }
    pushed
}

/// Where there is a limit, or more is not to be idle than that, none is kept: it would count as in use.
#[cold]
fn make_room(cache: &Cache, kind: usize) -> bool {
    !shards::is_limited() && cache.make_room(kind)
}

/// Takes a run back that was in use.
pub(super) fn give_back_run(run: Run, start: NonNull<u8>) {
    // What is not in use there is seen under the lock.
    if !keep(start, |found| found == run) {
        give_to_heap(run, start);
    }
}

/// As [`give_back_run`], of one that is not to be kept.
pub(super) fn give_to_heap(run: Run, start: NonNull<u8>) {
    let cache = current();
    let Some(mut inside) = owner(start).enter_for(cache) else { return leave_aside(run, start) };
    let counts = inside.shard.counts(cache);
    let ShardState { heap, tallies, .. } = &mut *inside;
    // SAFETY: the caller's word.
    unsafe { take_back_run(heap, run, start) };
    tallies.freed(counts, None, run.capacity(), run.size);
    purger::freed(inside, counts);
}

#[cold]
fn leave_aside(run: Run, start: NonNull<u8>) {
    if let Some(request) = Place::Run(run).request() {
        // SAFETY: the caller of `give_back_run`'s word.
        unsafe { aside::leave(start, request) }
    }
}

/// Takes a run back, whoever granted it.
///
/// # Safety
/// Nobody uses it any more.
#[inline]
pub(super) unsafe fn take_back_run<O: Os>(heap: &mut Heap<O>, run: Run, start: NonNull<u8>) {
    // SAFETY: the caller's word.
    if !unsafe { heap.give_back_run(run, start) || aside::take_back(start) } {
        misuse(heap, start)
    }
}

/// Makes a run fit another request of the same alignment where it stands, if it can. The bytes that may not be zero, at or beyond the
/// least of both sizes, are these.
pub(super) fn resize_run(block: NonNull<u8>, old: Layout, new: Layout) -> Option<Range<usize>> {
    let (before, after) = (classes::run(old)?, classes::run(new)?);
    let cache = current();
    if after.pages > before.pages {
        give_runs(cache);
    }
    let mut inside = owner(block).enter()?;
    if after.pages > before.pages && is_beyond(&inside, after) {
        return None;
    }
    // SAFETY: the caller's word.
    let dirty = match unsafe { inside.heap.resize(block, before, after) } {
        Resize::Refused => return None,
        Resize::Nowhere if aside::has_served(block) => return None,
        Resize::Nowhere => misuse(&mut inside.heap, block),
        Resize::Done(dirty) => dirty,
        Resize::Growing(mut growth) => {
            loop {
                match inside.heap.grow(&mut growth) {
                    Progress::More => inside = let_others(inside),
                    Progress::Lost => return None,
                    Progress::Ready => break,
                }
            }
            if growth.missed() {
                inside = keep_budget(inside);
            }
            growth.dirty()
        }
    };
    inside.tallies.run_resized(before.capacity(), after.capacity());
    let counts = inside.shard.counts(cache);
    inside.tallies.resized(counts, old.size(), new.size());
    purger::freed(inside, counts);
    Some(dirty)
}

/// Moves a large block to where another request of the same alignment fits, its memory rather than its bytes; `None` if that
/// does not pay, or there is no memory.
pub(crate) fn relocate(block: NonNull<u8>, old: Layout, new: Layout) -> Option<NonNull<u8>> {
    let (Some(Place::Run(before)), Some(Place::Run(after))) = (classes::place(old), classes::place(new)) else {
        return None;
    };
    let cache = current();
    give_runs(cache);
    let mut inside = owner(block).enter()?;
    if is_beyond(&inside, after) {
        return None;
    }
    // SAFETY: the caller's word: nobody uses the block meanwhile.
    let mut moving = unsafe { inside.heap.relocate(block, before, after) }?;
    while inside.heap.move_on(&mut moving) {
        inside = let_others(inside);
    }
    let (start, moved) = (moving.to(), moving.moved());
    let copy = |from: NonNull<u8>, to: NonNull<u8>, range: Range<usize>| {
        debug_assert!(range.start <= range.end && range.end <= old.size());
        // SAFETY: the range lies within both blocks, of which one is the caller's and the other on its way to it.
        unsafe { from.add(range.start).copy_to_nonoverlapping(to.add(range.start), range.len()) };
    };
    let mut there = !moved.is_empty();
    while there {
        match inside.heap.settle(&mut moving) {
            Progress::More => inside = let_others(inside),
            Progress::Ready => break,
            Progress::Lost => {
                inside = meanwhile(inside, || copy(start, block, moved.clone())).0;
                there = false;
            }
        }
    }
    if !there {
        inside.heap.call_off(&moving);
        purger::keep_within_idle_limit(inside);
        return None;
    }
    if moving.missed() {
        inside = keep_budget(inside);
    }
    inside = meanwhile(inside, || {
        for range in [0..moved.start, moved.end..old.size()] {
            copy(block, start, range);
        }
    })
    .0;
    inside.heap.arrive(&moving);
    inside.tallies.run_resized(before.capacity(), after.capacity());
    let counts = inside.shard.counts(cache);
    inside.tallies.resized(counts, old.size(), new.size());
    purger::freed(inside, counts);
    Some(start)
}
