//! A backing, and a block of it that is put aside between two uses: its owner finds it again, unless others needed the room meanwhile.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::{self, NonNull};

use super::Backing;
use crate::pressure::{GivingBack, Grounds, Keep, Keeper, Kept};
use crate::retention::TICKS;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicUsize};

#[derive(Debug)]
pub(crate) struct Standby<B: Backing> {
    /// It refers to the other.
    keeper: Option<Keeper>,
    /// Where it stays.
    shelf: Box<Shelf<B>>,
}

/// *Aside*: while `start` is there, the block is nobody's, and who takes it out has it alone. Its layout is written by the owner alone, while nothing
/// is there and nobody else has taken it out just now.
#[derive(Debug)]
struct Shelf<B: Backing> {
    start: AtomicPtr<u8>,
    size: AtomicUsize,
    align: AtomicUsize,
    backing: B,
}

impl<B: Backing> Standby<B> {
    pub(crate) fn new(backing: B) -> Self {
        let [size, align] = [const { AtomicUsize::new(0) }; 2];
        let shelf = Box::new(Shelf { start: AtomicPtr::new(ptr::null_mut()), size, align, backing });
        let mut grounds = Grounds::default();
        shelf.backing.grounds(&mut grounds);
        let keeper: NonNull<dyn Keep + '_> = NonNull::from(&*shelf);
        // SAFETY: the shelf stays in its box, which is dropped after the keeper; any thread may call the backing, which named grounds.
        let keeper = unsafe { Keeper::new(keeper, grounds) };
        Self { keeper, shelf }
    }

    #[inline]
    pub(crate) fn backing(&self) -> &B {
        &self.shelf.backing
    }

    /// Puts a block aside. There is none yet.
    ///
    /// # Safety
    /// It came from the backing with this layout, and is not used before it is [taken](Self::take) again.
    pub(crate) unsafe fn put(&self, start: NonNull<u8>, layout: Layout) {
        debug_assert!(self.kept() == 0);
        self.shelf.size.store(layout.size(), Relaxed);
        self.shelf.align.store(layout.align(), Relaxed);
        self.shelf.start.store(start.as_ptr(), Release);
        if let Some(keeper) = &self.keeper {
            keeper.is_used_anew();
        }
    }

    /// Takes back what was put aside. Returns whether it was still there.
    pub(crate) fn take(&self) -> bool {
        let is_there = !self.shelf.start.swap(ptr::null_mut(), AcqRel).is_null();
        if !is_there && let Some(keeper) = &self.keeper {
            // Who has it reads its layout.
            keeper.wait_for_calls();
        }
        is_there
    }

    /// What was aside and is given back meanwhile is waited for by who needs it.
    pub(crate) fn giving_back(&self) -> Option<GivingBack<'_>> {
        self.keeper.as_ref().map(Keeper::giving_back)
    }

    /// The bytes of what is aside, and still there.
    pub(crate) fn kept(&self) -> usize {
        self.shelf.bytes()
    }
}

impl<B: Backing> Shelf<B> {
    fn bytes(&self) -> usize {
        if self.start.load(Acquire).is_null() { 0 } else { self.size.load(Relaxed) }
    }
}

impl<B: Backing> Keep for Shelf<B> {
    fn kept(&self) -> Kept {
        Kept { blocks: self.bytes(), ..Kept::default() }
    }

    fn give_up(&self, _: usize) -> usize {
        let Some(start) = NonNull::new(self.start.swap(ptr::null_mut(), AcqRel)) else { return 0 };
        let (size, align) = (self.size.load(Relaxed), self.align.load(Relaxed));
        debug_assert!(align.is_power_of_two() && start.addr().get().is_multiple_of(align));
        // SAFETY: *Aside*: it is that of a layout.
        let layout = unsafe { Layout::from_size_align_unchecked(size, align) };
        // SAFETY: *Aside*: the block is ours, and came from there with this layout.
        unsafe { self.backing.give_back(start, layout) };
        size
    }

    fn decays(&self) -> bool {
        true
    }

    fn rest(&self, ticks: usize) {
        if ticks > TICKS {
            self.give_up(0);
        }
    }
}

impl<B: Backing> Drop for Standby<B> {
    fn drop(&mut self) {
        let _giving = self.keeper.as_ref().map(Keeper::leave);
        self.shelf.give_up(0);
    }
}
