//! The allocator under which this worker runs, chosen by a feature.

#![allow(unsafe_code)]

#[cfg(feature = "peer-glibc")]
#[global_allocator]
static PEER: std::alloc::System = std::alloc::System;

#[cfg(feature = "peer-jemalloc")]
#[global_allocator]
static PEER: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(any(feature = "peer-mimalloc-v2", feature = "peer-mimalloc-v3"))]
#[global_allocator]
static PEER: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "peer-snmalloc")]
#[global_allocator]
static PEER: snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc;

#[cfg(feature = "peer-tenzor")]
#[global_allocator]
static PEER: tenzor::memory::TenzorMalloc = tenzor::memory::TenzorMalloc::new();

/// How many requests there were so far, and what only one thread at a time could do, as a build tells that measures it.
#[cfg(not(all(tenzor_serial, feature = "peer-tenzor")))]
pub(crate) fn serial() -> Option<[serde_json::Value; 2]> {
    None
}

#[cfg(all(tenzor_serial, feature = "peer-tenzor"))]
pub(crate) fn serial() -> Option<[serde_json::Value; 2]> {
    let held = tenzor::memory::serial();
    Some([serde_json::json!(PEER.stats().allocations), serde_json::json!(held)])
}

#[cfg(feature = "peer-counting")]
pub(crate) use counting::{live, peak_live, requests};

#[cfg(not(feature = "peer-counting"))]
pub(crate) use uncounted::{live, peak_live, requests};

/// What the other peers do not know.
#[cfg(not(feature = "peer-counting"))]
mod uncounted {
    pub(crate) fn live() -> Option<usize> {
        None
    }

    pub(crate) fn peak_live() -> Option<usize> {
        None
    }

    pub(crate) fn requests() -> Option<[usize; 2]> {
        None
    }
}

/// malloc with a ledger: the requested bytes, by which the other peers' resident bytes are judged.
#[cfg(feature = "peer-counting")]
mod counting {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[global_allocator]
    static PEER: Counting = Counting;

    static LIVE: AtomicUsize = AtomicUsize::new(0);
    static PEAK: AtomicUsize = AtomicUsize::new(0);
    /// Those below 64 KiB, and the others.
    static REQUESTS: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

    pub(crate) fn live() -> Option<usize> {
        Some(LIVE.load(Relaxed))
    }

    pub(crate) fn peak_live() -> Option<usize> {
        Some(PEAK.load(Relaxed))
    }

    pub(crate) fn requests() -> Option<[usize; 2]> {
        Some(REQUESTS.each_ref().map(|count| count.load(Relaxed)))
    }

    fn enter(bytes: usize) {
        REQUESTS[usize::from(bytes >= 64 << 10)].fetch_add(1, Relaxed);
        let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
        PEAK.fetch_max(live, Relaxed);
    }

    struct Counting;

    // SAFETY: everything is `System`'s; counting touches no memory of the caller's.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            enter(layout.size());
            // SAFETY: the caller's promise.
            unsafe { System.alloc(layout) }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            enter(layout.size());
            // SAFETY: the caller's promise.
            unsafe { System.alloc_zeroed(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            LIVE.fetch_sub(layout.size(), Relaxed);
            // SAFETY: the caller's promise.
            unsafe { System.dealloc(block, layout) }
        }

        unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            LIVE.fetch_sub(layout.size(), Relaxed);
            enter(size);
            // SAFETY: the caller's promise.
            unsafe { System.realloc(block, layout, size) }
        }
    }
}
