//! Small adaptors that stack over any backing: a limit, a ledger, injected failures.

use std::alloc::Layout;
use std::collections::{BTreeMap, HashMap};
use std::ptr::NonNull;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{Backing, Refused};
use crate::process;
use crate::sync::Lock;

/// Refuses what would bring the bytes granted and not returned above a limit.
///
/// ```
/// use tenzor_memory::{Limited, System, TensorAllocator};
///
/// let alloc = TensorAllocator::new_in(Limited::new(System, 1 << 20));
/// assert!(alloc.alloc::<u8>(1 << 20).is_ok());
/// assert!(alloc.alloc::<u8>((1 << 20) + 1).is_err());
/// ```
#[derive(Debug)]
pub struct Limited<B> {
    inner: B,
    limit: usize,
    granted: AtomicUsize,
}

impl<B: Backing> Limited<B> {
    /// Grants at most `limit` bytes at any time.
    pub fn new(inner: B, limit: usize) -> Self {
        Self { inner, limit, granted: AtomicUsize::new(0) }
    }

    /// The bytes granted and not returned.
    pub fn granted(&self) -> usize {
        self.granted.load(Ordering::Relaxed)
    }

    fn grant(
        &self,
        layout: Layout,
        ask: impl FnOnce(Layout) -> Result<NonNull<u8>, Refused>,
    ) -> Result<NonNull<u8>, Refused> {
        let within_limit = |granted: usize| granted.checked_add(layout.size()).filter(|&sum| sum <= self.limit);
        self.granted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within_limit).map_err(|_| Refused)?;
        ask(layout).inspect_err(|_| {
            self.granted.fetch_sub(layout.size(), Ordering::Relaxed);
        })
    }
}

// SAFETY: what is granted is granted by `inner`.
unsafe impl<B: Backing> Backing for Limited<B> {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.grant(layout, |layout| self.inner.obtain(layout))
    }

    fn obtain_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.grant(layout, |layout| self.inner.obtain_zeroed(layout))
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's word, passed on.
        unsafe { self.inner.give_back(block, layout) };
        self.granted.fetch_sub(layout.size(), Ordering::Relaxed);
    }
}

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
        static HANDLERS: Once = Once::new();
        static NEXT: AtomicU64 = AtomicU64::new(0);
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
        Self { inner, ledger: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    fn ledger<R>(&self, look: impl FnOnce(&mut Ledger) -> R) -> R {
        look(LEDGERS.lock().entry(self.ledger).or_default())
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
}

/// Refuses chosen requests, to test what stands above it.
///
/// ```
/// use tenzor_memory::{Failing, System, TensorAllocator};
///
/// let alloc = TensorAllocator::new_in(Failing::once(System, 2));
/// let first = alloc.alloc::<f32>(1000)?; // the 1st request
/// let second = alloc.alloc::<f32>(2000)?; // the 2nd is refused, its retry is the 3rd
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
#[derive(Debug)]
pub struct Failing<B> {
    inner: B,
    rule: Rule,
    requests: AtomicU64,
}

#[derive(Debug)]
enum Rule {
    Every(u64),
    Once(u64),
    From(u64),
}

impl<B: Backing> Failing<B> {
    /// Refuses every `k`-th request; with 0, none.
    pub fn every(inner: B, k: u64) -> Self {
        Self::with_rule(inner, Rule::Every(k))
    }

    /// Refuses the `k`-th request only, counted from 1.
    pub fn once(inner: B, k: u64) -> Self {
        Self::with_rule(inner, Rule::Once(k))
    }

    /// Refuses the `k`-th request and all after it, counted from 1.
    pub fn from(inner: B, k: u64) -> Self {
        Self::with_rule(inner, Rule::From(k))
    }

    fn with_rule(inner: B, rule: Rule) -> Self {
        Self { inner, rule, requests: AtomicU64::new(0) }
    }

    /// The number of requests so far, refused ones included, zero-sized ones not.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn check(&self, layout: Layout) -> Result<(), Refused> {
        if layout.size() == 0 {
            return Ok(());
        }
        let request = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let refuse = match self.rule {
            Rule::Every(k) => k != 0 && request.is_multiple_of(k),
            Rule::Once(k) => request == k,
            Rule::From(k) => request >= k,
        };
        if refuse { Err(Refused) } else { Ok(()) }
    }
}

// SAFETY: what is granted is granted by `inner`.
unsafe impl<B: Backing> Backing for Failing<B> {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.check(layout)?;
        self.inner.obtain(layout)
    }

    fn obtain_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.check(layout)?;
        self.inner.obtain_zeroed(layout)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's word, passed on.
        unsafe { self.inner.give_back(block, layout) };
    }
}
