//! loom's atomics, made when they are first used: those of std can be made in a constant.

pub(crate) use loom::thread::yield_now as pause;

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

pub mod atomic {
    pub use loom::sync::atomic::{Ordering, fence};

    macro_rules! atomics {
        ($($name:ident $(<$t:ident>)?: $value:ty),*) => {$(
            pub struct $name $(<$t>)? {
                first: $value,
                atomic: std::sync::OnceLock<loom::sync::atomic::$name $(<$t>)?>,
            }

            impl $(<$t>)? std::fmt::Debug for $name $(<$t>)? {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str(stringify!($name))
                }
            }

            // SAFETY: loom's atomics are; the first value is only copied.
            unsafe impl $(<$t>)? Sync for $name $(<$t>)? {}
            // SAFETY: likewise.
            unsafe impl $(<$t>)? Send for $name $(<$t>)? {}

            impl $(<$t>)? $name $(<$t>)? {
                pub const fn new(first: $value) -> Self {
                    Self { first, atomic: std::sync::OnceLock::new() }
                }

                fn atomic(&self) -> &loom::sync::atomic::$name $(<$t>)? {
                    self.atomic.get_or_init(|| loom::sync::atomic::$name::new(self.first))
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
    }
}
