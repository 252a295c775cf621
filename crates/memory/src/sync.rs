//! The locks, atomics and fences in use; the only place that names them, so that model tests can swap them.
//!
//! A process that forks holds some of its locks meanwhile, so that the child finds behind them what is whole. Other libraries
//! have handlers around forks as well, which run in the same thread, in the parent and in the child, while it holds them, and
//! need what is behind them. So a [`Lock`] can be [held for a fork](Lock::hold_for_fork): it stays locked for
//! everybody else, and the thread that forks passes. It is known by the address of a thread-local: that is the same in the
//! child, where the thread's number is another one.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::{self, MaybeUninit};
use std::ops::{Deref, DerefMut};
pub(crate) use std::sync::atomic;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use self::atomic::AtomicUsize;
use self::atomic::Ordering::Relaxed;

/// A mutual exclusion lock without poisoning: what it guards is valid after every single step, so a panic elsewhere
/// (a user's closure, a destructor) leaves nothing half done behind it.
#[derive(Default)]
pub(crate) struct Lock<T> {
    mutex: Mutex<()>,
    /// The thread that holds the lock for a fork, by [`this_thread`]; else 0.
    forker: AtomicUsize,
    /// What is of who has the mutex, or holds the lock for a fork.
    held: UnsafeCell<Hold>,
    value: UnsafeCell<T>,
}

struct Hold {
    /// The right to unlock, while the mutex is locked. It lies here rather than with who locked, so that the latter has a pointer only.
    guard: MaybeUninit<MutexGuard<'static, ()>>,
    /// There is a [`LockGuard`] of who holds the lock for a fork: its end does not unlock.
    passed: bool,
}

impl Hold {
    const NONE: Self = Self { guard: MaybeUninit::uninit(), passed: false };
}

impl Default for Hold {
    fn default() -> Self {
        Self::NONE
    }
}

// SAFETY: *Exclusive*: `held` and `value` are reached by who has the mutex; and while the lock is held for a fork, by the thread
// whose mark is in `forker`, one [`LockGuard`] at a time. The mark is that thread's to make and to remove, with the mutex.
unsafe impl<T: Send> Sync for Lock<T> {}
// SAFETY: who has the mutex borrows the lock, or gave its word that it stays: what moves is not locked.
unsafe impl<T: Send> Send for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            mutex: Mutex::new(()),
            forker: AtomicUsize::new(0),
            held: UnsafeCell::new(Hold::NONE),
            value: UnsafeCell::new(value),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        match self.mutex.try_lock() {
            Ok(guard) => self.locked(guard),
            Err(TryLockError::Poisoned(poisoned)) => self.locked(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => self.contended(),
        }
    }

    #[inline]
    fn locked<'a>(&'a self, guard: MutexGuard<'a, ()>) -> LockGuard<'a, T> {
        // SAFETY: it is used up before the lock, which is borrowed or stays where it is as long, can move.
        let guard = unsafe { mem::transmute::<MutexGuard<'a, ()>, MutexGuard<'static, ()>>(guard) };
        // SAFETY: *Exclusive*: we have the mutex.
        unsafe { (*self.held.get()).guard = MaybeUninit::new(guard) };
        LockGuard { lock: self, of_this_thread: PhantomData }
    }

    #[cold]
    fn contended(&self) -> LockGuard<'_, T> {
        if self.is_held_for_fork() {
            // SAFETY: *Exclusive*: we hold it for a fork, and no reference outlives the statement.
            let again = mem::replace(unsafe { &mut (*self.held.get()).passed }, true);
            if !again {
                return LockGuard { lock: self, of_this_thread: PhantomData };
            }
            // It waits for itself, as at every lock.
        }
        self.locked(self.mutex.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Locks for everybody but the calling thread, until it calls [`release_after_fork`](Self::release_after_fork), in the parent
    /// and in the child. Returns whether it did: it may hold it already, where a handler around a fork forks.
    ///
    /// # Safety
    /// *Still*: the lock stays at its address until it is released or dropped.
    pub(crate) unsafe fn hold_for_fork(&self) -> bool {
        let guard = self.lock();
        let first = !guard.passed();
        if first {
            self.forker.store(this_thread(), Relaxed);
            // The mutex stays locked.
            mem::forget(guard);
        }
        first
    }

    /// Whether the calling thread holds it for a fork.
    pub(crate) fn is_held_for_fork(&self) -> bool {
        // A thread always sees that it removed its mark, so that none takes an old one for its own.
        let forker = self.forker.load(Relaxed);
        forker != 0 && forker == this_thread()
    }

    /// Unlocks, if the calling thread holds it for a fork.
    pub(crate) fn release_after_fork(&self) {
        if self.is_held_for_fork() {
            self.forker.store(0, Relaxed);
            drop(LockGuard { lock: self, of_this_thread: PhantomData });
        }
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

/// The right to what a [`Lock`] guards: the mutex is locked by the calling thread, or it passed what it holds for a fork.
pub(crate) struct LockGuard<'a, T> {
    lock: &'a Lock<T>,
    of_this_thread: PhantomData<*const ()>,
}

// SAFETY: it lends a `&T`.
unsafe impl<T: Sync> Sync for LockGuard<'_, T> {}

impl<T> LockGuard<'_, T> {
    /// Whether the calling thread passed a lock that it holds for a fork: nobody else gets in before that is over.
    #[inline]
    pub(crate) fn passed(&self) -> bool {
        // SAFETY: *Exclusive*: the right to it is ours.
        unsafe { (*self.lock.held.get()).passed }
    }
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: *Exclusive*.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: *Exclusive*.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for LockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let held = self.lock.held.get();
        // SAFETY: *Exclusive*, until the guard of the mutex is dropped, which is read once: who locks next writes its own.
        unsafe {
            if (*held).passed {
                (*held).passed = false;
            } else {
                drop((*held).guard.assume_init_read());
            }
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for LockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The calling thread, by an address of its own. It is another one's only when this thread is no more; in the child of a fork, it is
/// that of the thread that forked.
pub(crate) fn this_thread() -> usize {
    thread_local! {
        static HERE: u8 = const { 0 };
    }
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// Orders the thread's stores before its later loads, for who calls [`fence_threads`](crate::os::fence_threads). To the processor
/// it is nothing.
#[inline]
pub(crate) fn store_load_fence() {
    atomic::compiler_fence(atomic::Ordering::SeqCst);
}

/// Lets other threads go on.
pub(crate) fn pause() {
    std::thread::yield_now();
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn who_holds_a_lock_for_a_fork_passes_and_nobody_else() {
        let lock = Arc::new(Lock::new(0));
        // SAFETY: it stays where it is.
        assert!(unsafe { lock.hold_for_fork() });
        // SAFETY: likewise.
        assert!(!unsafe { lock.hold_for_fork() }, "already");
        let there = Arc::clone(&lock);
        let other = thread::spawn(move || {
            assert!(!there.is_held_for_fork());
            there.release_after_fork();
            let mut guard = there.lock();
            assert!(!guard.passed());
            *guard += 1;
            *guard
        });
        for i in 0..1000 {
            let mut guard = lock.lock();
            assert!(guard.passed());
            assert_eq!(*guard, i, "somebody else was here");
            *guard += 1;
            thread::yield_now();
        }
        lock.release_after_fork();
        assert_eq!(other.join().unwrap(), 1001);
        assert!(!lock.is_held_for_fork() && !lock.lock().passed());
    }

    #[test]
    fn a_lock_can_be_dropped_while_it_is_held() {
        let lock = Lock::new(vec![1]);
        // SAFETY: it stays where it is.
        unsafe { lock.hold_for_fork() };
        lock.lock().push(2);
    }
}
