//! Arrays of the heap's own, in pieces: each is mapped when it is first reached for, and none ever moves or goes.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::{Index, IndexMut, Range};
use std::ptr::NonNull;

use bytemuck::Zeroable;

use crate::heap::classes::PAGE;
use crate::heap::tuning::{TABLES_FIRST_BYTES, TABLES_MORE_BYTES};
use crate::os::Os;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicU64};

/// Says of a struct with these fields that all zero bytes are a value of it, as they are of each field.
macro_rules! zeroable {
    ($type:ident { $($field:ident),* $(,)? }) => {
        const _: fn(&$type) = |$type { $($field),* }| {
            fn is_zeroable<T: bytemuck::Zeroable>(_: &T) {}
            $(is_zeroable($field);)*
        };
        // SAFETY: the lines above have the compiler check it for all of its fields.
        #[allow(unsafe_code)]
        unsafe impl bytemuck::Zeroable for $type {}
    };
}
pub(crate) use zeroable;

/// Memory for tables: zero, and theirs for ever.
///
/// *Noted*: each mapping begins with what is known of it, on a page of its own, which is written before anybody else knows of it.
#[derive(Debug)]
pub(crate) struct TableMemory {
    next: NonNull<u8>,
    left: usize,
    last: Mappings,
    /// How often the system was asked: there are at most so many mappings.
    pub(crate) mappings: usize,
}

/// The mappings of tables, from the last one on: what is there stays for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mappings(Option<NonNull<Mapping>>);

#[derive(Debug)]
struct Mapping {
    before: Mappings,
    bytes: usize,
}

impl Iterator for Mappings {
    /// The start of a mapping, and its bytes.
    type Item = (NonNull<u8>, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.0?;
        // SAFETY: *Noted*: nobody writes there any more.
        let Mapping { before, bytes } = unsafe { start.as_ref() };
        self.0 = before.0;
        Some((start.cast(), *bytes))
    }
}

// SAFETY: what is left is nobody else's; what was noted is only read.
unsafe impl Send for TableMemory {}

impl TableMemory {
    pub(crate) const fn new() -> Self {
        Self { next: NonNull::dangling(), left: 0, last: Mappings(None), mappings: 0 }
    }

    /// Where the system puts what it may put anywhere; 0 if nothing was asked for.
    pub(crate) fn address(&self) -> usize {
        if self.mappings == 0 { 0 } else { self.next.addr().get() }
    }

    /// All that was mapped so far.
    pub(crate) fn so_far(&self) -> Mappings {
        self.last
    }

    /// So many bytes, aligned to a page.
    fn take<O: Os>(&mut self, os: &O, bytes: usize) -> Option<NonNull<u8>> {
        let bytes = bytes.next_multiple_of(PAGE);
        if bytes > self.left {
            let whole = PAGE + bytes.max(if self.mappings == 0 { TABLES_FIRST_BYTES } else { TABLES_MORE_BYTES });
            let start = os.map_anywhere(whole, PAGE)?;
            let mapping = start.cast::<Mapping>();
            // SAFETY: it was just mapped, page-aligned, and is nobody's yet; it has a page for this, and more.
            unsafe {
                mapping.write(Mapping { before: self.last, bytes: whole });
                self.next = start.add(PAGE);
            }
            self.left = whole - PAGE;
            self.last = Mappings(Some(mapping));
            self.mappings += 1;
        }
        let start = self.next;
        debug_assert!(start.addr().get().is_multiple_of(PAGE) && bytes <= self.left);
        self.left -= bytes;
        // SAFETY: so many bytes were left from there.
        self.next = unsafe { start.add(bytes) };
        Some(start)
    }
}

/// Shared access to a table: for its owner, and for who reads what others write meanwhile.
#[derive(Debug)]
pub(crate) struct TableView<T, const LEN: usize, const PIECE: usize> {
    /// Where each piece is: null where it is not there yet.
    pieces: NonNull<AtomicPtr<T>>,
    /// `LEN`, or 0 before the start: then there are none.
    len: usize,
    items: PhantomData<T>,
}

impl<T, const LEN: usize, const PIECE: usize> Clone for TableView<T, LEN, PIECE> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, const LEN: usize, const PIECE: usize> Copy for TableView<T, LEN, PIECE> {}

// SAFETY: it is a shared reference to the items.
unsafe impl<T: Sync, const LEN: usize, const PIECE: usize> Send for TableView<T, LEN, PIECE> {}
// SAFETY: as above.
unsafe impl<T: Sync, const LEN: usize, const PIECE: usize> Sync for TableView<T, LEN, PIECE> {}

impl<T, const LEN: usize, const PIECE: usize> TableView<T, LEN, PIECE> {
    #[inline]
    fn find(&self, index: u32) -> Option<NonNull<T>> {
        let index = index as usize;
        if index >= self.len {
            return None;
        }
        // SAFETY: an index below the length is in one of the pieces; what is not null is a piece, zero or written since.
        unsafe {
            let piece = self.pieces.add(index / PIECE).as_ref().load(Acquire);
            Some(NonNull::new(piece)?.add(index % PIECE))
        }
    }
}

impl<T: Sync, const LEN: usize, const PIECE: usize> TableView<T, LEN, PIECE> {
    /// The item at an index, unless nothing was ever there.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        // SAFETY: an item that is there for ever. Its owner writes to it by shared references, too: see `Table::view`.
        self.find(index).map(|item| unsafe { item.as_ref() })
    }
}

/// An array of `LEN` items in pieces of `PIECE`, both powers of two. What was not written is zero.
///
/// An index in a piece that is not there aborts: the heap's own bookkeeping would be wrong, and a panic needs an allocator.
#[derive(Debug)]
pub(crate) struct Table<T, const LEN: usize, const PIECE: usize>(TableView<T, LEN, PIECE>);

// SAFETY: the table owns its items as a vector does.
unsafe impl<T: Send, const LEN: usize, const PIECE: usize> Send for Table<T, LEN, PIECE> {}

impl<T: Zeroable, const LEN: usize, const PIECE: usize> Table<T, LEN, PIECE> {
    pub(crate) const fn empty() -> Self {
        const { assert!(LEN.is_power_of_two() && PIECE.is_power_of_two() && PIECE <= LEN) };
        const { assert!(align_of::<T>() <= PAGE && align_of::<AtomicPtr<T>>() <= PAGE) };
        Self(TableView { pieces: NonNull::dangling(), len: 0, items: PhantomData })
    }

    /// Gives an empty table a place to note its pieces in, if there is memory.
    pub(crate) fn open<O: Os>(&mut self, os: &O, memory: &mut TableMemory) -> Option<()> {
        if self.0.len == 0 {
            self.0.pieces = memory.take(os, LEN / PIECE * size_of::<AtomicPtr<T>>())?.cast();
            self.0.len = LEN;
        }
        Some(())
    }

    /// Makes the items of a range readable and writable, if there is memory.
    pub(crate) fn ensure<O: Os>(&self, os: &O, memory: &mut TableMemory, range: Range<u32>) -> bool {
        if self.0.len == 0 {
            return false;
        }
        for piece in range.start as usize / PIECE..(range.end as usize).min(LEN).div_ceil(PIECE) {
            debug_assert!(piece < LEN / PIECE);
            // SAFETY: one of the table's pieces.
            let at = unsafe { self.0.pieces.add(piece).as_ref() };
            if at.load(Relaxed).is_null() {
                let Some(start) = memory.take(os, PIECE * size_of::<T>()) else { return false };
                at.store(start.cast().as_ptr(), Release);
            }
        }
        true
    }

    /// The item at an index, unless nothing was ever there.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        // SAFETY: an item that is there, borrowed as the table is.
        self.0.find(index).map(|item| unsafe { item.as_ref() })
    }

    /// The first index of a range that something may be at.
    pub(crate) fn next(&self, range: Range<u32>) -> Option<u32> {
        let mut index = range.start;
        while index < range.end {
            if self.0.find(index).is_some() {
                return Some(index);
            }
            index = u32::try_from((index as usize / PIECE + 1) * PIECE).ok()?;
        }
        None
    }
}

impl<T: Zeroable + Atomic, const LEN: usize, const PIECE: usize> Table<T, LEN, PIECE> {
    /// A second way to the items.
    pub(crate) fn view(&self) -> TableView<T, LEN, PIECE> {
        self.0
    }
}

/// Items that are changed by shared references only, so that there is no harm in an exclusive one that nobody uses.
pub(crate) trait Atomic: Sync {}

impl Atomic for AtomicU64 {}

impl<T: Zeroable, const LEN: usize, const PIECE: usize> Index<u32> for Table<T, LEN, PIECE> {
    type Output = T;

    #[inline]
    fn index(&self, index: u32) -> &T {
        match self.0.find(index) {
            // SAFETY: an item that is there, borrowed as the table is.
            Some(item) => unsafe { item.as_ref() },
            None => std::process::abort(),
        }
    }
}

impl<T: Zeroable, const LEN: usize, const PIECE: usize> IndexMut<u32> for Table<T, LEN, PIECE> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        match self.0.find(index) {
            // SAFETY: an item that is there, borrowed as the table is.
            Some(mut item) => unsafe { item.as_mut() },
            None => std::process::abort(),
        }
    }
}
