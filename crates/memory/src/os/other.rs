//! What every platform has.
#![allow(unsafe_code)]

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Waits.
pub(crate) fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// Where those sleep who wait for a number, by its address.
struct Lot(Mutex<()>, Condvar);

static LOTS: [Lot; 16] = [const { Lot(Mutex::new(()), Condvar::new()) }; 16];

fn lot(at: &AtomicUsize) -> &'static Lot {
    // What has a lock is larger than a cache line.
    &LOTS[std::ptr::from_ref(at).addr() / 64 % LOTS.len()]
}

/// Sleeps while `at` is `value`, until it is woken, or at most for so long; sometimes for no reason less. Returns whether it was not the
/// time.
pub(crate) fn wait_while(at: &AtomicUsize, value: usize, at_most: Option<Duration>) -> bool {
    let Lot(lock, changed) = lot(at);
    let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
    // Who changes the number wakes us under the lock.
    if at.load(Relaxed) != value {
        return true;
    }
    let Some(at_most) = at_most else {
        drop(changed.wait(guard));
        return true;
    };
    changed.wait_timeout(guard, at_most).is_ok_and(|(_, time)| !time.timed_out())
}

/// Wakes those who sleep at a number, and others.
pub(crate) fn wake_one(at: &AtomicUsize) {
    let Lot(lock, changed) = lot(at);
    drop(lock.lock());
    changed.notify_all();
}

pub(crate) type Hook = unsafe extern "C" fn();

/// Calls the functions around each fork of the process from now on.
#[cfg(unix)]
pub(crate) fn at_fork(before: Option<Hook>, in_parent: Option<Hook>, in_child: Option<Hook>) {
    // SAFETY: the functions are valid for ever.
    unsafe { libc::pthread_atfork(before, in_parent, in_child) };
}

/// There are no forks.
#[cfg(not(unix))]
pub(crate) fn at_fork(_: Option<Hook>, _: Option<Hook>, _: Option<Hook>) {}

/// Not known here. See `process`.
pub(crate) fn can_fence_threads() -> bool {
    false
}

/// As above.
pub(crate) fn fence_threads() -> bool {
    false
}

/// Nanoseconds since some instant.
pub(crate) fn clock() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Not known here. See [`Os::is_beyond`](super::Os::is_beyond).
pub(crate) fn is_beyond(_: usize) -> bool {
    false
}
