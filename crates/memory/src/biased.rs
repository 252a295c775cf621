//! A value that one thread uses as its own, without a lock or a shared cache line, until another asks it to step aside.
//!
//! The owner marks that it is at the value, looks whether somebody shut it out, and uses it; a plain store and a plain load. Who wants
//! the value shuts the owner out, makes all threads' earlier stores visible ([`os::fence_threads`], a system call), and
//! waits until the owner is not at it. Of the two, at least one sees the other: it is the asymmetric form of Dekker's algorithm.
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
    value: UnsafeCell<T>,
}

// SAFETY: of the owner and those who hold the lock, one at a time reaches the value; see `enter` and `shut_all`.
unsafe impl<T: Send> Sync for Biased<T> {}

impl<T> Biased<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { busy: AtomicBool::new(false), shut: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Lets the owner use the value; `None` if it is shut out, and what `body` returns otherwise.
    ///
    /// # Safety
    /// *Owned*: the caller is the owner, and neither at the value nor holding the lock.
    #[inline]
    pub(crate) unsafe fn enter<R>(&self, body: impl FnOnce(&mut T) -> Option<R>) -> Option<R> {
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

    /// The value, for the owner while it holds the lock.
    ///
    /// # Safety
    /// *Owned* and *Locked*: the caller is the owner, or there is none any more, and it holds the lock as long as it uses the
    /// value.
    #[expect(clippy::mut_from_ref, reason = "the lock makes it exclusive")]
    pub(crate) unsafe fn locked(&self) -> &mut T {
        // SAFETY: the caller's word. Others reach the value under the lock only.
        unsafe { &mut *self.value.get() }
    }
}

/// Shuts the owners of some values out, passes each value to `body`, and lets the owners in again. Returns whether that could be
/// done.
///
/// # Safety
/// *Locked*: the caller holds the values' lock, and owns none of them.
pub(crate) unsafe fn shut_all<'a, T: 'a>(
    values: impl Iterator<Item = &'a Biased<T>> + Clone,
    mut body: impl FnMut(&mut T),
) -> bool {
    if values.clone().next().is_none() {
        return true;
    }
    values.clone().for_each(|value| value.shut.store(true, Relaxed));
    let fenced = os::fence_threads();
    for value in values {
        if fenced {
            while value.busy.load(Acquire) {
                pause();
            }
            // SAFETY: the owner is not at the value, and when it comes to it sees that it is shut out.
            body(unsafe { &mut *value.value.get() });
        }
        value.shut.store(false, Release);
    }
    fenced
}
