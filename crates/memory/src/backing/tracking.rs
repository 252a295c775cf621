//! A ledger.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::collections::{BTreeMap, HashMap};
use std::ptr::NonNull;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Backing, Grounds, Refused};
use crate::pressure::hushed;
use crate::process;
use crate::sync::Lock;

/// A ledger of every live block: what was granted, with which layout, and what was returned wrongly.
///
/// A wrong return is a bug in the unsafe code above; it is noted in [`faults`](Self::faults) and kept from the inner
/// backing. One lock for all ledgers of the process, and a hash table each: for tests and diagnosis, not for speed.
///
/// ```
/// use tenzor_memory::{System, TensorAllocator, Tracking};
///
/// let ledger = Tracking::new(System);
/// let alloc = TensorAllocator::new_in(&ledger);
/// drop(alloc.alloc::<f32>(1024)?);
/// assert_eq!(ledger.live_bytes(), 4096); // pooled
/// drop(alloc);
/// assert!(ledger.is_empty());
/// assert!(ledger.faults().is_empty());
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
#[derive(Debug)]
pub struct Tracking<B> {
    inner: B,
    ledger: u64,
}

/// All ledgers, by their numbers, so that a fork has one lock to hold: the child finds them whole.
static LEDGERS: Lock<BTreeMap<u64, Ledger>> = Lock::new(BTreeMap::new());

/// From now on, the child of a fork finds ledgers whole.
pub(super) fn survive() {
    static HANDLERS: Once = Once::new();
    extern "C" fn before() {
        LEDGERS.hold_for_fork();
    }
    extern "C" fn after() {
        LEDGERS.release_after_fork();
    }
    HANDLERS.call_once(|| {
        // Ledgers take memory under their lock: the heap is to be held after it.
        process::at_fork(Some(before), Some(after), Some(after));
    });
}

#[derive(Debug, Default)]
struct Ledger {
    live: HashMap<usize, Layout>,
    live_bytes: usize,
    peak_bytes: usize,
    grants: u64,
    faults: Vec<Fault>,
}

/// A block that was returned wrongly to a [`Tracking`] backing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// No live block starts at this address: it was never granted, or it was returned twice.
    NotLive {
        /// The address returned.
        address: usize,
    },
    /// The block was granted with another layout.
    WrongLayout {
        /// The address returned.
        address: usize,
        /// The layout it was granted with.
        granted: Layout,
        /// The layout it was returned with.
        returned: Layout,
    },
}

impl<B: Backing> Tracking<B> {
    /// An empty ledger over `inner`.
    pub fn new(inner: B) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        survive();
        Self { inner, ledger: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// What it stands over.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    fn ledger<R>(&self, look: impl FnOnce(&mut Ledger) -> R) -> R {
        hushed(|| look(LEDGERS.lock().entry(self.ledger).or_default()))
    }

    /// The number of blocks granted and not returned.
    pub fn live_blocks(&self) -> usize {
        self.ledger(|ledger| ledger.live.len())
    }

    /// Whether every block granted has been returned.
    pub fn is_empty(&self) -> bool {
        self.live_blocks() == 0
    }

    /// The bytes granted and not returned.
    pub fn live_bytes(&self) -> usize {
        self.ledger(|ledger| ledger.live_bytes)
    }

    /// The largest [`live_bytes`](Self::live_bytes) so far.
    pub fn peak_bytes(&self) -> usize {
        self.ledger(|ledger| ledger.peak_bytes)
    }

    /// The number of requests granted so far.
    pub fn grants(&self) -> u64 {
        self.ledger(|ledger| ledger.grants)
    }

    /// Every live block, address and layout, in order of address.
    pub fn blocks(&self) -> Vec<(usize, Layout)> {
        let mut blocks: Vec<_> =
            self.ledger(|ledger| ledger.live.iter().map(|(&address, &layout)| (address, layout)).collect());
        blocks.sort_unstable_by_key(|&(address, _)| address);
        blocks
    }

    /// The wrong returns so far, in order.
    pub fn faults(&self) -> Vec<Fault> {
        self.ledger(|ledger| ledger.faults.clone())
    }

    fn enter(&self, block: NonNull<u8>, layout: Layout) -> NonNull<u8> {
        if layout.size() != 0 {
            self.ledger(|ledger| {
                ledger.live.insert(block.addr().get(), layout);
                ledger.live_bytes += layout.size();
                ledger.peak_bytes = ledger.peak_bytes.max(ledger.live_bytes);
                ledger.grants += 1;
            });
        }
        block
    }

    fn is_live(&self, block: NonNull<u8>, layout: Layout) -> bool {
        self.ledger(|ledger| ledger.live.get(&block.addr().get()) == Some(&layout))
    }

    /// Whether the return is right; the entry is then gone.
    fn strike(&self, block: NonNull<u8>, returned: Layout) -> bool {
        if returned.size() == 0 {
            return true;
        }
        let address = block.addr().get();
        self.ledger(|ledger| {
            let fault = match ledger.live.get(&address) {
                Some(&granted) if granted == returned => {
                    ledger.live.remove(&address);
                    ledger.live_bytes -= returned.size();
                    return true;
                }
                Some(&granted) => Fault::WrongLayout { address, granted, returned },
                None => Fault::NotLive { address },
            };
            ledger.faults.push(fault);
            false
        })
    }
}

impl<B> Drop for Tracking<B> {
    fn drop(&mut self) {
        let ledger = LEDGERS.lock().remove(&self.ledger);
        // Not under the lock.
        drop(ledger);
    }
}

// SAFETY: what is granted is granted by `inner`; blocks wrongly returned stay granted, which is always allowed.
unsafe impl<B: Backing> Backing for Tracking<B> {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.inner.obtain(layout).map(|block| self.enter(block, layout))
    }

    fn obtain_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.inner.obtain_zeroed(layout).map(|block| self.enter(block, layout))
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        // Struck before it is returned: as soon as it is, another thread may be granted the same address.
        if self.strike(block, layout) {
            // SAFETY: the ledger had this block live with this layout.
            unsafe { self.inner.give_back(block, layout) };
        }
    }

    unsafe fn refit(&self, block: NonNull<u8>, old: Layout, new: Layout, zeroed: bool) -> Option<NonNull<u8>> {
        // Not where the block is: it stays, and so does its entry.
        if !self.is_live(block, old) {
            return None;
        }
        // SAFETY: the ledger has this block live with this layout.
        let resized = unsafe { self.inner.refit(block, old, new, zeroed) }?;
        self.strike(block, old);
        Some(self.enter(resized, new))
    }

    fn is_pool(&self) -> bool {
        self.inner.is_pool()
    }

    fn grounds(&self, grounds: &mut Grounds) {
        self.inner.grounds(grounds);
    }
}
