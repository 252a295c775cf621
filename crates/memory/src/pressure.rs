//! What is kept for reuse can be asked back: who keeps memory, where it came from, and in which order it is asked for.
//!
//! Memory comes from *grounds*: the process's malloc, its heap, a limit, a pool. Whoever keeps some of it for reuse (a pool, an arena that was
//! reset, a planned block between two steps) is a *keeper* of each ground below it. A ground that has no room for a request has its
//! keepers [give up](Ground::reclaim) what they keep, the idlest first, before it refuses.
//!
//! All keepers are in one list, under one lock, that is held to look for the next one only, and by a fork. So:
//! - *No keeper is called under a lock.* A call is counted instead, and who leaves the list waits for the end of the calls that have begun.
//! - *Nobody asks with a lock of its own.* Books of pools take memory as well, under a pool's lock: what they request is
//!   [`hushed`], and refused without asking anybody.
//! - *The child of a fork* has none of the calls that other threads had begun: they are counted with the number of the process.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::Once;

use crate::error::AllocError;
use crate::listed::{List, Listed, Node};
use crate::os;
use crate::retention::TICKS;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use crate::sync::{BREATH, Lock, LockGuard};

/// Bytes that are kept for reuse.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kept {
    /// By pools, and by `Vecs`.
    pub(crate) pools: usize,
    /// By arenas that were reset, and planned allocators between two steps.
    pub(crate) blocks: usize,
}

impl Kept {
    pub(crate) fn all(self) -> usize {
        self.pools + self.blocks
    }
}

/// What keeps memory for reuse.
pub(crate) trait Keep {
    /// What it could give up.
    fn kept(&self) -> Kept;

    /// Has what threads did with it counted: until then, what they freed last may count as in use.
    fn settle(&self) {}

    /// Gives up at least so many bytes, what was idle longest first, or all; returns how many.
    fn give_up(&self, least: usize) -> usize;

    /// Bytes that it is giving back already, if it counts them, which the calling thread can wait for.
    fn coming(&self) -> usize {
        0
    }

    /// Whether time passes for it.
    fn decays(&self) -> bool;

    /// A tick has passed; it was not used for so many.
    fn rest(&self, ticks: usize);
}

/// One from whom memory comes that may be kept for reuse.
#[derive(Debug)]
pub(crate) struct Ground {
    number: u64,
    /// Somebody has asked for its number: there may be keepers.
    is_used: AtomicBool,
}

/// The process's malloc.
pub(crate) static MALLOC: Ground = Ground { number: 1, is_used: AtomicBool::new(false) };

/// The process's heap.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(crate) static HEAP: Ground = Ground { number: 2, is_used: AtomicBool::new(false) };

impl Ground {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(3);
        Self { number: NEXT.fetch_add(1, Relaxed), is_used: AtomicBool::new(false) }
    }

    /// What its keepers could give up.
    pub(crate) fn kept(&self) -> Kept {
        let mut all = Kept::default();
        if self.is_used.load(Relaxed) {
            let mut add = |Kept { pools, blocks }| (all.pools, all.blocks) = (all.pools + pools, all.blocks + blocks);
            each::<16>(|entry| entry.is_of(self), |entry| add(entry.keeps().kept()));
        }
        all
    }

    /// Has what threads freed last counted.
    pub(crate) fn settle(&self) {
        if self.is_used.load(Relaxed) {
            each::<16>(|entry| entry.is_of(self), |entry| entry.keeps().settle());
        }
    }

    /// As [`kept`](Self::kept), with what threads freed last; for who finds too little.
    pub(crate) fn settled(&self) -> Kept {
        self.settle();
        self.kept()
    }

    /// Has keepers give up at least so many bytes, the idlest first, or all that they have; returns how many. Who is used meanwhile comes last,
    /// and may be asked again.
    pub(crate) fn reclaim(&self, least: usize) -> usize {
        let mut gained = 0;
        let now = USES.load(Relaxed);
        let order = |entry: &Entry| (entry.used.load(Relaxed).min(now + 1), entry.number);
        let mut last = (0, 0);
        while self.is_used.load(Relaxed) && gained < least {
            // Most keep nothing, where there are many.
            let mut idlest = [NOBODY; 16];
            each::<16>(
                |entry| entry.is_of(self) && order(entry) > last,
                |entry| {
                    let order = order(entry);
                    let place = idlest.partition_point(|&other| other < order);
                    if place < idlest.len() && entry.keeps().kept().all() > 0 {
                        idlest[place..].rotate_right(1);
                        idlest[place] = order;
                    }
                },
            );
            let mut next = idlest.into_iter().take_while(|&next| next != NOBODY).peekable();
            if next.peek().is_none() {
                break;
            }
            while let Some(wanted) = next.next_if(|_| gained < least) {
                last = wanted;
                let keeper =
                    keepers().and_then(|keepers| keepers.iter().find(|entry| order(entry) == wanted).map(Call::new));
                if let Some(keeper) = keeper {
                    let _giving = GivingBack::to(&keeper.grounds);
                    gained += keeper.keeps().give_up(least - gained);
                }
            }
        }
        gained
    }

    /// Whether one of its keepers is giving memory back at this moment.
    pub(crate) fn is_given_back(&self) -> bool {
        let mut coming = 0;
        let is_any = giving(self.number).are_any();
        if !is_any && self.is_used.load(Relaxed) {
            each::<16>(|entry| entry.is_of(self), |entry| coming += entry.keeps().coming());
        }
        is_any || coming > 0
    }
}

/// How often keepers of a ground are giving memory back at this moment, and do not count it themselves. Some grounds share a count: who looks at one waits a little for the other.
fn giving(ground: u64) -> &'static Calls {
    static GIVING: [Calls; 256] = [const { Calls::new() }; 256];
    &GIVING[ground as usize % GIVING.len()]
}

/// After everybody, in the order of who was idle longest.
const NOBODY: (u64, u64) = (u64::MAX, u64::MAX);

/// The list; `None` for who asks nobody.
fn keepers() -> Option<LockGuard<'static, List<Entry>>> {
    if is_hushed() || KEEPERS.is_mine() {
        return None;
    }
    // Who waits for a fork that may wait for us asks nobody, either.
    KEEPERS.lock_unless_forking()
}

/// Calls every keeper that is `wanted`, the newest first. `AT_ONCE` of them are held together, so that the list is locked less often: one, where
/// a call may wait for more than a keeper's own lock.
fn each<const AT_ONCE: usize>(wanted: impl Fn(&Entry) -> bool, mut call: impl FnMut(&Entry)) {
    let mut last: Option<Call> = None;
    loop {
        let mut some = [const { None }; AT_ONCE];
        {
            let Some(keepers) = keepers() else { return };
            // Where the last one has left meanwhile, those after it are older.
            let is_next =
                |entry: &&Node<Entry>| last.as_ref().is_none_or(|last| entry.number < last.number) && wanted(entry);
            let mut fill = |next: &mut dyn Iterator<Item = &Node<Entry>>| {
                some.iter_mut().zip(next.filter(is_next)).for_each(|(place, entry)| *place = Some(Call::new(entry)));
            };
            match last.as_ref().and_then(|last| keepers.after(last.0)) {
                Some(mut older) => fill(&mut older),
                None => fill(&mut keepers.iter()),
            }
        }
        some.iter().flatten().for_each(|entry| call(entry));
        last = some.into_iter().flatten().last();
        if last.is_none() {
            return;
        }
    }
}

/// Nanoseconds between two ticks; `NEVER` if nothing decays.
static PERIOD: AtomicU64 = AtomicU64::new(1_000_000_000);
const NEVER: u64 = u64::MAX;

/// The keepers' clock is the heap's, from now on.
#[cfg_attr(not(all(target_os = "linux", target_pointer_width = "64")), allow(dead_code))]
pub(crate) fn set_period(period: Option<u64>) {
    PERIOD.store(period.unwrap_or(NEVER), Relaxed);
}

/// Looks at the clock. Where ticks have passed, what was not used for some of them is given up.
pub(crate) fn pass_time() {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (period, now, next) = (PERIOD.load(Relaxed), os::clock(), NEXT.load(Relaxed));
    if period == NEVER
        || now < next
        || NEXT.compare_exchange(next, now.saturating_add(period), Relaxed, Relaxed).is_err()
        || next == 0
    {
        return;
    }
    // After so many more nothing would change.
    let ticks = ((now - next) / period).min(2 * TICKS as u64) as usize + 1;
    each::<1>(
        |entry| entry.decays,
        |entry| {
            let used = entry.used.load(Relaxed);
            let rested = if entry.seen.swap(used, Relaxed) == used { entry.rested.load(Relaxed) } else { 0 };
            entry.rested.store(rested.saturating_add(ticks), Relaxed);
            (1..=ticks).for_each(|tick| entry.keeps().rest(rested.saturating_add(tick)));
        },
    );
}

/// The grounds that a keeper's memory comes from.
///
/// A backing [names](crate::Backing::grounds) them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grounds(Vec<u64>);

impl Grounds {
    /// The backing bears calls by any thread. It has no keepers asked when it refuses, but limits and pools above it may.
    pub fn bears_any_thread(&mut self) {
        self.0.push(0);
    }

    pub(crate) fn add(&mut self, ground: &Ground) {
        ground.is_used.store(true, Relaxed);
        self.0.push(ground.number);
    }

    /// Adds a ground that stands above those that `below` names, if it names any.
    pub(crate) fn add_above(&mut self, below: impl FnOnce(&mut Self), ground: &Ground) {
        let before = self.0.len();
        below(self);
        if self.0.len() > before {
            self.add(ground);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Who is asked for memory, when a request finds too little.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Everybody,
    /// Nobody, as it is for books, which the calling thread may have locked.
    NobodyForBooks,
    /// Nobody, as there is another way if it is refused; which is no refusal then.
    NobodyAtFirst,
}

per_thread! {
    static ASKED: Asked = Asked::Everybody, as "tenzor_asked";
}

/// Whether nobody is asked for memory for what the calling thread requests.
pub(crate) fn is_hushed() -> bool {
    ASKED.get() != Asked::Everybody
}

/// Whether what the calling thread requests is [tried only](tentatively).
pub(crate) fn is_tried_only() -> bool {
    ASKED.get() == Asked::NobodyAtFirst
}

fn asking<R>(asked: Asked, request: impl FnOnce() -> R) -> R {
    struct Before(Asked);
    impl Drop for Before {
        fn drop(&mut self) {
            ASKED.set(self.0);
        }
    }
    let _before = Before(ASKED.replace(asked));
    request()
}

/// Requests memory for books: nobody is asked for any, as the calling thread may hold a lock that they need.
pub(crate) fn hushed<R>(request: impl FnOnce() -> R) -> R {
    asking(Asked::NobodyForBooks, request)
}

/// Requests what is welcome where it costs nobody anything: nothing is given up for it, no program is asked to free memory, and a refusal is not counted.
pub(crate) fn tentatively<R>(request: impl FnOnce() -> R) -> R {
    if is_hushed() { request() } else { AllocError::asking_aside(|| asking(Asked::NobodyAtFirst, request)) }
}

/// A clock for how long keepers were idle: it goes on with each miss, and each time that something is put aside.
static USES: AtomicU64 = AtomicU64::new(1);

/// A keeper's place in the list. *Called*: it lives, and what it stands for, until the last call has ended that began while it was there.
#[derive(Debug)]
pub(crate) struct Keeper(Listed<Entry>);

struct Entry {
    number: u64,
    grounds: Grounds,
    keeps: NonNull<dyn Keep>,
    used: AtomicU64,
    /// When it was used last as the clock ticked, and for how many ticks it was not.
    seen: AtomicU64,
    rested: AtomicUsize,
    calls: Calls,
    decays: bool,
}

// SAFETY: the keeper may be called by any thread (the contract of `Keeper::new`).
unsafe impl Send for Entry {}
// SAFETY: as above.
unsafe impl Sync for Entry {}

// A panic elsewhere leaves nothing half done in its list.
impl UnwindSafe for Keeper {}
impl RefUnwindSafe for Keeper {}

static KEEPERS: Lock<List<Entry>> = Lock::new(List::new());

impl Keeper {
    /// Lists a keeper; `None` if its memory comes from no ground.
    ///
    /// # Safety
    /// `keeper` stays where it is and lives until the keeper is dropped, and any thread may call it meanwhile, which it bears as long as its
    /// backing does; that is what a backing promises by naming grounds.
    pub(crate) unsafe fn new(keeps: NonNull<dyn Keep + '_>, grounds: Grounds) -> Option<Self> {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        if grounds.is_empty() {
            return None;
        }
        survive();
        // SAFETY: only the lifetime is another one; the caller promises that it lives.
        let keeps = unsafe { std::mem::transmute::<NonNull<dyn Keep + '_>, NonNull<dyn Keep>>(keeps) };
        let entry = Entry {
            number: NUMBERS.fetch_add(1, Relaxed),
            grounds,
            keeps,
            used: AtomicU64::new(USES.load(Relaxed)),
            seen: AtomicU64::new(0),
            rested: AtomicUsize::new(0),
            calls: Calls::new(),
            // SAFETY: it lives (the caller's word).
            decays: unsafe { keeps.as_ref() }.decays(),
        };
        Some(Self(Listed::new(&KEEPERS, entry, |_, _| ())))
    }

    /// It is in use at this moment.
    #[inline]
    pub(crate) fn is_used(&self) {
        self.0.used.store(USES.load(Relaxed), Relaxed);
    }

    /// As [`is_used`](Self::is_used), for what happens seldom: whoever is used from now on was used later. The calling thread has no lock.
    pub(crate) fn is_used_anew(&self) {
        self.0.used.store(USES.fetch_add(1, Relaxed) + 1, Relaxed);
        pass_time();
    }

    /// Waits for the end of calls that have begun.
    pub(crate) fn wait_for_calls(&self) {
        self.0.calls.wait();
    }

    /// What is given back meanwhile is waited for.
    pub(crate) fn giving_back(&self) -> GivingBack<'_> {
        GivingBack::to(&self.0.grounds)
    }

    /// From now on it is not called; what is given back meanwhile is waited for.
    pub(crate) fn leave(&self) -> GivingBack<'_> {
        let giving = self.giving_back();
        self.0.leave();
        self.wait_for_calls();
        giving
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.leave());
    }
}

impl Entry {
    fn is_of(&self, ground: &Ground) -> bool {
        self.grounds.0.contains(&ground.number)
    }

    /// For who has a [`Call`], which the reference does not outlive.
    fn keeps(&self) -> &dyn Keep {
        // SAFETY: *Called*.
        unsafe { self.keeps.as_ref() }
    }
}

/// A call to a keeper, which stays meanwhile.
struct Call(&'static Node<Entry>);

impl Call {
    /// For who has the list's lock, and found it there.
    fn new(entry: &Node<Entry>) -> Self {
        entry.calls.begin();
        // SAFETY: *Called*: it is counted, and the reference is not used beyond the call's end.
        Self(unsafe { NonNull::from(entry).as_ref() })
    }
}

/// Memory goes back to these grounds, as who has no room on one of them can [see](Ground::is_given_back).
pub(crate) struct GivingBack<'a>(&'a Grounds);

impl<'a> GivingBack<'a> {
    fn to(grounds: &'a Grounds) -> Self {
        grounds.0.iter().for_each(|&ground| giving(ground).begin());
        Self(grounds)
    }
}

impl Drop for GivingBack<'_> {
    fn drop(&mut self) {
        self.0.0.iter().for_each(|&ground| giving(ground).end());
    }
}

impl Deref for Call {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        self.0
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls.end();
    }
}

/// How many calls there are under way in this process: the child of a fork has none of those that other threads had begun.
#[derive(Debug)]
struct Calls(AtomicU64);

impl Calls {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The number of the process, as the upper half of a count.
    fn process() -> u64 {
        u64::from(std::process::id()) << 32
    }

    fn now(count: u64) -> u64 {
        if count >> 32 << 32 == Self::process() { count } else { Self::process() }
    }

    fn begin(&self) {
        _ = self.0.fetch_update(AcqRel, Acquire, |count| Some(Self::now(count) + 1));
    }

    fn end(&self) {
        // Where it began before a fork, it is not among those of the child.
        _ = self
            .0
            .fetch_update(AcqRel, Acquire, |count| Some(Self::now(count)).map(|now| now - u64::from(now as u32 > 0)));
    }

    fn are_any(&self) -> bool {
        let count = self.0.load(Acquire);
        count as u32 > 0 && Self::now(count) == count
    }

    fn wait(&self) {
        while self.are_any() {
            os::sleep(BREATH);
        }
    }
}

/// From now on, the child of a fork finds the list whole.
pub(crate) extern "C" fn survive() {
    static HANDLERS: Once = Once::new();
    HANDLERS.call_once(|| os::at_fork(Some(before), Some(release), Some(in_child)));
}

/// When the process starts, so that others' handlers come by before ours have the lock.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array")]
static EARLY: extern "C" fn() = survive;

extern "C" fn before() {
    KEEPERS.hold_for_fork();
}

/// How many forks led to this process since it was first looked for.
static FORKS: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn forks() -> usize {
    FORKS.load(Relaxed)
}

extern "C" fn in_child() {
    FORKS.fetch_add(1, Relaxed);
    release();
}

extern "C" fn release() {
    KEEPERS.release_after_fork();
}
