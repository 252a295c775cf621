//! Limits with names, one within the other.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Once, Weak};

use super::limit::Limit;
use super::spill::{self, Spill};
use super::{Backing, DefaultBacking, Refused};
use crate::bytes::Bytes;
use crate::pressure::{Grounds, hushed};
use crate::process;
use crate::sync::{Lock, LockGuard};

/// A limit with a name, shared by any number of pools, arenas and planned allocators, and divided among budgets within it.
///
/// It is a handle, and a [`Backing`]: what takes memory from its clones shares it. What is kept for reuse (by pools, by arenas that were reset, by
/// planned allocators between two steps) counts as granted, and can be asked back: before a request is refused, it is given up, the idlest
/// first, wherever below the limit it lies. So what one tenant keeps idle another one can have.
///
/// What counts is what is granted, rounded to the size classes of who asks: a pool that is to have all of a budget, to the last 64 bytes, has the same limit of its own
/// ([`PoolConfig::with_limit`](crate::PoolConfig::with_limit)), below which it rounds to 64 bytes.
///
/// ```
/// use tenzor_memory::{Budget, TensorAllocator};
///
/// let server = Budget::new("server", 8 << 20);
/// let [first, second] = ["first", "second"].map(|tenant| server.within(tenant, 6 << 20));
/// let [a, b] = [&first, &second].map(|budget| TensorAllocator::new_in(budget.clone()));
/// drop(a.alloc::<f32>(1 << 20)?); // 4 MiB, which `a` keeps …
/// let wanted = b.alloc::<f32>(3 << 19)?; // … and gives up for the 6 MiB of `b`.
/// assert_eq!((first.usage().granted, second.usage().granted), (0, 6 << 20));
///
/// let error = b.alloc::<f32>(1000).unwrap_err();
/// assert!(error.to_string().contains("over the limit of 6 MiB of second"));
/// let error = a.alloc::<f32>(1 << 20).unwrap_err();
/// assert!(error.to_string().contains("over the limit of 8 MiB of server"));
/// println!("{}", server.usage()); // who holds how much
/// # Ok::<(), tenzor_memory::AllocError>(())
/// ```
pub struct Budget<B = DefaultBacking> {
    node: Arc<Node<B>>,
}

struct Node<B> {
    name: String,
    limit: Limit,
    below: Below<B>,
    /// Those within it, as long as somebody has them.
    within: Lock<Vec<Weak<Node<B>>>>,
    spill: Lock<Option<Spill>>,
}

/// Where its memory comes from.
enum Below<B> {
    Budget(Budget<B>),
    Ground(B),
}

/// Held whenever a budget's own lock is, and by a fork: so the child finds these free.
static BOOKS: Lock<()> = Lock::new(());

fn books() -> LockGuard<'static, ()> {
    survive();
    BOOKS.lock()
}

/// From now on, the child of a fork finds budgets whole.
pub(super) fn survive() {
    static HANDLERS: Once = Once::new();
    extern "C" fn before() {
        BOOKS.hold_for_fork();
    }
    extern "C" fn after() {
        BOOKS.release_after_fork();
    }
    HANDLERS.call_once(|| process::at_fork(Some(before), Some(after), Some(after)));
}

impl Budget {
    /// `limit` bytes of the process's heap, or of malloc where there is none. The first 23 bytes of the name are in the errors of who is refused.
    pub fn new(name: &str, limit: usize) -> Self {
        Self::new_in(name, limit, DefaultBacking::default())
    }
}

impl<B: Backing + Send + Sync> Budget<B> {
    /// `limit` bytes of a backing.
    pub fn new_in(name: &str, limit: usize, backing: B) -> Self {
        Self::with(name, limit, Below::Ground(backing))
    }

    /// A budget within this one: its memory counts in both.
    pub fn within(&self, name: &str, limit: usize) -> Self {
        let budget = Self::with(name, limit, Below::Budget(self.clone()));
        let _books = books();
        let mut within = self.node.within.lock();
        if within.len() == within.capacity() {
            within.retain(|node| node.strong_count() > 0);
        }
        hushed(|| within.push(Arc::downgrade(&budget.node)));
        drop(within);
        budget
    }

    fn with(name: &str, limit: usize, below: Below<B>) -> Self {
        let (within, spill) = (Lock::new(Vec::new()), Lock::new(None));
        Self { node: Arc::new(Node { name: name.to_owned(), limit: Limit::new(limit), below, within, spill }) }
    }

    /// Calls `spill` before a request is refused by this budget, once everything kept for reuse was given up, with the number of bytes that are missing. It
    /// may free memory, of any thread's, and says whether it did; then the request is tried once more. It runs in the thread that requests, without
    /// any lock of Tenzor's; what it requests itself is refused where there is no room. If it panics, nothing is taken to be freed. What is larger than
    /// the limit is refused without asking.
    ///
    /// The budget keeps `spill` until it ends itself, or another takes its place. Buffers keep their budget: so `spill` refers weakly to what holds some of
    /// this one's, or neither ever ends.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use tenzor_memory::{Budget, TensorAllocator};
    ///
    /// let budget = Budget::new("cache", 1 << 20);
    /// let alloc = TensorAllocator::new_in(budget.clone());
    /// let cache = Arc::new(Mutex::new(vec![alloc.alloc_filled(900_000, 0_u8)?.into_owned()]));
    /// let spilled = Arc::downgrade(&cache);
    /// budget.on_pressure(move |_missing| {
    ///     spilled.upgrade().is_some_and(|cache| cache.lock().is_ok_and(|mut cache| cache.pop().is_some()))
    /// });
    /// assert!(alloc.alloc::<u8>(900_000).is_ok());
    /// assert!(cache.lock().is_ok_and(|cache| cache.is_empty()));
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    pub fn on_pressure(&self, spill: impl Fn(usize) -> bool + Send + Sync + 'static) {
        let spill: Spill = Arc::new(spill);
        let before = {
            let _books = books();
            self.node.spill.lock().replace(spill)
        };
        // Not under the lock.
        drop(before);
    }

    /// Has everything kept for reuse below this limit given up; returns how many bytes.
    pub fn trim(&self) -> usize {
        self.node.limit.reclaim(usize::MAX)
    }
}

impl<B> Budget<B> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.node.name
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.node.limit.most()
    }

    /// Sets another limit from now on. Of what is granted beyond it, what is kept for reuse is given up at once, and what is in use stays.
    pub fn set_limit(&self, bytes: usize) {
        self.node.limit.set_most(bytes);
    }

    /// Who holds how much: at this moment, if no thread requests or frees anything meanwhile.
    pub fn usage(&self) -> BudgetUsage {
        // Of those within as well.
        self.node.limit.settle();
        self.account()
    }

    fn account(&self) -> BudgetUsage {
        let limit = &self.node.limit;
        let within: Vec<Self> = {
            let _books = books();
            let within = self.node.within.lock();
            hushed(|| within.iter().filter_map(Weak::upgrade).map(|node| Self { node }).collect())
        };
        BudgetUsage {
            name: self.node.name.clone(),
            limit: limit.most(),
            granted: limit.granted(),
            kept: limit.kept().min(limit.granted()),
            peak_granted: limit.peak(),
            within: within.iter().map(Self::account).collect(),
        }
    }

    /// The most bytes that were granted at once since this was asked last, or since the start.
    pub fn take_peak(&self) -> usize {
        self.node.limit.take_peak()
    }
}

impl<B> Clone for Budget<B> {
    fn clone(&self) -> Self {
        Self { node: Arc::clone(&self.node) }
    }
}

impl<B> fmt::Debug for Budget<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

impl<B: Backing> Node<B> {
    fn below(&self) -> &dyn Backing {
        match &self.below {
            Below::Budget(budget) => budget,
            Below::Ground(backing) => backing,
        }
    }

    fn spill(&self, missing: usize) -> bool {
        let spill = {
            let _books = books();
            self.spill.lock().clone()
        };
        spill.is_some_and(|spill| spill::call(spill, missing))
    }

    fn grant(
        &self,
        layout: Layout,
        ask: impl FnOnce(&dyn Backing, Layout) -> Result<NonNull<u8>, Refused>,
    ) -> Result<NonNull<u8>, Refused> {
        let spill = |missing| self.spill(missing);
        self.limit.grant(layout, &self.name, spill, |layout| ask(self.below(), layout))
    }
}

// SAFETY: what is granted is granted by the backing, which any thread may call, as it is `Sync` wherever a budget is made of it.
unsafe impl<B: Backing> Backing for Budget<B> {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.node.grant(layout, |below, layout| below.obtain(layout))
    }

    fn obtain_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.node.grant(layout, |below, layout| below.obtain_zeroed(layout))
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's word, passed on.
        unsafe { self.node.below().give_back(block, layout) };
        self.node.limit.returned(layout.size());
    }

    unsafe fn refit(&self, block: NonNull<u8>, old: Layout, new: Layout, zeroed: bool) -> Option<NonNull<u8>> {
        // SAFETY: the caller's word, passed on.
        self.node.limit.refit(old, new, || unsafe { self.node.below().refit(block, old, new, zeroed) })
    }

    fn is_pool(&self) -> bool {
        self.node.below().is_pool()
    }

    fn grounds(&self, grounds: &mut Grounds) {
        // Whatever the backing says of itself: `new_in` asks for `Sync`.
        grounds.bears_any_thread();
        self.node.below().grounds(grounds);
        grounds.add(self.node.limit.ground());
    }
}

/// A budget, for memory that does not come from its backing.
pub(crate) trait Count: Send + Sync {
    /// Counts so many bytes as granted, if there is room for them. Nobody is asked to make any.
    fn count(&self, bytes: usize) -> bool;

    /// They are returned.
    fn uncount(&self, bytes: usize);

    /// Names its limits, as the grounds of who answers for such memory.
    fn limits(&self, grounds: &mut Grounds);
}

impl<B: Backing + Send + Sync> Count for Budget<B> {
    fn count(&self, bytes: usize) -> bool {
        self.node.limit.count(bytes, || match &self.node.below {
            Below::Budget(below) => below.count(bytes),
            Below::Ground(_) => true,
        })
    }

    fn uncount(&self, bytes: usize) {
        if let Below::Budget(below) = &self.node.below {
            below.uncount(bytes);
        }
        self.node.limit.returned(bytes);
    }

    fn limits(&self, grounds: &mut Grounds) {
        if let Below::Budget(below) = &self.node.below {
            below.limits(grounds);
        }
        grounds.add(self.node.limit.ground());
    }
}

/// How much of a [`Budget`] is granted, and to whom, in bytes.
///
/// It is shown as a table, a row for each budget.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct BudgetUsage {
    /// The budget's name.
    pub name: String,
    /// The most that may be granted.
    pub limit: usize,
    /// What is granted and not returned.
    pub granted: usize,
    /// The part of `granted` that is kept for reuse, and given up before anybody is refused.
    pub kept: usize,
    /// The most that was granted at once, so far or since it was [taken](Budget::take_peak) last.
    pub peak_granted: usize,
    /// Of the budgets within it. What is granted beyond theirs is held directly.
    pub within: Vec<BudgetUsage>,
}

impl fmt::Display for BudgetUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<24} {:>10} {:>10} {:>10} {:>10}", "budget", "limit", "in use", "kept", "peak")?;
        self.rows(f, 0)
    }
}

impl BudgetUsage {
    fn rows(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let name = format_args!("{:indent$}{}", "", self.name, indent = 2 * depth).to_string();
        let bytes = [self.limit, self.granted - self.kept.min(self.granted), self.kept, self.peak_granted];
        let [limit, in_use, kept, peak] = bytes.map(|bytes| Bytes(bytes).to_string());
        writeln!(f, "{name:<24} {limit:>10} {in_use:>10} {kept:>10} {peak:>10}")?;
        self.within.iter().try_for_each(|budget| budget.rows(f, depth + 1))
    }
}
