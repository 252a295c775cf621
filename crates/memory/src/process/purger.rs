//! Who gives idle memory back: the program's own requests, or a thread.
//!
//! A thread is a guest. A program that has one thread may want to stay so: to change its namespaces, to enter a sandbox, to fork. So
//! memory goes back **in calls** there: once it is due, each request that looks at the clock gives a piece of it back. How often
//! requests look is told by their caches' patience. Once a second thread has made a request, the free that leaves much idle may
//! start a **thread** for it, which ends when there is nothing left to give back. Where it cannot be had, calls do it. Whoever does it
//! puts small pages onto huge ones as well; where there are many of these, and nothing to give back, calls do.
//!
//! *Somebody*: while free memory is resident and shall decay, either a thread is there, or being started, or `DUE` is a time. All of it
//! changes under the heap's lock.

use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::cache::Cache;
use super::{Shared, enter, lock, promote};
use crate::heap_config::{Background, HeapSettings};
use crate::os;
use crate::retention::TICKS;
use crate::sync::{BREATH, LockGuard};

/// When calls have something to do, by [`os::clock`]; `NEVER` while they have not.
static DUE: AtomicU64 = AtomicU64::new(NEVER);
const NEVER: u64 = u64::MAX;

/// A millisecond, in the clock's nanoseconds.
const MS: u64 = 1_000_000;

/// For so long a system that refused a thread is not asked for one again.
const RETRY: u64 = 10 * 60 * 1000 * MS;

/// A visit that is so late shows that the thread's pace is another one than before.
const LATE: u64 = 200 * MS;

/// The most pieces that one call gives back, if it is late for them.
const PIECES: u64 = 8;

/// The thread looks at the settings at least so often.
const LOOK: u64 = 1000 * MS;

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
    /// The next free that leaves much idle decides who gives it back.
    open: bool,
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
        Self { who: Who::Nobody, open: true, threads: 0, again: 0, tick: 0, busy: false }
    }

    /// Something has changed that who gives memory back depends on.
    pub(super) fn reconsider(&mut self) {
        self.open = true;
    }
}

/// A tick; `None` if memory does not decay.
fn period(settings: &HeapSettings) -> Option<u64> {
    let decay = u64::try_from(settings.decay.value?.as_nanos()).unwrap_or(NEVER);
    Some((decay / TICKS as u64).max(MS))
}

impl Shared {
    fn may_have_a_thread(&self) -> bool {
        match self.settings.background.value {
            Background::Auto => self.caches.are_many(),
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
        cache.attend();
    }

    /// There is nothing to give back, until a free leaves much idle again.
    fn leave_it(&mut self) {
        self.purger.who = Who::Nobody;
        self.purger.open = true;
        DUE.store(NEVER, Relaxed);
    }

    /// The settings are others, or the process is: a thread that was there is not wanted any more, or not there.
    pub(super) fn begin_again(&mut self, cache: &Cache) {
        if self.purger.who == Who::Nobody {
            self.leave_it();
        } else {
            self.leave_it_to_calls(cache, os::clock());
            self.purger.open = true;
        }
    }
}

/// The end of every free under the lock.
#[inline]
pub(super) fn freed(shared: LockGuard<'_, Shared>, cache: &Cache) {
    if (shared.purger.open && shared.heap.is_idle()) || shared.heap.exceeds_idle_limit() {
        return decide(shared, cache);
    }
    if shared.purger.who == Who::Nobody && shared.heap.is_promising() {
        return promote_in_calls(shared, cache);
    }
    let is_due = cache.is_due();
    if DUE.load(Relaxed) != NEVER {
        cache.hasten();
    }
    if is_due {
        visit_with(shared, cache);
    }
}

/// The end of every other request under the lock.
#[inline]
pub(super) fn counted(shared: LockGuard<'_, Shared>, cache: &Cache) {
    if cache.is_due() {
        visit_with(shared, cache);
    }
}

/// As long as more is free than may be, it goes back, each piece under a hold of its own.
#[cold]
pub(super) fn keep_within_idle_limit(mut shared: LockGuard<'_, Shared>) -> Option<LockGuard<'_, Shared>> {
    let _errno = os::Errno::kept();
    while shared.heap.exceeds_idle_limit() {
        shared.let_others();
        shared = enter()?;
        if !shared.heap.keep_within_idle_limit() {
            break;
        }
    }
    Some(shared)
}

/// Much is on small pages: calls shall put it onto huge ones.
#[cold]
fn promote_in_calls(mut shared: LockGuard<'_, Shared>, cache: &Cache) {
    if shared.settings.decay.value.is_some() {
        shared.leave_it_to_calls(cache, os::clock());
    }
}

/// Much is idle: somebody shall give it back.
#[cold]
fn decide(shared: LockGuard<'_, Shared>, cache: &Cache) {
    let Some(mut shared) = keep_within_idle_limit(shared) else { return };
    // In the midst of a fork no thread is started. The next free will find it open still.
    if shared.passed() || !shared.purger.open || !shared.heap.is_idle() {
        return;
    }
    shared.purger.open = false;
    if shared.settings.decay.value.is_none() {
        return;
    }
    let now = os::clock();
    if !shared.may_have_a_thread() || now < shared.purger.again {
        if shared.purger.who == Who::Nobody {
            shared.leave_it_to_calls(cache, now);
        }
        return;
    }
    if matches!(shared.purger.who, Who::Thread(_)) {
        return;
    }
    shared.purger.threads = shared.purger.threads.wrapping_add(1);
    let me = Who::Thread(shared.purger.threads);
    shared.purger.who = me;
    DUE.store(NEVER, Relaxed);
    // A new thread takes memory.
    drop(shared);
    if !os::spawn(purge) {
        let mut shared = lock();
        shared.purger.again = now.saturating_add(RETRY);
        if shared.purger.who == me {
            shared.leave_it_to_calls(cache, now);
        }
    }
}

/// A request that the cache served, and that is to look at the clock.
#[cold]
pub(super) fn visit(cache: &Cache) {
    let due = DUE.load(Relaxed);
    if due == NEVER {
        cache.rest();
    } else if os::clock() < due {
        cache.pace(true);
    } else if let Some(shared) = enter() {
        visit_with(shared, cache);
    }
}

#[cold]
fn visit_with(mut shared: LockGuard<'_, Shared>, cache: &Cache) {
    let due = DUE.load(Relaxed);
    if due == NEVER {
        return cache.rest();
    }
    let now = os::clock();
    cache.pace(now < due);
    if now < due || shared.passed() {
        return;
    }
    if now - due > LATE {
        cache.attend();
    }
    let _errno = os::Errno::kept();
    let Some(pieces) = shared.pass_time(now) else { return };
    drop(shared);
    // Whoever waits for the lock gets it in between.
    for _ in 0..pieces {
        if !give_a_piece(now) {
            return;
        }
    }
}

impl Shared {
    /// What a clock would have done by now, in calls. Returns how many pieces a call may give back.
    fn pass_time(&mut self, now: u64) -> Option<u64> {
        let (Who::Calls, Some(period)) = (self.purger.who, period(&self.settings)) else { return None };
        if now < self.purger.tick {
            return Some(1);
        }
        let late = (now - self.purger.tick) / period;
        // After so many more nothing would change.
        for _ in 0..=late.min(2 * TICKS as u64) {
            self.heap.tick();
        }
        self.purger.tick = now.saturating_add(period);
        self.purger.busy = true;
        if self.may_have_a_thread() && now >= self.purger.again {
            self.purger.reconsider();
        }
        Some((late + 1).min(PIECES))
    }

    /// Whether calls have a piece to give back.
    fn calls_are_busy(&self) -> bool {
        self.purger.who == Who::Calls && self.purger.busy
    }
}

/// Gives a piece back, or puts a unit on a huge page, if there is one to. Returns whether there may be more.
fn give_a_piece(now: u64) -> bool {
    let Some(mut shared) = enter() else { return false };
    if !shared.calls_are_busy() {
        return false;
    }
    let decays = shared.heap.decay();
    shared.let_others();
    let more = decays || promote();
    let Some(mut shared) = enter() else { return false };
    if !shared.calls_are_busy() {
        return false;
    }
    shared.purger.busy = more;
    if more {
        DUE.store(now, Relaxed);
    } else if shared.heap.is_at_rest() {
        shared.leave_it();
    } else {
        DUE.store(shared.purger.tick, Relaxed);
    }
    more
}

/// What the thread does.
fn purge() {
    let Who::Thread(me) = lock().purger.who else { return };
    loop {
        let Some(mut left) = period(&lock().settings) else { return };
        while left > 0 {
            let slice = left.min(LOOK);
            os::sleep(Duration::from_nanos(slice));
            let shared = lock();
            // The decay may be shorter by now.
            let (true, Some(period)) = (shared.purger.who == Who::Thread(me), period(&shared.settings)) else { return };
            left = (left - slice).min(period);
        }
        lock().heap.tick();
        while lock().heap.decay() {
            os::sleep(BREATH);
        }
        while promote() {
            os::sleep(BREATH);
        }
        let mut shared = lock();
        if shared.purger.who != Who::Thread(me) {
            return;
        }
        if shared.heap.is_at_rest() {
            return shared.leave_it();
        }
    }
}
