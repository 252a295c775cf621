//! A parcel: pages of the heap's that one thread has for itself, and grants as blocks of some pages each.
//!
//! What is free is told by bits, one a page: so a block of any number of pages is wherever there are so many free ones side by side, and
//! there is no stock of each size. The owner's bits are its own to change: while its thread is *inside*, or, in its stead, who has its
//! cache's gate. What others free they note in bits of their own, in any order and without a lock, and the owner takes them over when it looks
//! for room.
//!
//! Where a block ends is told by marks, not by what is free behind it: those stay as they are until the block is freed, whatever the owner does meanwhile, and a thread that
//! was handed the block sees them.
//!
//! *Abandoned*: a parcel whose owner left belongs to the heap. The owner's mark goes first, and what others had freed is taken over after
//! that; they note what they free, and look for the mark then. So one of both sees it: who finds no owner tells the heap, under its lock.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

/// The most pages of a parcel.
pub(crate) const PARCEL: u32 = u64::BITS;

/// Bits that others write, on a cache line of their own.
#[derive(Debug)]
#[repr(C, align(64))]
struct FreedBits(AtomicU64);

#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Parcel {
    /// Who grants its pages; null once nobody does.
    owner: AtomicPtr<()>,
    /// The address of its first page.
    pub(super) address: AtomicUsize,
    /// Its pages that are not the heap's again; changed under the heap's lock.
    pub(super) pages: AtomicU64,
    /// Those of them that the owner may grant.
    free: AtomicU64,
    /// *Marks*: the first page of each block in use, and the one behind its last, but no other page of it. Other marks may stand at free pages.
    marks: AtomicU64,
    /// Where it stands among the owner's.
    pub(crate) place: AtomicUsize,
    /// For the heap, under its lock: its first page's number and its own, how many pages it had, and the next number that is vacant.
    pub(super) start: AtomicU32,
    pub(super) number: AtomicU32,
    pub(super) whole: AtomicU32,
    pub(super) next: AtomicU32,
    /// What others freed, and the owner has not taken over.
    freed: FreedBits,
}

/// The bits of so many pages from this one on; none if these are no pages of a parcel.
pub(crate) fn bits(first: u32, pages: u32) -> u64 {
    if pages == 0 || first.saturating_add(pages) > PARCEL { 0 } else { u64::MAX >> (PARCEL - pages) << first }
}

/// Where at least 1, 2, 4, 8 and 16 set bits begin side by side.
#[inline]
fn doubled(set: u64) -> [u64; 5] {
    let mut begin = [set; 5];
    for power in 1..5 {
        begin[power] = begin[power - 1] & begin[power - 1] >> (1 << (power - 1));
    }
    begin
}

/// The first of so many set bits side by side, below 32. The way is the same whatever the bits are: what differs cannot be foreseen.
#[inline]
fn find(set: u64, pages: u32) -> Option<u32> {
    debug_assert!(0 < pages && pages < 32);
    let (mut left, mut found) = (u64::MAX, 0);
    for (power, begin) in doubled(set).into_iter().enumerate().rev() {
        let (with, step) = (left & begin >> found, pages & 1 << power);
        left = if step == 0 { left } else { with };
        found += step;
    }
    (left != 0).then(|| left.trailing_zeros())
}

/// How many set bits are side by side somewhere, below 32. As [`find`].
#[inline]
fn longest(set: u64) -> u32 {
    let (mut left, mut found) = (u64::MAX, 0);
    for (power, begin) in doubled(set).into_iter().enumerate().rev() {
        let with = left & begin >> found;
        let step = if with == 0 { 0 } else { 1 << power };
        left = if with == 0 { left } else { with };
        found += step;
    }
    found
}

/// How many set bits stand side by side where these do.
fn around(set: u64, first: u32, pages: u32) -> u32 {
    // Those from the first on, and those up to it.
    let from = (set >> first).trailing_ones();
    let to = (set << (PARCEL - 1 - first)).leading_ones();
    from.max(pages) + to - 1
}

impl Parcel {
    /// It is an owner's, with all of its pages.
    pub(super) fn begin(&self, owner: *mut (), pages: u32) {
        let all = bits(0, pages);
        self.pages.store(all, Relaxed);
        self.free.store(all, Relaxed);
        self.freed.0.store(0, Relaxed);
        self.owner.store(owner, Release);
    }

    pub(super) fn number(&self) -> u32 {
        self.number.load(Relaxed)
    }

    pub(crate) fn owner(&self) -> *mut () {
        self.owner.load(Relaxed)
    }

    /// The address of a page.
    pub(crate) fn address(&self, page: u32) -> usize {
        self.address.load(Relaxed) + page as usize * crate::heap::classes::PAGE
    }

    /// Its pages that are not the heap's.
    pub(crate) fn pages(&self) -> u64 {
        self.pages.load(Relaxed)
    }

    /// The owner's free pages, but for what others freed.
    pub(crate) fn free(&self) -> u64 {
        self.free.load(Relaxed)
    }

    /// Grants so many pages, below 32: the first of them, if there is room.
    #[inline]
    pub(crate) fn grant(&self, pages: u32) -> Option<u32> {
        let free = self.free();
        let first = find(free, pages)?;
        let these = bits(first, pages);
        self.free.store(free & !these, Relaxed);
        // Behind a parcel's last page nothing needs a mark.
        self.marks.store(self.marks.load(Relaxed) & !these | bits(first, 1) | bits(first + pages, 1), Relaxed);
        Some(first)
    }

    /// The pages of the block that starts with this one, which is the caller's; `None` if there is none, as far as can be seen.
    #[inline]
    pub(crate) fn block(&self, first: u32) -> Option<u32> {
        let this = bits(first, 1);
        let marks = self.marks.load(Relaxed);
        if marks & this == 0 || !self.are_in_use(this) {
            return None;
        }
        let behind = (marks >> first >> 1).trailing_zeros();
        Some((1 + behind).min(PARCEL - first))
    }

    /// How many pages are free side by side somewhere, up to 31.
    #[inline]
    pub(crate) fn longest(&self) -> u32 {
        longest(self.free())
    }

    /// Takes pages back that the owner's thread freed. Returns how many are free there side by side; `None` if it had not granted them.
    #[inline]
    pub(crate) fn take_back(&self, first: u32, pages: u32) -> Option<u32> {
        let these = bits(first, pages);
        if !self.are_in_use(these) {
            return None;
        }
        let free = self.free() | these;
        self.free.store(free, Release);
        Some(around(free, first, pages))
    }

    /// Notes pages that another thread freed. Returns whether they were granted.
    pub(crate) fn note(&self, these: u64) -> bool {
        self.are_in_use(these) && self.freed.0.fetch_or(these, SeqCst) & these == 0
    }

    /// Whether what was noted, and not taken over, is half of what a parcel may have.
    pub(crate) fn is_mostly_noted(&self) -> bool {
        self.freed.0.load(Relaxed).count_ones() >= PARCEL / 2
    }

    /// Whether all of these are granted, as far as can be seen.
    fn are_in_use(&self, these: u64) -> bool {
        let free = self.free() | self.freed.0.load(Relaxed);
        these != 0 && self.pages() & these == these && free & these == 0
    }

    /// Whether nobody grants its pages: what was noted is to be [given back](crate::heap::Heap::give_back_pages).
    pub(crate) fn is_abandoned(&self) -> bool {
        self.owner.load(SeqCst).is_null()
    }

    /// The owner takes over what others freed; returns how many pages.
    pub(crate) fn collect(&self) -> u32 {
        if self.freed.0.load(Relaxed) == 0 {
            return 0;
        }
        let freed = self.freed.0.swap(0, Acquire);
        self.free.store(self.free() | freed, Relaxed);
        freed.count_ones()
    }

    /// How many of its pages are free, whoever freed them.
    pub(crate) fn free_pages(&self) -> u32 {
        (self.free() | self.freed.0.load(Relaxed)).count_ones()
    }

    /// Whether some of its pages are free, whoever freed them.
    pub(crate) fn has_free(&self) -> bool {
        self.free_pages() > 0
    }

    /// What is free is the owner's no more: it is to be given back.
    pub(crate) fn take_out(&self) -> u64 {
        self.free.swap(0, Acquire)
    }

    /// What was taken out was not given back: the owner finds it again.
    pub(crate) fn put_back(&self, these: u64) {
        self.freed.0.fetch_or(these, SeqCst);
    }

    /// The owner leaves. What is in use goes back to the heap.
    pub(crate) fn abandon(&self) {
        self.owner.store(std::ptr::null_mut(), SeqCst);
    }

    /// What others freed since, for the heap.
    pub(super) fn take_noted(&self) -> u64 {
        self.freed.0.swap(0, SeqCst)
    }
}

#[cfg(test)]
impl Parcel {
    /// Before it is the first one's.
    pub(crate) fn none() -> Self {
        Self {
            owner: AtomicPtr::new(std::ptr::null_mut()),
            address: AtomicUsize::new(0),
            pages: AtomicU64::new(0),
            free: AtomicU64::new(0),
            marks: AtomicU64::new(0),
            place: AtomicUsize::new(0),
            start: AtomicU32::new(0),
            number: AtomicU32::new(0),
            whole: AtomicU32::new(0),
            next: AtomicU32::new(0),
            freed: FreedBits(AtomicU64::new(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(loom))]
    #[test]
    fn what_is_not_in_use_is_not_taken_back() {
        let parcel = Parcel::none();
        parcel.begin(std::ptr::dangling_mut(), 20);
        assert_eq!((parcel.grant(16), parcel.grant(3), parcel.grant(2)), (Some(0), Some(16), None));
        assert_eq!(parcel.take_back(16, 4), None, "one of them is free");
        assert_eq!(parcel.take_back(16, 3), Some(4));
        assert_eq!(parcel.take_back(16, 3), None, "they are free");
        assert!(!parcel.note(bits(18, 4)), "one of them is no page of the parcel");
        assert!(parcel.note(bits(0, 16)));
        assert!(!parcel.note(bits(0, 16)), "they are freed");
        assert_eq!((parcel.longest(), parcel.collect(), parcel.longest()), (4, 16, 20));
        assert_eq!((parcel.take_out(), parcel.grant(2), parcel.has_free()), (bits(0, 20), None, false));
    }

    #[cfg(not(loom))]
    #[test]
    fn blocks_are_known_by_their_marks() {
        let parcel = Parcel::none();
        parcel.begin(std::ptr::dangling_mut(), 20);
        let mut blocks = [16, 2, 2].map(|pages| (parcel.grant(pages).unwrap(), pages)).to_vec();
        for _ in 0..200 {
            let (first, pages) = blocks.remove(fastrand::usize(..blocks.len()));
            if fastrand::bool() {
                assert!(parcel.take_back(first, pages).is_some());
            } else {
                assert!(parcel.note(bits(first, pages)));
                assert_eq!(parcel.block(first), None);
                parcel.collect();
            }
            while let Some((first, pages)) = [2, 3, 5].into_iter().find_map(|pages| Some((parcel.grant(pages)?, pages)))
            {
                blocks.push((first, pages));
            }
            for page in 0..PARCEL {
                let block = blocks.iter().find(|block| block.0 == page).map(|block| block.1);
                assert_eq!(parcel.block(page), block, "page {page} of {blocks:?}");
            }
        }
    }

    #[test]
    fn room_is_found_where_it_is() {
        for set in [0, 1, u64::MAX, 0xf0, 0xff00_0000_0000_0000, 0x5555_5555_5555_5555, 0x0ff0_0f1e_00ff_0003] {
            for pages in 1..=20 {
                let naive = (0..=PARCEL - pages).find(|&first| set & bits(first, pages) == bits(first, pages));
                assert_eq!(find(set, pages), naive, "{pages} in {set:b}");
                assert!(naive.is_some() || longest(set) < pages);
                if let Some(first) = naive {
                    let mut width = pages;
                    while first + width < PARCEL && set & bits(first, width + 1) == bits(first, width + 1) {
                        width += 1;
                    }
                    let mut start = first;
                    while start > 0 && set & 1 << (start - 1) != 0 {
                        start -= 1;
                    }
                    assert!(longest(set) >= pages.min(31));
                    assert_eq!(around(set, first, pages), width + first - start, "{pages} at {first} of {set:b}");
                }
            }
        }
        assert_eq!((bits(60, 5), bits(60, 4), bits(0, 64), bits(3, 0)), (0, 0xf << 60, u64::MAX, 0));
    }
}
