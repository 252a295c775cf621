//! The [parcels](crate::heap::parcel) of a thread: blocks of some pages are granted from them, and taken back, without a lock.
//!
//! What of them may be free is a share of what is in use there, and something for each thread; beyond that, the free pages of the parcel that
//! has most go back to the heap. What is more than little is told, so that somebody looks after it once the thread asks for nothing. Who needs
//! few pages has few: the first parcel is the first block, and each further one is as large as all before it, up to 64 pages.
#![allow(unsafe_code)]

use std::ptr::{self, NonNull};

use super::pot;
use super::tuning::{
    PARCELS, PARCELS_FREE_PAGES, PARCELS_FREE_PART, PARCELS_FREE_UNTOLD, REQUESTS_BETWEEN_COLLECTING,
    REQUESTS_BETWEEN_LEAVING, REQUESTS_PAST_STACKS,
};
use crate::heap::parcel::{PARCEL, Parcel};
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize};

/// Bytes of a word, and the top bit of each.
const BYTES: usize = 8;
const TOPS: u64 = u64::MAX / 0xff * 0x80;

/// Changed by who is at the [leases](super::cache::Cache::enter) of its cache.
#[derive(Debug)]
pub(crate) struct ThreadParcels {
    count: AtomicUsize,
    /// Free pages in them, and all, as of the last look.
    free: AtomicUsize,
    pages: AtomicUsize,
    /// What was told of those that are free beyond a little.
    told: AtomicUsize,
    /// The class that was asked for last; none, as the first class has no pages, if that is long ago.
    asked: AtomicUsize,
    /// How many pages are free side by side in each, a byte each.
    longest: [AtomicU64; PARCELS / BYTES],
    /// Requests that stacks did not serve, and how many of them there were when it pays to look for what others freed.
    requests: AtomicUsize,
    look_at: AtomicUsize,
    looks_in: AtomicUsize,
    parcels: [AtomicPtr<Parcel>; PARCELS],
}

impl ThreadParcels {
    pub(crate) const fn none() -> Self {
        Self {
            count: AtomicUsize::new(0),
            free: AtomicUsize::new(0),
            pages: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            longest: [const { AtomicU64::new(0) }; PARCELS / BYTES],
            requests: AtomicUsize::new(0),
            look_at: AtomicUsize::new(0),
            looks_in: AtomicUsize::new(0),
            parcels: [const { AtomicPtr::new(ptr::null_mut()) }; PARCELS],
        }
    }

    /// Begins anew: none is its own any more.
    pub(crate) fn begin(&self) {
        self.tell_nothing();
        [&self.count, &self.free, &self.pages, &self.asked, &self.requests, &self.look_at, &self.looks_in]
            .iter()
            .for_each(|count| count.store(0, Relaxed));
        self.longest.iter().for_each(|word| word.store(0, Relaxed));
    }

    fn at(&self, place: usize) -> Option<&'static Parcel> {
        // SAFETY: parcels stay where they are for ever.
        unsafe { self.parcels.get(place)?.load(Relaxed).as_ref() }
    }

    fn all(&self) -> impl DoubleEndedIterator<Item = (usize, &'static Parcel)> {
        (0..self.count.load(Relaxed)).filter_map(|place| Some((place, self.at(place)?)))
    }

    fn add_free(&self, pages: usize) {
        self.free.store(self.free.load(Relaxed).wrapping_add(pages), Relaxed);
    }

    /// A request of a class was not served by its stack. Returns whether a lease is to end: so many go by the stacks that they are no use.
    pub(crate) fn ask(&self, class: usize) -> bool {
        self.asked.store(class, Relaxed);
        let requests = self.requests.load(Relaxed).wrapping_add(1);
        self.requests.store(requests, Relaxed);
        requests.is_multiple_of(REQUESTS_PAST_STACKS)
    }

    /// Whether what is freed of a class will be asked for next, as far as the last request tells.
    pub(crate) fn is_asked(&self, class: usize) -> bool {
        self.asked.load(Relaxed) == class
    }

    /// Time has passed. Returns whether some are free, and nothing was asked for meanwhile.
    pub(crate) fn rest(&self) -> bool {
        self.asked.swap(0, Relaxed) == 0 && self.hold_some()
    }

    /// A block of so many pages, if there is room.
    pub(crate) fn grant(&self, pages: u32) -> Option<NonNull<u8>> {
        // No byte has its top bit, so none borrows from the next: it keeps the one it is given here where it is not less.
        let wanted = u64::from(pages) * (u64::MAX / 0xff);
        let enough = |longest: u64| ((longest | TOPS) - wanted) & TOPS;
        let (word, found) =
            self.longest.iter().map(|word| enough(word.load(Relaxed))).enumerate().find(|&(_, found)| found != 0)?;
        let place = word * BYTES + found.trailing_zeros() as usize / 8;
        let parcel = self.at(place)?;
        let first = parcel.grant(pages)?;
        self.set_longest(place, parcel.longest());
        self.add_free(0_usize.wrapping_sub(pages as usize));
        NonNull::new(ptr::with_exposed_provenance_mut(parcel.address(first)))
    }

    fn longest(&self, place: usize) -> u32 {
        let word = self.longest.get(place / BYTES).map_or(0, |word| word.load(Relaxed));
        u32::from(word.to_le_bytes()[place % BYTES])
    }

    fn set_longest(&self, place: usize, longest: u32) {
        if let Some(word) = self.longest.get(place / BYTES) {
            let shift = place % BYTES * 8;
            word.store(word.load(Relaxed) & !(0xff << shift) | u64::from(longest) << shift, Relaxed);
        }
    }

    /// Takes a block back that lies in one of them. Returns whether it was granted.
    pub(crate) fn take_back(&self, parcel: &Parcel, first: u32, pages: u32) -> bool {
        let place = parcel.place.load(Relaxed);
        let Some(beside) = parcel.take_back(first, pages) else { return false };
        self.set_longest(place, self.longest(place).max(beside));
        self.add_free(pages as usize);
        true
    }

    /// Takes over what others freed, if that was not looked for in vain just now. Returns whether there was something.
    pub(crate) fn collect(&self) -> bool {
        let requests = self.requests.load(Relaxed);
        if requests < self.look_at.load(Relaxed) {
            return false;
        }
        let mut collected = 0;
        for (place, parcel) in self.all() {
            let more = parcel.collect();
            if more > 0 {
                self.set_longest(place, parcel.longest());
            }
            collected += more as usize;
        }
        self.count_pages();
        self.add_free(collected);
        let looks_in =
            if collected > 0 { 0 } else { (2 * self.looks_in.load(Relaxed) + 1).min(REQUESTS_BETWEEN_COLLECTING) };
        self.looks_in.store(looks_in, Relaxed);
        self.look_at.store(requests + looks_in, Relaxed);
        collected > 0
    }

    fn count_pages(&self) {
        self.pages.store(self.all().map(|(_, parcel)| parcel.pages().count_ones() as usize).sum(), Relaxed);
    }

    /// How many pages the next one shall have, for a block of so many.
    pub(crate) fn next(&self, pages: u32) -> u32 {
        let all = u32::try_from(self.pages.load(Relaxed)).unwrap_or(PARCEL);
        all.clamp(pages, PARCEL)
    }

    /// One more.
    pub(crate) fn add(&self, parcel: NonNull<Parcel>) {
        let place = self.count.load(Relaxed);
        debug_assert!(place < PARCELS);
        let Some(slot) = self.parcels.get(place) else { return };
        slot.store(parcel.as_ptr(), Relaxed);
        self.count.store(place + 1, Relaxed);
        if let Some(parcel) = self.at(place) {
            parcel.place.store(place, Relaxed);
            self.set_longest(place, parcel.longest());
            let pages = parcel.pages().count_ones() as usize;
            self.pages.store(self.pages.load(Relaxed) + pages, Relaxed);
            self.add_free(pages);
        }
    }

    /// The one that is to be [left](Self::leave), before another comes: one that is empty; or, where there can be no more, a small one.
    pub(crate) fn to_leave(&self) -> Option<&'static Parcel> {
        // Then it is seldom that one became small.
        if self.is_full() && !self.requests.load(Relaxed).is_multiple_of(REQUESTS_BETWEEN_LEAVING) {
            return None;
        }
        let most = if self.is_full() { PARCEL / 2 } else { 0 };
        let least = self.all().map(|(_, parcel)| parcel).min_by_key(|parcel| parcel.pages().count_ones());
        least.filter(|parcel| parcel.pages().count_ones() <= most)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count.load(Relaxed) == PARCELS
    }

    /// The last one.
    pub(crate) fn last(&self) -> Option<&'static Parcel> {
        self.all().next_back().map(|(_, parcel)| parcel)
    }

    /// The thread has it no more. Returns its free pages, for the heap.
    pub(crate) fn leave(&self, parcel: &Parcel) -> u64 {
        let free = self.take_out(parcel);
        let (place, last) = (parcel.place.load(Relaxed), self.count.load(Relaxed).saturating_sub(1));
        if let (Some(moved), Some(slot)) = (self.at(last), self.parcels.get(place)) {
            moved.place.store(place, Relaxed);
            slot.store(ptr::from_ref(moved).cast_mut(), Relaxed);
            self.set_longest(place, self.longest(last));
            self.set_longest(last, 0);
            self.count.store(last, Relaxed);
        }
        self.pages.store(self.pages.load(Relaxed).saturating_sub(parcel.pages().count_ones() as usize), Relaxed);
        parcel.abandon();
        free
    }

    /// Its free pages are the thread's no more.
    pub(crate) fn take_out(&self, parcel: &Parcel) -> u64 {
        self.add_free(parcel.collect() as usize);
        let free = parcel.take_out();
        self.add_free(0_usize.wrapping_sub(free.count_ones() as usize));
        self.set_longest(parcel.place.load(Relaxed), 0);
        free
    }

    /// Whether more are free than was told.
    #[inline]
    pub(crate) fn has_surplus(&self) -> bool {
        self.free.load(Relaxed) > PARCELS_FREE_UNTOLD + self.told.load(Relaxed)
    }

    /// The parcel whose free pages are to go back, if more are free than may be. If not, that is told.
    #[cold]
    pub(crate) fn surplus(&self) -> Option<&'static Parcel> {
        self.count_pages();
        let (free, pages, told) = (self.free.load(Relaxed), self.pages.load(Relaxed), self.told.load(Relaxed));
        if free <= PARCELS_FREE_PAGES + pages.saturating_sub(free) / PARCELS_FREE_PART {
            // Some more, as there will be soon.
            let more = (free.saturating_sub(PARCELS_FREE_UNTOLD + told)).next_multiple_of(PARCELS_FREE_UNTOLD);
            pot::tell(more);
            self.told.store(told + more, Relaxed);
            return None;
        }
        let most = self.all().map(|(_, parcel)| parcel).max_by_key(|parcel| parcel.free().count_ones());
        most.filter(|parcel| parcel.free() != 0)
    }

    /// Nothing is free any more.
    pub(crate) fn tell_nothing(&self) {
        let told = self.told.load(Relaxed);
        if told > 0 {
            pot::tell_less(told);
            self.told.store(0, Relaxed);
        }
    }

    /// How many pages are free in them, for who is told.
    pub(crate) fn free_pages(&self) -> usize {
        self.all().map(|(_, parcel)| parcel.free_pages() as usize).sum()
    }

    /// Whether some pages are free in them.
    pub(crate) fn hold_some(&self) -> bool {
        self.all().any(|(_, parcel)| parcel.has_free())
    }

    /// Shows those with free pages.
    pub(crate) fn with_free(&self) -> impl Iterator<Item = &'static Parcel> {
        self.all().map(|(_, parcel)| parcel).filter(|parcel| parcel.has_free())
    }
}
