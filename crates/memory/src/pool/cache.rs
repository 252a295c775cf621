//! The free buffers of a pool: by size class the last freed on top, and all of them by age. Safe code that follows no
//! pointer.
//!
//! A free buffer stands in two doubly linked lists, both over indices into one vector of slots: that of its class and
//! alignment, from which the newest is taken, and that of its bucket, from which the oldest is evicted. The oldest of all is
//! the oldest of the buckets' oldest. Every operation takes constant time.

use std::alloc::Layout;
use std::ptr::NonNull;

use crate::layout::{BUCKETS, Fit, SizeClasses};
use crate::stats::Kept;

/// A free buffer, as it goes back to the backing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Free {
    pub(super) ptr: NonNull<u8>,
    pub(super) block: Layout,
    pub(super) bucket: usize,
}

#[derive(Debug)]
pub(super) struct Cache {
    classes: SizeClasses,
    slots: Vec<Slot>,
    /// The first of the unused slots, linked by `by_class.older`.
    unused: u32,
    /// Where in `by_class` the lists of an alignment, by its log2, begin. Buffers of different alignments are never
    /// interchanged, as each has to go back to the backing with the alignment it came with.
    first_class: [u32; usize::BITS as usize],
    /// The lists of all classes, for each alignment seen so far.
    by_class: Vec<List>,
    by_bucket: [List; BUCKETS],
    kept: [Kept; BUCKETS],
    bytes: usize,
    /// Counts insertions; orders the oldest buffers of different classes.
    clock: u64,
}

#[derive(Debug)]
struct Slot {
    free: Free,
    list: u32,
    by_class: Links,
    by_bucket: Links,
    inserted: u64,
}

#[derive(Clone, Copy, Debug)]
struct Links {
    newer: u32,
    older: u32,
}

#[derive(Clone, Copy, Debug)]
struct List {
    newest: u32,
    oldest: u32,
}

const NONE: u32 = u32::MAX;
const UNLINKED: Links = Links { newer: NONE, older: NONE };
const EMPTY: List = List { newest: NONE, oldest: NONE };

/// There was no memory to account for one more buffer.
#[derive(Debug)]
pub(super) struct Full;

impl Cache {
    pub(super) fn new(classes: SizeClasses) -> Self {
        Self {
            classes,
            slots: Vec::new(),
            unused: NONE,
            first_class: [NONE; usize::BITS as usize],
            by_class: Vec::new(),
            by_bucket: [EMPTY; BUCKETS],
            kept: [Kept::default(); BUCKETS],
            bytes: 0,
            clock: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn kept(&self) -> &[Kept; BUCKETS] {
        &self.kept
    }

    /// Takes the buffer of this class and alignment that was inserted last.
    #[inline]
    pub(super) fn take_newest(&mut self, fit: &Fit) -> Option<NonNull<u8>> {
        let list = self.list_of(fit)?;
        let newest = self.by_class[list].newest;
        (newest != NONE).then(|| self.remove(newest).ptr)
    }

    /// Takes the buffer that has been here longest.
    pub(super) fn take_oldest(&mut self) -> Option<Free> {
        let oldest = self.by_bucket.iter().map(|list| list.oldest).filter(|&slot| slot != NONE);
        let oldest = oldest.min_by_key(|&slot| self.slots[slot as usize].inserted)?;
        Some(self.remove(oldest))
    }

    /// Takes the buffer of this bucket that has been here longest.
    pub(super) fn take_oldest_of(&mut self, bucket: usize) -> Option<Free> {
        let oldest = self.by_bucket[bucket].oldest;
        (oldest != NONE).then(|| self.remove(oldest))
    }

    /// Adds a buffer as the newest.
    #[inline]
    pub(super) fn insert(&mut self, ptr: NonNull<u8>, fit: &Fit) -> Result<(), Full> {
        let list = match self.list_of(fit) {
            Some(list) => list,
            None => self.add_alignment(fit)?,
        };
        let slot = Slot {
            free: Free { ptr, block: fit.block, bucket: fit.bucket },
            list: list as u32,
            by_class: UNLINKED,
            by_bucket: UNLINKED,
            inserted: self.clock,
        };
        let index = self.unused;
        let index = if index == NONE {
            self.add_slot(slot)?
        } else {
            let place = &mut self.slots[index as usize];
            self.unused = place.by_class.older;
            *place = slot;
            index
        };
        push(&mut self.slots, &mut self.by_class[list], index, |slot| &mut slot.by_class);
        push(&mut self.slots, &mut self.by_bucket[fit.bucket], index, |slot| &mut slot.by_bucket);
        self.clock += 1;
        self.bytes += fit.block.size();
        let kept = &mut self.kept[fit.bucket];
        kept.buffers += 1;
        kept.bytes += fit.block.size();
        Ok(())
    }

    #[inline]
    fn list_of(&self, fit: &Fit) -> Option<usize> {
        let first = self.first_class[fit.block.align().trailing_zeros() as usize];
        (first != NONE).then_some(first as usize + fit.class)
    }

    #[cold]
    fn add_alignment(&mut self, fit: &Fit) -> Result<usize, Full> {
        self.by_class.try_reserve(self.classes.count()).map_err(|_| Full)?;
        let first = self.by_class.len();
        self.by_class.resize(first + self.classes.count(), EMPTY);
        // At most 64 alignments of less than 2^12 classes each.
        self.first_class[fit.block.align().trailing_zeros() as usize] = first as u32;
        Ok(first + fit.class)
    }

    #[cold]
    fn add_slot(&mut self, slot: Slot) -> Result<u32, Full> {
        let index = u32::try_from(self.slots.len()).ok().filter(|&index| index != NONE).ok_or(Full)?;
        self.slots.try_reserve(1).map_err(|_| Full)?;
        self.slots.push(slot);
        Ok(index)
    }

    #[inline]
    fn remove(&mut self, index: u32) -> Free {
        let Slot { list, free: Free { bucket, .. }, .. } = self.slots[index as usize];
        unlink(&mut self.slots, &mut self.by_class[list as usize], index, |slot| &mut slot.by_class);
        unlink(&mut self.slots, &mut self.by_bucket[bucket], index, |slot| &mut slot.by_bucket);
        let slot = &mut self.slots[index as usize];
        slot.by_class.older = self.unused;
        self.unused = index;
        let free = slot.free;
        self.bytes -= free.block.size();
        let kept = &mut self.kept[free.bucket];
        kept.buffers -= 1;
        kept.bytes -= free.block.size();
        free
    }
}

/// Links an unlinked slot as the newest of a list; `links` chooses which of its links the list runs through.
#[inline]
fn push(slots: &mut [Slot], list: &mut List, index: u32, links: impl Fn(&mut Slot) -> &mut Links) {
    let older = std::mem::replace(&mut list.newest, index);
    links(&mut slots[index as usize]).older = older;
    match older {
        NONE => list.oldest = index,
        older => links(&mut slots[older as usize]).newer = index,
    }
}

#[inline]
fn unlink(slots: &mut [Slot], list: &mut List, index: u32, links: impl Fn(&mut Slot) -> &mut Links) {
    let Links { newer, older } = *links(&mut slots[index as usize]);
    match newer {
        NONE => list.newest = older,
        newer => links(&mut slots[newer as usize]).older = older,
    }
    match older {
        NONE => list.oldest = newer,
        older => links(&mut slots[older as usize]).newer = newer,
    }
}
