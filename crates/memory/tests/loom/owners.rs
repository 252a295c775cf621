//! Biased values: their owner, and others that shut it out.

use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::biased::{Biased, shut_out};
use crate::cells::{Cell, model};
use crate::{os, sync};

/// An owner that comes and goes, and others that shut it out under a lock: the value is never two threads' at once, and no
/// change is lost. Where the fence is refused, others have the value only when the owner has left it.
fn an_owner_and_others(others: usize, preemptions: usize) {
    model(preemptions, move || {
        let value = Arc::new((Mutex::new(()), Biased::new(Cell::new(0))));
        // Its atomics are made now: loom takes the making for a write.
        value.1.has_left();
        // SAFETY: this thread is the owner.
        unsafe { value.1.enter(|_| None::<()>) };
        let visitors: Vec<_> = (0..others)
            .map(|_| {
                let value = value.clone();
                thread::spawn(move || {
                    let lock = value.0.lock().expect("no panics");
                    // SAFETY: we hold the lock, and are not the owner.
                    let out = unsafe { shut_out(std::iter::once(&value.1)) };
                    assert!(out || os::REFUSED.get());
                    let visits = out || value.1.has_left();
                    if visits {
                        // SAFETY: as above, and the owner is out.
                        unsafe { value.1.locked() }.with_mut(|sum| unsafe { *sum += 1 });
                    }
                    if out {
                        // SAFETY: as above.
                        unsafe { value.1.let_in() };
                    }
                    drop(lock);
                    u64::from(visits)
                })
            })
            .collect();
        for _ in 0..2 {
            // SAFETY: this thread is the owner.
            let entered = unsafe { value.1.enter(|cell| Some(cell.with_mut(|sum| *sum += 1))) };
            if entered.is_none() {
                let lock = value.0.lock().expect("no panics");
                // SAFETY: the owner, with the lock.
                unsafe { value.1.locked() }.with_mut(|sum| unsafe { *sum += 1 });
                if os::REFUSED.get() {
                    // SAFETY: likewise.
                    unsafe { value.1.leave() };
                }
                drop(lock);
            }
        }
        let visits: u64 = visitors.into_iter().map(|visitor| visitor.join().expect("no panics")).sum();
        // SAFETY: nobody else is left.
        assert_eq!(unsafe { value.1.locked() }.with(|sum| unsafe { *sum }), 2 + visits);
    });
}

#[test]
fn a_value_whose_owner_left_is_one_threads_at_a_time() {
    os::REFUSED.set(true);
    an_owner_and_others(1, 5);
    an_owner_and_others(2, 3);
}

#[test]
fn a_biased_value_is_one_threads_at_a_time() {
    an_owner_and_others(1, 5);
    an_owner_and_others(2, 3);
}

#[test]
#[should_panic(expected = "Concurrent write accesses")]
fn without_its_fence_a_biased_value_is_two_threads_at_once() {
    sync::FENCED.set(false);
    an_owner_and_others(1, 5);
}
