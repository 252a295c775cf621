//! Who keeps memory and who asks for it, under one limit: nobody waits in a circle, nobody is called who is no more, and nobody is refused what
//! others keep.

use std::alloc::Layout;
use std::ptr::NonNull;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::cells;
use crate::errors::Refused;
use crate::limit::Limit;
use crate::pressure::{Grounds, Keep, Keeper, Kept};

/// A pool that keeps what it is given back, behind its own lock.
struct Pool {
    kept: Mutex<usize>,
    /// The innermost last.
    limits: Vec<Arc<Limit>>,
    /// Whether it is still there, as loom sees it.
    lives: UnsafeCell<bool>,
}

impl Pool {
    fn returned(&self, bytes: usize) {
        if bytes > 0 {
            self.limits.iter().for_each(|limit| limit.returned(bytes));
        }
    }
}

impl Keep for Pool {
    fn kept(&self) -> Kept {
        Kept { pools: *self.kept.lock().expect("no panics"), blocks: 0 }
    }

    fn give_up(&self, _: usize) -> usize {
        // SAFETY: loom checks that nobody ends it meanwhile.
        self.lives.with(|lives| assert!(unsafe { *lives }, "it is no more"));
        let gone = std::mem::take(&mut *self.kept.lock().expect("no panics"));
        self.returned(gone);
        gone
    }

    fn decays(&self) -> bool {
        false
    }

    fn rest(&self, _: usize) {}
}

fn grant(limits: &[Arc<Limit>], layout: Layout) -> Result<NonNull<u8>, Refused> {
    let Some((limit, below)) = limits.split_last() else { return Ok(NonNull::dangling()) };
    limit.grant(layout, "", |_| false, |layout| grant(below, layout))
}

/// What a pool of one thread does, and its end.
struct Owner {
    keeper: Option<Keeper>,
    pool: Box<Pool>,
}

impl Owner {
    fn new(limits: &[&Arc<Limit>], kept: usize) -> Self {
        let limits = limits.iter().copied().cloned().collect();
        let pool = Box::new(Pool { kept: Mutex::new(0), limits, lives: UnsafeCell::new(true) });
        let mut grounds = Grounds::default();
        pool.limits.iter().for_each(|limit| grounds.add(limit.ground()));
        // SAFETY: the pool lives until the keeper is dropped, and bears any thread.
        let keeper = unsafe { Keeper::new(NonNull::from(&*pool as &dyn Keep), grounds) };
        let owner = Self { keeper, pool };
        if kept > 0 {
            owner.request(kept).expect("there is room");
            owner.free(kept);
        }
        owner
    }

    fn request(&self, bytes: usize) -> Result<(), Refused> {
        let mut kept = self.pool.kept.lock().expect("no panics");
        if *kept >= bytes {
            *kept -= bytes;
            return Ok(());
        }
        drop(kept);
        grant(&self.pool.limits, Layout::from_size_align(bytes, 1).expect("a layout")).map(drop)
    }

    fn free(&self, bytes: usize) {
        *self.pool.kept.lock().expect("no panics") += bytes;
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let keeper = self.keeper.take();
        let _giving = keeper.as_ref().map(Keeper::leave);
        // SAFETY: loom checks that nobody looks at it meanwhile.
        self.pool.lives.with_mut(|lives| unsafe { *lives = false });
        let kept = std::mem::take(&mut *self.pool.kept.lock().expect("no panics"));
        self.pool.returned(kept);
    }
}

// SAFETY: the keeper and the pool may be used by any thread.
unsafe impl Send for Owner {}
// SAFETY: as above.
unsafe impl Sync for Owner {}

/// All keepers are in one list, which is one model's at a time.
static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn limit(most: usize) -> Arc<Limit> {
    let limit = Arc::new(Limit::new(most));
    // What it consists of is made before threads share it.
    _ = format!("{limit:?}");
    assert!(!limit.ground().is_given_back());
    limit
}

fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    cells::model(preemptions, body);
}

#[test]
fn nobody_is_called_who_is_no_more() {
    model(2, || {
        let limit = limit(4);
        let owners = [1, 1].map(|kept| Owner::new(&[&limit], kept));
        let there = limit.clone();
        let asks = thread::spawn(move || there.reclaim(2));
        let leaves = thread::spawn(move || drop(owners));
        let gained = asks.join().expect("no panics");
        leaves.join().expect("no panics");
        assert!(gained <= 2 && limit.granted() == 0);
    });
}

#[test]
fn nobody_is_refused_what_others_keep() {
    two_share_what_a_third_keeps(1);
}

#[test]
#[ignore = "takes minutes: ci/long/loom"]
fn nobody_is_refused_what_others_keep_whoever_is_interrupted_twice() {
    two_share_what_a_third_keeps(2);
}

fn two_share_what_a_third_keeps(preemptions: usize) {
    model(preemptions, || {
        let limit = limit(2);
        let _idle = Owner::new(&[&limit], 2);
        let (most, now) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (limit, most, now) = (limit.clone(), most.clone(), now.clone());
                thread::spawn(move || {
                    let own = Owner::new(&[&limit], 0);
                    own.request(1).expect("one of two is kept by whoever does not use it");
                    most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
                    now.fetch_sub(1, Relaxed);
                    own.free(1);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panics"));
        limit.reclaim(2);
        assert_eq!(limit.granted(), 0);
    });
}

/// Each keeps what the other needs, under limits of their own within a common one.
fn two_ask_each_other(within: usize) {
    // With more of them, what is within takes minutes.
    model(2 - within, move || {
        let root = limit(2);
        let owners = Arc::new([1, 1].map(|kept| {
            let own: Vec<_> = (0..within).map(|_| limit(2)).collect();
            let limits: Vec<_> = [&root].into_iter().chain(&own).collect();
            Owner::new(&limits, kept)
        }));
        let request = |owner: &Owner| {
            let granted = owner.request(2).is_ok();
            if granted {
                owner.free(2);
            }
            granted
        };
        let there = owners.clone();
        let other = thread::spawn(move || request(&there[0]));
        let granted = request(&owners[1]);
        let other = other.join().expect("no panics");
        assert!(granted || other, "one of them has all");
        root.reclaim(2);
        let limits = owners.iter().flat_map(|owner| &owner.pool.limits);
        assert!(limits.into_iter().all(|limit| limit.granted() == 0));
    });
}

#[test]
fn two_that_ask_each_other_do_not_wait_in_a_circle() {
    two_ask_each_other(0);
}

#[test]
fn nor_do_they_within_limits_of_their_own() {
    two_ask_each_other(1);
}
