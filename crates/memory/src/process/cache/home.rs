//! Which shard a cache's thread asks, and how often it had to wait there.

use super::super::tuning::{VISITS_TO_MOVE, WAITS_TO_MOVE};
use super::Cache;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU32, AtomicUsize};

/// The shard that is asked, and how often the lock was another's there: so many of so many visits are too many, twice as many after each
/// move.
#[derive(Debug)]
pub(super) struct Home {
    number: AtomicUsize,
    visits: AtomicU32,
    waits: AtomicU32,
    since: AtomicU32,
    moves: AtomicU32,
}

impl Home {
    /// The first shard, of which nothing is known yet.
    pub(super) const fn first() -> Self {
        Self {
            number: AtomicUsize::new(0),
            visits: AtomicU32::new(0),
            waits: AtomicU32::new(0),
            since: AtomicU32::new(0),
            moves: AtomicU32::new(0),
        }
    }
}

impl Cache {
    /// Its thread is another one, or has another home.
    pub(crate) fn begin_at_home(&self) {
        let Home { number, visits, waits, since, moves } = &self.home;
        number.store(0, Relaxed);
        [visits, waits, since, moves].iter().for_each(|count| count.store(0, Relaxed));
    }

    /// The number of its thread's home.
    #[inline]
    pub(crate) fn home(&self) -> usize {
        self.home.number.load(Relaxed)
    }

    /// Another home, from now on.
    pub(crate) fn set_home(&self, number: usize) {
        self.home.number.store(number, Relaxed);
        self.home.moves.store((self.home.moves.load(Relaxed) + 1).min(16), Relaxed);
    }

    /// One more visit to a shard, for a request or a free.
    #[inline]
    pub(crate) fn count_visit(&self) {
        self.home.visits.store(self.home.visits.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// The lock was another's there. Returns whether that is so too often.
    pub(crate) fn is_crowded(&self) -> bool {
        let Home { visits, waits, since, moves, .. } = &self.home;
        let (visits, moves) = (visits.load(Relaxed), moves.load(Relaxed));
        let waited =
            if visits.wrapping_sub(since.load(Relaxed)) > VISITS_TO_MOVE << moves { 0 } else { waits.load(Relaxed) }
                + 1;
        let is_crowded = waited > WAITS_TO_MOVE << moves;
        waits.store(if is_crowded { 0 } else { waited }, Relaxed);
        if waited == 1 || is_crowded {
            since.store(visits, Relaxed);
        }
        is_crowded && self.taken.load(Relaxed)
    }
}
