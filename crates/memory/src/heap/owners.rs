//! What lies at an address: a tag for the page that a block starts in, which can be read without the heap's lock.
//!
//! | bits | tag |
//! |---|---|
//! | `00…` | nothing starts here that is in use |
//! | `01` + 62 | the first or the last page of a free range, with its number; 0 if it has none yet |
//! | `10` + 22 + 8 + 5 + 27 | a page of a slab: which of its pages, its class, its number; with the class 31, a page of a parcel |
//! | `11` + 1 + 5 + 1 + 55 | the first page of a run: whether it is coloured, the logarithm of its alignment in pages, whether a thread keeps it, its bytes |
//!
//! The blocks of classes that are whole pages are runs as well, unless they lie in a parcel: no other run of so few pages has no alignment.
//! So a block's place and size follow from its address alone.

use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;

use super::space::{PAGES, Table, TableMemory, TableView};
use crate::heap::classes::{PAGE, Place, Run, SLAB_CLASSES, class_capacity, kind, place_of_run};
use crate::os::Os;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;

const KIND: u64 = 0b11 << 62;
const FREE: u64 = 0b01 << 62;
const SLAB: u64 = 0b10 << 62;
const RUN: u64 = 0b11 << 62;

const COLOURED: u64 = 1 << 61;
const ALIGN_SHIFT: u32 = 56;
/// A run is free, and a thread's to use again.
const KEPT: u64 = 1 << (ALIGN_SHIFT - 1);
const SIZE: u64 = KEPT - 1;

const CLASS_SHIFT: u32 = 27;
const PLACE_SHIFT: u32 = CLASS_SHIFT + 5;
/// The class of no slab: pages of a parcel.
const PARCEL: usize = 31;
const _: () = assert!(SLAB_CLASSES <= PARCEL);
/// There can be so many slabs, and parcels.
pub(crate) const SLABS: usize = 1 << 25;
const _: () = assert!(SLABS <= 1 << CLASS_SHIFT);

const PIECE: usize = 1 << 14;
type Tags = Table<AtomicU64, PAGES, PIECE>;

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    /// The page at this place in a slab of blocks of this class.
    Slab { class: usize, number: u32, place: u32 },
    /// A block of this class that is free.
    FreeBlock { class: usize },
    /// A page of a parcel.
    Parcel { number: u32 },
    /// The first page of a run of pages, or of a block of a class that is whole pages.
    Run(Run),
    /// The first or the last page of a free range, or of a run that a thread keeps.
    Free,
    /// No block starts in this page.
    Nothing,
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slab { class, .. } => write!(f, "a slab of blocks of {} bytes", class_capacity(*class)),
            Self::FreeBlock { class } => write!(f, "a block of up to {} bytes that is free", class_capacity(*class)),
            Self::Parcel { .. } => write!(f, "no block of that size in use"),
            Self::Run(run) => match place_of_run(*run) {
                Place::Run(run) => write!(f, "a block of {} bytes", run.size),
                class @ Place::Class(_) => write!(f, "a block of up to {} bytes", class.capacity()),
            },
            Self::Free => write!(f, "free memory"),
            Self::Nothing => write!(f, "no start of a block of the heap"),
        }
    }
}

/// The tag of a run's first page.
#[inline]
fn tag_of(run: Run) -> u64 {
    let coloured = if run.coloured { COLOURED } else { 0 };
    RUN | coloured | u64::from(run.align.trailing_zeros()) << ALIGN_SHIFT | run.size as u64
}

/// The run of such a tag.
#[inline]
fn run_of(tag: u64) -> Option<Run> {
    Run::new((tag & SIZE) as usize, 1 << (tag >> ALIGN_SHIFT & 31), tag & COLOURED != 0)
}

/// The run of a tag, if it was kept.
fn kept(tag: u64) -> Option<Run> {
    if tag & (KIND | KEPT) == RUN | KEPT { run_of(tag) } else { None }
}

/// All tags, for the one who writes them.
#[derive(Debug)]
pub(crate) struct Owners {
    tags: Tags,
}

impl Owners {
    pub(crate) const fn empty() -> Self {
        Self { tags: Table::empty() }
    }

    pub(crate) fn open<O: Os>(&mut self, os: &O, memory: &mut TableMemory) -> Option<()> {
        self.tags.open(os, memory)
    }

    /// Room for the tags of pages.
    pub(crate) fn ensure<O: Os>(&self, os: &O, memory: &mut TableMemory, pages: Range<u32>) -> bool {
        self.tags.ensure(os, memory, pages)
    }

    #[inline]
    fn set(&self, page: u32, tag: u64) {
        self.tags[page].store(tag, Relaxed);
    }

    #[inline]
    fn tag(&self, page: u32) -> u64 {
        self.tags.get(page).map_or(0, |tag| tag.load(Relaxed))
    }

    /// A run is in use from now on.
    #[inline]
    pub(crate) fn set_run(&self, start: u32, run: Run) {
        debug_assert!(run.pages != 0 && run.align.is_power_of_two() && run.size as u64 <= SIZE);
        self.set(start, tag_of(run));
    }

    /// Whether just this run starts at a page.
    #[inline]
    pub(crate) fn is_run(&self, start: u32, run: Run) -> bool {
        self.tag(start) == tag_of(run)
    }

    /// The run that starts at a page and was kept.
    pub(crate) fn kept(&self, start: u32) -> Option<Run> {
        kept(self.tag(start))
    }

    /// A run is free from now on, but none of the extents yet.
    #[inline]
    pub(crate) fn set_free(&self, start: u32) {
        self.set(start, FREE);
    }

    /// Marks an end of a free range with its number, if the page has a tag: where none ever was, nobody looks for one.
    #[inline]
    pub(crate) fn set_extent(&self, page: u32, number: u32) {
        if let Some(tag) = self.tags.get(page) {
            tag.store(FREE | u64::from(number), Relaxed);
        }
    }

    /// An end of a free range is none any more.
    #[inline]
    pub(crate) fn clear(&self, page: u32) {
        if let Some(tag) = self.tags.get(page) {
            tag.store(0, Relaxed);
        }
    }

    /// The number of the free range that has an end here.
    #[inline]
    pub(crate) fn extent(&self, page: u32) -> Option<u32> {
        let tag = self.tag(page);
        (tag & KIND == FREE && tag != FREE).then_some(tag as u32)
    }

    /// Pages are those of a slab from now on.
    pub(crate) fn set_slab(&self, pages: Range<u32>, class: usize, number: u32) {
        debug_assert!(class <= PARCEL && (number as usize) < SLABS);
        let tag = SLAB | (class as u64) << CLASS_SHIFT | u64::from(number);
        pages.zip(0..).for_each(|(page, place)| self.set(page, tag | place << PLACE_SHIFT));
    }

    /// Pages are those of a parcel from now on.
    pub(crate) fn set_parcel(&self, pages: Range<u32>, number: u32) {
        self.set_slab(pages, PARCEL, number);
    }

    /// Pages are no slab's any more, nor a parcel's.
    pub(crate) fn clear_slab(&self, pages: Range<u32>) {
        pages.for_each(|page| self.set(page, 0));
    }

    /// What is at a page.
    #[inline]
    pub(crate) fn at(&self, page: u32) -> Holding {
        decode(self.tag(page))
    }

    /// For those who do not hold the lock: what they ask for has to be theirs, or may change meanwhile.
    pub(crate) fn view(&self, origin: usize) -> OwnersView {
        OwnersView { origin, tags: self.tags.view() }
    }
}

/// Of a slab's page.
#[inline(always)]
fn class_and_place(tag: u64) -> (usize, u32) {
    ((tag >> CLASS_SHIFT) as usize % (PARCEL + 1), u32::from((tag >> PLACE_SHIFT) as u8))
}

#[inline]
fn decode(tag: u64) -> Holding {
    match tag & KIND {
        SLAB => {
            let (number, (class, place)) = (tag as u32 % SLABS as u32, class_and_place(tag));
            if class == PARCEL { Holding::Parcel { number } } else { Holding::Slab { class, number, place } }
        }
        RUN if tag & KEPT != 0 => Holding::Free,
        RUN => run_of(tag).map_or(Holding::Nothing, Holding::Run),
        FREE => Holding::Free,
        _ => Holding::Nothing,
    }
}

/// What an address lies in.
pub(crate) enum Cut {
    /// A slab of blocks of this class, so many bytes from its start.
    Slab { class: usize, offset: usize },
    /// A parcel.
    Parcel { number: u32 },
}

/// See [`Owners::view`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnersView {
    origin: usize,
    tags: TableView<AtomicU64, PAGES, PIECE>,
}

impl OwnersView {
    /// The number of the parcel that an address lies in.
    #[inline]
    pub(crate) fn parcel(&self, address: NonNull<u8>) -> Option<u32> {
        match self.at(address)?.1 {
            Holding::Parcel { number } => Some(number),
            _ => None,
        }
    }

    /// The number of an address's page, and its tag; `None` if it is none of the heap's.
    #[inline(always)]
    fn tag(&self, address: NonNull<u8>) -> Option<(u32, u64)> {
        let page = u32::try_from(address.addr().get().wrapping_sub(self.origin) / PAGE).ok()?;
        Some((page, self.tags.get(page)?.load(Relaxed)))
    }

    /// The run whose block starts at an address.
    #[inline]
    pub(crate) fn run(&self, address: NonNull<u8>) -> Option<Run> {
        let (page, tag) = self.tag(address)?;
        let run = if tag & (KIND | KEPT) == RUN { run_of(tag)? } else { return None };
        (address.addr().get() % PAGE == run.colour(page)).then_some(run)
    }

    /// The tag of the page that starts at an address.
    #[inline(always)]
    fn start(&self, address: NonNull<u8>) -> Option<&AtomicU64> {
        let offset = address.addr().get().wrapping_sub(self.origin);
        if offset.is_multiple_of(PAGE) { self.tags.get(u32::try_from(offset / PAGE).ok()?) } else { None }
    }

    /// The run in use that starts at an address is free from now on, and the calling thread's to [use](Self::use_kept) again. Returns it, with its
    /// [kind]; `None` if there is none that has one, and is `wanted`: then nothing happened.
    #[inline(always)]
    pub(crate) fn keep(&self, address: NonNull<u8>, wanted: impl FnOnce(usize, Run) -> bool) -> Option<(usize, Run)> {
        let at = self.start(address)?;
        let tag = at.load(Relaxed);
        if tag & !SIZE != RUN {
            return None;
        }
        let run = run_of(tag)?;
        let kind = kind(run)?;
        let kept = wanted(kind, run) && at.compare_exchange(tag, tag | KEPT, Relaxed, Relaxed).is_ok();
        kept.then_some((kind, run))
    }

    /// The run that was kept, and starts in an address's page.
    pub(crate) fn kept(&self, address: NonNull<u8>) -> Option<Run> {
        kept(self.tag(address)?.1)
    }

    /// A run that the calling thread kept, and nobody else has, is in use again.
    #[inline(always)]
    pub(crate) fn use_kept(&self, address: NonNull<u8>, run: Run) {
        if let Some(at) = self.start(address) {
            at.store(tag_of(run), Relaxed);
        }
    }

    /// What blocks of classes are cut from, where an address lies in that.
    #[inline(always)]
    pub(crate) fn cut(&self, address: NonNull<u8>) -> Option<Cut> {
        let at = address.addr().get();
        let (_, tag) = self.tag(address)?;
        if tag & KIND != SLAB {
            return None;
        }
        let (class, place) = class_and_place(tag);
        Some(match class {
            PARCEL => Cut::Parcel { number: tag as u32 % SLABS as u32 },
            _ => Cut::Slab { class, offset: place as usize * PAGE + at % PAGE },
        })
    }

    /// What is at an address, and the number of its page; `None` if it is none of the heap's.
    #[inline]
    pub(crate) fn at(&self, address: NonNull<u8>) -> Option<(u32, Holding)> {
        self.tag(address).map(|(page, tag)| (page, decode(tag)))
    }
}
