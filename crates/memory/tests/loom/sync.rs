//! loom's atomics, made when they are first used: those of std can be made in a constant.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};

pub(crate) use loom::thread::yield_now as pause;

use crate::cells::execution;

pub(crate) const BREATH: std::time::Duration = std::time::Duration::ZERO;

thread_local! {
    /// loom's threads are all on one of the system's.
    pub(crate) static FENCED: std::cell::Cell<bool> = const { std::cell::Cell::new(true) };
}

pub(crate) fn store_load_fence() {
    if FENCED.get() {
        loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
    }
}

/// What loom watches, made when it is first used in an interleaving.
pub(crate) struct Lazy<T>(UnsafeCell<Option<(u64, T)>>);

impl<T> Lazy<T> {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(None))
    }

    pub(crate) fn get(&self, make: impl FnOnce() -> T) -> &T {
        // SAFETY: loom's threads are all on one of the system's, and take turns where they use what it watches; nobody has what is of another
        // interleaving any more.
        let made = unsafe { &mut *self.0.get() };
        if made.as_ref().is_none_or(|(of, _)| *of != execution()) {
            *made = Some((execution(), make()));
        }
        &made.as_ref().expect("it was made").1
    }
}

/// A lock, as the crate's.
pub(crate) struct Lock<T> {
    lock: Lazy<loom::sync::Mutex<()>>,
    value: UnsafeCell<T>,
}

// SAFETY: the value is used under the lock.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { lock: Lazy::new(), value: UnsafeCell::new(value) }
    }

    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        let held = self.lock.get(|| loom::sync::Mutex::new(())).lock().expect("no panics");
        LockGuard { value: self.value.get(), _held: held }
    }

    /// Nobody forks.
    pub(crate) fn lock_unless_forking(&self) -> Option<LockGuard<'_, T>> {
        Some(self.lock())
    }

    pub(crate) fn is_mine(&self) -> bool {
        false
    }

    pub(crate) fn hold_for_fork(&self) {}

    pub(crate) fn release_after_fork(&self) {}
}

pub(crate) struct LockGuard<'a, T> {
    value: *mut T,
    _held: loom::sync::MutexGuard<'a, ()>,
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is held.
        unsafe { &*self.value }
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.value }
    }
}

pub mod atomic {
    pub use loom::sync::atomic::{Ordering, fence};

    macro_rules! atomics {
        ($($name:ident $(<$t:ident>)?: $value:ty),*) => {$(
            pub struct $name $(<$t>)? {
                first: $value,
                atomic: super::Lazy<loom::sync::atomic::$name $(<$t>)?>,
            }

            impl $(<$t>)? std::fmt::Debug for $name $(<$t>)? {
                /// Whoever shows it first has made it.
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    self.atomic();
                    f.write_str(stringify!($name))
                }
            }

            // SAFETY: loom's atomics are; the first value is only copied.
            unsafe impl $(<$t>)? Sync for $name $(<$t>)? {}
            // SAFETY: likewise.
            unsafe impl $(<$t>)? Send for $name $(<$t>)? {}

            impl $(<$t>)? $name $(<$t>)? {
                pub const fn new(first: $value) -> Self {
                    Self { first, atomic: super::Lazy::new() }
                }

                fn atomic(&self) -> &loom::sync::atomic::$name $(<$t>)? {
                    self.atomic.get(|| loom::sync::atomic::$name::new(self.first))
                }

                pub fn load(&self, order: Ordering) -> $value {
                    self.atomic().load(order)
                }

                pub fn store(&self, value: $value, order: Ordering) {
                    self.atomic().store(value, order);
                }

                pub fn compare_exchange(
                    &self,
                    from: $value,
                    to: $value,
                    then: Ordering,
                    otherwise: Ordering,
                ) -> Result<$value, $value> {
                    self.atomic().compare_exchange(from, to, then, otherwise)
                }

                pub fn fetch_update(
                    &self,
                    then: Ordering,
                    before: Ordering,
                    update: impl FnMut($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    self.atomic().fetch_update(then, before, update)
                }

                pub fn swap(&self, value: $value, order: Ordering) -> $value {
                    self.atomic().swap(value, order)
                }
            }
        )*};
    }

    atomics!(
        AtomicBool: bool,
        AtomicIsize: isize,
        AtomicI32: i32,
        AtomicU32: u32,
        AtomicU64: u64,
        AtomicUsize: usize,
        AtomicPtr<T>: *mut T
    );

    impl AtomicU64 {
        pub fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
            self.atomic().fetch_or(bits, order)
        }

        pub fn fetch_add(&self, more: u64, order: Ordering) -> u64 {
            self.atomic().fetch_add(more, order)
        }
    }

    impl AtomicUsize {
        pub fn fetch_add(&self, more: usize, order: Ordering) -> usize {
            self.atomic().fetch_add(more, order)
        }

        pub fn fetch_sub(&self, less: usize, order: Ordering) -> usize {
            self.atomic().fetch_sub(less, order)
        }

        pub fn fetch_max(&self, other: usize, order: Ordering) -> usize {
            self.atomic().fetch_max(other, order)
        }
    }

    impl Default for AtomicUsize {
        fn default() -> Self {
            Self::new(0)
        }
    }
}
