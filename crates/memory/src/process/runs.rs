//! Requests for runs of pages: each a few short pieces of work under the heap's lock, with all that takes long in between.

use std::alloc::Layout;
use std::ops::Range;
use std::ptr::NonNull;

use super::cache::{Cache, misuse};
use super::{Shared, current, lock, purger, run, yield_to_request};
use crate::heap::{Granted, Progress, Resize};
use crate::layout::blocks::{self, Place, Run};
use crate::sync::LockGuard;

/// A run for a request that has no class.
#[inline]
pub(super) fn obtain_run(request: Layout) -> Option<Granted> {
    let Some(run) = blocks::run(request) else { return too_large() };
    let cache = current();
    let mut shared = lock();
    let Shared { heap, tallies, .. } = &mut *shared;
    if let Some(granted) = heap.obtain_last(run, request.size()) {
        tallies.served(cache, None, run.capacity(), request.size(), false);
        return Some(granted);
    }
    obtain_other(cache, shared, run, request.size())
}

/// Larger than any heap.
#[cold]
fn too_large() -> Option<Granted> {
    lock().tallies.refused();
    None
}

#[cold]
fn obtain_other(cache: &Cache, shared: LockGuard<'static, Shared>, run: Run, size: usize) -> Option<Granted> {
    let granted = try_run(cache, shared, run, size);
    if granted.is_some() {
        return granted;
    }
    // Nothing is given up for what cannot be had.
    let beyond = lock().heap.is_beyond(run);
    let granted = if beyond {
        None
    } else {
        yield_to_request(cache);
        try_run(cache, lock(), run, size)
    };
    if granted.is_none() {
        lock().tallies.refused();
    }
    granted
}

fn try_run(cache: &Cache, mut shared: LockGuard<'static, Shared>, pages: Run, size: usize) -> Option<Granted> {
    let mut request = shared.heap.obtain_run(pages, size)?;
    loop {
        match shared.heap.proceed(&mut request) {
            Progress::More => {
                drop(shared);
                shared = lock();
            }
            Progress::Lost => return None,
            Progress::Ready => break,
        }
    }
    let Shared { heap, tallies, .. } = &mut *shared;
    let granted = heap.granted(&request);
    tallies.served(cache, None, pages.capacity(), size, request.missed());
    if let Some(promotion) = heap.promotion_of(&mut request) {
        drop(shared);
        run(&promotion);
    } else {
        purger::counted(shared, cache);
    }
    Some(granted)
}

pub(super) fn give_back_run(request: Layout, start: NonNull<u8>) {
    let cache = current();
    let mut shared = lock();
    let Shared { heap, tallies, .. } = &mut *shared;
    // SAFETY: the caller's word.
    let Some(run) = blocks::run(request).filter(|&run| unsafe { heap.give_back_run(run, start) }) else {
        misuse(heap, start)
    };
    tallies.freed(cache, None, run.capacity(), request.size());
    purger::freed(shared, cache);
}

/// Makes a run fit another request of the same alignment where it stands, if it can. The bytes that may not be zero, at or beyond the
/// least of both sizes, are these.
pub(super) fn resize_run(block: NonNull<u8>, old: Layout, new: Layout) -> Option<Range<usize>> {
    let (before, after) = (blocks::run(old)?, blocks::run(new)?);
    let cache = current();
    let mut shared = lock();
    // SAFETY: the caller's word.
    let dirty = match unsafe { shared.heap.resize(block, (before, old.size()), (after, new.size())) } {
        Resize::Refused => return None,
        Resize::Done(dirty) => dirty,
        Resize::Growing(mut growth) => loop {
            match shared.heap.grow(&mut growth) {
                Progress::More => {
                    drop(shared);
                    shared = lock();
                }
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
    // SAFETY: the caller's word: nobody uses the block meanwhile.
    let mut moving = unsafe { lock().heap.relocate(block, (before, old.size()), after) }?;
    while lock().heap.move_on(&mut moving) {}
    let (start, moved) = (moving.to(), moving.moved());
    let copy = |from: NonNull<u8>, to: NonNull<u8>, range: Range<usize>| {
        // SAFETY: the range lies within both blocks, of which one is the caller's and the other on its way to it.
        unsafe { from.add(range.start).copy_to_nonoverlapping(to.add(range.start), range.len()) };
    };
    let mut there = !moved.is_empty();
    while there {
        match lock().heap.settle(&mut moving) {
            Progress::More => {}
            Progress::Ready => break,
            Progress::Lost => {
                copy(start, block, moved.clone());
                there = false;
            }
        }
    }
    if !there {
        lock().heap.call_off(&moving);
        return None;
    }
    for range in [0..moved.start, moved.end..old.size()] {
        copy(block, start, range);
    }
    let cache = current();
    let mut shared = lock();
    shared.heap.arrive(&moving);
    shared.tallies.run_resized(before.capacity(), after.capacity());
    shared.tallies.resized(cache, old.size(), new.size());
    purger::freed(shared, cache);
    Some(start)
}
