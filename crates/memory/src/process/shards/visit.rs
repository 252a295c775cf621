//! Giving back: to the shard that a block belongs to, whichever that is, and from one to the other.
#![allow(unsafe_code)]

use std::ptr::{self, NonNull};

use super::{Inside, Shard, all, enter_home, home, owner};
use crate::heap::classes::{CLASSES, Place, SLAB_CLASSES, class_pages};
use crate::heap::parcel::{Parcel, bits};
use crate::process::cache::{Cache, give_back};
use crate::process::threads::at_hand;
use crate::process::{aside, leave_work, pot, purger};
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::Relaxed;

/// The shard whose lock the calling thread has at the moment, if any, on its way from one to another.
#[derive(Debug, Default)]
pub(in crate::process) struct Visit {
    inside: Option<Inside>,
    /// One of them could not be entered: nor will others.
    is_refused: bool,
}

impl Visit {
    /// Goes to a shard; `None` as for [`Shard::enter`].
    pub(in crate::process) fn to(&mut self, shard: &'static Shard) -> Option<&mut Inside> {
        if self.inside.as_ref().is_none_or(|inside| !ptr::eq(inside.shard, shard)) && !self.is_refused {
            self.leave();
            self.inside = shard.enter_for(at_hand());
            self.is_refused = self.inside.is_none();
        }
        self.inside.as_mut()
    }

    /// Goes to the calling thread's home.
    pub(in crate::process) fn home(mut self, cache: &Cache) -> Option<Inside> {
        if self.inside.as_ref().is_some_and(|inside| ptr::eq(inside.shard, home(cache))) {
            return self.inside.take();
        }
        self.leave();
        if self.is_refused { None } else { enter_home(cache) }
    }

    /// Goes out, after something may have been given back.
    fn leave(&mut self) {
        self.inside.take().map(purger::keep_within_idle_limit);
    }

    /// Gives a block of a class back that was in a cache, or is just freed; or a run of a kind.
    pub(in crate::process) fn give(&mut self, class: usize, block: NonNull<u8>) {
        if (SLAB_CLASSES..CLASSES).contains(&class) && self.give_to_parcel(class, block) {
            return;
        }
        match self.to(owner(block)) {
            Some(inside) => give_back(&mut inside.heap, class, block),
            None => {
                let request = match class {
                    CLASSES.. => owner(block).end_keeping(block).and_then(|run| Place::Run(run).request()),
                    _ => Place::Class(class).request(),
                };
                if let Some(request) = request {
                    // SAFETY: *Filled*: it was in a cache: it is nobody else's.
                    unsafe { aside::leave_uncounted(block, request) }
                }
            }
        }
    }

    /// Gives a block back to the parcel that it lies in, without a lock; if it does, and was granted, and somebody has that.
    fn give_to_parcel(&mut self, class: usize, block: NonNull<u8>) -> bool {
        let Some((parcel, first)) = owner(block).parcel(block) else { return false };
        let cache = at_hand();
        if parcel.owner() == mark(cache).as_ptr() {
            return self.give_to_own(cache, parcel, first, class);
        }
        let these = bits(first, class_pages(class));
        let noted = !parcel.is_abandoned() && parcel.note(these);
        // Its owner left meanwhile, and may not have seen it.
        if noted && parcel.is_abandoned() && !self.give_pages(parcel, || 0) {
            leave_noted();
        }
        if noted && parcel.is_mostly_noted() {
            pot::tell_of_noted();
        }
        noted
    }

    /// Gives a block back to one of the parcels of the calling thread's cache; if it was granted.
    #[inline]
    fn give_to_own(&mut self, cache: &Cache, parcel: &Parcel, first: u32, class: usize) -> bool {
        let _at_leases = cache.enter();
        let taken = cache.parcels.take_back(parcel, first, class_pages(class));
        if cache.parcels.has_surplus() {
            self.give_surplus(cache);
        }
        taken
    }

    /// Gives back what of the parcels of a cache is free and need not be. For who is at its leases.
    pub(in crate::process) fn give_surplus(&mut self, cache: &Cache) {
        while let Some(parcel) = cache.parcels.surplus()
            && self.give_pages(parcel, || cache.parcels.take_out(parcel))
        {}
    }

    /// Gives pages of a parcel back, which are nobody's. Returns whether that could be done; if not, the pages were not asked for.
    pub(in crate::process) fn give_pages(&mut self, parcel: &Parcel, these: impl FnOnce() -> u64) -> bool {
        let Some(start) = NonNull::new(ptr::without_provenance_mut(parcel.address(0))) else { return false };
        let Some(inside) = self.to(owner(start)) else { return false };
        // SAFETY: the caller's word; the shard is the one that the address belongs to.
        unsafe { inside.heap.give_back_pages(parcel, these()) };
        true
    }

    /// As [`give_pages`](Self::give_pages), of what was taken out of the parcel of another thread.
    pub(in crate::process) fn give_taken(&mut self, parcel: &Parcel, these: u64) {
        if self.give_pages(parcel, || these) {
            return;
        }
        // Its owner finds them again, if it has it still.
        parcel.put_back(these);
        if parcel.is_abandoned() {
            leave_noted();
        }
    }

    /// Stays where it is.
    pub(in crate::process) fn end(mut self) -> Option<Inside> {
        self.inside.take()
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Of parcels that nobody has some pages are noted as free, and the heap does not know.
static NOTED_IS_LEFT: AtomicBool = AtomicBool::new(false);

fn leave_noted() {
    NOTED_IS_LEFT.store(true, Relaxed);
    leave_work();
}

/// Tells the heaps what could not be told before.
pub(in crate::process) fn work_off_noted() {
    if NOTED_IS_LEFT.swap(false, Relaxed) {
        for shard in all() {
            match shard.enter() {
                Some(mut inside) => {
                    inside.heap.give_noted();
                    purger::keep_within_idle_limit(inside);
                }
                None => leave_noted(),
            }
        }
    }
}

/// Takes a block back that lies in one of the parcels of the calling thread's cache; if it does, and was granted. For who has no lock.
#[inline]
pub(in crate::process) fn take_back_own(cache: &Cache, class: usize, block: NonNull<u8>) -> bool {
    let Some((parcel, first)) = owner(block).parcel(block) else { return false };
    parcel.owner() == mark(cache).as_ptr() && Visit::default().give_to_own(cache, parcel, first, class)
}

/// By which a parcel knows its owner.
pub(in crate::process) fn mark(cache: &Cache) -> NonNull<()> {
    NonNull::from(cache).cast()
}
