//! The heap: memory from the operating system, managed so that it flows between all sizes.
//!
//! | module | decides |
//! |---|---|
//! | `space` | where the heap's addresses are, and what may be done there: all unsafe code below this page but parcels' |
//! | `owners` | what lies at an address |
//! | `extents` | which free ranges there are, by size and by neighbourhood |
//! | `units` | which pages are resident, and which may not be zero |
//! | `budget` | how much may be resident |
//! | `filling` | where huge pages pay |
//! | `pages` | which pages serve a request, which are given back |
//! | `slabs` | which block serves a small request |
//! | `resizing` | how a large block grows, shrinks, moves |
//! | `parcel`, `parcels` | which pages a thread has for itself, to serve requests for a few |
//!
//! A request for many pages is served in pieces, so that no one who waits for the lock waits long: [`Heap::obtain_run`] begins, and
//! [`Heap::proceed`] goes on until it is ready. What goes back to the system does so without the lock: a [`Goal`] says what, and
//! [`Heap::errand`] which call is next.
#![allow(unsafe_code)]

mod budget;
pub(crate) mod classes;
mod extents;
mod filling;
mod owners;
mod pages;
pub(crate) mod parcel;
mod parcels;
mod resizing;
mod slabs;
mod space;
#[cfg(test)]
mod tests;
mod tuning;
mod units;

use std::ops::Range;
use std::ptr::NonNull;

pub(crate) use self::budget::Budget;
use self::classes::{
    CLASSES, PAGE, Place, Run, SLAB_CLASSES, class_of_pages, class_pages, class_run, is_start, place_of_run,
};
use self::filling::Seen;
pub(crate) use self::owners::Holding;
use self::owners::{Cut, OwnersView};
pub(crate) use self::pages::{Goal, Look, Progress, Promotion};
use self::pages::{PageHeap, Transit};
use self::parcel::{PARCEL, Parcel};
use self::parcels::{Parcels, ParcelsView, first_page};
pub(crate) use self::resizing::Resize;
use self::slabs::Slabs;
pub(crate) use self::space::Mappings;
use self::space::{Errand, Return, UNIT};
use crate::heap_config::HugePages;
use crate::os::Os;

/// A granted block.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) start: NonNull<u8>,
    /// The bytes of it that may not be zero.
    pub(crate) dirty: Range<usize>,
}

/// A run on its way to who asked for it.
#[derive(Debug)]
pub(crate) struct Request {
    run: Run,
    transit: Transit,
}

impl Request {
    /// Whether memory was taken from the system for it.
    pub(crate) fn missed(&self) -> bool {
        self.transit.missed()
    }
}

#[derive(Debug)]
pub(crate) struct Heap<O> {
    pages: PageHeap<O>,
    slabs: Slabs,
    parcels: Parcels,
}

/// What can be known of a heap without its lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    owners: OwnersView,
    parcels: ParcelsView,
}

impl View {
    /// The parcel that a block lies in, and its first page there. The block has to be the caller's, or all of it may be another's meanwhile.
    #[inline]
    pub(crate) fn parcel(&self, block: NonNull<u8>) -> Option<(&Parcel, u32)> {
        let parcel = self.parcels.get(self.owners.parcel(block)?)?;
        Some((parcel, first_page(parcel, block)?))
    }

    /// The class of the block that starts at an address, if that is a slab's or a parcel's.
    #[inline(always)]
    pub(crate) fn cut_block(&self, at: NonNull<u8>) -> Option<usize> {
        match self.owners.cut(at)? {
            Cut::Slab { class, offset } => is_start(class, offset).then_some(class),
            Cut::Parcel { number } => self.parcel_block(number, at),
        }
    }

    /// The run whose block starts at an address, which is the caller's.
    #[inline]
    pub(crate) fn run(&self, at: NonNull<u8>) -> Option<Run> {
        self.owners.run(at)
    }

    /// See [`OwnersView::keep`].
    #[inline(always)]
    pub(crate) fn keep(&self, start: NonNull<u8>, wanted: impl FnOnce(usize, Run) -> bool) -> Option<(usize, Run)> {
        self.owners.keep(start, wanted)
    }

    /// The run that was kept, and starts at an address.
    pub(crate) fn kept(&self, start: NonNull<u8>) -> Option<Run> {
        self.owners.kept(start)
    }

    /// See [`OwnersView::use_kept`].
    #[inline(always)]
    pub(crate) fn use_kept(&self, start: NonNull<u8>, run: Run) {
        self.owners.use_kept(start, run);
    }

    #[inline]
    fn parcel_block(&self, number: u32, at: NonNull<u8>) -> Option<usize> {
        let parcel = self.parcels.get(number)?;
        parcel.block(first_page(parcel, at)?).and_then(class_of_pages)
    }

    /// The block that starts at an address, which is the caller's; or what lies there instead.
    pub(crate) fn block(&self, at: NonNull<u8>) -> Result<Place, Holding> {
        let place = self.cut_block(at).map(Place::Class).or_else(|| self.run(at).map(place_of_run));
        place.ok_or_else(|| self.owners.at(at).map_or(Holding::Nothing, |(_, holding)| holding))
    }
}

/// The functions that take a block back, or change one, are `unsafe` where a mistake would give others' memory away; what they can see
/// of it, they look at, and say [what lies there instead](Holding).
impl<O: Os> Heap<O> {
    pub(crate) const fn new(os: O) -> Self {
        Self { pages: PageHeap::new(os), slabs: Slabs::empty(), parcels: Parcels::empty() }
    }

    fn start(&mut self) -> Option<()> {
        if !self.pages.is_started() {
            self.pages.start()?;
        }
        // So whoever sees the heap sees parcels.
        self.parcels.open(&mut self.pages)
    }

    /// Starts where it is told to, with so many bytes of addresses, as one of so many heaps that share the process's mappings. `None` if
    /// that cannot be had.
    pub(crate) fn open_at(&mut self, origin: usize, bytes: usize, of: usize) -> Option<()> {
        self.pages.space().open_at(origin, bytes, of);
        self.start()
    }

    /// Where there may be addresses for other heaps, and how many bytes of them. `None` where the system chooses the places.
    pub(crate) fn neighbourhood(&mut self) -> Option<(usize, usize)> {
        self.pages.space().neighbourhood()
    }

    /// What is known of an address.
    pub(crate) fn holding(&mut self, at: NonNull<u8>) -> Holding {
        let holding = self.pages.space().page(at).map_or(Holding::Nothing, |page| self.pages.owners().at(page));
        match holding {
            Holding::Slab { class, number, place } => {
                let offset = place as usize * PAGE + at.addr().get() % PAGE;
                if self.slabs.is_free(class, number, offset) { Holding::FreeBlock { class } } else { holding }
            }
            _ => holding,
        }
    }

    /// Whether an address is in what is mapped for blocks.
    pub(crate) fn is_mapped(&mut self, at: NonNull<u8>) -> bool {
        let space = self.pages.space();
        space.page(at).is_some_and(|page| page % UNIT < space.mapped(page / UNIT))
    }

    /// Whether there are no addresses for a run, or no such machine, whatever is freed.
    pub(crate) fn is_beyond(&self, run: Run) -> bool {
        self.pages.is_beyond(run.pages)
    }

    /// A run of pages, where there is a good one that needs nothing to be done. All of it may not be zero.
    #[inline]
    pub(crate) fn obtain_at_once(&mut self, run: Run) -> Option<NonNull<u8>> {
        let page = self.pages.take_at_once(run.pages, run.align)?;
        self.pages.owners().set_run(page, run);
        Some(self.start_of(page, run))
    }

    /// As [`obtain_run`](Self::obtain_run) for few pages, which need no alignment: all at once.
    pub(crate) fn obtain_now(&mut self, run: Run) -> Option<Granted> {
        self.start()?;
        let transit = self.pages.take_now(run.pages)?;
        self.pages.owners().set_run(transit.start(), run);
        Some(self.granted(&Request { run, transit }))
    }

    /// A run of pages.
    pub(crate) fn obtain_run(&mut self, run: Run) -> Option<Request> {
        self.start()?;
        let transit = self.pages.take(run.pages, run.align)?;
        Some(Request { run, transit })
    }

    /// Where the block of a run starts.
    #[inline]
    fn start_of(&mut self, page: u32, run: Run) -> NonNull<u8> {
        self.pages.space().address(page).map_addr(|addr| addr.saturating_add(run.colour(page)))
    }

    /// Goes on with a request, by a piece of work.
    pub(crate) fn proceed(&mut self, request: &mut Request) -> Progress {
        let progress = self.pages.proceed(&mut request.transit);
        if progress == Progress::Ready {
            self.pages.owners().set_run(request.transit.start(), request.run);
        }
        progress
    }

    /// What is granted for a request that is ready.
    pub(crate) fn granted(&mut self, request: &Request) -> Granted {
        let Request { run, transit } = request;
        let start = self.start_of(transit.start(), *run);
        let colour = start.addr().get() % PAGE;
        let byte = |page: u32| ((page - transit.start()) as usize * PAGE).saturating_sub(colour).min(run.size);
        let dirty = transit.dirty();
        Granted { start, dirty: byte(dirty.start)..byte(dirty.end) }
    }

    /// A unit to promote once, as a request that is ready came to fill it.
    pub(crate) fn promotion_of(&mut self, request: &mut Request) -> Option<Promotion<O>> {
        self.pages.promotion_of(&mut request.transit)
    }

    /// The page that a run starts in, if there is just this run.
    #[inline]
    fn page_of(&mut self, run: Run, start: NonNull<u8>) -> Option<u32> {
        let page = self.pages.space().page(start)?;
        (start.addr().get() % PAGE == run.colour(page) && self.pages.owners().is_run(page, run)).then_some(page)
    }

    /// Takes back what was granted for `run`. Returns whether there was such a run in use; if not, nothing happened.
    ///
    /// # Safety
    /// If it was granted, nobody uses it any more.
    #[inline]
    pub(crate) unsafe fn give_back_run(&mut self, run: Run, start: NonNull<u8>) -> bool {
        let Some(page) = self.page_of(run, start) else { return false };
        self.pages.owners().set_free(page);
        self.pages.give(page, run.pages);
        true
    }

    /// Takes back a run that was [kept](View::keep), and is nobody's any more. Returns whether there was one; if not, nothing happened.
    pub(crate) fn give_back_kept(&mut self, start: NonNull<u8>) -> bool {
        let page = self.pages.space().page(start);
        let Some((page, run)) = page.and_then(|page| Some((page, self.pages.owners().kept(page)?))) else {
            return false;
        };
        self.pages.owners().set_free(page);
        self.pages.give(page, run.pages);
        true
    }

    /// Up to `wanted` blocks of a class, fewer only if there is no memory.
    pub(crate) fn obtain_blocks(&mut self, class: usize, wanted: usize, mut take: impl FnMut(NonNull<u8>)) {
        if self.start().is_none() {
            return;
        }
        if class < SLAB_CLASSES {
            // The slabs know pages and offsets only.
            let mut found = [(0, 0); 64];
            let mut count = 0;
            self.slabs.take(&mut self.pages, class, wanted.min(found.len()), |page, offset| {
                found[count] = (page, offset);
                count += 1;
            });
            for &(page, offset) in &found[..count] {
                take(self.pages.space().address(page).map_addr(|addr| addr.saturating_add(offset)));
            }
        } else {
            for _ in 0..wanted {
                let Some(granted) = self.obtain_now(class_run(class)) else { return };
                take(granted.start);
            }
        }
    }

    /// Takes back a block of a class. Returns whether there was such a block in use; if not, nothing happened.
    ///
    /// # Safety
    /// If it was granted, nobody uses it any more.
    pub(crate) unsafe fn give_back_block(&mut self, class: usize, block: NonNull<u8>) -> bool {
        debug_assert!(class < CLASSES);
        if class < SLAB_CLASSES {
            let Some(page) = self.pages.space().page(block) else { return false };
            self.slabs.give(&mut self.pages, class, page, block.addr().get() % PAGE)
        } else if let Some(parcel) =
            self.pages.space().page(block).and_then(|page| self.parcels.at(self.pages.owners(), page))
        {
            let these = first_page(parcel, block).map_or(0, |first| parcel::bits(first, class_pages(class)));
            let noted = parcel.note(these);
            if noted && parcel.is_abandoned() {
                let number = parcel.number();
                self.parcels.give(&mut self.pages, number, 0);
            }
            noted
        } else {
            // SAFETY: the caller's word.
            unsafe { self.give_back_run(class_run(class), block) }
        }
    }

    /// Whether there can be one more parcel, if there is memory.
    pub(crate) fn can_have_parcels(&self) -> bool {
        self.parcels.has_numbers()
    }

    /// A parcel of so many pages, at most [`PARCEL`], for an owner; fewer only if there are not so many side by side, and not fewer than
    /// `least`.
    pub(crate) fn obtain_parcel(&mut self, pages: u32, least: u32, owner: NonNull<()>) -> Option<NonNull<Parcel>> {
        self.start()?;
        let most = pages.min(PARCEL);
        // Where memory is there already, a good part of them will do.
        for (pages, at_once) in [(most, true), (most / 2, true), (most / 4, true), (most, false), (least, false)] {
            if pages >= least
                && let Some(parcel) = self.parcels.obtain(&mut self.pages, pages, at_once, owner)
            {
                return Some(parcel.into());
            }
        }
        None
    }

    /// Takes pages of a parcel back, and what others freed if it is abandoned.
    ///
    /// # Safety
    /// The parcel is this heap's, and nobody uses or grants the pages any more.
    pub(crate) unsafe fn give_back_pages(&mut self, parcel: &Parcel, these: u64) {
        let view = self.parcels.view();
        debug_assert!(view.get(parcel.number()).is_some_and(|found| std::ptr::eq(found, parcel)), "another heap's");
        self.parcels.give(&mut self.pages, parcel.number(), these);
    }

    /// See [`Parcels::give_noted`].
    pub(crate) fn give_noted(&mut self) {
        self.parcels.give_noted(&mut self.pages);
    }

    /// Only this owner is left, in a fork's child.
    pub(crate) fn abandon_others(&mut self, owner: *mut ()) {
        self.parcels.abandon_others(&mut self.pages, owner);
    }

    /// What those see who do not hold the lock.
    pub(crate) fn view(&mut self) -> View {
        let origin = self.pages.space().address(0).addr().get();
        View { owners: self.pages.owners().view(origin), parcels: self.parcels.view() }
    }

    /// See [`PageHeap::tick`].
    pub(crate) fn tick(&mut self) {
        self.pages.tick();
    }

    /// See [`PageHeap::decay`].
    pub(crate) fn decay(&self) -> Goal {
        self.pages.decay()
    }

    /// See [`PageHeap::trim`].
    pub(crate) fn trim(&self) -> Goal {
        self.pages.trim()
    }

    /// See [`PageHeap::keep_budget`].
    pub(crate) fn keep_budget(&self) -> Goal {
        self.pages.keep_budget()
    }

    /// See [`PageHeap::evict`].
    pub(crate) fn evict(&self, pages: u32) -> Goal {
        self.pages.evict(pages)
    }

    /// See [`PageHeap::errand`].
    pub(crate) fn errand(&mut self, goal: &mut Goal) -> Option<Errand<O>> {
        self.pages.errand(goal)
    }

    /// See [`PageHeap::returned`].
    pub(crate) fn returned(&mut self, goal: &mut Goal, with: Return) {
        self.pages.returned(goal, with);
    }

    /// See [`PageHeap::look`].
    pub(crate) fn look(&mut self) -> Option<Look<O>> {
        self.pages.look()
    }

    /// See [`PageHeap::saw`].
    pub(crate) fn saw(&mut self, look: &Look<O>, seen: Seen) {
        self.pages.saw(look, seen);
    }

    /// See [`PageHeap::settled`].
    pub(crate) fn settled(&mut self, goal: &Goal) {
        self.pages.settled(goal);
    }

    /// See [`PageHeap::promotion`].
    pub(crate) fn promotion(&mut self) -> (Option<Promotion<O>>, bool) {
        self.pages.promotion()
    }

    /// See [`PageHeap::promoted`].
    pub(crate) fn promoted(&mut self, promotion: &Promotion<O>, whole: bool) {
        self.pages.promoted(promotion, whole);
    }

    /// See [`PageHeap::keep_shared`].
    pub(crate) fn keep_shared(&mut self) {
        self.pages.keep_shared();
    }

    /// See [`PageHeap::is_at_rest`].
    pub(crate) fn is_at_rest(&self) -> bool {
        self.pages.is_at_rest()
    }

    /// See [`PageHeap::is_idle`].
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.pages.is_idle()
    }

    /// See [`PageHeap::is_promising`].
    #[inline]
    pub(crate) fn is_promising(&self) -> bool {
        self.pages.is_promising()
    }

    /// See [`PageHeap::exceeds_idle_limit`].
    #[inline]
    pub(crate) fn exceeds_idle_limit(&self) -> bool {
        self.pages.exceeds_idle_limit()
    }

    /// The most bytes that may be in use, and resident but free, from now on; both in whole pages.
    pub(crate) fn set_limits(&mut self, in_use: usize, idle: usize) {
        let pages = |bytes: usize| u32::try_from(bytes / PAGE).unwrap_or(u32::MAX);
        self.pages.set_limits(pages(in_use), pages(idle));
    }

    /// When huge pages are asked for, from now on.
    pub(crate) fn set_policy(&mut self, policy: HugePages) {
        self.pages.set_policy(policy);
    }

    pub(crate) fn policy(&self) -> HugePages {
        self.pages.policy()
    }

    pub(crate) fn pages_in_use(&self) -> u32 {
        self.pages.in_use()
    }

    /// Resident pages that are not on their way to the system.
    pub(crate) fn staying_pages(&self) -> u32 {
        self.pages.staying()
    }

    /// How often a request took memory from the system.
    pub(crate) fn misses(&self) -> u64 {
        self.pages.misses()
    }

    /// Resident bytes, in whole pages; and their peak.
    pub(crate) fn resident(&self) -> usize {
        self.pages.resident() as usize * PAGE
    }

    pub(crate) fn peak_resident(&self) -> usize {
        self.pages.peak_resident() as usize * PAGE
    }

    /// See [`PageHeap::forget_peak`].
    pub(crate) fn forget_peak(&mut self) {
        self.pages.forget_peak();
    }

    /// The mappings of its tables.
    pub(crate) fn table_mappings(&mut self) -> Mappings {
        self.pages.space().table_mappings()
    }

    /// Where a unit is, the first at or behind this one of which something may be known; its number; and how many pages are mapped of it, and of
    /// those behind it: those at the start of each.
    pub(crate) fn survey<const N: usize>(&mut self, unit: u32) -> Option<(NonNull<u8>, u32, [u32; N])> {
        let space = self.pages.space();
        let (first, mapped) = space.survey(unit)?;
        Some((space.address(first * UNIT), first, mapped))
    }

    /// How many ranges of pages went back to the system.
    pub(crate) fn released(&self) -> u64 {
        self.pages.released()
    }
}

#[cfg(any(test, fuzzing))]
impl<O: Os> Heap<O> {
    /// Compares everything that is kept twice, while nothing is on its way.
    pub(crate) fn check(&self) {
        self.pages.check();
    }
}
