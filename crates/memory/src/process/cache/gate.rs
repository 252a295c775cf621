//! What a thread that makes no requests keeps, and how others get at it; and how its own thread is at its leases.
//!
//! Others may **call it in**, at little cost for a hit. The thread claims a block first, by counting it, and then looks whether the
//! bottom is still what it was. Who calls in tells so (`CALLED`) and fences all threads: a thread that changes leases at
//! the moment (it is *inside*) is seen now, and one that begins to is told. Then the bottoms and limits are shut (`SHUT`: no stack has a
//! block or room), and a second fence shows each claim that was made before; whoever claims later sees that it is shut. What was not
//! claimed is taken out from below: the bottom rises. Of a claim and what was taken, the bottom tells which was first.

use std::ptr::NonNull;

use super::stack::BOTTOMS;
use super::{Cache, Kept};
use crate::heap::classes::{KEPT_CLASSES, class_capacity};
use crate::os;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::fence;
use crate::sync::{BREATH, store_load_fence};

/// Where a cache's gate stands, besides `OPEN`, which is zero: it was called in; no claim succeeds; its thread opens it again; another has it.
pub(super) const OPEN: u32 = 0;
const CALLED: u32 = 1;
const SHUT: u32 = 2;
const MINE: u32 = 3;
const TAKEN: u32 = 4;

/// The classes in a set of bits.
fn classes(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let class = (bits != 0).then(|| bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        class
    })
}

impl Cache {
    /// The cache's thread is back: the gate is open again.
    #[cold]
    pub(super) fn come_back(&self) {
        // Who saw a bottom or a limit that others changed sees what they did before.
        fence(Acquire);
        loop {
            match self.gate.load(Acquire) {
                OPEN => return,
                TAKEN => os::sleep(BREATH),
                CALLED => _ = self.gate.compare_exchange(CALLED, OPEN, Acquire, Relaxed),
                _ => {
                    if self.gate.compare_exchange(SHUT, MINE, Acquire, Relaxed).is_ok() {
                        self.open();
                    }
                }
            }
        }
    }

    /// The classes that have leases. Of all others the stacks are both empty and full.
    fn leasing(&self) -> impl Iterator<Item = usize> + use<> {
        classes(self.leasing.load(Relaxed))
    }

    /// For who has the gate.
    fn open(&self) {
        self.leasing().for_each(|class| self.stacks[class].open());
        self.gate.store(OPEN, Release);
    }

    /// The cache's thread changes leases, and what its stacks hold, until the guard's end.
    pub(crate) fn enter(&self) -> AtLeases<'_> {
        let before = self.inside.load(Relaxed);
        self.inside.store(true, Relaxed);
        store_load_fence();
        // As for `come_back`.
        fence(Acquire);
        if self.gate.load(Acquire) != OPEN {
            self.come_back();
        }
        let risen = self.risen.load(Relaxed);
        if risen != 0 {
            self.lower(risen);
        }
        AtLeases { cache: self, before }
    }

    /// The bottoms of these classes are where they belong again.
    #[cold]
    fn lower(&self, risen: u64) {
        for class in classes(risen) {
            let stack = &self.stacks[class];
            let (bottom, top) = (stack.bottom(), stack.top());
            let lease = stack.lease().max(top - bottom);
            let lowest = BOTTOMS[class] as usize;
            for (to, from) in (bottom..top).enumerate() {
                self.slots[lowest + to].store(self.slots[from].load(Relaxed), Relaxed);
            }
            stack.set_top(lowest + (top - bottom));
            stack.bottom.store(lowest as u32, Relaxed);
            self.set_limit(class, lowest + lease);
        }
        self.count_no_leases();
        for class in self.leasing() {
            self.lease(class, self.stacks[class].lease() * class_capacity(class));
        }
        self.risen.store(0, Relaxed);
    }

    /// Calls it in, if it holds something and, where only the idle are wanted, its thread made no requests since the last such look, or none
    /// for what its parcels serve. Returns whether it was. For who holds the lock of all; as the next three.
    pub(crate) fn call_in(&self, only_idle: bool) -> bool {
        // Somebody gave up in the middle.
        self.call_off();
        let counted = self.allocated.load(Relaxed).wrapping_add(self.ceiling.load(Relaxed));
        let idle = self.parcels.rest() || self.seen.load(Relaxed) == counted;
        self.seen.store(counted, Relaxed);
        let holds = || self.leasing().any(|class| self.held(class) > 0) || self.parcels.hold_some();
        let wanted = (idle || !only_idle) && holds();
        wanted && self.gate.compare_exchange(OPEN, CALLED, Relaxed, Relaxed).is_ok()
    }

    /// A fence later, shuts what was called in, unless its thread is inside, or came by. Returns whether it is shut.
    pub(crate) fn shut(&self) -> bool {
        if self.gate.compare_exchange(CALLED, TAKEN, Acquire, Relaxed).is_err() {
            return false;
        }
        let shut = !self.inside.load(Acquire);
        if shut {
            // Its thread may not have been inside since others rose.
            self.risen.store(self.risen.load(Relaxed) | self.leasing.load(Relaxed), Relaxed);
            self.leasing().for_each(|class| self.stacks[class].shut());
        }
        self.gate.store(if shut { SHUT } else { OPEN }, Release);
        shut
    }

    /// A second fence later, takes out of what is shut, of a class at a time from this one on, and the parcels at last, as long as `take` has
    /// room for so many more. Returns the class to go on with; none if it is empty, or its thread came by.
    pub(crate) fn take_out(&self, first: usize, mut room: usize, mut take: impl FnMut(Kept)) -> Option<usize> {
        if self.gate.compare_exchange(SHUT, TAKEN, Acquire, Relaxed).is_err() {
            return None;
        }
        for class in self.leasing().filter(|&class| class >= first) {
            let stack = &self.stacks[class];
            let (bottom, top) = (stack.bottom(), stack.pushed.load(Acquire).wrapping_sub(stack.popped.load(Relaxed)));
            // A claim that is about to be given up may have let it sink below.
            if top <= bottom {
                continue;
            }
            if top - bottom > room {
                self.gate.store(SHUT, Release);
                return Some(class);
            }
            room -= top - bottom;
            for slot in &self.slots[bottom..top] {
                if let Some(block) = NonNull::new(slot.load(Relaxed)) {
                    take(Kept::Block(class, block));
                }
            }
            stack.set(top, top);
        }
        for parcel in self.parcels.with_free() {
            if room == 0 {
                self.gate.store(SHUT, Release);
                return Some(KEPT_CLASSES);
            }
            room -= 1;
            take(Kept::Pages(parcel, self.parcels.take_out(parcel)));
        }
        self.parcels.tell_nothing();
        self.give_up_portions(usize::MAX);
        self.leasing().for_each(|class| self.stacks[class].open());
        self.no_leases();
        self.gate.store(OPEN, Release);
        None
    }

    /// It is not called in any more.
    pub(crate) fn call_off(&self) {
        let _ = self.gate.compare_exchange(CALLED, OPEN, Acquire, Relaxed);
        if self.gate.compare_exchange(SHUT, TAKEN, Acquire, Relaxed).is_ok() {
            self.open();
        }
    }
}

/// While it lives, a cache's thread is inside.
#[derive(Debug)]
pub(crate) struct AtLeases<'a> {
    cache: &'a Cache,
    before: bool,
}

impl Drop for AtLeases<'_> {
    fn drop(&mut self) {
        // A signal's handler may have been inside while its thread was.
        self.cache.inside.store(self.before, Release);
    }
}
