//! Who gives idle memory back: the program's own requests, or a thread.
//!
//! A thread is a guest. A program that has one thread may want to stay so: to change its namespaces, to enter a sandbox, to fork. So
//! memory goes back **in calls** there: once it is due, each request that looks at the clock gives a piece of it back. How often
//! requests look is told by their caches' patience. Once a second thread has made a request, the free that leaves much idle may
//! start a **thread** for it, which ends when there is nothing left to give back. Where it cannot be had, calls do it. Whoever does it
//! puts small pages onto huge ones as well; where there are many of these, and nothing to give back, calls do.
//!
//! *Somebody*: while free memory is resident and shall decay, either a thread is there, or being started, or `DUE` is a time. All of it
//! changes under the central lock.

use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use super::cache::Cache;
use super::errands::pursue;
use super::shards::{self, Inside};
use super::threads::current;
use super::tuning::{
    LATE_NANOSECONDS, PIECES_A_CALL, SETTINGS_NANOSECONDS, SHORTEST_TICK_NANOSECONDS, THREAD_REFUSED_NANOSECONDS,
};
use super::{Central, central, central_lock, pot, promote, reach, threads, tire};
use crate::heap_config::{Background, HeapSettings};
use crate::os;
use crate::pressure;
use crate::retention::TICKS;
use crate::sync::{BREATH, LockGuard};

/// When calls have something to do, by [`os::clock`]; `NEVER` while they have not.
static DUE: AtomicU64 = AtomicU64::new(NEVER);
const NEVER: u64 = u64::MAX;

/// The next free that leaves much idle decides who gives it back.
static OPEN: AtomicBool = AtomicBool::new(true);

/// Something has changed that who gives memory back depends on.
pub(super) fn reconsider() {
    OPEN.store(true, Relaxed);
}

/// The C library makes requests and frees of its own, under locks that a new thread would need; and in a program that did not make it, a thread may be one too many, for a fork or a
/// change of privileges. So where the C library comes to us, none is started in the midst of a request, but only where that is set, and then it stays.
const IS_MALLOC: bool = cfg!(any(tenzor_shared, tenzor_static));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Nobody,
    Calls,
    /// The thread of this number: one that finds another number, or none, is not needed any more.
    Thread(u32),
}

#[derive(Debug)]
pub(super) struct Purger {
    who: Who,
    /// Threads started so far.
    threads: u32,
    /// No thread is asked for before.
    again: u64,
    /// In calls: when time has passed next, and whether what is due since it has passed last is not done yet.
    tick: u64,
    busy: bool,
}

impl Purger {
    pub(super) const fn new() -> Self {
        Self { who: Who::Nobody, threads: 0, again: 0, tick: 0, busy: false }
    }
}

/// A tick; `None` if memory does not decay.
pub(super) fn period(settings: &HeapSettings) -> Option<u64> {
    let decay = u64::try_from(settings.decay.value?.as_nanos()).unwrap_or(NEVER);
    Some((decay / TICKS as u64).max(SHORTEST_TICK_NANOSECONDS))
}

impl Central {
    fn may_have_a_thread(&self) -> bool {
        match self.settings.background.value {
            _ if IS_MALLOC => false,
            Background::Auto => threads::are_many(),
            Background::Always => true,
            Background::Never => false,
        }
    }

    /// From now on calls give memory back, the calling thread's next one first.
    fn leave_it_to_calls(&mut self, cache: &Cache, now: u64) {
        let Some(period) = period(&self.settings) else { return self.leave_it() };
        self.purger.who = Who::Calls;
        self.purger.tick = now.saturating_add(period);
        self.purger.busy = false;
        DUE.store(self.purger.tick, Relaxed);
        if cache.taken.load(Relaxed) {
            cache.attend();
        }
    }

    /// There is nothing to give back, until a free leaves much idle again.
    fn leave_it(&mut self) {
        self.purger.who = Who::Nobody;
        reconsider();
        DUE.store(NEVER, Relaxed);
    }

    /// The settings are others, or the process is: a thread that was there is not wanted any more, or not there.
    pub(super) fn begin_again(&mut self, cache: &Cache) {
        if self.purger.who == Who::Nobody {
            self.leave_it();
        } else {
            self.leave_it_to_calls(cache, os::clock());
            reconsider();
        }
    }
}

/// The end of every free under a shard's lock.
#[inline]
pub(super) fn freed(inside: Inside, cache: &Cache) {
    inside.note();
    if (OPEN.load(Relaxed) && is_worth_it(&inside)) || inside.heap.exceeds_idle_limit() {
        return decide(inside, cache);
    }
    if OPEN.load(Relaxed) && DUE.load(Relaxed) == NEVER && inside.heap.is_promising() {
        return promote_in_calls(inside, cache);
    }
    let is_due = cache.is_due();
    if DUE.load(Relaxed) != NEVER {
        cache.hasten();
    }
    if is_due {
        visit_from(inside, cache);
    }
}

/// The end of every free of pages that took no lock.
#[inline]
pub(super) fn freed_without_lock(cache: &Cache) {
    if OPEN.load(Relaxed) && threads_keep_much() {
        if let Some(inside) = shards::enter_home(cache) {
            freed(inside, cache);
        }
    } else if cache.is_due() {
        visit(cache);
    }
}

/// A free of a run that its thread keeps, and that is to look at the clock: now and then one does what all do that take the lock.
#[cold]
pub(super) fn freed_and_kept(cache: &Cache) {
    if DUE.load(Relaxed) != NEVER {
        cache.hasten();
    } else if OPEN.load(Relaxed)
        && let Some(inside) = shards::enter_home(cache)
    {
        return freed(inside, cache);
    }
    visit(cache);
}

/// The end of every other request under a shard's lock.
#[inline]
pub(super) fn counted(inside: Inside, cache: &Cache) {
    let inside = keep_within_idle_limit(inside);
    inside.note();
    if cache.is_due() {
        visit_from(inside, cache);
    }
}

/// As long as more is free than may be, it goes back.
#[inline]
pub(super) fn keep_within_idle_limit(inside: Inside) -> Inside {
    if !inside.heap.exceeds_idle_limit() {
        return inside;
    }
    let mut goal = inside.heap.keep_budget();
    pursue(inside, &mut goal)
}

/// Much is on small pages: calls shall put it onto huge ones.
#[cold]
fn promote_in_calls(inside: Inside, cache: &Cache) {
    drop(inside);
    let Some(mut central) = central() else { return };
    match central.purger.who {
        // Where nothing decays, nobody looks at the clock.
        Who::Nobody if central.settings.decay.value.is_some() => central.leave_it_to_calls(cache, os::clock()),
        Who::Thread(_) => OPEN.store(false, Relaxed),
        Who::Nobody | Who::Calls => {}
    }
}

/// Much is idle: somebody shall give it back.
#[cold]
fn decide(inside: Inside, cache: &Cache) {
    let inside = keep_within_idle_limit(inside);
    if is_worth_it(&inside) {
        find_somebody(inside, cache);
    }
}

/// Whether somebody shall give memory back: much is idle there, or threads keep much, and some of them may make no requests any more.
#[inline]
fn is_worth_it(inside: &Inside) -> bool {
    inside.heap.is_idle() || threads_keep_much()
}

#[inline]
fn threads_keep_much() -> bool {
    pot::is_in_use() && threads::are_many() && reach::is_possible()
}

/// Somebody shall give idle memory back.
fn find_somebody(inside: Inside, cache: &Cache) {
    // In the midst of a fork no thread is started. The next free will find it open still.
    if inside.passed() {
        return;
    }
    drop(inside);
    let Some(mut central) = central() else { return };
    if !OPEN.swap(false, Relaxed) || central.settings.decay.value.is_none() {
        return;
    }
    let now = os::clock();
    if !central.may_have_a_thread() || now < central.purger.again {
        if central.purger.who == Who::Nobody {
            central.leave_it_to_calls(cache, now);
        }
        return;
    }
    start_thread(central, cache, now);
}

/// A thread shall do it, if none does.
fn start_thread(mut central: LockGuard<'static, Central>, cache: &Cache, now: u64) {
    if matches!(central.purger.who, Who::Thread(_)) {
        return;
    }
    central.purger.threads = central.purger.threads.wrapping_add(1);
    let me = Who::Thread(central.purger.threads);
    central.purger.who = me;
    DUE.store(NEVER, Relaxed);
    // A new thread takes memory.
    drop(central);
    if !os::spawn(purge) {
        let mut central = central_lock();
        central.purger.again = now.saturating_add(THREAD_REFUSED_NANOSECONDS);
        if central.purger.who == me {
            central.leave_it_to_calls(cache, now);
        }
    }
}

/// The settings are others. For who is in no request.
pub(super) fn heed(settings: &HeapSettings) {
    if IS_MALLOC && settings.background.value == Background::Always && settings.decay.value.is_some() {
        start_thread(central_lock(), current(), os::clock());
    }
}

/// A request that is to look at the clock. Returns the time if something is due.
fn look(cache: &Cache) -> Option<u64> {
    let due = DUE.load(Relaxed);
    if due == NEVER {
        cache.rest();
        return None;
    }
    let now = os::clock();
    cache.pace(now < due);
    if now >= due && now - due > LATE_NANOSECONDS {
        cache.attend();
    }
    (now >= due).then_some(now)
}

/// A request that the cache served, and that is to look at the clock.
#[cold]
pub(super) fn visit(cache: &Cache) {
    if let Some(now) = look(cache) {
        give_pieces(now);
    }
}

#[cold]
fn visit_from(inside: Inside, cache: &Cache) {
    let Some(now) = look(cache) else { return };
    if inside.passed() {
        return;
    }
    drop(inside);
    give_pieces(now);
}

/// Gives back what is due.
fn give_pieces(now: u64) {
    let Some((ticks, pieces)) = central().and_then(|mut central| central.pass_time(now)) else { return };
    for _ in 0..ticks {
        tick();
    }
    // Whoever waits for a lock gets it in between.
    for _ in 0..pieces {
        if !give_a_piece(now) {
            return;
        }
    }
}

impl Central {
    /// What a clock would have done by now, in calls. Returns how often it would have ticked, and how many pieces a call may give back.
    fn pass_time(&mut self, now: u64) -> Option<(u64, u64)> {
        let (Who::Calls, Some(period)) = (self.purger.who, period(&self.settings)) else { return None };
        if now < self.purger.tick {
            return Some((0, 1));
        }
        let late = (now - self.purger.tick) / period;
        self.purger.tick = now.saturating_add(period);
        self.purger.busy = true;
        if self.may_have_a_thread() && now >= self.purger.again {
            reconsider();
        }
        // After so many more ticks nothing would change.
        Some((late.min(2 * TICKS as u64) + 1, (late + 1).min(PIECES_A_CALL)))
    }

    /// Whether calls have a piece to give back.
    fn calls_are_busy(&self) -> bool {
        self.purger.who == Who::Calls && self.purger.busy
    }
}

/// Time has passed.
fn tick() {
    if threads::are_many() {
        reach::call_in(true);
    } else {
        tire();
    }
    pressure::pass_time();
    shards::tick();
    for shard in shards::all() {
        if let Some(mut inside) = shard.enter() {
            inside.heap.tick();
        }
    }
}

/// Gives a piece back. Returns whether there may be more.
fn decay() -> bool {
    shards::all().any(|shard| {
        let Some(inside) = shard.enter() else { return false };
        let mut goal = inside.heap.decay();
        let inside = pursue(inside, &mut goal);
        inside.publish();
        goal.is_unmet()
    })
}

/// Whether there were no requests for some ticks.
fn is_at_rest() -> bool {
    shards::all().all(|shard| shard.enter().is_none_or(|inside| inside.heap.is_at_rest()))
}

/// Gives a piece back, or puts a unit on a huge page, if there is one to. Returns whether there may be more.
fn give_a_piece(now: u64) -> bool {
    if !central().is_some_and(|central| central.calls_are_busy()) {
        return false;
    }
    let more = decay() || promote();
    let is_at_rest = !more && is_at_rest();
    let Some(mut central) = central() else { return false };
    if !central.calls_are_busy() {
        return false;
    }
    central.purger.busy = more;
    if more {
        DUE.store(now, Relaxed);
    } else if is_at_rest {
        central.leave_it();
        drop(central);
        look_back();
    } else {
        DUE.store(central.purger.tick, Relaxed);
    }
    more
}

/// What the thread does.
fn purge() {
    let Who::Thread(me) = central_lock().purger.who else { return };
    loop {
        let Some(mut left) = period(&central_lock().settings) else { return };
        while left > 0 {
            let slice = left.min(SETTINGS_NANOSECONDS);
            os::sleep(Duration::from_nanos(slice));
            let central = central_lock();
            // The decay may be shorter by now.
            let (true, Some(period)) = (central.purger.who == Who::Thread(me), period(&central.settings)) else {
                return;
            };
            left = (left - slice).min(period);
        }
        tick();
        while decay() {
            os::sleep(BREATH);
        }
        while promote() {
            os::sleep(BREATH);
        }
        let is_at_rest = is_at_rest();
        let mut central = central_lock();
        if central.purger.who != Who::Thread(me) {
            return;
        }
        if is_at_rest && !IS_MALLOC {
            central.leave_it();
            drop(central);
            return look_back();
        }
    }
}

/// Nobody gives memory back any more. If there were requests meanwhile that left much idle, they found that somebody did.
fn look_back() {
    let is_idle = shards::all().any(|shard| shard.enter().is_some_and(|inside| is_worth_it(&inside)));
    if is_idle && let Some(inside) = shards::first().enter() {
        let homeless = inside.shard.homeless();
        find_somebody(inside, homeless);
    }
}
