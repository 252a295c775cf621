//! A value that one thread uses as its own, without a lock or a shared cache line, until another asks it to step aside.
//!
//! The owner marks that it is at the value, looks whether somebody shut it out, and uses it; a plain store and a plain load. Who wants
//! the value shuts the owner out, makes all threads' earlier stores visible ([`os::fence_threads`], a system call), and
//! waits until the owner is not at it. Of the two, at least one sees the other: it is the asymmetric form of Dekker's algorithm.
//!
//! The system may refuse the fence at any time, and nothing else shows what the owner is doing: to change the rights of a page
//! interrupts the other threads on some processors and on others not. Then the value stays the owner's, and the owner stays shut out:
//! when it comes by it takes the lock, leaves the value for good, and from then on the lock is all that it takes to reach it.
//!
//! *Owned*: one thread at a time is the owner, and [`Biased::enter`] is its alone. *Locked*: everything else is done under one lock,
//! by the owner as well.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;

use crate::os;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{pause, store_load_fence};

#[derive(Debug)]
pub(crate) struct Biased<T> {
    /// The owner is at the value.
    busy: AtomicBool,
    /// The owner has to take the lock.
    shut: AtomicBool,
    /// The owner does not come back.
    left: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: of the owner and those who hold the lock, one at a time reaches the value; see `enter` and `shut_out`.
unsafe impl<T: Send> Sync for Biased<T> {}

impl<T> Biased<T> {
    pub(crate) fn new(value: T) -> Self {
        let [busy, shut, left] = [(); 3].map(|()| AtomicBool::new(false));
        Self { busy, shut, left, value: UnsafeCell::new(value) }
    }

    /// Lets the owner use the value; `None` if it is shut out, and what `body` returns otherwise.
    ///
    /// # Safety
    /// *Owned*: the caller is the owner, and neither at the value nor holding the lock.
    #[inline]
    pub(crate) unsafe fn enter<R>(&self, body: impl FnOnce(&mut T) -> Option<R>) -> Option<R> {
        debug_assert!(!self.busy.load(Relaxed), "the owner is at the value already");
        self.busy.store(true, Relaxed);
        store_load_fence();
        let result = if self.shut.load(Acquire) {
            None
        } else {
            // SAFETY: whoever shuts the owner out from now on sees `busy`, and waits.
            body(unsafe { &mut *self.value.get() })
        };
        self.busy.store(false, Release);
        result
    }

    /// The value, for who holds the lock.
    ///
    /// # Safety
    /// *Locked*: the caller holds the lock as long as it uses the value. *Owned*: it is the owner; or the owner is out, as
    /// [`shut_out`] found and until [`let_in`](Self::let_in); or it has left; or there is none any more.
    #[expect(clippy::mut_from_ref, reason = "the lock makes it exclusive")]
    pub(crate) unsafe fn locked(&self) -> &mut T {
        // SAFETY: the caller's word. Others reach the value under the lock only.
        unsafe { &mut *self.value.get() }
    }

    /// The owner does not [`enter`](Self::enter) from now on.
    ///
    /// # Safety
    /// *Owned* and *Locked*: the caller is the owner, and holds the lock.
    pub(crate) unsafe fn leave(&self) {
        debug_assert!(!self.busy.load(Relaxed), "the owner is at the value");
        // What a thread stored itself, it sees.
        self.shut.store(true, Relaxed);
        self.left.store(true, Relaxed);
    }

    /// Whether the owner left; known to the owner, and to who holds the lock.
    pub(crate) fn has_left(&self) -> bool {
        self.left.load(Relaxed)
    }

    /// The first half of [`shut_out`]: the owner is shut out, but may be at the value.
    pub(crate) fn shut(&self) {
        self.shut.store(true, Relaxed);
    }

    /// The second half, after a fence: the owner is out, and when it comes back it sees that it is shut out.
    pub(crate) fn wait(&self) {
        while self.busy.load(Acquire) {
            pause();
        }
    }

    /// Lets an owner in that was shut out, unless it left.
    ///
    /// # Safety
    /// *Locked*: the caller holds the lock, and no reference to the value.
    pub(crate) unsafe fn let_in(&self) {
        if !self.has_left() {
            self.shut.store(false, Release);
        }
    }
}

/// Shuts the owners of some values out. Returns whether all of them are out now; if not, they stay shut out, and may be at their
/// values still.
///
/// # Safety
/// *Locked*: the caller holds the locks of all the values, and owns none of them.
pub(crate) unsafe fn shut_out<'a, T: 'a>(values: impl Iterator<Item = &'a Biased<T>> + Clone) -> bool {
    let values = values.filter(|value| !value.has_left());
    if values.clone().next().is_none() {
        return true;
    }
    values.clone().for_each(Biased::shut);
    let fenced = os::fence_threads();
    if fenced {
        values.for_each(Biased::wait);
    }
    fenced
}
