//! The operating system: the one door to it. Reserved addresses and the physical memory behind them (`linux`), and what else of the
//! process is used (`process`). The only place with system calls.
#![allow(unsafe_code)]

mod linux;
mod process;
mod stderr;

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};
use std::ptr::NonNull;

use bytemuck::Zeroable;

pub(crate) use self::linux::Linux;
pub(crate) use self::process::{
    Ends, Errno, at_fork, can_fence_threads, clock, environment, fence_threads, has_environment, remember_processors,
    sleep, spawn, stay_loaded,
};
// The heap says what is freed twice; so far it only ends the process.
#[allow(unused_imports)]
pub(crate) use self::stderr::{be_quiet, complain, complain_once, decimal, die, hex, remember_standard_error};

/// A huge page in bytes.
pub(crate) const HUGE: usize = 2 << 20;

/// What the heap asks of the operating system. A trait, so that tests can refuse any call.
///
/// # Safety
/// Memory that `commit` and `purge` report done reads as zero, and stays valid until it is purged, moved or released.
pub(crate) unsafe trait Os {
    /// Reserves an inaccessible range of `bytes`, aligned to [`HUGE`].
    fn reserve(&self, bytes: usize) -> Option<NonNull<u8>>;

    /// Makes a part of a reserved range readable and writable. It takes physical memory only when it is touched.
    ///
    /// # Safety
    /// The range is reserved, page-aligned and not in use.
    unsafe fn commit(&self, start: NonNull<u8>, bytes: usize) -> bool;

    /// Asks for huge pages where the range, whole units of [`HUGE`], is touched from now on.
    ///
    /// # Safety
    /// The range is committed.
    unsafe fn prefer_huge(&self, start: NonNull<u8>, bytes: usize);

    /// Copies the small pages of a whole unit of [`HUGE`] into one huge page, now. Returns whether all of it is resident then.
    ///
    /// # Safety
    /// The unit is committed.
    unsafe fn collapse(&self, start: NonNull<u8>) -> bool;

    /// Gives the physical memory back and keeps the addresses.
    ///
    /// # Safety
    /// The range is committed and page-aligned, and nobody needs its contents.
    unsafe fn purge(&self, start: NonNull<u8>, bytes: usize) -> bool;

    /// Moves the physical memory of one range to another, whose own is given back; the old range stays committed.
    ///
    /// # Safety
    /// Both ranges are committed, page-aligned and disjoint, and nobody needs the contents of `to`.
    unsafe fn remap(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> bool;

    /// Ends a reservation.
    ///
    /// # Safety
    /// The range is the whole of a reservation, and nobody uses it any more.
    unsafe fn release(&self, start: NonNull<u8>, bytes: usize);

    /// How many bytes of addresses the process may have, if that is limited.
    fn address_limit(&self) -> Option<usize>;

    /// The system's own page size in bytes: what is purged is a multiple of it.
    fn page_size(&self) -> usize;
}

/// An array in reserved memory that grows in place and never moves; zero where it was not written.
///
/// An index past its end aborts: the heap's own bookkeeping would be wrong, and a panic needs an allocator.
#[derive(Debug)]
pub(crate) struct Table<T> {
    base: NonNull<T>,
    len: usize,
    capacity: usize,
    items: PhantomData<T>,
}

// SAFETY: the table owns its memory as a vector does.
unsafe impl<T: Send> Send for Table<T> {}

impl<T: Zeroable + Copy> Table<T> {
    pub(crate) const fn empty() -> Self {
        Self { base: NonNull::dangling(), len: 0, capacity: 0, items: PhantomData }
    }

    /// The bytes of address space for `capacity` items.
    pub(crate) const fn bytes(capacity: usize) -> usize {
        (capacity * size_of::<T>()).next_multiple_of(HUGE)
    }

    /// # Safety
    /// `base` starts [`bytes`](Self::bytes)`(capacity)` reserved bytes that are this table's from now on.
    pub(crate) unsafe fn new(base: NonNull<u8>, capacity: usize) -> Self {
        Self { base: base.cast(), len: 0, capacity, items: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Makes the table at least `len` items long, if there is memory.
    pub(crate) fn grow<O: Os>(&mut self, os: &O, len: usize) -> bool {
        if len <= self.len {
            return true;
        }
        if len > self.capacity {
            return false;
        }
        let page = os.page_size();
        let committed = (self.len * size_of::<T>()).next_multiple_of(page);
        let needed = (len * size_of::<T>()).next_multiple_of(page);
        if needed > committed {
            // SAFETY: both lie within the reserved range, and nothing is in use beyond `committed`.
            if !unsafe { os.commit(self.base.cast().byte_add(committed), needed - committed) } {
                return false;
            }
        }
        self.len = (needed / size_of::<T>()).min(self.capacity);
        true
    }

    #[inline]
    fn at(&self, index: usize) -> NonNull<T> {
        if index >= self.len {
            std::process::abort();
        }
        // SAFETY: the first `len` items are committed.
        unsafe { self.base.add(index) }
    }
}

impl<T: Zeroable + Copy> Index<u32> for Table<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: u32) -> &T {
        // SAFETY: `at` is within the table, whose bytes are zero or a `T`, and borrowed as the table is.
        unsafe { self.at(index as usize).as_ref() }
    }
}

impl<T: Zeroable + Copy> IndexMut<u32> for Table<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        // SAFETY: as above.
        unsafe { self.at(index as usize).as_mut() }
    }
}
