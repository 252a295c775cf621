//! The locks, atomics and fences in use; the only place that names them, so that model tests can swap them.
//!
//! A process that forks holds some of its locks meanwhile, so that the child finds behind them what is whole. Other libraries
//! have handlers around forks as well, which run in the same thread, in the parent and in the child, while it holds them, and
//! need what is behind them. So a [`Lock`] can be [held for a fork](Lock::hold_for_fork): it stays locked for
//! everybody else, and the thread that forks passes. It is known by the address of a thread-local: that is the same in the
//! child, where the thread's number is another one.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::mem::{self, ManuallyDrop};
use std::ops::{Deref, DerefMut};
pub(crate) use std::sync::atomic;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use self::atomic::AtomicUsize;
use self::atomic::Ordering::Relaxed;

/// A mutual exclusion lock without poisoning: what it guards is valid after every single step, so a panic elsewhere
/// (a user's closure, a destructor) leaves nothing half done behind it.
#[derive(Debug, Default)]
pub(crate) struct Lock<T: 'static> {
    /// The guard of who holds the lock for a fork, while none of its [`LockGuard`]s has it. Dropped before the mutex.
    parked: Parked<T>,
    /// The thread that holds the lock for a fork, by [`this_thread`]; else 0.
    forker: AtomicUsize,
    mutex: Mutex<T>,
}

#[derive(Debug)]
struct Parked<T: 'static>(UnsafeCell<Option<MutexGuard<'static, T>>>);

// SAFETY: only the thread whose mark is in `forker` reaches what is parked, and the mark is its own to set and to remove.
unsafe impl<T: Send + 'static> Sync for Parked<T> {}
// SAFETY: a lock that moves to another thread is not held: who holds it for a fork has given its word.
unsafe impl<T: Send + 'static> Send for Parked<T> {}

impl<T: 'static> Default for Parked<T> {
    fn default() -> Self {
        Self(UnsafeCell::new(None))
    }
}

impl<T: 'static> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { parked: Parked(UnsafeCell::new(None)), forker: AtomicUsize::new(0), mutex: Mutex::new(value) }
    }

    #[inline]
    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        match self.mutex.try_lock() {
            Ok(guard) => LockGuard::new(guard),
            Err(TryLockError::Poisoned(poisoned)) => LockGuard::new(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => self.contended(),
        }
    }

    #[cold]
    fn contended(&self) -> LockGuard<'_, T> {
        if self.is_held_for_fork() {
            // SAFETY: what is parked is this thread's alone, by the mark.
            if let Some(guard) = unsafe { (*self.parked.0.get()).take() } {
                return LockGuard { guard: ManuallyDrop::new(guard), passed: Some(self) };
            }
            // It has passed already, and waits for itself, as at every lock.
        }
        LockGuard::new(self.mutex.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Locks for everybody but the calling thread, until it calls [`release_after_fork`](Self::release_after_fork), in the parent
    /// and in the child. Returns whether it did: it may hold it already, where a handler around a fork forks.
    ///
    /// # Safety
    /// *Still*: the lock stays at its address until it is released or dropped.
    pub(crate) unsafe fn hold_for_fork(&self) -> bool {
        let guard = self.lock();
        if guard.passed.is_some() {
            return false;
        }
        self.forker.store(this_thread(), Relaxed);
        // SAFETY: the lock stays where it is (the caller's word), and what is parked does not outlive it: fields are dropped in
        // their order.
        let guard = unsafe { mem::transmute::<MutexGuard<'_, T>, MutexGuard<'static, T>>(guard.into_inner()) };
        // SAFETY: what is parked is this thread's alone, by the mark just made.
        unsafe { *self.parked.0.get() = Some(guard) };
        true
    }

    /// Takes the guard back from a [`LockGuard`] that passed.
    #[cold]
    fn park(&self, guard: MutexGuard<'_, T>) {
        // SAFETY: it was parked here before, and for as long; what is parked is this thread's alone, by the mark.
        unsafe { *self.parked.0.get() = Some(mem::transmute::<MutexGuard<'_, T>, MutexGuard<'static, T>>(guard)) };
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
            // SAFETY: what is parked is this thread's alone, by the mark.
            let guard = unsafe { (*self.parked.0.get()).take() };
            self.forker.store(0, Relaxed);
            drop(guard);
        }
    }
}

/// The right to what a [`Lock`] guards.
#[derive(Debug)]
pub(crate) struct LockGuard<'a, T: 'static> {
    guard: ManuallyDrop<MutexGuard<'a, T>>,
    /// The lock that the calling thread holds for a fork: it stays locked.
    passed: Option<&'a Lock<T>>,
}

impl<'a, T> LockGuard<'a, T> {
    #[inline]
    fn new(guard: MutexGuard<'a, T>) -> Self {
        Self { guard: ManuallyDrop::new(guard), passed: None }
    }

    /// Whether the calling thread passed a lock that it holds for a fork: nobody else gets in before that is over.
    #[inline]
    pub(crate) fn passed(&self) -> bool {
        self.passed.is_some()
    }

    fn into_inner(self) -> MutexGuard<'a, T> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used any more, nor dropped.
        unsafe { ManuallyDrop::take(&mut this.guard) }
    }
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> Drop for LockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the guard is not used any more.
        let guard = unsafe { ManuallyDrop::take(&mut self.guard) };
        match self.passed {
            None => drop(guard),
            Some(lock) => lock.park(guard),
        }
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
        let lock = Lock::new(Box::new(1));
        // SAFETY: it stays where it is.
        unsafe { lock.hold_for_fork() };
        *lock.lock() = Box::new(2);
    }
}
