//! What forks do to locks that are held while an allocator works: the child finds the allocator whole, whatever other threads were doing.
//!
//! All these locks are in one list. The thread that forks holds the list's lock and then each of them; so nobody is inside of any. Others' handlers around
//! forks run in that thread, and pass.
//!
//! - *Nobody waits in a circle.* Who has such a lock may need those of what is below: of pools, budgets, ledgers, the list of keepers, the heap. Their handlers are
//!   registered first, so they hold their locks after ours. One allocator with a lock may stand over another one, but over none that was made
//!   later: the newest is held first.
//! - *Others wait*, as at a pool. The handlers are registered when the process starts.
//! - *What a signal's handler interrupted*, in the thread that forks, is not held: it goes on in both processes.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::mem;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::{Arc, Once};

use crate::backing;
use crate::pool;
use crate::pressure::{self, hushed};
use crate::process;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::{Hold, Lock};

/// A lock in the list. *Listed*: what is in the list lives, at one address, as it leaves before it is dropped.
#[derive(Debug)]
pub(super) struct Listed<T> {
    number: u64,
    lock: Lock<T>,
}

trait Held {
    fn hold(&self);
    fn release(&self);
}

impl<T> Held for Lock<T> {
    fn hold(&self) {
        self.hold_for_fork();
    }

    fn release(&self) {
        self.release_after_fork();
    }
}

struct Entry(NonNull<dyn Held>);

// SAFETY: of a lock, any thread may hold and release what it has; whose value it is does not matter to that.
unsafe impl Send for Entry {}

impl Entry {
    fn lock(&self) -> &dyn Held {
        // SAFETY: *Listed*, and who calls has the list's lock.
        unsafe { self.0.as_ref() }
    }
}

/// By age, the newest last.
static LOCKS: Lock<BTreeMap<u64, Entry>> = Lock::new(BTreeMap::new());

impl<T> Listed<T> {
    pub(super) fn new(value: T) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        survive();
        let listed = Arc::new(Self { number: NEXT.fetch_add(1, Relaxed), lock: Lock::new(value) });
        let held: NonNull<dyn Held + '_> = NonNull::from(&listed.lock);
        // SAFETY: only the lifetime is another one; it is in the list as long as it lives, and not longer.
        let held = unsafe { mem::transmute::<NonNull<dyn Held + '_>, NonNull<dyn Held>>(held) };
        let mut locks = LOCKS.lock();
        if locks.passed() {
            // A handler around the fork made it.
            listed.hold_for_fork();
        }
        hushed(|| locks.insert(listed.number, Entry(held)));
        drop(locks);
        listed
    }
}

impl<T> Deref for Listed<T> {
    type Target = Lock<T>;

    #[inline]
    fn deref(&self) -> &Lock<T> {
        &self.lock
    }
}

impl<T> Drop for Listed<T> {
    fn drop(&mut self) {
        LOCKS.lock().remove(&self.number);
    }
}

/// From now on.
extern "C" fn survive() {
    static HANDLERS: Once = Once::new();
    HANDLERS.call_once(|| {
        pressure::survive();
        pool::survive();
        backing::survive_forks();
        process::at_fork(Some(before), Some(release), Some(release));
    });
}

/// When the process starts, so that others' handlers come by before ours have the locks.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array")]
static EARLY: extern "C" fn() = survive;

extern "C" fn before() {
    if LOCKS.hold_for_fork() == Hold::First {
        LOCKS.lock().values().rev().for_each(|entry| entry.lock().hold());
    }
}

extern "C" fn release() {
    if LOCKS.forks() == 1 {
        LOCKS.lock().values().for_each(|entry| entry.lock().release());
    }
    LOCKS.release_after_fork();
}
