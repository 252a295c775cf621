//! Panics in the user's code: nothing leaks, nothing is dropped twice, everything stays usable.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tenzor_memory::{ComputeArena, System, TensorAllocator, Tracking};

/// Counts the values alive.
struct Counted<'a>(&'a Cell<isize>);

impl<'a> Counted<'a> {
    fn new(alive: &'a Cell<isize>) -> Self {
        alive.set(alive.get() + 1);
        Self(alive)
    }
}

impl Clone for Counted<'_> {
    fn clone(&self) -> Self {
        assert!(self.0.get() < 50, "enough clones");
        Self::new(self.0)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fn quietly<R>(f: impl FnOnce() -> R) -> std::thread::Result<R> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let result = catch_unwind(AssertUnwindSafe(f));
    std::panic::set_hook(hook);
    result
}

/// One test, as the panic hook is the process's.
#[test]
fn panics_leak_nothing() {
    let ledger = Tracking::new(System);
    let alloc = TensorAllocator::new_in(&ledger);
    let alive = Cell::new(0);

    // In `from_fn`, at every element.
    for at in 0..20 {
        let result = quietly(|| {
            alloc.alloc_from_fn(20, |i| {
                assert!(i != at, "element {at}");
                Counted::new(&alive)
            })
        });
        assert!(result.is_err());
        assert_eq!((alive.get(), alloc.stats().bytes_in_use), (0, 0));
    }

    // In a clone.
    assert!(quietly(|| alloc.alloc_filled(100, Counted::new(&alive))).is_err());
    assert_eq!((alive.get(), alloc.stats().bytes_in_use), (0, 0));

    // In the destructor of an element: the others are dropped, the memory returns.
    struct Bomb<'a>(Counted<'a>, bool);
    impl Drop for Bomb<'_> {
        fn drop(&mut self) {
            let _ = &self.0;
            assert!(!self.1, "a bomb");
        }
    }
    let bombs = alloc.alloc_from_fn(20, |i| Bomb(Counted::new(&alive), i == 7)).expect("memory");
    assert_eq!(alive.get(), 20);
    assert!(quietly(|| drop(bombs)).is_err());
    assert_eq!((alive.get(), alloc.stats().bytes_in_use), (0, 0));

    // In a scope: it is rewound all the same, and the arena goes on.
    let arena = ComputeArena::with_capacity_in(1 << 20, &ledger);
    let outer = arena.alloc_filled(10, 1_u8).expect("memory");
    let result = quietly(|| {
        arena.scope(|scope| {
            let _inner = scope.alloc_from_fn(10, |_| Counted::new(&alive)).expect("memory");
            panic!("in a scope");
        })
    });
    assert!(result.is_err());
    assert_eq!((alive.get(), arena.usage().bytes_in_use), (0, 10));
    arena.scope(|scope| assert_eq!(scope.alloc_filled(10, 2_u8).map(|buffer| buffer[9]), Ok(2)));
    assert!(outer.iter().all(|&byte| byte == 1));
    drop(outer);

    drop((alloc, arena));
    assert_eq!((ledger.live_blocks(), ledger.faults().len()), (0, 0));
}
