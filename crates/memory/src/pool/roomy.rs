//! Buffers that shrank where there was no room for a smaller one beside them: they stay what they are, which is more than their layout says.
//!
//! A shrink must not fail for want of memory, as those who ask for one mostly cannot bear that. So the pool keeps a list of such buffers, and looks at it with each
//! free that takes the lock while there are any. *Barred*: as long as a buffer is listed, no stock has room for one of the bucket that its layout says, so that its
//! free takes the lock.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;

use super::BufferPool;
use crate::backing::Backing;
use crate::layout::{BUCKETS, Fit, SMALL};
use crate::pressure::hushed;
use crate::sync::atomic::Ordering::Relaxed;

#[derive(Debug)]
pub(super) struct Roomy {
    ptr: NonNull<u8>,
    /// What it is.
    fit: Fit,
    /// What its layout says.
    said: Fit,
}

#[derive(Debug)]
pub(super) struct RoomyList {
    /// In the order of their addresses.
    all: Vec<Roomy>,
    /// How many there are that say to be of a bucket.
    of_bucket: [usize; BUCKETS],
}

impl RoomyList {
    pub(super) fn new() -> Self {
        Self { all: Vec::new(), of_bucket: [0; BUCKETS] }
    }

    /// Where a buffer is, or would be.
    fn find(&self, ptr: NonNull<u8>) -> Result<usize, usize> {
        self.all.binary_search_by_key(&ptr, |roomy| roomy.ptr)
    }

    /// What a buffer is, if that is more than its layout says.
    pub(super) fn get(&self, ptr: NonNull<u8>) -> Option<Fit> {
        self.find(ptr).ok().map(|index| self.all[index].fit)
    }

    /// The same, of a buffer that is not in use any more.
    #[inline]
    pub(super) fn take(&mut self, ptr: NonNull<u8>) -> Option<Fit> {
        if self.all.is_empty() { None } else { self.find(ptr).ok().map(|index| self.remove(index)) }
    }

    fn remove(&mut self, index: usize) -> Fit {
        let Roomy { fit, said, .. } = self.all.remove(index);
        self.of_bucket[said.bucket] -= 1;
        fit
    }

    /// Lists a buffer. Returns whether there was memory for that.
    fn put(&mut self, roomy: Roomy) -> bool {
        let has_room = hushed(|| self.all.try_reserve(1)).is_ok();
        let place = self.find(roomy.ptr);
        if has_room {
            place.map(|index| _ = self.remove(index)).ok();
            self.of_bucket[roomy.said.bucket] += 1;
            self.all.insert(place.unwrap_or_else(|place| place), roomy);
        }
        has_room
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether no stock may have room for a buffer of this bucket.
    #[inline]
    pub(super) fn bars(&self, bucket: usize) -> bool {
        self.of_bucket[bucket] > 0
    }
}

impl<B: Backing> BufferPool<B> {
    /// What a buffer of this layout is.
    pub(super) fn fit_of(&self, ptr: NonNull<u8>, layout: Layout) -> Option<Fit> {
        // Who has the buffer has seen that it was listed.
        let roomy = if self.roomy.load(Relaxed) > 0 { self.lock().roomy.get(ptr) } else { None };
        roomy.or_else(|| self.fit(layout))
    }

    /// Lets a buffer, for which no other was to be had, be one of a smaller layout where it is. Returns whether it is.
    ///
    /// # Safety
    /// `ptr` came from this pool for a request of the layout `old` and was not put back since. If it returns true, that is `new` now.
    #[cold]
    pub(crate) unsafe fn stays(&self, ptr: NonNull<u8>, old: Layout, new: Layout) -> bool {
        debug_assert!(ptr.addr().get().is_multiple_of(old.align()));
        if old.size() == 0 || new.size() == 0 {
            return false;
        }
        let Some((was, said)) = self.fit(old).zip(self.fit(new)) else { return false };
        let mut state = self.lock();
        let fit = state.roomy.get(ptr).unwrap_or(was);
        if new.size() > fit.capacity || said.alignment > fit.alignment {
            return false;
        }
        state.close_all();
        // One that cannot be reached has leases still.
        if said.capacity <= SMALL && state.central.leased()[said.bucket] > 0 {
            return false;
        }
        let is_listed = state.roomy.put(Roomy { ptr, fit, said });
        self.roomy.store(state.roomy.len(), Relaxed);
        if is_listed {
            state.counters.resized(old.size(), new.size());
            state.counters.refused_for_nothing();
        }
        is_listed
    }
}
