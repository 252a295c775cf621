//! All parcels, and how their pages come from the heap and go back: at once or by and by, whoever has them.
#![allow(unsafe_code)]

use std::ops::Range;
use std::ptr::NonNull;

use bytemuck::Zeroable;

use super::owners::{Holding, Owners, SLABS};
use super::pages::PageHeap;
use super::parcel::{Parcel, bits};
use super::space::{Atomic, Table, TableView};
use crate::heap::classes::PAGE;
use crate::os::Os;
use crate::sync::atomic::Ordering::Relaxed;

// SAFETY: all of it is atomics, which may be zero.
unsafe impl Zeroable for Parcel {}

impl Atomic for Parcel {}

const PIECE: usize = 512;

/// There can be so many: where there are, blocks are runs.
const NUMBERS: usize = 1 << 20;
const _: () = assert!(NUMBERS <= SLABS);

/// All parcels, by number. Number 0 is none.
#[derive(Debug)]
pub(crate) struct Parcels {
    parcels: Table<Parcel, NUMBERS, PIECE>,
    vacant: u32,
    unused: u32,
}

/// Those of them that exist, for everybody.
pub(crate) type ParcelsView = TableView<Parcel, NUMBERS, PIECE>;

impl Parcels {
    pub(crate) const fn empty() -> Self {
        Self { parcels: Table::empty(), vacant: 0, unused: 1 }
    }

    pub(crate) fn view(&self) -> ParcelsView {
        self.parcels.view()
    }

    /// Whoever has a view of it from now on sees what comes.
    pub(crate) fn open<O: Os>(&mut self, heap: &mut PageHeap<O>) -> Option<()> {
        heap.open(&mut self.parcels)
    }

    /// Whether there can be one more.
    pub(crate) fn has_numbers(&self) -> bool {
        self.vacant != 0 || (self.unused as usize) < NUMBERS
    }

    /// A parcel of so many pages, for an owner; `at_once`, if nothing needs to be done for them.
    pub(crate) fn obtain<O: Os>(
        &mut self,
        heap: &mut PageHeap<O>,
        pages: u32,
        at_once: bool,
        owner: NonNull<()>,
    ) -> Option<&Parcel> {
        let number = if self.vacant == 0 { self.unused } else { self.vacant };
        if number as usize >= NUMBERS || !heap.room_in(&mut self.parcels, number) {
            return None;
        }
        let start = heap.take_parcel(pages, at_once)?;
        let parcel = &self.parcels[number];
        if self.vacant == 0 {
            self.unused += 1;
        } else {
            self.vacant = parcel.next.load(Relaxed);
        }
        heap.owners().set_parcel(start..start + pages, number);
        parcel.address.store(heap.space().address(start).addr().get(), Relaxed);
        parcel.start.store(start, Relaxed);
        parcel.number.store(number, Relaxed);
        parcel.whole.store(pages, Relaxed);
        parcel.begin(owner.as_ptr(), pages);
        Some(parcel)
    }

    /// The parcel that a page belongs to.
    pub(crate) fn at(&self, owners: &Owners, page: u32) -> Option<&Parcel> {
        let Holding::Parcel { number } = owners.at(page) else { return None };
        self.parcels.get(number)
    }

    /// Takes pages back that are nobody's any more; and what others freed, if nobody has the parcel.
    pub(crate) fn give<O: Os>(&mut self, heap: &mut PageHeap<O>, number: u32, these: u64) {
        let parcel = &self.parcels[number];
        let these = these | if parcel.is_abandoned() { parcel.take_noted() } else { 0 };
        debug_assert!(parcel.pages() & these == these, "the heap has some of them already");
        let left = parcel.pages() & !these;
        parcel.pages.store(left, Relaxed);
        for part in parts(these) {
            let start = parcel.start.load(Relaxed);
            let pages = start + part.start..start + part.end;
            heap.owners().clear_slab(pages.clone());
            heap.cut(pages.start, pages.end - pages.start);
        }
        let parcel = &self.parcels[number];
        let whole = parcel.whole.load(Relaxed);
        if left == 0 && whole > 0 && parcel.is_abandoned() {
            heap.parcel_ended(whole);
            parcel.whole.store(0, Relaxed);
            parcel.next.store(self.vacant, Relaxed);
            self.vacant = number;
        }
    }

    /// Takes back what others freed of abandoned parcels, and could not tell of.
    pub(crate) fn give_noted<O: Os>(&mut self, heap: &mut PageHeap<O>) {
        for number in 1..self.unused {
            self.give(heap, number, 0);
        }
    }

    /// All parcels of others than this owner are abandoned.
    pub(crate) fn abandon_others<O: Os>(&mut self, heap: &mut PageHeap<O>, owner: *mut ()) {
        for number in 1..self.unused {
            let parcel = &self.parcels[number];
            if !parcel.is_abandoned() && parcel.owner() != owner {
                parcel.abandon();
                self.give(heap, number, 0);
            }
        }
    }
}

/// The ranges of bits that are set.
fn parts(mut set: u64) -> impl Iterator<Item = Range<u32>> {
    std::iter::from_fn(move || {
        let start = (set != 0).then(|| set.trailing_zeros())?;
        let end = start + (set >> start).trailing_ones();
        set &= !bits(start, end - start);
        Some(start..end)
    })
}

/// The offset of a block into a parcel, in pages; `None` if it does not begin with one.
pub(crate) fn first_page(parcel: &Parcel, block: NonNull<u8>) -> Option<u32> {
    let offset = block.addr().get().wrapping_sub(parcel.address(0));
    offset.is_multiple_of(PAGE).then(|| u32::try_from(offset / PAGE).ok()).flatten()
}
