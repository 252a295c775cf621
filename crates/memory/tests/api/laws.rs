//! The laws of the design, each with a test named after it. Randomised checks of the same laws: `model.rs`, `threads.rs`.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use crate::common::{capacity, layout};
use tenzor_memory::allocator_api2::alloc::Allocator;
use tenzor_memory::{
    AllocErrorKind, ArenaUsage, Backing, Buffer, BufferPool, ComputeArena, Failing, Limited, PoolConfig, Refused,
    Stats, System, TensorAllocator, Tracking,
};

#[test]
fn law_01_large_enough_aligned_and_disjoint() {
    for classes in [1, 2, 4, 8, 64] {
        let config = PoolConfig::default().with_classes_per_bucket(classes).with_max_buffers_per_bucket(1000);
        let ledger = Tracking::new(System);
        let pool = BufferPool::with_config_in(config, &ledger);
        // Every class edge: free a buffer of each size around it, then ask for each again.
        for exponent in 6..16 {
            for step in 0..classes {
                let edge = (1_usize << exponent) + (step << exponent) / classes;
                for (first, second) in [(edge - 1, edge), (edge, edge + 1), (edge, edge - 1), (edge + 1, edge)] {
                    let (first, second) = (layout(first, 1), layout(second, 1));
                    let ptr = pool.get(first).expect("memory");
                    // SAFETY: just got with this layout.
                    unsafe { pool.put(ptr, first) };
                    let ptr = pool.get(second).expect("memory");
                    let block = ledger.blocks().into_iter().find(|block| block.0 == ptr.addr().get()).expect("a block");
                    assert!(block.1.size() >= second.size(), "{second:?} got {block:?}");
                    assert_eq!(block.1.size(), capacity(second.size(), classes));
                    // SAFETY: just got with this layout.
                    unsafe { pool.put(ptr, second) };
                }
            }
        }
    }
}

#[test]
fn law_01_65_and_128_share_a_bucket_of_sizes_but_never_a_buffer_too_small() {
    for classes in [1, 8] {
        let ledger = Tracking::new(System);
        let alloc = TensorAllocator::with_config_in(PoolConfig::default().with_classes_per_bucket(classes), &ledger);
        alloc.free(alloc.alloc::<u8>(65).expect("memory"));
        let large = alloc.alloc_filled(128, 7_u8).expect("memory");
        let block = ledger.blocks().into_iter().find(|block| block.0 == large.as_ptr().addr()).expect("a block");
        assert!(block.1.size() >= 128);
        alloc.free(alloc.alloc::<u8>(64).expect("memory"));
        assert_eq!(alloc.alloc_filled(127, 1_u8).expect("memory").len(), 127);
    }
}

#[test]
fn law_01_alignment_is_64_or_the_larger_one_asked_for() {
    #[repr(align(256))]
    struct Wide(#[allow(dead_code)] u8);

    let alloc = TensorAllocator::new();
    let mut arena = ComputeArena::new();
    for round in 0..3 {
        for size in [1, 63, 64, 65, 1000, 4096, 100_000] {
            assert!(alloc.alloc::<u8>(size).expect("memory").as_ptr().addr().is_multiple_of(64));
            assert!(arena.alloc::<u8>(size).expect("memory").as_ptr().addr().is_multiple_of(64));
            for align in [1, 64, 128, 4096, 1 << 21] {
                let buffer = alloc.alloc_aligned::<u8>(size, align).expect("memory");
                assert!(buffer.as_ptr().addr().is_multiple_of(align.max(64)), "round {round}");
                assert_eq!(buffer.alignment(), align.max(64));
                let buffer = arena.alloc_aligned::<u8>(size, align).expect("memory");
                assert!(buffer.as_ptr().addr().is_multiple_of(align.max(64)), "round {round}");
            }
        }
        assert!(alloc.alloc::<Wide>(3).expect("memory").as_ptr().addr().is_multiple_of(256));
        arena.reset();
    }
    let wide = TensorAllocator::with_config(PoolConfig::default().with_alignment(4096));
    for count in [0, 1] {
        let buffer = wide.alloc::<u8>(count).expect("memory");
        assert!(buffer.as_ptr().addr().is_multiple_of(4096) && buffer.alignment() == 4096);
    }
    assert_eq!(alloc.stats().bytes_in_use, 0);
}

#[test]
fn law_02_the_caps_hold_at_every_moment() {
    let config = PoolConfig::default().with_max_pool_size(10_000).with_max_buffers_per_bucket(3);
    let alloc = TensorAllocator::with_config(config);
    for count in 1..40 {
        let buffers: Vec<_> = (0..count).map(|i| alloc.alloc::<u8>(300 * (i % 7) + count)).collect();
        for buffer in buffers {
            drop(buffer);
            let stats = alloc.stats();
            assert!(stats.pooled_bytes <= 10_000);
            assert!(stats.buckets.iter().all(|row| row.pooled_buffers <= 3));
        }
    }
    // Larger than the whole pool: not kept, and nothing else goes for it.
    let pooled = alloc.stats().pooled_bytes;
    assert!(pooled > 0);
    drop(alloc.alloc::<u8>(10_001));
    assert_eq!(alloc.stats().pooled_bytes, pooled);
}

#[test]
fn law_02_what_has_been_idle_longest_goes_first_in_whatever_bucket() {
    let alloc = TensorAllocator::with_config(PoolConfig::default().with_max_pool_size(8 << 10));
    let (small, large) = (alloc.alloc::<u8>(1 << 10), alloc.alloc::<u8>(4 << 10));
    let addresses = [&small, &large].map(|buffer| buffer.as_ref().expect("memory").as_ptr());
    drop(small);
    drop(large);
    drop(alloc.alloc::<u8>(3 << 10)); // Exactly fills the pool.
    assert_eq!(alloc.stats().pooled_bytes, 8 << 10);
    drop(alloc.alloc::<u8>(512)); // Pushes the 1 KiB out, the oldest.
    let small = alloc.alloc::<u8>(1 << 10).expect("memory");
    assert_eq!(alloc.stats().pool_misses, 5, "the 1 KiB buffer had gone back");
    assert_eq!(alloc.alloc::<u8>(4 << 10).expect("memory").as_ptr(), addresses[1], "the 4 KiB buffer stayed");
    drop(small);
}

#[test]
fn law_02_a_limit_counts_in_use_and_pooled_and_is_checked_before_memory_is_taken() {
    let ledger = Tracking::new(System);
    let alloc = TensorAllocator::with_config_in(PoolConfig::default().with_limit(Some(1 << 20)), &ledger);
    for size in [100_000, 200_000, 400_000, 800_000, 1_000_000, 64, 900_000] {
        let kept = alloc.alloc::<u8>(size / 3);
        drop(alloc.alloc::<u8>(size));
        drop(kept);
        assert!(alloc.stats().reserved_bytes <= 1 << 20);
    }
    assert!(ledger.peak_bytes() <= 1 << 20);
}

#[test]
fn law_03_under_pressure_the_pool_yields_first() {
    // Over the limit: the pool gives back as much as is needed, the oldest first.
    let alloc = TensorAllocator::with_config_in(PoolConfig::default().with_limit(Some(1 << 20)), System);
    let (old, new) = (alloc.alloc::<u8>(512 << 10), alloc.alloc::<u8>(256 << 10));
    drop(old);
    drop(new);
    assert!(alloc.alloc::<u8>(640 << 10).is_ok());
    assert_eq!(alloc.stats().released, 1);

    // The backing refuses: everything pooled goes, and the request is tried once more.
    let backing = Limited::new(System, 1 << 20);
    let alloc = TensorAllocator::new_in(&backing);
    drop(alloc.alloc::<u8>(512 << 10));
    drop(alloc.alloc::<u8>(256 << 10));
    assert!(alloc.alloc::<u8>(1 << 20).is_ok());

    // Tried once more, also where nothing was pooled …
    let alloc = TensorAllocator::new_in(Failing::once(System, 1));
    assert!(alloc.alloc::<u8>(100).is_ok());
    // … and not twice.
    let backing = Failing::from(System, 3);
    let alloc = TensorAllocator::new_in(&backing);
    drop(alloc.alloc::<u8>(100));
    let kept = alloc.alloc::<u8>(200).expect("the second request");
    let error = alloc.alloc::<u8>(300).expect_err("refused twice");
    assert_eq!(backing.requests(), 4);
    assert_eq!(error.kind(), AllocErrorKind::BackingRefused);
    assert_eq!((error.requested(), error.in_use(), error.pooled(), error.limit()), (300, 208, 0, None));
    assert_eq!(
        error.to_string(),
        "cannot allocate 300 bytes aligned to 64, rounded to 320 B: the backing refused, with 208 B in use and 0 B pooled"
    );
    drop(kept);
    assert_eq!(alloc.stats().failures, 1);
}

#[test]
fn law_03_an_error_says_what_stood_in_the_way() {
    let alloc = TensorAllocator::with_config(PoolConfig::default().with_limit(Some(3 << 19)));
    let kept = alloc.alloc::<u8>(1 << 20).expect("memory");
    drop(alloc.alloc::<u8>(1 << 10));
    let error = alloc.alloc::<f32>(1 << 18).expect_err("over the limit");
    assert_eq!(error.kind(), AllocErrorKind::OverLimit);
    assert_eq!(
        error.to_string(),
        "cannot allocate 1048576 bytes (1 MiB) aligned to 64: over the limit of 1.5 MiB, with 1 MiB in use and 1 KiB pooled"
    );
    assert_eq!(alloc.stats().pooled_bytes, 1 << 10, "a hopeless request costs nobody the pool");
    let error = alloc.alloc::<f32>(1 << 20).expect_err("larger than the limit");
    assert_eq!(error.kind(), AllocErrorKind::NeverFits);
    assert!(error.to_string().contains("it can never fit the limit of 1.5 MiB"), "{error}");
    let error = alloc.alloc::<f64>(usize::MAX).expect_err("overflows");
    assert_eq!((error.kind(), error.requested()), (AllocErrorKind::NeverFits, usize::MAX));
    assert_eq!(
        error.to_string(),
        "cannot allocate more bytes than an address can count aligned to 64: no buffer can have this size and alignment"
    );
    drop(kept);
    // Where rounding is what does not fit, it is named.
    let alloc = TensorAllocator::with_config(PoolConfig::default().with_limit(Some(1000)));
    let error = alloc.alloc::<u8>(1001).expect_err("above the limit");
    assert_eq!((error.kind(), error.rounded()), (AllocErrorKind::NeverFits, Some(1024)));
    assert_eq!(
        error.to_string(),
        "cannot allocate 1001 bytes aligned to 64, rounded to 1 KiB: it can never fit the limit of 1000 B, \
         with 0 B in use and 0 B pooled"
    );
}

#[test]
fn law_04_requested_rounded_reserved() {
    let ledger = Tracking::new(System);
    let alloc = TensorAllocator::new_in(&ledger);
    let check = || {
        let Stats { bytes_in_use, bytes_in_use_rounded, pooled_bytes, overhead_bytes, reserved_bytes, .. } =
            alloc.stats();
        assert!(bytes_in_use <= bytes_in_use_rounded && bytes_in_use_rounded <= reserved_bytes);
        assert_eq!(bytes_in_use_rounded + pooled_bytes + overhead_bytes, reserved_bytes);
        assert_eq!(ledger.live_bytes(), reserved_bytes);
    };
    let first = alloc.alloc::<f32>(1001);
    check();
    let second = alloc.alloc_zeroed::<f64>(77);
    check();
    drop(first);
    check();
    alloc.trim(10);
    check();
    drop(second);
    check();
    let Stats { allocations, deallocations, bytes_allocated, bytes_freed, peak_bytes_in_use, .. } = alloc.stats();
    assert_eq!((allocations, deallocations, bytes_allocated, bytes_freed), (2, 2, 4620, 4620));
    assert_eq!(peak_bytes_in_use, 4620);

    let arena = ComputeArena::new_in(&ledger);
    for size in [1, 100, 70_000, 3, 1 << 20, 64] {
        let _buffer = arena.alloc::<u8>(size).expect("memory");
        let ArenaUsage { bytes_in_use, reserved_bytes, pooled_bytes, overhead_bytes, .. } = arena.usage();
        assert_eq!(bytes_in_use + pooled_bytes + overhead_bytes, reserved_bytes);
    }
}

/// Grants zeroed memory that is none: whoever reads zeros from it has written them.
struct Liar;

// SAFETY: grants what `System` grants; that it is not zero is what the test below looks at, through bytes only.
unsafe impl Backing for Liar {
    fn obtain(&self, layout: std::alloc::Layout) -> Result<NonNull<u8>, Refused> {
        System.obtain(layout)
    }

    fn obtain_zeroed(&self, layout: std::alloc::Layout) -> Result<NonNull<u8>, Refused> {
        let block = System.obtain(layout)?;
        // SAFETY: just granted.
        unsafe { block.write_bytes(0xAB, layout.size()) };
        Ok(block)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: std::alloc::Layout) {
        // SAFETY: the caller's word, passed on.
        unsafe { System.give_back(block, layout) };
    }
}

#[test]
fn law_05_recycled_memory_is_never_presented_as_initialised() {
    let alloc = TensorAllocator::new();
    drop(alloc.alloc_filled(1000, 0xFF_u8));
    let uninit: Buffer<MaybeUninit<u8>, _> = alloc.alloc(1000).expect("memory");
    drop(uninit);
    assert!(alloc.alloc_zeroed::<u8>(1000).expect("memory").iter().all(|&byte| byte == 0));
    drop(alloc.alloc_filled(1024, 0xFF_u8));
    assert!(alloc.alloc_zeroed::<u8>(1024).expect("memory").iter().all(|&byte| byte == 0), "zero to the last byte");

    let mut arena = ComputeArena::new();
    drop(arena.alloc_filled(1000, 0xFF_u8));
    arena.reset();
    assert!(arena.alloc_zeroed::<u8>(1000).expect("memory").iter().all(|&byte| byte == 0));
}

#[test]
fn law_05_memory_known_to_be_zero_is_not_zeroed_again() {
    // Fresh from a backing that grants zeroed memory.
    let alloc = TensorAllocator::new_in(Liar);
    let fresh = alloc.alloc_zeroed::<u8>(1000).expect("memory");
    assert!(fresh.iter().all(|&byte| byte == 0xAB));
    drop(fresh);
    assert!(alloc.alloc_zeroed::<u8>(1000).expect("memory").iter().all(|&byte| byte == 0), "recycled");

    // The same for what a buffer gains by moving to memory fresh from the backing.
    let fresh = TensorAllocator::new_in(Liar);
    let (ptr, ..) = fresh.alloc_filled(100, 1_u8).expect("memory").into_raw_parts();
    // SAFETY: the parts of a buffer of this allocator.
    unsafe {
        let grown = fresh.grow_zeroed(ptr, layout(100, 64), layout(1000, 64)).expect("memory");
        assert_eq!(grown.as_ref()[..100], [1; 100]);
        assert_eq!(grown.as_ref()[100..], [0xAB; 900]);
        Allocator::deallocate(&fresh, grown.cast(), layout(1000, 64));
    }

    // Zeroed when it was freed: what is changed behind the pool's back shows that it did not write again.
    let alloc = TensorAllocator::with_config(PoolConfig::default().with_zero_on_free(true));
    let buffer = alloc.alloc_filled(1000, 0xFF_u8).expect("memory");
    let (ptr, ..) = buffer.into_raw_parts();
    // SAFETY: the parts of a buffer of this allocator; the memory stays the pool's, which keeps it mapped.
    unsafe {
        Allocator::deallocate(&alloc, ptr, layout(1000, 64));
        assert_eq!(std::slice::from_raw_parts(ptr.as_ptr(), 1000), [0; 1000]);
        ptr.write(1);
    }
    let again = alloc.alloc_zeroed::<u8>(1000).expect("memory");
    assert_eq!(again.as_ptr(), ptr.as_ptr());
    assert_eq!(again.iter().map(|&byte| usize::from(byte)).sum::<usize>(), 1);
}

#[test]
fn law_06_send_and_sync_where_that_is_sound() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<TensorAllocator>();
    sync::<TensorAllocator>();
    send::<BufferPool>();
    sync::<BufferPool>();
    send::<Buffer<f32, TensorAllocator>>();
    sync::<Buffer<f32, TensorAllocator>>();
    send::<Buffer<f32, &TensorAllocator>>();
    send::<ComputeArena>();
    sync::<Tracking<Limited<Failing<System>>>>();
    // What must not be `Send` or `Sync` stands among the misuses that do not compile (`misuse/`).

    let alloc = TensorAllocator::new();
    let buffer = alloc.alloc_filled(1000, 1.0_f32).expect("memory");
    std::thread::scope(|scope| scope.spawn(move || drop(buffer)).join()).expect("freed on another thread");
    assert_eq!((alloc.stats().bytes_in_use, alloc.stats().pooled_buffers), (0, 1));
}

#[test]
fn law_07_safe_functions_are_safe_whatever_their_arguments() {
    let alloc = TensorAllocator::with_config_in(PoolConfig::default(), Limited::new(System, 64 << 20));
    for count in [0, 1, isize::MAX as usize, isize::MAX as usize + 1, usize::MAX] {
        let _ = alloc.alloc::<u8>(count);
        let _ = alloc.alloc::<[u64; 5]>(count);
        let _ = alloc.alloc::<()>(count);
        for align in [0, 1, 3, 64, 65, 1 << 20, 1 << (usize::BITS - 1), usize::MAX] {
            let _ = alloc.alloc_aligned::<u16>(count, align);
        }
    }
    alloc.trim(usize::MAX);
    let extremes = [0, 1, usize::MAX];
    for (classes, align) in extremes.into_iter().flat_map(|classes| extremes.map(|align| (classes, align))) {
        for (size, buffers) in extremes.into_iter().flat_map(|size| extremes.map(|buffers| (size, buffers))) {
            let config = PoolConfig::default().with_classes_per_bucket(classes).with_max_pool_size(size);
            let config =
                config.with_max_buffers_per_bucket(buffers).with_alignment(align.min(1 << 20)).with_limit(Some(size));
            let alloc = TensorAllocator::with_config(config);
            drop(alloc.alloc_filled(100, 1_u8));
            drop(alloc.alloc_filled(100, 1_u8));
        }
    }
}

#[test]
fn law_09_lifo_within_a_class() {
    let alloc = TensorAllocator::new();
    let buffers: Vec<_> = (0..8).map(|_| alloc.alloc::<f32>(1000).expect("memory")).collect();
    let addresses: Vec<_> = buffers.iter().map(|buffer| buffer.as_ptr()).collect();
    drop(buffers); // A `Vec` drops in order.
    let again: Vec<_> = (0..8).map(|_| alloc.alloc::<f32>(1001).expect("memory")).collect();
    assert!(again.iter().map(|buffer| buffer.as_ptr()).eq(addresses.into_iter().rev()));
}

#[test]
fn law_10_the_same_requests_give_the_same_addresses_and_statistics() {
    let run = || {
        // One block under everything, so that addresses can be compared relative to it.
        let arena = ComputeArena::with_capacity(64 << 20);
        let base = arena.alloc::<u8>(1).expect("memory").as_ptr().addr();
        let alloc = TensorAllocator::with_config_in(PoolConfig::default().with_max_pool_size(1 << 18), &arena);
        let mut rng = fastrand::Rng::with_seed(5);
        let mut live = Vec::new();
        let mut offsets = Vec::new();
        for _ in 0..2000 {
            if live.len() < 20 && rng.bool() {
                let buffer = alloc.alloc::<u8>(rng.usize(1..20_000)).expect("memory");
                offsets.push(buffer.as_ptr().addr() - base);
                live.push(buffer);
            } else if !live.is_empty() {
                live.swap_remove(rng.usize(..live.len()));
            }
        }
        drop(live);
        (offsets, alloc.stats())
    };
    assert_eq!(run(), run());
}

#[test]
fn law_11_bad_input_gets_a_clear_error_and_zero_takes_no_memory() {
    let ledger = Tracking::new(System);
    let alloc = TensorAllocator::new_in(&ledger);
    let arena = ComputeArena::new_in(&ledger);
    for error in [
        alloc.alloc::<u64>(usize::MAX / 4).expect_err("overflows"),
        alloc.alloc_aligned::<u64>(1, 3).expect_err("no power of two"),
        arena.alloc::<u64>(usize::MAX / 4).expect_err("overflows"),
        arena.alloc_aligned::<u64>(1, 0).expect_err("no power of two"),
        arena.alloc_aligned::<u8>(isize::MAX as usize - 10, 1).expect_err("too large for a block"),
    ] {
        assert_eq!(error.kind(), AllocErrorKind::NeverFits);
        assert!(error.to_string().ends_with("no buffer can have this size and alignment"), "{error}");
    }
    let empty = alloc.alloc::<f32>(0).expect("nothing");
    let units = alloc.alloc_filled(1 << 20, ()).map(|units| units.len());
    assert_eq!((empty.len(), units), (0, Ok(1 << 20)));
    assert!(empty.as_ptr().addr().is_multiple_of(64));
    assert_eq!(arena.alloc_from_slice::<f64>(&[]).expect("nothing").len(), 0);
    drop(empty);
    assert_eq!(ledger.grants(), 0);
    let mut expected = Stats::default();
    expected.failures = 2; // Those above.
    assert_eq!(alloc.stats(), expected);
}
