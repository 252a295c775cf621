//! The allocator that this program is built on: Tenzor, or the process's malloc as the control.

#[cfg(feature = "tenzor")]
mod on {
    use tenzor_hostile::ensure;
    use tenzor_memory::TenzorMalloc;

    #[global_allocator]
    static GLOBAL: TenzorMalloc = TenzorMalloc::new();

    /// Gives everything free back.
    pub fn trim() {
        GLOBAL.trim();
    }

    /// The books are in order: law 4.
    pub fn consistent() {
        let stats = GLOBAL.stats();
        let (rounded, pooled, overhead) = (stats.bytes_in_use_rounded, stats.pooled_bytes, stats.overhead_bytes);
        ensure!(
            rounded.checked_add(pooled).and_then(|sum| sum.checked_add(overhead)) == Some(stats.reserved_bytes),
            "in use {rounded} + pooled {pooled} + overhead {overhead} is not reserved {}",
            stats.reserved_bytes
        );
        ensure!(stats.bytes_in_use <= rounded, "requested {} is more than rounded {rounded}", stats.bytes_in_use);
        ensure!(rounded >> 44 == 0 && pooled >> 44 == 0, "sums went below zero: {rounded}, {pooled}");
    }
}

#[cfg(not(feature = "tenzor"))]
mod on {
    pub fn trim() {
        // SAFETY: gives back what malloc holds free.
        unsafe { libc::malloc_trim(0) };
    }

    pub fn consistent() {}
}

pub use on::{consistent, trim};
