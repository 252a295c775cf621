//! The system: a fence for all threads that it may refuse, and nothing else.

pub(crate) const PAGE: usize = 4096;

pub trait Os {}
pub struct NoOs;
impl Os for NoOs {}

pub(crate) fn sleep(_: std::time::Duration) {
    loom::thread::yield_now();
}

pub(crate) fn clock() -> u64 {
    0
}

/// Nobody forks.
pub(crate) fn at_fork(_: Option<extern "C" fn()>, _: Option<extern "C" fn()>, _: Option<extern "C" fn()>) {}

pub(crate) fn die(what: std::fmt::Arguments<'_>) -> ! {
    panic!("{what}");
}

thread_local! {
    /// loom's threads are all on one of the system's.
    pub(crate) static REFUSED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// With [`store_load_fence`](crate::sync::store_load_fence) a full fence as well, it is what the system's is with a nothing.
pub(crate) fn fence_threads() -> bool {
    let granted = !REFUSED.get();
    if granted {
        loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
    }
    granted
}
