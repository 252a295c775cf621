//! The locks, atomics and fences in use; the only place that names them, so that model tests can swap them.

pub(crate) use std::sync::atomic;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) type LockGuard<'a, T> = MutexGuard<'a, T>;

/// A mutual exclusion lock without poisoning: what it guards is valid after every single step, so a panic elsewhere
/// (a user's closure, a destructor) leaves nothing half done behind it.
#[derive(Debug, Default)]
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
