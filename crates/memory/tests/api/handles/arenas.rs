//! An arena behind a handle is reset if nothing of it is alive, and only then.

use std::alloc::Layout;
use std::cell::RefCell;
use std::mem;
use std::ptr::NonNull;

use tenzor_memory::allocator_api2::vec::Vec as ArenaVec;
use tenzor_memory::{
    AllocErrorKind, Allocator, Backing, Buffer, ComputeArena, DefaultBacking, Handle, Limited, Locked, Refused, System,
    Tracking,
};

/// The same tests of handles for one thread and for many.
macro_rules! of_both {
    ($($name:ident: $body:block)*) => {
        mod handle {
            use super::*;
            type Owner<B = DefaultBacking> = Handle<ComputeArena<B>>;
            $(#[test] fn $name() $body)*
        }

        mod locked {
            use super::*;
            type Owner<B = DefaultBacking> = Locked<ComputeArena<B>>;
            $(#[test] fn $name() $body)*
        }
    };
}

of_both! {
    what_is_alive_keeps_an_arena_from_being_reset: {
        let arena = Owner::new(ComputeArena::new());
        let other = arena.clone();
        let borrowed = arena.alloc_filled(10, 1_u32).unwrap();
        let owned = other.alloc_filled(20, 2_u32).unwrap().into_owned();
        let made = Buffer::<u32, _>::filled_in(30, 3, arena.clone()).unwrap();
        let mut vec = ArenaVec::new_in(&arena);
        vec.extend(0..40);
        let refusal = other.reset().unwrap_err();
        assert_eq!(refusal.to_string(), "the arena is in use: 4 of its buffers are alive");
        assert_eq!(arena.shrink_to(0).unwrap_err(), refusal);
        assert!(borrowed == [1; 10] && owned == [2; 20] && made == [3; 30] && vec.iter().copied().eq(0..40));
        drop(vec);
        assert_eq!(arena.reset().unwrap_err().buffers(), 3);
        drop((borrowed, owned));
        assert_eq!(arena.reset().unwrap_err().buffers(), 1);
        drop(made);
        let empty = ArenaVec::<u8, _>::new_in(arena.clone());
        arena.reset().unwrap();
        assert_eq!(arena.usage().bytes_in_use, 0);
        drop(empty);
    }

    what_has_no_size_is_in_nobodys_way: {
        let arena = Owner::new(ComputeArena::new());
        let nothing = arena.alloc::<u8>(0).unwrap().into_owned();
        let units = arena.alloc_filled(10, ()).unwrap().into_owned();
        arena.reset().unwrap();
        drop((nothing, units));
        arena.reset().unwrap();
        // From a size to none, and from none to a size.
        let layout = |size| Layout::from_size_align(size, 64).unwrap();
        let block = arena.allocate(layout(64)).unwrap().cast::<u8>();
        // SAFETY: each block is that of the last layout.
        unsafe {
            let block = arena.shrink(block, layout(64), layout(0)).unwrap().cast::<u8>();
            arena.reset().unwrap();
            let block = arena.grow(block, layout(0), layout(128)).unwrap().cast::<u8>();
            assert_eq!(arena.reset().unwrap_err().buffers(), 1);
            arena.deallocate(block, layout(128));
        }
        arena.reset().unwrap();
    }

    what_is_taken_apart_counts_as_alive: {
        let arena = Owner::new(ComputeArena::new());
        let (ptr, len, alignment, owner) = arena.alloc_filled(1000, 7_u8).unwrap().into_owned().into_raw_parts();
        assert_eq!(arena.reset().unwrap_err().buffers(), 1);
        drop(arena);
        // SAFETY: the parts of just now.
        let buffer = unsafe { Buffer::from_raw_parts(ptr, len, alignment, owner) };
        assert!(buffer == [7; 1000]);
        let arena = buffer.allocator().clone();
        mem::forget(arena.alloc::<u8>(10).unwrap());
        drop(buffer);
        assert_eq!(arena.reset().unwrap_err().buffers(), 1, "for ever");
    }

    buffers_outlive_handles_and_handles_buffers: {
        let ledger = Tracking::new(System);
        let arena = Owner::new(ComputeArena::new_in(&ledger));
        let mut buffer = arena.alloc_filled(1000, 1_u8).unwrap().into_owned();
        let empty = arena.alloc::<u8>(0).unwrap().into_owned();
        drop(arena);
        assert!(!ledger.is_empty());
        buffer.fill(2);
        assert_eq!(buffer.allocator().usage().bytes_in_use, 1000);
        let arena = buffer.allocator().clone();
        drop(buffer);
        arena.reset().unwrap();
        drop(arena);
        assert!(!ledger.is_empty(), "one that has no memory of it owns a handle");
        drop(empty);
        assert!(ledger.is_empty() && ledger.faults().is_empty());
    }

    vectors_grow_in_place: {
        let arena = Owner::new(ComputeArena::with_capacity(1 << 20));
        let mut values = ArenaVec::with_capacity_in(16, arena.clone());
        values.push(0_u64);
        let start = values.as_ptr();
        values.extend(1..10_000);
        assert_eq!(values.as_ptr(), start);
        let other = arena.alloc_filled(1, 1_u8).unwrap().into_owned();
        values.extend(10_000..20_000);
        assert!(values.as_ptr() != start && values.iter().copied().eq(0..20_000));
        let layout = |size| Layout::from_size_align(size, 64).unwrap();
        let block = arena.allocate(layout(64)).unwrap().cast::<u8>();
        // SAFETY: granted with this layout; then each block is that of the last one.
        unsafe {
            block.write_bytes(1, 64);
            let grown = arena.grow_zeroed(block, layout(64), layout(128)).unwrap().cast::<u8>();
            assert_eq!(grown, block);
            assert_eq!((grown.add(63).read(), grown.add(64).read(), grown.add(127).read()), (1, 0, 0));
            let last = arena.allocate_zeroed(layout(64)).unwrap().cast::<u8>();
            assert_eq!(last.read(), 0);
            last.write_bytes(2, 64);
            let moved = arena.grow_zeroed(grown, layout(128), layout(256)).unwrap().cast::<u8>();
            assert_eq!((moved.add(63).read(), moved.add(64).read(), moved.add(255).read()), (1, 0, 0));
            arena.deallocate(moved, layout(256));
            arena.deallocate(last, layout(64));
        }
        drop((values, other));
        arena.reset().unwrap();
    }

    law_14_reasons_come_through: {
        let arena = Owner::new(ComputeArena::new_in(Limited::new(System, 1 << 20)));
        let error = arena.alloc::<u8>(2 << 20).unwrap_err();
        assert_eq!((error.kind(), error.limit()), (AllocErrorKind::NeverFits, Some(1 << 20)));
        let error = Buffer::<u8, _>::zeroed_in(2 << 20, arena.clone()).unwrap_err();
        assert_eq!((error.kind(), error.limit()), (AllocErrorKind::NeverFits, Some(1 << 20)));
        assert_eq!(arena.alloc::<u64>(usize::MAX).unwrap_err().kind(), AllocErrorKind::NeverFits);
        arena.reset().unwrap();
    }
}

#[test]
fn what_is_requested_of_a_handle_outlives_an_open_scope() {
    let arena = Handle::new(ComputeArena::new());
    let kept = arena
        .scope(|scratch| {
            let inner = scratch.alloc_filled(100, 1_u32)?;
            let kept = arena.alloc_filled(100, 2_u32)?.into_owned();
            let refusal = arena.clone().reset().unwrap_err();
            assert_eq!(refusal.buffers(), 1);
            drop(inner);
            Ok::<_, tenzor_memory::AllocError>(kept)
        })
        .unwrap();
    let next = arena.alloc_filled(100, 3_u32).unwrap();
    assert!(kept == [2; 100] && next == [3; 100]);
    drop((kept, next));
    arena
        .scope(|_| {
            assert_eq!(arena.reset().unwrap_err().to_string(), "the arena is in use: a scope of it is open");
            Ok::<_, tenzor_memory::AllocError>(())
        })
        .unwrap();
    arena.reset().unwrap();
}

/// A backing that comes back to the arena above it, which it must not do when something is given back, but which must do no harm.
#[derive(Default)]
struct ComesBack(RefCell<Option<Handle<ComputeArena<&'static ComesBack>>>>);

// SAFETY: `System`'s promises.
unsafe impl Backing for ComesBack {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        if let Some(arena) = &*self.0.borrow() {
            assert!(arena.reset().is_err(), "a request is under way, or a reset");
        }
        System.obtain(layout)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        if let Some(arena) = &*self.0.borrow() {
            assert!(arena.reset().is_err() && arena.alloc::<u8>(10).is_err());
            assert_eq!(arena.usage().reserved_bytes, 0);
        }
        // SAFETY: it came from there.
        unsafe { System.give_back(block, layout) };
    }
}

#[test]
fn a_backing_that_comes_back_is_refused() {
    let backing = Box::into_raw(Box::<ComesBack>::default());
    // SAFETY: it is there until it is taken back below.
    let there: &'static ComesBack = unsafe { &*backing };
    let arena = Handle::new(ComputeArena::new_in(there));
    there.0.replace(Some(arena.clone()));
    drop(arena.alloc::<u8>(100_000).unwrap());
    drop(arena.alloc::<u8>(100_000).unwrap());
    arena.reset().unwrap();
    assert_eq!(arena.usage().blocks, 1);
    assert!(arena.shrink_to(0).unwrap() > 0);
    drop(there.0.take());
    drop(arena);
    // SAFETY: nobody knows of it any more.
    drop(unsafe { Box::from_raw(backing) });
}
