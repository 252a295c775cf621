//! Planned steps through handles, in structs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tenzor_memory::{
    AllocError, Budget, Buffer, DefaultBacking, Handle, HandleBuffer, Locked, LockedBuffer, PlannedAllocator,
    SharedAllocator, System, TensorAllocator, Tracking,
};

macro_rules! of_both {
    ($($name:ident: $body:block)*) => {
        mod handle {
            use super::*;
            type Owner<B = DefaultBacking> = Handle<PlannedAllocator<B>>;
            type Owned<T, B = DefaultBacking> = HandleBuffer<T, PlannedAllocator<B>>;
            $(#[test] fn $name() $body)*
        }

        mod locked {
            use super::*;
            type Owner<B = DefaultBacking> = Locked<PlannedAllocator<B>>;
            type Owned<T, B = DefaultBacking> = LockedBuffer<T, PlannedAllocator<B>>;
            $(#[test] fn $name() $body)*
        }
    };
}

of_both! {
    steps_are_followed_whichever_way_they_begin: {
        struct Session {
            planned: Owner,
            weights: Vec<Owned<f32>>,
            last: Option<Owned<f32>>,
        }

        impl Session {
            /// In a step.
            fn layers(&mut self, x: &[f32]) -> Result<f32, AllocError> {
                let mut hidden = self.planned.alloc_from_slice(x)?.into_owned();
                for w in &self.weights {
                    hidden = Buffer::from_fn_in(x.len(), |i| hidden[i] * w[i], self.planned.clone())?;
                }
                let sum = hidden.iter().sum();
                self.last = Some(hidden);
                Ok(sum)
            }
        }

        let planned = Owner::new(PlannedAllocator::default());
        let weights = (0..3).map(|_| Ok(planned.alloc_filled(1000, 2.0)?.into_owned()));
        let weights = weights.collect::<Result<_, AllocError>>().unwrap();
        let mut session = Session { planned, weights, last: None };
        let x = [1.0; 1000];
        for round in 0..30 {
            let sum = if round % 2 == 0 {
                let planned = session.planned.clone();
                planned.step(|_| session.layers(&x))
            } else {
                assert!(session.planned.begin_step());
                let sum = session.layers(&x);
                assert!(session.planned.end_step());
                sum
            };
            assert_eq!(sum.unwrap(), 8000.0);
        }
        let stats = session.planned.stats();
        // The first one frees no result of the step before.
        assert!(stats.steps == 30 && stats.followed >= 26 && stats.departed <= 1, "{stats}");
        // In any order.
        let Session { planned, weights, last } = session;
        drop(planned);
        assert_eq!(last.unwrap()[999], 8.0);
        drop(weights);
    }

    beginning_twice_and_ending_without_a_step_do_no_harm: {
        let planned = Owner::new(PlannedAllocator::default());
        assert!(!planned.end_step());
        for _ in 0..4 {
            assert!(planned.begin_step() && !planned.begin_step());
            drop(planned.alloc_filled(100, 1_u8).unwrap());
            assert!(planned.end_step() && !planned.end_step() && !planned.end_step());
        }
        assert_eq!((planned.stats().steps, planned.stats().followed), (4, 2));
        // A step that ends within a closure's, and one that begins there.
        planned.step(|planned| {
            assert!(!planned.begin_step() && planned.end_step());
            let kept = planned.alloc_filled(100, 1_u8).unwrap();
            assert!(planned.begin_step());
            drop(planned.alloc_filled(100, 2_u8).unwrap());
            assert_eq!(kept, [1; 100]);
        });
        assert!(!planned.end_step(), "the closure's end ended it");
        // It is never ended.
        planned.begin_step();
        drop(planned.alloc::<u8>(100).unwrap().into_owned());
    }

    a_step_ends_where_it_unwinds: {
        let planned = Owner::new(PlannedAllocator::default());
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            planned.step(|planned| {
                let _buffer = planned.alloc_filled(100, 1_u8);
                std::panic::resume_unwind(Box::new(()));
            })
        }));
        assert!(unwound.is_err() && planned.begin_step() && planned.end_step());
    }

    buffers_outlive_handles: {
        let ledger = Tracking::new(System);
        let planned = Owner::new(PlannedAllocator::new(TensorAllocator::new_in(&ledger)));
        let mut kept = Vec::new();
        for round in 0..8_u8 {
            planned.step(|planned| {
                let first = planned.alloc_filled(1000, round).unwrap();
                // One that should be freed and is kept, in the block or not.
                let second = planned.alloc_filled(500, round).unwrap().into_owned();
                assert!(first == [round; 1000]);
                if round > 3 && round % 2 == 1 { kept.push(second) }
            });
        }
        drop(planned);
        for (buffer, round) in kept.iter().zip([5, 7]) {
            assert_eq!(*buffer, [round; 500]);
        }
        drop(kept);
        assert!(ledger.is_empty() && ledger.faults().is_empty());
    }

    plans_are_saved_and_loaded: {
        let first = Owner::new(PlannedAllocator::default());
        let step = |planned: &Owner| planned.step(|planned| drop(planned.alloc::<f32>(1000)));
        (0..2).for_each(|_| step(&first));
        let mut saved = Vec::new();
        first.save(&mut saved).unwrap();
        let second = Owner::new(PlannedAllocator::default());
        assert_eq!(second.load(&saved[..]).unwrap(), 1);
        step(&second);
        assert_eq!(second.stats().followed, 1);
        second.clear_plans();
        assert_eq!(second.upstream().stats().reserved_bytes, 0);
        assert!(second.load(&saved[1..]).is_err());
    }
}

#[test]
fn steps_are_followed_behind_a_pointer() {
    let planned = Locked::new(PlannedAllocator::default());
    let alloc = SharedAllocator::new(planned.clone());
    for _ in 0..10 {
        planned.step(|_| {
            let hidden = Buffer::filled_in(1000, 1.0_f32, alloc.clone()).unwrap();
            // Another thread, one after the other.
            let output = std::thread::scope(|scope| {
                scope.spawn(|| Buffer::from_fn_in(1000, |i| hidden[i] + 1.0, alloc.clone())).join().unwrap().unwrap()
            });
            assert_eq!(output[999], 2.0);
        });
    }
    assert_eq!(planned.stats().followed, 8);
}

#[test]
fn a_budget_asks_the_program_without_the_lock() {
    use std::sync::{Arc, Mutex};

    let budget = Budget::new("tensors", 1 << 20);
    let planned = Locked::new(PlannedAllocator::new(TensorAllocator::new_in(budget.clone())));
    let cache = Arc::new(Mutex::new(Vec::new()));
    let spilled = Arc::clone(&cache);
    budget.on_pressure(move |_missing| spilled.lock().is_ok_and(|mut cache| cache.pop().is_some()));
    for round in 0..10_u8 {
        planned.step(|planned| {
            let held = planned.alloc_filled(600_000, round).unwrap();
            assert!(cache.lock().unwrap().is_empty(), "it was in the way");
            assert!(held == [round; 600_000][..]);
        });
        // What the call-back frees goes through the lock.
        cache.lock().unwrap().push(planned.alloc_filled(500_000, round).unwrap().into_owned());
    }
    // And it is asked at once for all that is in the way.
    cache.lock().unwrap().clear();
    planned.clear_plans();
    cache.lock().unwrap().extend((0..4).map(|_| planned.alloc_filled(200_000, 1_u8).unwrap().into_owned()));
    assert!(planned.alloc::<u8>(900_000).is_ok());
    assert!(cache.lock().unwrap().is_empty());
    // In vain: it says that there is no more.
    let _held = planned.alloc::<u8>(900_000).unwrap();
    let error = planned.alloc::<u8>(900_000).unwrap_err();
    assert_eq!(error.limit(), Some(1 << 20));
}

#[test]
fn a_budget_asks_the_program_while_nobody_is_inside() {
    use std::cell::RefCell;

    thread_local! {
        static CACHE: RefCell<Vec<HandleBuffer<u8, PlannedAllocator<Budget>>>> = const { RefCell::new(Vec::new()) };
    }
    let budget = Budget::new("tensors", 1 << 20);
    let planned = Handle::new(PlannedAllocator::new(TensorAllocator::new_in(budget.clone())));
    budget.on_pressure(|_missing| CACHE.with_borrow_mut(Vec::pop).is_some());
    for round in 0..20_u8 {
        planned.step(|planned| {
            let held = planned.alloc_filled(600_000, round).unwrap();
            assert!(CACHE.with_borrow(Vec::is_empty), "it was in the way");
            assert!(held == [round; 600_000][..]);
        });
        // In the way of the next one, or of its block.
        let cached = planned.alloc_filled(500_000, round).unwrap().into_owned();
        CACHE.with_borrow_mut(|cache| cache.push(cached));
    }
    CACHE.take();
}
