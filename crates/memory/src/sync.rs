//! The locks, atomics and fences in use; the only place that names them, so that model tests can swap them.
//!
//! A process that forks holds some of its locks meanwhile, so that the child finds behind them what is whole. Other libraries
//! have handlers around forks as well, which run in the same thread, in the parent and in the child, while it holds them, and
//! need what is behind them. So a [`Lock`] can be [held for a fork](Lock::hold_for_fork): it stays locked for
//! everybody else, and the thread that forks passes. It is known by the address of a thread-local: that is the same in the
//! child, where the thread's number is another one.
#![allow(unsafe_code)]

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::hint;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
pub(crate) use std::sync::atomic;
use std::time::Duration;

use self::atomic::Ordering::{Acquire, Relaxed, Release};
use self::atomic::{AtomicU32, AtomicUsize};
use crate::os;

/// A mutual exclusion lock without poisoning: what it guards is valid after every single step, so a panic elsewhere
/// (a user's closure, a destructor) leaves nothing half done behind it. Who waits sleeps, as in Drepper's "Futexes Are Tricky" (2011).
pub(crate) struct Lock<T> {
    /// The thread that has it, by [`this_thread`], and whether it is [`AWAITED`]; or [`FREE`].
    state: AtomicUsize,
    /// For how many forks that thread holds it: a handler around a fork may fork.
    forks: AtomicU32,
    /// Who holds the lock for a fork has a [`LockGuard`]: its end does not unlock.
    passed: Cell<bool>,
    #[cfg(tenzor_serial)]
    held: os::serial::Meter,
    value: UnsafeCell<T>,
}

/// What became of the wish to hold a lock for a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    First,
    /// The calling thread held it for a fork already.
    Again,
    /// The calling thread has it, and a signal's handler forks in the midst of what it does: it is not held, and goes on in both processes.
    Interrupted,
}

const FREE: usize = 0;
/// Somebody may sleep until it is free. No thread's mark has this bit.
const AWAITED: usize = 1;

/// How often a lock is looked at before its next owner lets other threads go on, and how often it does before it sleeps. Where there are
/// more threads than processors, who has the lock may be one of those; and who sleeps has to be woken, who then takes the processor from
/// another, which may have the lock, and so on.
const SPINS: u32 = 100;
const YIELDS: u32 = 8;

/// What it takes others to wake up: for so long the lock is left to them.
pub(crate) const BREATH: Duration = Duration::from_micros(50);

/// How long a fork is waited for that may wait for us.
const FORK_PATIENCE: Duration = Duration::from_millis(10);

// SAFETY: *Exclusive*: `passed` and `value` are reached by who locked; and while the lock is held for a fork, by the thread
// whose mark is in `state`, one [`LockGuard`] at a time. The mark comes and goes with the lock.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            state: AtomicUsize::new(FREE),
            forks: AtomicU32::new(0),
            passed: Cell::new(false),
            #[cfg(tenzor_serial)]
            held: os::serial::Meter::new(),
            value: UnsafeCell::new(value),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        if !self.take() {
            self.contended(|_| false);
        }
        self.guard()
    }

    /// As [`lock`](Self::lock), if nobody has it.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        self.take().then(|| self.guard())
    }

    /// As [`lock`](Self::lock); `None` if another thread holds it for a fork, and keeps it for long. It may wait for something that the
    /// calling thread has.
    #[inline]
    pub(crate) fn lock_unless_forking(&self) -> Option<LockGuard<'_, T>> {
        let locked = self.take() || self.contended(|lock| lock.forks.load(Relaxed) != 0);
        locked.then(|| self.guard())
    }

    fn guard(&self) -> LockGuard<'_, T> {
        #[cfg(tenzor_serial)]
        self.held.begin();
        LockGuard { lock: self, of_this_thread: PhantomData }
    }

    #[inline]
    fn take(&self) -> bool {
        self.state.compare_exchange(FREE, this_thread(), Acquire, Relaxed).is_ok()
    }

    /// Waits, until it is the calling thread's, or until it has waited for long and may give up; returns which.
    #[cold]
    fn contended(&self, may_give_up: fn(&Self) -> bool) -> bool {
        // Who passed already waits for itself, as at every lock.
        if self.is_held_for_fork() && !self.passed.replace(true) {
            return true;
        }
        // Who slept does not know whether others do.
        let mut mine = this_thread();
        let mut yields = 0;
        loop {
            // What is guarded is mostly done sooner than others sleep and wake; so who woke looks as long as who just came, at first.
            for _ in 0..SPINS {
                if self.state.load(Relaxed) == FREE && self.state.compare_exchange(FREE, mine, Acquire, Relaxed).is_ok()
                {
                    return true;
                }
                hint::spin_loop();
            }
            if yields < YIELDS {
                yields += 1;
                pause();
                continue;
            }
            let state = self.state.load(Relaxed);
            let awaited = state | AWAITED;
            if state == FREE
                || (state != awaited && self.state.compare_exchange(state, awaited, Relaxed, Relaxed).is_err())
            {
                continue;
            }
            let woken = os::wait_while(&self.state, awaited, Some(FORK_PATIENCE));
            mine |= AWAITED;
            if !woken && may_give_up(self) {
                return false;
            }
        }
    }

    #[inline]
    fn unlock(&self) {
        if self.state.swap(FREE, Release) & AWAITED != 0 {
            os::wake_one(&self.state);
        }
    }

    /// Locks for everybody but the calling thread, until it calls [`release_after_fork`](Self::release_after_fork) as often, in the
    /// parent and in the child.
    pub(crate) fn hold_for_fork(&self) -> Hold {
        loop {
            if let Some(hold) = self.hold_for_fork_soon() {
                return hold;
            }
        }
    }

    /// As [`hold_for_fork`](Self::hold_for_fork); `None` if another thread keeps it for long. It may wait for something that the calling
    /// thread has.
    pub(crate) fn hold_for_fork_soon(&self) -> Option<Hold> {
        if self.is_held_for_fork() {
            self.forks.store(self.forks.load(Relaxed) + 1, Relaxed);
            return Some(Hold::Again);
        }
        if self.is_mine() {
            return Some(Hold::Interrupted);
        }
        let locked = self.take() || self.contended(|_| true);
        locked.then(|| {
            self.forks.store(1, Relaxed);
            Hold::First
        })
    }

    /// For how many forks the calling thread holds it.
    pub(crate) fn forks(&self) -> u32 {
        if self.is_mine() { self.forks.load(Relaxed) } else { 0 }
    }

    /// Whether the calling thread holds it for a fork.
    pub(crate) fn is_held_for_fork(&self) -> bool {
        self.forks() > 0
    }

    /// Whether the calling thread has it.
    pub(crate) fn is_mine(&self) -> bool {
        // A thread always sees that it removed its mark, so that none takes an old one for its own.
        self.state.load(Relaxed) & !AWAITED == this_thread()
    }

    /// The end of a fork. With that of the last one it is unlocked, if the calling thread holds it.
    pub(crate) fn release_after_fork(&self) {
        let forks = self.forks();
        if forks > 0 {
            self.forks.store(forks - 1, Relaxed);
        }
        if forks == 1 {
            self.unlock();
        }
    }
}

#[cfg(tenzor_serial)]
impl<T> Lock<T> {
    /// How often it was held so far, and for how many ticks.
    pub(crate) fn held(&self) -> (u64, u64) {
        self.held.so_far()
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
    /// Unlocks, and leaves the lock to whoever waits for it: who wakes up is slower than who comes back at once.
    pub(crate) fn let_others(self) {
        let awaited = !self.passed() && self.lock.state.load(Relaxed) & AWAITED != 0;
        drop(self);
        if awaited {
            os::sleep(BREATH);
        }
    }

    /// Whether the calling thread passed a lock that it holds for a fork: nobody else gets in before that is over.
    #[inline]
    pub(crate) fn passed(&self) -> bool {
        self.lock.passed.get()
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
        debug_assert!(self.lock.is_mine());
        // SAFETY: *Exclusive*.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for LockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        debug_assert!(self.lock.is_mine());
        if self.lock.passed.get() {
            self.lock.passed.set(false);
        } else {
            #[cfg(tenzor_serial)]
            self.lock.held.end();
            self.lock.unlock();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for LockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

per_thread! {
    /// Aligned: an odd address is nobody's mark.
    static HERE: u32 = 0, as "tenzor_here";
}

/// The calling thread, by an address of its own. It is another one's only when this thread is no more; in the child of a fork, it is
/// that of the thread that forked.
#[inline]
pub(crate) fn this_thread() -> usize {
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
        assert_eq!(lock.hold_for_fork(), Hold::First);
        assert_eq!(lock.hold_for_fork(), Hold::Again);
        let there = Arc::clone(&lock);
        let (waited, go_on) = std::sync::mpsc::channel();
        let other = thread::spawn(move || {
            assert!(!there.is_held_for_fork());
            there.release_after_fork();
            assert!(there.lock_unless_forking().is_none(), "it waits for the fork's end");
            waited.send(()).unwrap();
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
        go_on.recv().unwrap();
        lock.release_after_fork();
        assert_eq!(lock.forks(), 1, "it was held for two");
        lock.release_after_fork();
        assert_eq!(other.join().unwrap(), 1001);
        assert!(!lock.is_held_for_fork() && !lock.lock().passed());
    }

    #[test]
    fn who_has_a_lock_and_forks_in_a_signals_handler_does_not_wait_for_itself() {
        let lock = Lock::new(0);
        let guard = lock.lock();
        assert_eq!(lock.hold_for_fork(), Hold::Interrupted);
        lock.release_after_fork();
        assert!(lock.is_mine() && !lock.is_held_for_fork());
        drop(guard);
        assert_eq!(lock.hold_for_fork(), Hold::First);
        lock.release_after_fork();
        assert!(!lock.is_mine());
    }

    #[test]
    fn whoever_waits_gets_it() {
        let lock = Arc::new(Lock::new(0_u64));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let lock = Arc::clone(&lock);
                thread::spawn(move || {
                    for i in 0..20_000 {
                        let mut guard = lock.lock();
                        *guard += 1;
                        if i % 1000 == 0 {
                            // The others sleep.
                            thread::sleep(Duration::from_micros(100));
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*lock.lock(), 160_000);
        assert_eq!(lock.state.load(Relaxed), FREE);
    }
}
