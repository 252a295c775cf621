//! The arena: against a naive model of nested scopes, and its promises one by one.

use std::alloc::Layout;
use std::cell::RefCell;
use std::ptr::NonNull;

use crate::common::{layout, ops, random_size};
use tenzor_memory::{
    Allocator, Backing, Buffer, ComputeArena, Limited, Refused, Scope, System, TensorAllocator, Tracking,
};

/// What the arena or a scope has handed out and nobody dropped: where, how much, and the byte that fills it.
#[derive(Default)]
struct Made(RefCell<Vec<(NonNull<u8>, usize, u8)>>);

impl Made {
    /// Keeps a buffer's memory in mind without its borrow, which would keep it from lists of several scopes.
    fn keep<A: Allocator>(&self, buffer: Buffer<u8, A>, byte: u8) {
        let (ptr, len, ..) = buffer.into_raw_parts();
        self.0.borrow_mut().push((ptr, len, byte));
    }

    /// To be called before that which made them ends.
    fn verify(&self) {
        for &(ptr, len, byte) in &*self.0.borrow() {
            // SAFETY: the arena or scope that handed it out has not ended, so the memory is valid and initialised.
            let bytes = unsafe { std::slice::from_raw_parts(ptr.as_ptr(), len) };
            assert!(bytes.iter().all(|&other| other == byte), "somebody else wrote here");
        }
    }
}

struct Level<'a, B: Backing> {
    scope: &'a Scope<'a, B>,
    made: &'a Made,
}

/// Opens scopes within scopes at random; in each, requests go to it and to all those around it, and to the arena. What each
/// hands out is verified whenever an inner scope has ended, and when it ends itself.
fn descend<B: Backing>(
    arena: (&ComputeArena<B>, &Made),
    outer: &[Level<'_, B>],
    rng: &mut fastrand::Rng,
    budget: &mut usize,
) {
    let start = arena.0.usage().bytes_in_use;
    let made = Made::default();
    let enter = |scope: &Scope<'_, B>| {
        let mut levels: Vec<_> = outer.iter().map(|&Level { scope, made }| Level { scope, made }).collect();
        levels.push(Level { scope, made: &made });
        while *budget > 0 && rng.u8(..) > 12 {
            *budget -= 1;
            let (size, byte) = (random_size(rng, 3000), rng.u8(..));
            match rng.u8(..) {
                0..40 if levels.len() < 7 => {
                    descend(arena, &levels, rng, budget);
                    levels.iter().for_each(|level| level.made.verify());
                }
                40..50 => arena.1.keep(arena.0.alloc_filled(size, byte).expect("memory"), byte),
                50..100 => {
                    let level = &levels[rng.usize(..levels.len())];
                    level.made.keep(level.scope.alloc_filled(size, byte).expect("memory"), byte);
                }
                100..120 => {
                    let align = 1 << rng.u32(6..=12);
                    let buffer = scope.alloc_aligned::<u8>(size, align).expect("memory").init_filled(byte);
                    assert!(buffer.as_ptr().addr().is_multiple_of(align));
                    made.keep(buffer, byte);
                }
                120..140 => drop(scope.alloc_filled(size, byte).expect("memory")),
                _ => made.keep(scope.alloc_filled(size, byte).expect("memory"), byte),
            }
            let usage = scope.usage();
            assert_eq!(usage.bytes_in_use + usage.pooled_bytes + usage.overhead_bytes, usage.reserved_bytes);
        }
        levels.iter().for_each(|level| level.made.verify());
    };
    match outer.last() {
        Some(level) => level.scope.scope(enter),
        None => arena.0.scope(enter),
    }
    arena.1.verify();
    assert!(arena.0.usage().bytes_in_use >= start);
}

#[test]
fn nested_scopes_keep_what_the_outer_ones_hand_out() {
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let ledger = Tracking::new(System);
        let mut arena = ComputeArena::with_capacity_in(rng.usize(..100_000), &ledger);
        for _ in 0..3 {
            let mut budget = ops(200_000) / 120;
            let made = Made::default();
            while budget > 0 {
                budget -= 1;
                descend((&arena, &made), &[], &mut rng, &mut budget);
            }
            made.verify();
            arena.reset();
            let usage = arena.usage();
            assert_eq!((usage.bytes_in_use, usage.overhead_bytes, usage.allocations), (0, 0, 0));
            assert_eq!((usage.pooled_bytes, usage.blocks), (usage.reserved_bytes, 1));
        }
        drop(arena);
        assert_eq!((ledger.live_blocks(), ledger.faults().len()), (0, 0));
    }
}

#[test]
fn a_second_pass_never_grows() {
    for seed in 0..200 {
        let ledger = Tracking::new(System);
        let mut arena = ComputeArena::new_in(&ledger);
        let pass = |arena: &ComputeArena<&Tracking<System>>| {
            let mut rng = fastrand::Rng::with_seed(seed);
            for _ in 0..rng.usize(1..60) {
                let (size, align) = (random_size(&mut rng, 300_000), 1 << rng.u32(6..=16));
                drop(arena.alloc_aligned::<u8>(size, align).expect("memory"));
                arena.scope(|scope| drop(scope.alloc_aligned::<u8>(size / 2, align).expect("memory")));
            }
        };
        pass(&arena);
        arena.reset();
        assert_eq!(arena.usage().blocks, 1);
        let (grants, capacity) = (ledger.grants(), arena.usage().reserved_bytes);
        for _ in 0..3 {
            pass(&arena);
            arena.reset();
        }
        assert_eq!((ledger.grants(), arena.usage().reserved_bytes), (grants, capacity), "seed {seed}");
    }
}

/// Grants blocks as little aligned as it may: each ends at a multiple of 1 MiB but for one alignment.
struct Odd;

impl Odd {
    const EVEN: usize = 1 << 20;

    fn around(block: Layout) -> Layout {
        layout(Self::EVEN + block.size(), Self::EVEN)
    }
}

// SAFETY: a part of what `System` grants, which is as large as asked and, starting one alignment before a multiple of a larger
// one, aligned as asked.
unsafe impl Backing for Odd {
    fn obtain(&self, block: Layout) -> Result<NonNull<u8>, Refused> {
        let whole = System.obtain(Self::around(block))?;
        // SAFETY: within the whole.
        Ok(unsafe { whole.add(Self::EVEN - block.align()) })
    }

    unsafe fn give_back(&self, ptr: NonNull<u8>, block: Layout) {
        // SAFETY: the whole that the block was cut from.
        unsafe { System.give_back(ptr.sub(Self::EVEN - block.align()), Self::around(block)) };
    }
}

/// Grants blocks aligned to more than they ask for.
struct Even;

// SAFETY: what `System` grants.
unsafe impl Backing for Even {
    fn obtain(&self, block: Layout) -> Result<NonNull<u8>, Refused> {
        System.obtain(layout(block.size(), Odd::EVEN))
    }

    unsafe fn give_back(&self, ptr: NonNull<u8>, block: Layout) {
        // SAFETY: obtained with this layout.
        unsafe { System.give_back(ptr, layout(block.size(), Odd::EVEN)) };
    }
}

#[test]
fn requests_are_aligned_however_the_blocks_lie() {
    let arena = ComputeArena::with_capacity_in(8 << 20, Odd);
    for align in (0..=20).map(|k| 1 << k) {
        for size in [1, 100, 5000] {
            let buffer = arena.alloc_aligned::<u8>(size, align).expect("memory");
            assert!(buffer.as_ptr().addr().is_multiple_of(align));
        }
    }
}

#[test]
fn what_a_reset_ends_stays_ended() {
    let mut arena = ComputeArena::new();
    let (first, second) = (arena.checkpoint(), arena.checkpoint());
    drop(first);
    std::mem::forget(second);
    arena.reset();
    let kept = arena.alloc_filled(1000, 1_u8).expect("memory");
    let outer = arena.checkpoint();
    arena.scope(|scope| drop(scope.alloc_filled(1000, 2_u8)));
    drop(outer.alloc_filled(1000, 3_u8));
    assert!(kept.iter().all(|&byte| byte == 1));
    assert_eq!(arena.usage().bytes_in_use, 2000);
}

#[test]
fn a_second_pass_never_grows_however_the_blocks_lie() {
    let mut arena = ComputeArena::new_in(Odd);
    let mut pass = || {
        arena.reset();
        drop(arena.alloc::<u8>(100 << 10).expect("memory"));
        drop(arena.alloc_aligned::<u8>(1 << 20, 64 << 10).expect("memory"));
        arena.usage().blocks
    };
    assert_eq!([pass(), pass(), pass()], [2, 1, 1]);
}

#[test]
fn with_capacity_takes_its_memory_at_once_and_reset_keeps_it() {
    let ledger = Tracking::new(System);
    let mut arena = ComputeArena::with_capacity_in(10_000, &ledger);
    assert!(arena.usage().reserved_bytes >= 10_000);
    for _ in 0..10 {
        drop(arena.alloc::<u8>(5000));
        drop(arena.alloc::<u8>(4900));
        arena.reset();
    }
    assert_eq!(ledger.grants(), 1);
    assert_eq!(arena.usage().peak_bytes_in_use, 9900);
    let empty = ComputeArena::new_in(&ledger);
    assert_eq!((empty.usage().reserved_bytes, ledger.grants()), (0, 1));
}

#[test]
fn dropping_a_buffer_reclaims_nothing_and_runs_destructors() {
    let arena = ComputeArena::new();
    let first = arena.alloc_filled(1000, 1_u8).expect("memory");
    let address = first.as_ptr();
    drop(first);
    assert_ne!(arena.alloc::<u8>(1000).expect("memory").as_ptr().cast(), address);
    assert_eq!(arena.usage().bytes_in_use, 2000);
    let counter = std::rc::Rc::new(());
    drop(arena.alloc_filled(10, counter.clone()));
    assert_eq!(std::rc::Rc::strong_count(&counter), 1);
}

#[test]
fn a_scope_dropped_out_of_order_or_forgotten_frees_nothing_in_use() {
    let mut arena = ComputeArena::new();
    let first = arena.checkpoint();
    let second = arena.checkpoint();
    let kept = second.alloc_filled(1000, 2_u8).expect("memory");
    drop(first);
    let third = arena.checkpoint();
    drop(third.alloc_filled(1000, 3_u8));
    drop(third);
    assert!(arena.alloc_filled(1000, 4_u8).expect("memory").iter().all(|&byte| byte == 4));
    assert!(kept.iter().all(|&byte| byte == 2));
    drop(kept);
    drop(second);
    std::mem::forget(arena.checkpoint());
    arena.scope(|scope| drop(scope.alloc_filled(1000, 5_u8)));
    arena.reset();
    assert_eq!(arena.usage().bytes_in_use, 0);
    arena.scope(|scope| drop(scope.alloc_filled(1000, 5_u8)));
    assert_eq!(arena.usage().bytes_in_use, 0, "as good as new");
}

#[test]
fn scopes_that_end_out_of_order_are_reclaimed_with_the_last_of_them() {
    let arena = ComputeArena::new();
    arena.scope(|_| {
        for _ in 0..1000 {
            // The elements of a tuple are dropped first to last.
            let scopes = (arena.checkpoint(), arena.checkpoint(), arena.checkpoint());
            drop(scopes.0.alloc_filled(1000, 1_u8));
            drop(scopes.2.alloc_filled(1000, 2_u8));
        }
    });
    assert_eq!(arena.usage().bytes_in_use, 0);
    assert_eq!(arena.usage().peak_bytes_in_use, 2000);
    // What the arena handed out between them stays.
    let scopes = (arena.checkpoint(), arena.checkpoint());
    let late = arena.alloc_filled(100, 3_u8).expect("memory");
    drop(scopes);
    assert_eq!((arena.usage().bytes_in_use, late[99]), (100, 3));
    arena.scope(|scope| drop(scope.alloc::<u8>(1000)));
    assert_eq!(arena.usage().bytes_in_use, 100);
}

#[test]
fn places_depend_on_the_requests_and_not_on_where_the_blocks_lie() {
    fn usages<B: Backing>(backing: B) -> Vec<tenzor_memory::ArenaUsage> {
        let mut arena = ComputeArena::with_capacity_in(8192, backing);
        let mut usages = Vec::new();
        for _ in 0..2 {
            drop(arena.alloc::<u8>(64));
            drop(arena.alloc_aligned::<u8>(4096, 4096));
            drop(arena.alloc::<u8>(3000));
            usages.push(arena.usage());
            arena.reset();
            let (small, large) = (layout(64, 64), layout(128, 8192));
            let block = arena.allocator().allocate(small).expect("memory");
            // SAFETY: just granted with this layout; an arena needs nothing back.
            unsafe { arena.allocator().grow(block.cast(), small, large).expect("memory") };
            usages.push(arena.usage());
            arena.reset();
        }
        usages
    }
    assert_eq!(usages(Even), usages(Odd));
    assert_eq!(usages(System), usages(Odd));
}

#[test]
fn a_request_outside_during_a_scope_holds_back_only_what_it_must() {
    let arena = ComputeArena::new();
    let outer = arena.checkpoint();
    let inner = outer.checkpoint();
    let late = arena.alloc_filled(100, 1_u8).expect("memory");
    drop(inner);
    assert_eq!(arena.usage().bytes_in_use, 100);
    drop(outer);
    assert_eq!(arena.usage().bytes_in_use, 100);
    arena.scope(|scope| drop(scope.alloc_filled(50, 2_u8)));
    assert_eq!(arena.usage().bytes_in_use, 100, "later scopes rewind in full");
    // A request of the middle scope goes with the middle scope.
    let outer = arena.checkpoint();
    let inner = outer.checkpoint();
    drop(outer.alloc_filled(30, 3_u8));
    drop(inner);
    assert_eq!(arena.usage().bytes_in_use, 130);
    drop(outer);
    assert_eq!(arena.usage().bytes_in_use, 100);
    assert!(late.iter().all(|&byte| byte == 1));
}

#[test]
fn large_requests_and_a_backing_with_little_room() {
    let arena = ComputeArena::new_in(Limited::new(System, 10 << 20));
    let first = arena.alloc_filled(6 << 20, 1_u8).expect("memory");
    // Growth by half would be over the limit; the request alone is not.
    let second = arena.alloc_filled(3 << 20, 2_u8).expect("memory");
    let third = arena.alloc_filled((1 << 20) - 64, 3_u8).expect("memory");
    let error = arena.alloc::<u8>(1 << 20).expect_err("no room");
    assert_eq!(error.in_use(), (10 << 20) - 64);
    for (buffer, byte) in [(&first, 1), (&second, 2), (&third, 3)] {
        assert!(buffer.iter().all(|&other| other == byte));
    }
}

#[test]
fn an_arena_over_a_pool_returns_its_blocks_there() {
    let alloc = TensorAllocator::new();
    for round in 0..10 {
        let arena = ComputeArena::new_in(&alloc);
        drop(arena.alloc_filled(100_000, round));
        assert!(alloc.stats().bytes_in_use > 0);
        drop(arena);
        assert_eq!(alloc.stats().bytes_in_use, 0);
    }
    assert_eq!(alloc.stats().pool_misses, 1);
}

#[test]
fn an_arena_moves_between_threads() {
    let mut arena = ComputeArena::new();
    drop(arena.alloc_filled(1000, 1_u8));
    arena.reset();
    let arena = std::thread::spawn(move || {
        drop(arena.alloc_filled(1000, 2_u8));
        arena
    });
    let arena = arena.join().expect("no panic");
    assert_eq!(arena.usage().bytes_in_use, 1000);
}
