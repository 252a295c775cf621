//! How many blocks of each class a cache may keep: leases that widen, and how what is beyond them goes back.

use std::ptr::NonNull;

use super::super::pot::{self, Answer};
use super::super::tuning::{
    BLOCKS_DRAINED, LEASES_CUT_PART, PAGES_LEASED_BYTES, RUNS_LEASED_BYTES, SLABS_LEASED_BYTES, UNFILLED_LEASES_ASKED,
};
use super::stack::{BOTTOMS, depth};
use super::{Cache, add};
use crate::heap::classes::{CLASSES, KEPT_CLASSES, SLAB_CLASSES, class_capacity};
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::Relaxed;

/// No more leases are given, so that each free is seen by who knows whether the block is in use.
static NONE_GIVEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Whether leases are given from now on.
pub(crate) fn give_leases(are_given: bool) {
    NONE_GIVEN.store(!are_given, Relaxed);
}

/// Whether they are.
pub(crate) fn are_leases_given() -> bool {
    !NONE_GIVEN.load(Relaxed)
}

/// Whether blocks of a class are pages.
fn is_pages(class: usize) -> bool {
    class >= SLAB_CLASSES
}

/// Whether it is a kind of runs, which are pages, too.
fn is_runs(class: usize) -> bool {
    class >= CLASSES
}

/// The classes alike; of runs nobody asks.
fn alike(class: usize) -> u64 {
    debug_assert!(!is_runs(class));
    let (slabs, all) = ((1 << SLAB_CLASSES) - 1, (1 << CLASSES) - 1);
    if is_pages(class) { all & !slabs } else { slabs }
}

impl Cache {
    /// Fills the empty stack of a class; returns one block more. `obtain` is asked for so many blocks, and gives as many as there are.
    pub(crate) fn refill(
        &self,
        class: usize,
        obtain: impl FnOnce(usize, &mut dyn FnMut(NonNull<u8>)),
    ) -> Option<NonNull<u8>> {
        let stack = &self.stacks[class];
        // Runs of pages come one by one: to take them ahead would save no work.
        let ahead = if is_pages(class) { 0 } else { stack.lease() / 2 };
        let mut first = None;
        let mut top = stack.bottom();
        obtain(1 + ahead, &mut |block| {
            if first.is_none() {
                first = Some(block);
            } else {
                self.slots[top].store(block.as_ptr(), Relaxed);
                top += 1;
            }
        });
        debug_assert!(top <= stack.limit());
        stack.set_top(top);
        first
    }

    /// Takes a block back whose stack is full: widens it, or gives its older half back.
    pub(crate) fn overflow(&self, class: usize, block: NonNull<u8>, mut give: impl FnMut(usize, NonNull<u8>)) {
        self.widen(class, &mut give);
        let stack = &self.stacks[class];
        if stack.lease() == 0 {
            give(class, block);
            return;
        }
        if stack.top() == stack.limit() {
            self.give_back(class, stack.lease().div_ceil(2), &mut give);
        }
        let top = stack.top();
        debug_assert!(top < stack.limit());
        self.slots[top].store(block.as_ptr(), Relaxed);
        stack.set_top(top + 1);
    }

    /// Gives the oldest `count` blocks of a stack back.
    pub(super) fn give_back(&self, class: usize, count: usize, give: &mut impl FnMut(usize, NonNull<u8>)) {
        let stack = &self.stacks[class];
        let (bottom, top) = (stack.bottom(), stack.top());
        debug_assert!(bottom + count <= top && top <= stack.limit());
        for slot in &self.slots[bottom..bottom + count] {
            if let Some(block) = NonNull::new(slot.load(Relaxed)) {
                give(class, block);
            }
        }
        for slot in bottom + count..top {
            self.slots[slot - count].store(self.slots[slot].load(Relaxed), Relaxed);
        }
        stack.set_top(top - count);
    }

    /// A wider lease for a class whose stack ran full or empty: twice as many blocks of slabs, or one that is pages of its own. Where all is
    /// leased, others give theirs up: what is not filled of them, if that is enough.
    pub(crate) fn widen(&self, class: usize, give: &mut impl FnMut(usize, NonNull<u8>)) {
        let stack = &self.stacks[class];
        let lease = stack.lease();
        let more = if is_pages(class) { 1 } else { lease.max(1) }.min(depth(class) - lease);
        let bytes = more * class_capacity(class);
        // A barren cache has no leases to give.
        if more == 0 || !self.taken.load(Relaxed) || NONE_GIVEN.load(Relaxed) {
            return;
        }
        if !is_runs(class) && !self.may_lease(class, bytes) && !self.ask_for(class, bytes) {
            // Classes with leases, this one left out, from the hand on.
            for look in 0..2 * CLASSES {
                let Some(other) = self.next_leasing(class) else { break };
                self.cut(other, look >= UNFILLED_LEASES_ASKED, give);
                let more = if look < UNFILLED_LEASES_ASKED { 0 } else { self.total(class) / LEASES_CUT_PART };
                if self.may_lease(class, bytes + more) {
                    break;
                }
            }
        }
        if self.may_lease(class, bytes) {
            self.lease(class, bytes);
            self.set_limit(class, stack.limit() + more);
        }
    }

    /// The next class in turn that has a lease, and is like this one, but another.
    fn next_leasing(&self, class: usize) -> Option<usize> {
        let others = self.leasing.load(Relaxed) & alike(class) & !(1 << class);
        let hand = self.hand.load(Relaxed) as u32;
        let turned = others.rotate_right(hand + 1);
        if turned == 0 {
            return None;
        }
        let next = (hand + 1 + turned.trailing_zeros()) % u64::BITS;
        self.hand.store(next as usize, Relaxed);
        Some(next as usize)
    }

    pub(super) fn set_limit(&self, class: usize, limit: usize) {
        let stack = &self.stacks[class];
        debug_assert!(stack.bottom() <= limit && limit <= BOTTOMS[class + 1] as usize);
        stack.set_limit(limit);
        let others = self.leasing.load(Relaxed) & !(1 << class);
        self.leasing.store(others | u64::from(limit > stack.bottom()) << class, Relaxed);
    }

    /// The bytes leased for classes like this one.
    fn leased(&self, class: usize) -> &AtomicUsize {
        &self.leased[usize::from(is_pages(class)) + usize::from(is_runs(class))]
    }

    /// So many bytes more are leased for classes like this one.
    pub(super) fn lease(&self, class: usize, bytes: usize) {
        add(self.leased(class), bytes);
        if is_runs(class) {
            pot::lease_runs(bytes);
        }
    }

    /// So many fewer.
    fn end_lease(&self, class: usize, bytes: usize) {
        self.lease(class, 0_usize.wrapping_sub(bytes));
    }

    /// Nothing counts as leased.
    pub(super) fn count_no_leases(&self) {
        pot::lease_runs(0_usize.wrapping_sub(self.leased(CLASSES).load(Relaxed)));
        self.leased.iter().for_each(|leased| leased.store(0, Relaxed));
    }

    pub(super) fn no_leases(&self) {
        self.count_no_leases();
        self.leasing.store(0, Relaxed);
    }

    /// Whether there are parcels behind blocks of this class, with room for more.
    #[inline]
    pub(crate) fn is_of_parcels(&self, class: usize) -> bool {
        is_pages(class) && !is_runs(class) && !self.parcels.is_full()
    }

    /// The most bytes that may be leased for classes like this one.
    fn total(&self, class: usize) -> usize {
        if is_runs(class) {
            RUNS_LEASED_BYTES
        } else if self.is_of_parcels(class) {
            PAGES_LEASED_BYTES
        } else {
            SLABS_LEASED_BYTES + self.allowance.load(Relaxed)
        }
    }

    fn may_lease(&self, class: usize, bytes: usize) -> bool {
        self.leased(class).load(Relaxed) + bytes <= self.total(class)
            && (!is_runs(class) || pot::has_room_for_runs(bytes))
    }

    /// Takes a portion of the pot, if there is one, and there are no parcels behind these blocks; or gives its own back, if they are too much by now.
    fn ask_for(&self, class: usize, bytes: usize) -> bool {
        if self.is_of_parcels(class) {
            return false;
        }
        match pot::ask() {
            Answer::Portion(bytes) => _ = add(&self.allowance, bytes),
            Answer::Overdrawn(bytes) => self.give_up_portions(bytes),
            Answer::Empty => {}
        }
        self.may_lease(class, bytes)
    }

    /// Ends the part of a lease that is not filled, with half of what is if `filled`.
    fn cut(&self, class: usize, filled: bool, give: &mut impl FnMut(usize, NonNull<u8>)) {
        let stack = &self.stacks[class];
        if filled {
            self.give_back(class, self.held(class).div_ceil(2), give);
        }
        let unused = (stack.limit() - stack.top()) * class_capacity(class);
        if unused > 0 {
            self.end_lease(class, unused);
            self.set_limit(class, stack.top());
        }
    }

    /// Ends the lease of a class like this one, in turn, but not of itself.
    pub(crate) fn end_a_lease(&self, class: usize, mut give: impl FnMut(usize, NonNull<u8>)) {
        if let Some(other) = self.next_leasing(class) {
            self.give_up(other, &mut give);
        }
    }

    /// Ends the lease of a class.
    pub(super) fn give_up(&self, class: usize, give: &mut impl FnMut(usize, NonNull<u8>)) {
        self.give_back(class, self.held(class), give);
        let stack = &self.stacks[class];
        let bytes = stack.lease() * class_capacity(class);
        self.end_lease(class, bytes);
        self.set_limit(class, stack.bottom());
    }

    /// So many bytes of what it took of the pot are others' to take.
    pub(crate) fn give_up_portions(&self, most: usize) {
        let allowance = self.allowance.load(Relaxed);
        let back = allowance.min(most);
        pot::give_back(back);
        self.allowance.store(allowance - back, Relaxed);
    }

    /// Gives everything back.
    pub(crate) fn drain(&self, mut give: impl FnMut(usize, NonNull<u8>)) {
        for class in 0..KEPT_CLASSES {
            self.give_up(class, &mut give);
        }
        self.give_up_portions(usize::MAX);
    }

    /// Gives a part of it back, some 64 blocks; returns whether there may be more.
    pub(crate) fn drain_some(&self, mut give: impl FnMut(usize, NonNull<u8>)) -> bool {
        let mut given = 0;
        for class in 0..KEPT_CLASSES {
            if given >= BLOCKS_DRAINED {
                return true;
            }
            given += self.held(class);
            self.give_up(class, &mut give);
        }
        false
    }
}
