//! Requests in the manner of C: what a block was granted as is known by its address.
//!
//! A block of a class counts with the class's capacity here, when it is requested and when it is freed: nobody knows what was asked for. A run
//! has the size in its tag.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;

use super::cache::are_leases_given;
use super::runs::{give_to_heap, keep};
use super::shards::owner;
use super::threads::at_hand;
use super::{aside, give_back_slowly, obtain_class, obtain_run_start, relocate, resize};
use crate::heap::Holding;
use crate::heap::classes::{self, Place, class_capacity};

/// The place of the block that starts at an address; or what lies there instead.
pub(crate) fn place(at: NonNull<u8>) -> Result<Place, Holding> {
    let owner = owner(at);
    let place = owner.block(at).or_else(|holding| aside::request(at).and_then(classes::place).ok_or(holding))?;
    if !are_leases_given()
        && let Some(mut inside) = owner.enter()
        && let free @ Holding::FreeBlock { .. } = inside.heap.holding(at)
    {
        return Err(free);
    }
    Ok(place)
}

/// Whether an address is the heap's, whatever lies there.
#[cold]
pub(crate) fn is_ours(at: NonNull<u8>) -> bool {
    owner(at).enter().is_some_and(|mut inside| inside.heap.is_mapped(at))
}

/// A block for a request that is not zero-sized.
#[inline]
pub(crate) fn obtain(request: Layout) -> Option<NonNull<u8>> {
    match classes::class(request) {
        Some(class) => match at_hand().pop(class, class_capacity(class)) {
            Some(block) => Some(block),
            None => obtain_class(class, whole(class, request.align())?),
        },
        None => obtain_run_start(request),
    }
}

/// The largest request of a class.
fn whole(class: usize, align: usize) -> Option<Layout> {
    Layout::from_size_align(class_capacity(class), align).ok()
}

/// As [`obtain`], all zero as far as was requested.
#[inline]
pub(crate) fn obtain_zeroed(request: Layout) -> Option<NonNull<u8>> {
    match classes::class(request) {
        Some(class) => super::obtain_zeroed(whole(class, request.align())?),
        None => super::obtain_zeroed(request),
    }
}

/// Takes a block back. If none starts there, what lies there instead; then nothing happened.
///
/// # Safety
/// If one does, it is the caller's, and nobody uses it any more.
#[inline]
pub(crate) unsafe fn give_back(block: NonNull<u8>) -> Result<(), Holding> {
    match owner(block).cut_block(block) {
        Some(class) => give_back_class(block, class),
        None => give_back_other(block),
    }
}

#[inline(always)]
fn give_back_class(block: NonNull<u8>, class: usize) -> Result<(), Holding> {
    let cache = at_hand();
    let taken = cache.push(class, class_capacity(class), block);
    if taken && !cache.is_due() {
        return Ok(());
    }
    give_back_class_slowly(block, class, taken)
}

#[cold]
fn give_back_class_slowly(block: NonNull<u8>, class: usize, taken: bool) -> Result<(), Holding> {
    give_back_slowly(block, Place::Class(class).request().ok_or(Holding::Nothing)?, taken);
    Ok(())
}

/// What is neither a slab's nor a parcel's.
#[inline(never)]
fn give_back_other(block: NonNull<u8>) -> Result<(), Holding> {
    if keep(block, |_| true) {
        return Ok(());
    }
    let found = match owner(block).run(block) {
        Some(run) => classes::place_of_run(run),
        None => place(block)?,
    };
    match found {
        Place::Class(class) => give_back_class(block, class),
        Place::Run(run) => {
            give_to_heap(run, block);
            Ok(())
        }
    }
}

/// Makes a block fit another request, which is not zero-sized, where it stands or elsewhere; `None` if there is no memory, and it is as it was.
///
/// # Safety
/// As for [`give_back`].
pub(crate) unsafe fn refit(block: NonNull<u8>, new: Layout) -> Result<Option<NonNull<u8>>, Holding> {
    let place = place(block)?;
    let usable = place.usable();
    match (place, place.request()) {
        (Place::Class(class), _) if classes::class(new) == Some(class) => return Ok(Some(block)),
        // As aligned as it was.
        (Place::Run(_), Some(old)) if classes::class(new).is_none() => {
            let wanted = Layout::from_size_align(new.size(), old.align()).ok();
            if let Some(wanted) = wanted {
                if resize(block, old, wanted, false) {
                    return Ok(Some(block));
                }
                if let Some(moved) = relocate(block, old, wanted) {
                    return Ok(Some(moved));
                }
            }
        }
        _ => {}
    }
    let Some(moved) = obtain(new) else {
        // What shrinks is not refused.
        return Ok((new.size() <= usable).then_some(block));
    };
    // SAFETY: both blocks are the caller's, disjoint, and have so many bytes.
    unsafe {
        block.copy_to_nonoverlapping(moved, usable.min(new.size()));
        give_back(block)?;
    }
    Ok(Some(moved))
}
