//! Law 14: a reason survives every layer; where nothing is known, nothing is claimed.

use std::alloc::Layout;
use std::error::Error;
use std::ptr::NonNull;

use tenzor_memory::allocator_api2::alloc::{AllocError as Unit, Allocator};
use tenzor_memory::allocator_api2::vec::Vec as PoolVec;
use tenzor_memory::{
    AllocError, AllocErrorKind, Backing, Budget, Buffer, ComputeArena, Failing, FromAllocator, Limited, Obstacle,
    PoolConfig, Refused, System, TensorAllocator, Tracking,
};

const LIMIT: usize = 1 << 20;
const IN_USE: usize = 896 << 10;
const MORE: usize = 400_000;

/// A pool that has no room for `MORE` bytes.
fn full() -> (TensorAllocator<System>, Buffer<u8, TensorAllocator<System>>) {
    let alloc = TensorAllocator::with_config_in(PoolConfig::default().with_limit(Some(LIMIT)), System);
    let held = alloc.alloc_zeroed(IN_USE).expect("memory").into_owned();
    (alloc, held)
}

/// An adaptor of somebody else's, that says nothing.
struct Mute<A>(A);

// SAFETY: everything is passed on.
unsafe impl<A: Allocator> Allocator for Mute<A> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, Unit> {
        self.0.allocate(layout).map_err(|_| Unit)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's word, passed on.
        unsafe { self.0.deallocate(block, layout) };
    }
}

// SAFETY: as above.
unsafe impl<A: Backing> Backing for Mute<A> {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.0.obtain(layout).map_err(|_| Refused)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's word, passed on.
        unsafe { self.0.give_back(block, layout) };
    }
}

/// The limit of 1 MiB stood in the way, with 896 KiB in use.
fn check(error: AllocError, layer: &str) {
    assert_eq!(error.kind(), AllocErrorKind::OverLimit, "{layer}: {error}");
    assert_eq!(error.requested(), MORE, "{layer}: {error}");
    assert_eq!((error.limit(), error.in_use()), (Some(LIMIT), IN_USE), "{layer}: {error}");
    let text = error.to_string();
    assert!(text.contains("over the limit of 1 MiB") && text.contains("896 KiB in use"), "{layer}: {text}");
}

/// As [`check`], of an error that came from below.
fn check_source(error: AllocError, layer: &str) {
    check(error, layer);
    let source = error.source().and_then(|source| source.downcast_ref::<Obstacle>());
    assert_eq!(
        source.map(|source| (source.kind(), source.limit())),
        Some((AllocErrorKind::OverLimit, Some(LIMIT))),
        "{layer}"
    );
}

#[test]
fn law_14_a_reason_survives_every_layer() {
    let (alloc, _held) = full();
    check(alloc.alloc::<u8>(MORE).unwrap_err(), "alloc");
    check(Buffer::<u8, _>::zeroed_in(MORE, alloc.clone()).unwrap_err(), "Buffer over a handle");
    check(Buffer::<u8, _>::uninit_in(MORE, &alloc).unwrap_err(), "Buffer over a borrow");
    check(Buffer::<u8, _>::filled_in(MORE, 1, Mute(&alloc)).unwrap_err(), "an adaptor of somebody else's");

    let mut losses: PoolVec<u8, _> = PoolVec::new_in(alloc.allocator());
    assert!(losses.try_reserve_exact(MORE).is_err());
    check(AllocError::last().expect("a reason"), "Vec");
    assert!(alloc.obtain(Layout::array::<u8>(MORE).expect("a layout")).is_err());
    check(AllocError::last().expect("a reason"), "Backing");

    check_source(TensorAllocator::new_in(alloc.clone()).alloc::<u8>(MORE).unwrap_err(), "a pool over a pool");
    let third = TensorAllocator::new_in(TensorAllocator::new_in(alloc.clone()));
    check_source(third.alloc::<u8>(MORE).unwrap_err(), "a pool over two");
    check_source(
        TensorAllocator::new_in(Mute(alloc.clone())).alloc::<u8>(MORE).unwrap_err(),
        "a backing of somebody else's",
    );
    let adaptors = Failing::every(Tracking::new(FromAllocator(Mute(alloc.clone()))), 0);
    check_source(TensorAllocator::new_in(&adaptors).alloc::<u8>(MORE).unwrap_err(), "adaptors");
    let arena = ComputeArena::new_in(alloc.clone());
    check_source(arena.alloc::<u8>(MORE).unwrap_err(), "an arena over a pool");
    check_source(arena.scope(|scope| scope.alloc::<u8>(MORE).map(|_| ()).unwrap_err()), "a scope");
    check_source(TensorAllocator::new_in(&arena).alloc::<u8>(MORE).unwrap_err(), "a pool over an arena over a pool");
}

#[cfg(feature = "plan")]
#[test]
fn law_14_a_reason_survives_planned_steps() {
    use tenzor_memory::PlannedAllocator;

    let (alloc, held) = full();
    let planned = PlannedAllocator::new(alloc.clone());
    for _ in 0..4 {
        planned.step(|planned| {
            check(planned.alloc::<u8>(MORE).unwrap_err(), "a step");
            check(Buffer::<u8, _>::zeroed_in(MORE, planned).unwrap_err(), "Buffer in a step");
        });
    }
    drop(held);
    // It follows a plan, and departs from it.
    for _ in 0..4 {
        planned.step(|planned| drop(planned.alloc::<u8>(900_000)));
    }
    planned.step(|planned| {
        let _held = planned.alloc::<u8>(900_000);
        assert_eq!(planned.alloc::<u8>(MORE).unwrap_err().kind(), AllocErrorKind::OverLimit);
    });
}

#[test]
fn law_14_a_limit_below_the_pool_is_told_with_what_is_granted_there() {
    let alloc = TensorAllocator::new_in(Limited::new(System, 1 << 18));
    let _held = alloc.alloc::<u8>(200_000).expect("memory");
    let error = alloc.alloc::<u8>(100_000).unwrap_err();
    assert_eq!(error.kind(), AllocErrorKind::OverLimit);
    assert_eq!((error.limit(), error.in_use()), (Some(1 << 18), 208 << 10));
    assert_eq!(
        error.to_string(),
        "cannot allocate 100000 bytes (97.7 KiB) aligned to 64, rounded to 104 KiB: over the limit of 256 KiB, with 208 KiB in use and 0 B pooled; \
         who asked there has 208 KiB in use and 0 B pooled"
    );
    let error = alloc.alloc::<u8>(300_000).unwrap_err();
    assert_eq!(error.kind(), AllocErrorKind::NeverFits, "{error}");
}

#[test]
fn law_14_where_nothing_is_known_nothing_is_claimed() {
    /// Refuses, and has no reason.
    struct Never;
    // SAFETY: it grants nothing.
    unsafe impl Allocator for Never {
        fn allocate(&self, _: Layout) -> Result<NonNull<[u8]>, Unit> {
            Err(Unit)
        }

        unsafe fn deallocate(&self, _: NonNull<u8>, _: Layout) {}
    }

    // What another allocator said before is not what this one says.
    let (alloc, _held) = full();
    drop(Buffer::<u8, _>::zeroed_in(MORE, alloc.clone()));
    assert!(AllocError::last().is_some());
    let error = Buffer::<u8, _>::zeroed_in(MORE, Never).unwrap_err();
    assert_eq!((error.kind(), error.limit()), (AllocErrorKind::BackingRefused, None));
    assert_eq!(error.to_string(), "cannot allocate 400000 bytes (390.6 KiB) aligned to 64: the backing refused");
    assert!(error.source().is_none());
    assert_eq!(AllocError::last(), None);

    drop(Buffer::<u8, _>::zeroed_in(MORE, alloc.clone()));
    let error = TensorAllocator::new_in(FromAllocator(Never)).alloc::<u8>(MORE).unwrap_err();
    assert!(error.source().is_none(), "{error}");
    let there = std::thread::spawn(AllocError::last).join();
    assert_eq!(there.expect("no panic"), None, "it is the calling thread's");
}

#[test]
fn messages_tell_numbers_apart_and_names_that_are_cut() {
    let pool = |limit| TensorAllocator::with_config_in(PoolConfig::default().with_limit(Some(limit)), System);
    let text = |limit, bytes| pool(limit).alloc::<u8>(bytes).unwrap_err().to_string();
    assert_eq!(
        text(0, 1),
        "cannot allocate 1 byte aligned to 64, rounded to 64 B: it can never fit the limit of 0 B, with 0 B in use and 0 B pooled"
    );
    assert_eq!(
        text(4096, 4100),
        "cannot allocate 4100 bytes (4.0 KiB) aligned to 64, rounded to 4.1 KiB: it can never fit the limit of 4096 bytes, \
         with 0 B in use and 0 B pooled"
    );
    let alloc = pool(999_950);
    let _held = alloc.alloc::<u8>(999_936).unwrap();
    assert_eq!(
        alloc.alloc::<u8>(100).unwrap_err().to_string(),
        "cannot allocate 100 bytes aligned to 64, rounded to 104 B: over the limit of 999950 bytes, \
         with 999936 bytes in use and 0 B pooled"
    );

    let budget = Budget::new_in("the inference workers of resnet", 1000, System);
    let error = TensorAllocator::new_in(budget).alloc::<u8>(2000).unwrap_err();
    assert!(error.to_string().contains("the limit of 1000 B of the inference workers o…, with"), "{error}");
    let exactly = Budget::new_in("the inference workers o", 1000, System);
    let error = TensorAllocator::new_in(exactly).alloc::<u8>(2000).unwrap_err();
    assert!(error.to_string().contains("of the inference workers o, with"), "{error}");
}

#[test]
fn what_was_refused_last_can_be_taken() {
    let (alloc, _held) = full();
    let mut losses: PoolVec<u8, _> = PoolVec::new_in(alloc.allocator());
    assert!(losses.try_reserve_exact(MORE).is_err());
    assert_eq!(AllocError::take_last().and_then(|error| error.limit()), Some(LIMIT));
    assert_eq!(AllocError::last(), None);
    assert!(losses.try_reserve(usize::MAX).is_err());
    assert_eq!(AllocError::last(), None, "nobody was asked");
}
