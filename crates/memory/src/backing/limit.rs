//! A limit: how much is granted below it, and how room is made for a request.
//!
//! What a request has others give up is its own until its second try has ended: at each limit that the memory passes it stays counted as granted,
//! as the request's *credit*, so that no other request takes the room meanwhile.
//!
//! A request waits for others that may leave room: those that have memory given up, and those that ask for it further down. Of those that
//! wait at a limit one keeps what it is credited there, whose *turn* it is. All other credits are free for all while it waits; so nobody
//! waits in a circle.

use std::alloc::Layout;
use std::cell::{Cell, RefCell};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;

use super::Refused;
use crate::error::{AllocError, AllocErrorKind};
use crate::os;
use crate::pressure::{Ground, forks, is_tried_only};
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{BREATH, pause};

#[derive(Debug)]
pub(super) struct Limit {
    most: AtomicUsize,
    counts: Arc<Counts>,
    peak: AtomicUsize,
    /// Twice how many forks led to the process that the counts are of; one more, while its first thread here forgets what others had under way.
    forks: AtomicUsize,
    /// What the request asks for, in bytes, whose turn it is.
    turn: AtomicUsize,
    ground: Ground,
}

/// So many bytes are counted as granted and pending, in the process that so many forks led to.
#[derive(Clone, Copy, Debug)]
struct Admitted {
    bytes: usize,
    forks: usize,
}

/// In bytes.
#[derive(Debug, Default)]
struct Counts {
    /// What is granted and not returned.
    settled: AtomicUsize,
    /// That, and what is pending: what the limit is for.
    granted: AtomicUsize,
    /// Of that: what is asked for further down, and the credits of all requests. The child of a fork forgets what other threads had under way.
    pending: AtomicUsize,
    /// How often something that was granted came back, or became somebody's credit.
    returns: AtomicUsize,
}

impl Counts {
    /// So much that is pending is not granted after all.
    fn call_off(&self, bytes: usize) {
        self.granted.fetch_sub(bytes, Relaxed);
        self.came_back();
        self.pending.fetch_sub(bytes, Release);
    }

    /// Who sees what is pending become less sees this before.
    fn came_back(&self) {
        self.returns.fetch_add(1, Release);
    }
}

/// The turn at a limit.
struct Turn<'a>(&'a AtomicUsize);

impl<'a> Turn<'a> {
    fn take(turn: &'a AtomicUsize, bytes: usize) -> Option<Self> {
        turn.compare_exchange(0, bytes, Relaxed, Relaxed).ok().map(|_| Self(turn))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(0, Relaxed);
    }
}

impl Limit {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: AtomicUsize::new(most),
            counts: Arc::default(),
            forks: AtomicUsize::new(2 * forks()),
            peak: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            ground: Ground::new(),
        }
    }

    pub(super) fn most(&self) -> usize {
        self.most.load(Relaxed)
    }

    pub(super) fn set_most(&self, bytes: usize) {
        self.most.store(bytes, Relaxed);
        let beyond = self.granted().saturating_sub(bytes);
        if beyond > 0 {
            self.settle();
            self.reclaim(beyond);
        }
    }

    pub(super) fn granted(&self) -> usize {
        self.counts.settled.load(Relaxed)
    }

    /// In the child of a fork, what was pending is forgotten. Returns how many forks led here.
    #[inline]
    fn see_forks(&self) -> usize {
        let forks = forks();
        if self.forks.load(Acquire) != 2 * forks {
            self.forget_pending(2 * forks);
        }
        forks
    }

    #[cold]
    fn forget_pending(&self, now: usize) {
        loop {
            let seen = self.forks.load(Acquire);
            if seen == now {
                return;
            }
            // Who is at it may be lost with another fork: then the numbers differ.
            if seen != now + 1 && self.forks.compare_exchange(seen, now + 1, Acquire, Relaxed).is_ok() {
                self.counts.pending.store(0, Relaxed);
                self.turn.store(0, Relaxed);
                // Not less what was pending: where a thread was between the two, they did not agree.
                self.counts.granted.store(self.counts.settled.load(Relaxed), Relaxed);
                self.forks.store(now, Release);
                return;
            }
            pause();
        }
    }

    /// The most that was granted at once, since this was [taken](Self::take_peak) last.
    pub(super) fn peak(&self) -> usize {
        self.peak.load(Relaxed)
    }

    pub(super) fn take_peak(&self) -> usize {
        self.peak.swap(self.granted(), Relaxed)
    }

    /// What is granted and kept for reuse by those above.
    pub(super) fn kept(&self) -> usize {
        self.ground.kept().all()
    }

    /// Has what threads freed last counted.
    pub(super) fn settle(&self) {
        self.ground.settle();
    }

    pub(super) fn reclaim(&self, least: usize) -> usize {
        self.ground.reclaim(least)
    }

    pub(super) fn ground(&self) -> &Ground {
        &self.ground
    }

    /// Grants what `ask` grants, within the limit. Where that is reached, those above give up what they keep; then `spill`, which may
    /// free some more and says whether it did.
    pub(super) fn grant(
        &self,
        layout: Layout,
        name: &str,
        spill: impl Fn(usize) -> bool,
        ask: impl FnOnce(Layout) -> Result<NonNull<u8>, Refused>,
    ) -> Result<NonNull<u8>, Refused> {
        self.let_others_in(layout.size());
        let admitted = self.admit(layout.size());
        let _credits = admitted.is_none().then(Credits::begin);
        let admitted = match admitted {
            Some(admitted) => admitted,
            None => self.make_room(layout, name, spill)?,
        };
        let asked = ask(layout);
        self.arrived(admitted, asked.is_ok());
        asked
    }

    /// Where there is not room for both, whose turn it is looks meanwhile, and finds what was just left. It may wait for long, or for us: so may nobody else.
    fn let_others_in(&self, bytes: usize) {
        let is_in_the_way = || match self.turn.load(Relaxed) {
            0 => false,
            theirs => self.counts.granted.load(Relaxed).saturating_add(theirs).saturating_add(bytes) > self.most(),
        };
        (0..MOST_LET_IN).take_while(|_| is_in_the_way()).for_each(|_| os::sleep(BREATH));
    }

    /// Counts so many bytes as granted that come from elsewhere, if there is room for them here and, as it says, below; nobody is asked to make any.
    pub(super) fn count(&self, bytes: usize, below: impl FnOnce() -> bool) -> bool {
        self.admit(bytes).is_some_and(|admitted| {
            let is_counted = below();
            self.arrived(admitted, is_counted);
            is_counted
        })
    }

    /// What was asked for further down is granted, or not.
    fn arrived(&self, Admitted { bytes, forks: before }: Admitted, is_granted: bool) {
        let now = self.see_forks();
        let Counts { granted, pending, .. } = &*self.counts;
        match (now == before, is_granted) {
            (true, true) => {
                pending.fetch_sub(bytes, Release);
            }
            (true, false) => self.counts.call_off(bytes),
            // The thread itself forked meanwhile, and this is the child: it was forgotten.
            (false, true) => {
                granted.fetch_add(bytes, Relaxed);
            }
            (false, false) => {}
        }
        if is_granted {
            let settled = self.counts.settled.fetch_add(bytes, Relaxed) + bytes;
            self.peak.fetch_max(settled, Relaxed);
        }
    }

    /// Counts so many bytes as granted and pending, if there is room for them, with the calling thread's credit.
    fn admit(&self, bytes: usize) -> Option<Admitted> {
        let forks = self.see_forks();
        let credit = credit_of(&self.counts, mem::take);
        let with = |granted: usize| (granted - credit).checked_add(bytes).filter(|&sum| sum <= self.most());
        if self.counts.granted.fetch_update(Relaxed, Relaxed, with).is_ok() {
            if credit > bytes {
                self.counts.came_back();
            }
            // The credit was pending already.
            self.counts.pending.fetch_add(bytes, Relaxed);
            self.counts.pending.fetch_sub(credit, Release);
            return Some(Admitted { bytes, forks });
        }
        return_credit(&self.counts, credit);
        None
    }

    /// Whether others may leave room for so many bytes: those that give something back, and those that may be refused further down.
    fn is_awaited(&self, bytes: usize) -> bool {
        let granted = self.counts.granted.load(Relaxed);
        let sure = granted.saturating_sub(self.counts.pending.load(Acquire));
        self.ground.is_given_back() || sure.saturating_add(bytes) <= self.most()
    }

    fn make_room(&self, layout: Layout, name: &str, spill: impl Fn(usize) -> bool) -> Result<Admitted, Refused> {
        let bytes = layout.size();
        let (mut may_spill, mut turn) = (!was_asked_in_vain(&self.counts), None);
        let (mut waited, mut rounds, mut looks, mut is_settled) = (0, 0, 0, false);
        loop {
            if let Some(admitted) = self.admit(bytes) {
                return Ok(admitted);
            }
            let returns = self.counts.returns.load(Acquire);
            // Without what is credited to this request.
            let credit = credit_of(&self.counts, |credit| *credit);
            let without = |counted: usize| counted.saturating_sub(credit);
            let counted = without(self.counts.granted.load(Relaxed));
            let lacks = |granted: usize| granted.saturating_add(bytes).saturating_sub(self.most());
            let need = lacks(counted);
            if need == 0 {
                // There is room by now.
                continue;
            }
            // Nothing is emptied for what cannot be had, or need not be.
            let fits = bytes <= self.most() && !is_tried_only();
            let mut kept = self.kept();
            if fits && kept < need && !mem::replace(&mut is_settled, true) {
                kept = self.ground.settled().all();
            }
            if fits && kept >= need && self.reclaim(need) > 0 {
                continue;
            }
            let came_back = || self.counts.returns.load(Acquire) != returns;
            // Who is asked to free memory waits for nobody.
            let most_rounds = if turn.is_some() { MOST_ROUNDS_AT_TURN } else { MOST_ROUNDS };
            if fits && rounds < most_rounds && !IS_ASKED.get() && (self.is_awaited(bytes) || came_back()) {
                rounds += 1;
                turn = turn.or_else(|| Turn::take(&self.turn, bytes));
                call_off_credits(turn.is_some().then_some(&self.counts));
                let mut breaths = 1;
                while waited < MOST_WAITED && !came_back() && self.is_awaited(bytes) {
                    waited += breaths;
                    os::sleep(BREATH * breaths);
                    // One at a limit looks all the time.
                    breaths = if turn.is_some() { 1 } else { (2 * breaths).min(MOST_BREATHS) };
                }
                continue;
            }
            // What is idle may have gone from one that was not looked at yet to one that was: from hand to hand, and never returned.
            if fits && looks < MOST_LOOKS && !IS_ASKED.get() {
                looks += 1;
                pause();
                continue;
            }
            if fits && may_spill && self::spill(|| spill(need.saturating_sub(kept))) {
                // Once, but for what was freed meanwhile.
                may_spill = lacks(without(self.counts.granted.load(Relaxed))) == 0;
                if !may_spill {
                    is_asked_in_vain(&self.counts);
                }
                continue;
            }
            if fits && may_spill && !IS_ASKED.get() {
                is_asked_in_vain(&self.counts);
            }
            let kind = if bytes <= self.most() { AllocErrorKind::OverLimit } else { AllocErrorKind::NeverFits };
            let in_use = self.granted().saturating_sub(kept);
            let reason = AllocError::refused(layout).of_kind(kind).with_account(in_use, kept, Some(self.most()));
            return Err(reason.owned_by(name).into());
        }
    }

    /// Grants what `refit` grants more; those above give up what they keep for it.
    pub(super) fn refit<T>(&self, old: Layout, new: Layout, refit: impl FnOnce() -> Option<T>) -> Option<T> {
        let more = new.size().saturating_sub(old.size());
        let _credits = Credits::begin();
        // What shrinks needs no room, though more is granted than the limit is by now.
        let admitted = match more {
            0 => None,
            _ => Some(self.make_room(Layout::from_size_align(more, 1).ok()?, "", |_| false).ok()?),
        };
        let refitted = refit();
        if let Some(admitted) = admitted {
            self.arrived(admitted, refitted.is_some());
        }
        if refitted.is_some() {
            self.returned(old.size().saturating_sub(new.size()));
        }
        refitted
    }

    /// So many bytes were returned.
    pub(super) fn returned(&self, bytes: usize) {
        self.see_forks();
        self.counts.settled.fetch_sub(bytes, Relaxed);
        if !credit(&self.counts, bytes) {
            let granted = self.counts.granted.fetch_sub(bytes, Relaxed);
            debug_assert!(granted >= bytes);
            self.counts.came_back();
        }
    }
}

/// So many breaths others are waited for: a second. A call-back of theirs may take longer, or wait for us.
const MOST_WAITED: u32 = 20_000;

/// So many breaths a request lets another go before it.
const MOST_LET_IN: u32 = 40;

/// Where many wait, each looks so seldom.
const MOST_BREATHS: u32 = 256;

/// So often others took what came back; from who has the turn, they take less than comes back.
const MOST_ROUNDS: u32 = 20;
const MOST_ROUNDS_AT_TURN: u32 = 10_000;

/// So often a request looks again before it is taken for refused.
const MOST_LOOKS: u32 = 4;

/// The credits of the calling thread's request.
struct List {
    /// The forks that led to the process in which the request began. In the child of one the credits are forgotten, as all that is pending.
    forks: usize,
    /// By limit: of those beyond so many that are nested, the room is free for all.
    credits: [Option<(Arc<Counts>, usize)>; 8],
}

impl List {
    fn new() -> Self {
        Self { forks: forks(), credits: [const { None }; 8] }
    }

    fn credits(&mut self) -> &mut [Option<(Arc<Counts>, usize)>] {
        if self.forks != forks() {
            *self = Self::new();
        }
        &mut self.credits
    }
}

thread_local! {
    /// Of the request, if it has others give up memory.
    static CREDITS: RefCell<Option<List>> = const { RefCell::new(None) };

    /// The program is asked to free memory.
    static IS_ASKED: Cell<bool> = const { Cell::new(false) };

    /// While a request is made that may ask more than once, the limits for which the program was asked to free memory, and which still had no room: it is not asked again.
    static IN_VAIN: Cell<Option<[usize; 8]>> = const { Cell::new(None) };
}

/// A request that may ask what is below more than once, with all that it asks; one within another is part of that.
pub(crate) struct OneRequest {
    is_inner: bool,
}

impl OneRequest {
    pub(crate) fn begin() -> Self {
        let is_inner = IN_VAIN.get().is_some();
        if !is_inner {
            IN_VAIN.set(Some([0; 8]));
        }
        Self { is_inner }
    }
}

impl Drop for OneRequest {
    fn drop(&mut self) {
        if !self.is_inner {
            IN_VAIN.set(None);
        }
    }
}

fn address_of(counts: &Arc<Counts>) -> usize {
    Arc::as_ptr(counts).addr()
}

fn was_asked_in_vain(counts: &Arc<Counts>) -> bool {
    IN_VAIN.get().is_some_and(|limits| limits.contains(&address_of(counts)))
}

fn is_asked_in_vain(counts: &Arc<Counts>) {
    let mut limits = IN_VAIN.get();
    if let Some(place) = limits.iter_mut().flatten().find(|place| **place == 0) {
        *place = address_of(counts);
        IN_VAIN.set(limits);
    }
}

/// The request has others give up memory. At its end, what is left of its credits is free for all.
struct Credits {
    /// It is part of a request that does so already, under another limit.
    is_inner: bool,
}

impl Credits {
    fn begin() -> Self {
        let begin = |list: &RefCell<Option<List>>| list.borrow_mut().replace(List::new());
        let before = CREDITS.try_with(begin).unwrap_or_default();
        let is_inner = before.is_some();
        if is_inner {
            put_back(before);
        }
        Self { is_inner }
    }
}

/// Asks the program to free memory, unless it is asked just now, and this request is its own.
pub(super) fn spill(spill: impl FnOnce() -> bool) -> bool {
    struct Asked;
    impl Drop for Asked {
        fn drop(&mut self) {
            IS_ASKED.set(false);
        }
    }
    if IS_ASKED.replace(true) {
        return false;
    }
    let _asked = Asked;
    // What the program does meanwhile is not for the request.
    let list = CREDITS.try_with(RefCell::take).unwrap_or_default();
    // No backing unwinds. What it panicked with may do so, too, when it is dropped.
    let done = catch_unwind(AssertUnwindSafe(spill)).unwrap_or_else(|panic| {
        catch_unwind(AssertUnwindSafe(|| drop(panic))).unwrap_or_else(mem::forget);
        false
    });
    put_back(list);
    done
}

fn put_back(list: Option<List>) {
    _ = CREDITS.try_with(|place| *place.borrow_mut() = list);
}

impl Drop for Credits {
    fn drop(&mut self) {
        if !self.is_inner {
            call_off_credits(None);
            put_back(None);
        }
    }
}

/// Counts what was returned to a limit for the calling thread's request. Returns whether there is one.
fn credit(counts: &Arc<Counts>, bytes: usize) -> bool {
    let is_credited = return_to_list(counts, bytes);
    if is_credited {
        counts.pending.fetch_add(bytes, Relaxed);
        counts.came_back();
    }
    is_credited
}

fn return_to_list(counts: &Arc<Counts>, bytes: usize) -> bool {
    let add = |list: &RefCell<Option<List>>| {
        let mut list = list.borrow_mut();
        let Some(list) = list.as_mut() else { return false };
        let is_it = |place: &&mut Option<(Arc<Counts>, usize)>| {
            place.as_ref().is_none_or(|(other, _)| Arc::ptr_eq(other, counts))
        };
        let Some(place) = list.credits().iter_mut().find(is_it) else { return false };
        place.get_or_insert_with(|| (Arc::clone(counts), 0)).1 += bytes;
        true
    };
    CREDITS.try_with(add).unwrap_or(false)
}

/// The credit of the calling thread's request at a limit, looked at or taken.
fn credit_of(counts: &Arc<Counts>, take: impl FnOnce(&mut usize) -> usize) -> usize {
    let find = |list: &RefCell<Option<List>>| {
        let mut list = list.borrow_mut();
        let mine = list.iter_mut().flat_map(List::credits).flatten().find(|(other, _)| Arc::ptr_eq(other, counts));
        mine.map_or(0, |(_, credit)| take(credit))
    };
    CREDITS.try_with(find).unwrap_or(0)
}

/// Makes the credits of the calling thread's request free for all, but for that at one limit.
fn call_off_credits(but: Option<&Arc<Counts>>) {
    let call_off = |list: &RefCell<Option<List>>| {
        for (counts, credit) in list.borrow_mut().iter_mut().flat_map(List::credits).flatten() {
            if *credit > 0 && but.is_none_or(|but| !Arc::ptr_eq(but, counts)) {
                counts.call_off(mem::take(credit));
            }
        }
    };
    _ = CREDITS.try_with(call_off);
}

/// Puts a credit back that could not be used.
fn return_credit(counts: &Arc<Counts>, bytes: usize) {
    if bytes > 0 && !return_to_list(counts, bytes) {
        counts.call_off(bytes);
    }
}
