//! Work for a heap that is done without its lock, so that whoever waits for it gets it.

use super::cache::Cache;
use super::shards::{self, Inside};
use super::tuning::{ONCE_MORE_TRIES, UNDER_WAY_WAITS};
use super::yield_to_request;
use crate::heap::Goal;
use crate::heap::classes::PAGE;
use crate::os;
use crate::sync::BREATH;
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;

/// How often somebody began to do something without a lock.
static BEGUN: AtomicU32 = AtomicU32::new(0);

/// Leaves the lock, and comes back. A fork waits for the end of what is under way.
fn away<T>(mut inside: Inside, leave: impl FnOnce(Inside) -> T) -> (Inside, T) {
    let shard = inside.shard;
    inside.begin();
    let done = leave(inside);
    let mut inside = shard.lock();
    inside.end();
    (inside, done)
}

/// Does something without the lock.
pub(super) fn meanwhile<T>(inside: Inside, work: impl FnOnce() -> T) -> (Inside, T) {
    BEGUN.fetch_add(1, Relaxed);
    away(inside, |inside| {
        drop(inside);
        work()
    })
}

/// Lets whoever waits for the lock have it, between two pieces of work under it.
pub(super) fn let_others(inside: Inside) -> Inside {
    away(inside, Inside::let_others).0
}

/// Gives back to the system what a goal says, and looks at what is to be looked at; less, where the process is about to fork.
pub(super) fn pursue(mut inside: Inside, goal: &mut Goal) -> Inside {
    if let Some(look) = inside.heap.look() {
        let seen;
        (inside, seen) = meanwhile(inside, || look.run());
        inside.heap.saw(&look, seen);
    }
    while !shards::is_fork_wanted() {
        let Some(errand) = inside.heap.errand(goal) else {
            if goal.is_paused() {
                inside = let_others(inside);
                continue;
            }
            break;
        };
        let with;
        (inside, with) = meanwhile(inside, || errand.run());
        inside.heap.returned(goal, with);
    }
    inside
}

/// Pursues a goal anew as long as there is more to do for it. Returns how many bytes went back.
pub(super) fn pursue_all(mut inside: Inside, goal: fn(&Inside) -> Goal) -> (Inside, usize) {
    let mut bytes = 0;
    loop {
        let mut this = goal(&inside);
        inside = pursue(inside, &mut this);
        bytes += this.gone() as usize * PAGE;
        if !this.is_unmet() || shards::is_fork_wanted() {
            return (inside, bytes);
        }
        inside = let_others(inside);
    }
}

/// A request took memory from the system: as much as is more than may be resident goes back, before the memory is used.
pub(super) fn keep_budget(inside: Inside) -> Inside {
    let mut goal = inside.heap.keep_budget();
    let mut inside = pursue(inside, &mut goal);
    inside.heap.settled(&goal);
    inside
}

/// Tries something once memory has yielded, and again if what others had under way meanwhile may be what it needs.
pub(super) fn once_more<T>(cache: &Cache, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..ONCE_MORE_TRIES {
        yield_to_request(cache);
        wait();
        let begun = BEGUN.load(Relaxed);
        let done = attempt();
        if done.is_some() || BEGUN.load(Relaxed) == begun {
            return done;
        }
    }
    None
}

/// Waits for the end of what others have under way.
fn wait() {
    let is_under_way = || shards::all().any(|shard| shard.enter().is_some_and(|inside| inside.is_anything_under_way()));
    for _ in 0..UNDER_WAY_WAITS {
        if !is_under_way() {
            return;
        }
        os::sleep(BREATH);
    }
}
