//! Requests for runs of pages: each a few short pieces of work under the heap's lock, with all that takes long in between.

use std::alloc::Layout;
use std::ops::Range;
use std::ptr::NonNull;

use super::cache::{Cache, misuse};
use super::{Shared, aside, current, enter, lock, promote_now, purger, yield_to_request};
use crate::heap::{Granted, Heap, Progress, Resize};
use crate::layout::blocks::{self, Place, Run};
use crate::os::Os;
use crate::sync::LockGuard;

/// A run for a request that has no class.
#[inline]
pub(super) fn obtain_run(request: Layout) -> Option<Granted> {
    let Some(run) = blocks::run(request) else { return too_large() };
    let cache = current();
    let Some(mut shared) = enter() else {
        return aside::obtain(request).map(|start| Granted { start, dirty: 0..0 });
    };
    let Shared { heap, tallies, .. } = &mut *shared;
    if let Some(granted) = heap.obtain_at_once(run, request.size()) {
        tallies.served(cache, None, run.capacity(), request.size(), false);
        return Some(granted);
    }
    obtain_other(cache, shared, run, request.size())
}

/// Larger than any heap.
#[cold]
fn too_large() -> Option<Granted> {
    refused();
    None
}

fn refused() {
    if let Some(mut shared) = enter() {
        shared.tallies.refused();
    }
}

#[cold]
fn obtain_other(cache: &Cache, shared: LockGuard<'static, Shared>, run: Run, size: usize) -> Option<Granted> {
    // Nothing is done, or given up, for what cannot be had.
    if shared.heap.is_beyond(run) {
        drop(shared);
        return too_large();
    }
    let mut granted = try_run(cache, shared, run, size);
    if granted.is_none() {
        yield_to_request(cache);
        granted = enter().and_then(|shared| try_run(cache, shared, run, size));
    }
    if granted.is_none() {
        refused();
    }
    granted
}

/// Does something without the lock, so that whoever waits for it gets it. A fork waits for the end of what is under way.
fn meanwhile(mut shared: LockGuard<'static, Shared>, work: impl FnOnce()) -> LockGuard<'static, Shared> {
    shared.under_way += 1;
    shared.let_others();
    work();
    let mut shared = lock();
    // A fork's child knows of none.
    shared.under_way = shared.under_way.saturating_sub(1);
    shared
}

fn try_run(cache: &Cache, mut shared: LockGuard<'static, Shared>, pages: Run, size: usize) -> Option<Granted> {
    let mut request = shared.heap.obtain_run(pages, size)?;
    loop {
        match shared.heap.proceed(&mut request) {
            Progress::More => shared = meanwhile(shared, || ()),
            Progress::Lost => return None,
            Progress::Ready => break,
        }
    }
    let Shared { heap, tallies, .. } = &mut *shared;
    let granted = heap.granted(&request);
    tallies.served(cache, None, pages.capacity(), size, request.missed());
    if let Some(promotion) = heap.promotion_of(&mut request) {
        drop(shared);
        promote_now(&promotion);
    } else {
        purger::counted(shared, cache);
    }
    Some(granted)
}

pub(super) fn give_back_run(request: Layout, start: NonNull<u8>) {
    let cache = current();
    let Some(mut shared) = enter() else {
        // SAFETY: the caller's word.
        return unsafe { aside::leave(start, request) };
    };
    let Shared { heap, tallies, .. } = &mut *shared;
    let Some(run) = blocks::run(request) else { misuse(heap, start) };
    // SAFETY: the caller's word.
    unsafe { take_back_run(heap, run, start) };
    tallies.freed(cache, None, run.capacity(), request.size());
    purger::freed(shared, cache);
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
    let (before, after) = (blocks::run(old)?, blocks::run(new)?);
    let cache = current();
    let mut shared = enter()?;
    if after.pages > before.pages && shared.heap.is_beyond(after) {
        return None;
    }
    // SAFETY: the caller's word.
    let dirty = match unsafe { shared.heap.resize(block, (before, old.size()), (after, new.size())) } {
        Resize::Refused => return None,
        Resize::Nowhere if aside::has_served(block) => return None,
        Resize::Nowhere => misuse(&mut shared.heap, block),
        Resize::Done(dirty) => dirty,
        Resize::Growing(mut growth) => loop {
            match shared.heap.grow(&mut growth) {
                Progress::More => shared = meanwhile(shared, || ()),
                Progress::Lost => return None,
                Progress::Ready => break growth.dirty(),
            }
        },
    };
    shared.tallies.run_resized(before.capacity(), after.capacity());
    shared.tallies.resized(cache, old.size(), new.size());
    purger::freed(shared, cache);
    Some(dirty)
}

/// Moves a large block to where another request of the same alignment fits, its memory rather than its bytes; `None` if that
/// does not pay, or there is no memory.
pub(crate) fn relocate(block: NonNull<u8>, old: Layout, new: Layout) -> Option<NonNull<u8>> {
    let (Some(Place::Run(before)), Some(Place::Run(after))) = (blocks::place(old), blocks::place(new)) else {
        return None;
    };
    let cache = current();
    let mut shared = enter()?;
    if shared.heap.is_beyond(after) {
        return None;
    }
    // SAFETY: the caller's word: nobody uses the block meanwhile.
    let mut moving = unsafe { shared.heap.relocate(block, (before, old.size()), after) }?;
    while shared.heap.move_on(&mut moving) {
        shared = meanwhile(shared, || ());
    }
    let (start, moved) = (moving.to(), moving.moved());
    let copy = |from: NonNull<u8>, to: NonNull<u8>, range: Range<usize>| {
        // SAFETY: the range lies within both blocks, of which one is the caller's and the other on its way to it.
        unsafe { from.add(range.start).copy_to_nonoverlapping(to.add(range.start), range.len()) };
    };
    let mut there = !moved.is_empty();
    while there {
        match shared.heap.settle(&mut moving) {
            Progress::More => shared = meanwhile(shared, || ()),
            Progress::Ready => break,
            Progress::Lost => {
                shared = meanwhile(shared, || copy(start, block, moved.clone()));
                there = false;
            }
        }
    }
    if !there {
        shared.heap.call_off(&moving);
        return None;
    }
    shared = meanwhile(shared, || {
        for range in [0..moved.start, moved.end..old.size()] {
            copy(block, start, range);
        }
    });
    shared.heap.arrive(&moving);
    shared.tallies.run_resized(before.capacity(), after.capacity());
    shared.tallies.resized(cache, old.size(), new.size());
    purger::freed(shared, cache);
    Some(start)
}
