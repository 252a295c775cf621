//! Sizes and alignments over the boundary lattice: (0, 2^k ± 1, isize::MAX ± align) × (1 … 4 MiB). Every request is granted
//! as asked or refused with an error; continuous integration runs this in debug and in optimised builds.

use std::alloc::Layout;
use std::ptr::NonNull;

use tenzor_memory::allocator_api2::alloc::Allocator;
use tenzor_memory::{AllocErrorKind, ComputeArena, Limited, PoolConfig, System, TensorAllocator};

/// What can be granted without straining the machine that runs the tests.
const ROOM: usize = 32 << 20;

fn sizes(align: usize) -> Vec<usize> {
    let mut sizes = vec![0, isize::MAX as usize, usize::MAX];
    sizes.extend((0..usize::BITS).flat_map(|k| [(1_usize << k).wrapping_sub(1), 1 << k, (1 << k) + 1]));
    let top = isize::MAX as usize;
    sizes.extend([top - align, top - align + 1, top + align - 1, top + align, top - align / 2]);
    sizes
}

fn aligns() -> impl Iterator<Item = usize> {
    (0..=22).map(|k| 1 << k)
}

/// Touches the ends of what was granted, for the sanitizers to see.
fn touch(ptr: NonNull<u8>, layout: Layout) {
    assert!(ptr.addr().get().is_multiple_of(layout.align()));
    if layout.size() > 0 {
        // SAFETY: both bytes lie in the granted block.
        unsafe {
            ptr.write(1);
            ptr.add(layout.size() - 1).write(2);
        }
    }
}

/// Every point of the lattice that is a layout, through the std-style interface: twice, as hit and as miss, and resized.
fn raw(allocator: impl Allocator) {
    for (align, size) in aligns().flat_map(|align| sizes(align).into_iter().map(move |size| (align, size))) {
        let Ok(layout) = Layout::from_size_align(size, align) else { continue };
        for zeroed in [false, true] {
            let granted = if zeroed { allocator.allocate_zeroed(layout) } else { allocator.allocate(layout) };
            if size <= ROOM / 16 {
                assert!(granted.is_ok(), "{layout:?}");
            }
            let Ok(block) = granted else { continue };
            assert_eq!(block.len(), size);
            touch(block.cast(), layout);
            let larger = Layout::from_size_align((size + 1).min(ROOM / 8).max(size), align).expect("a valid layout");
            // SAFETY: each block was granted with the layout it is resized or freed with.
            unsafe {
                match allocator.grow(block.cast(), layout, larger) {
                    Ok(grown) => {
                        touch(grown.cast(), larger);
                        let shrunk = allocator.shrink(grown.cast(), larger, layout).expect("less memory");
                        allocator.deallocate(shrunk.cast(), layout);
                    }
                    Err(_) => allocator.deallocate(block.cast(), layout),
                }
            }
        }
    }
}

#[test]
fn raw_requests_of_the_pool() {
    for classes in [1, 8, 64] {
        let config = PoolConfig::default().with_classes_per_bucket(classes);
        let alloc = TensorAllocator::with_config_in(config, Limited::new(System, ROOM));
        raw(&alloc);
        assert_eq!(alloc.stats().bytes_in_use, 0);
        raw(TensorAllocator::with_config(config.with_limit(Some(ROOM)).with_alignment(4096)));
    }
}

#[test]
fn raw_requests_of_the_arena() {
    // An arena reclaims nothing meanwhile, so each alignment gets a fresh one.
    for (align, size) in aligns().flat_map(|align| sizes(align).into_iter().map(move |size| (align, size))) {
        let arena = ComputeArena::new_in(Limited::new(System, ROOM));
        let Ok(layout) = Layout::from_size_align(size, align) else { continue };
        let first = arena.allocator().allocate(layout);
        let second = arena.allocator().allocate_zeroed(layout);
        for block in [first, second] {
            if size <= ROOM / 16 {
                assert!(block.is_ok(), "{layout:?}");
            }
            let Ok(block) = block else { continue };
            touch(block.cast(), layout);
        }
    }
}

#[test]
fn typed_requests() {
    let alloc = TensorAllocator::new_in(Limited::new(System, ROOM));
    for (align, count) in aligns().flat_map(|align| sizes(align).into_iter().map(move |count| (align, count))) {
        check::<u8>(&alloc, count, align);
        check::<f32>(&alloc, count, align);
        check::<[u64; 3]>(&alloc, count, align);
        check::<()>(&alloc, count, align);
    }
    assert_eq!(alloc.stats().bytes_in_use, 0);
}

fn check<T>(alloc: &TensorAllocator<Limited<System>>, count: usize, align: usize) {
    let bytes = count.checked_mul(size_of::<T>());
    match alloc.alloc_aligned::<T>(count, align) {
        Ok(buffer) => {
            assert_eq!(buffer.len(), count);
            assert!(buffer.as_ptr().addr().is_multiple_of(align.max(64).max(align_of::<T>())) || bytes == Some(0));
        }
        Err(error) => {
            let possible = bytes.is_some_and(|bytes| Layout::from_size_align(bytes, align.max(64)).is_ok());
            let representable = possible && bytes.is_some_and(|bytes| bytes <= isize::MAX as usize / 2 + 1);
            assert!(bytes.is_none_or(|bytes| bytes > ROOM / 16), "{error}");
            if representable {
                assert_eq!(error.limit(), Some(ROOM), "{error}");
            } else if !possible {
                assert_eq!(error.kind(), AllocErrorKind::NeverFits, "{error}");
            }
        }
    }
}

#[cfg(target_pointer_width = "64")]
#[test]
fn sixteen_gibibytes_are_a_size_like_any_other() {
    let alloc = TensorAllocator::with_config(PoolConfig::default().with_max_pool_size(usize::MAX));
    for _ in 0..2 {
        // Never touched, so it costs address space only; a machine that refuses even that says so.
        match alloc.alloc::<u8>(16 << 30) {
            Ok(buffer) => assert_eq!(buffer.len(), 16 << 30),
            Err(error) => assert_eq!(error.kind(), AllocErrorKind::BackingRefused),
        }
    }
    let stats = alloc.stats();
    assert!(stats.failures == 2 || (stats.pool_hits, stats.pooled_bytes) == (1, 16 << 30), "{stats}");
}

#[test]
fn alignments_beyond_any_use_are_granted_or_refused() {
    let alloc = TensorAllocator::new();
    let arena = ComputeArena::new();
    for align in (23..usize::BITS).map(|k| 1_usize << k) {
        for count in [0, 1, 1000, isize::MAX as usize] {
            if let Ok(buffer) = alloc.alloc_aligned::<u8>(count, align) {
                assert!(buffer.as_ptr().addr().is_multiple_of(align));
            }
            if let Ok(buffer) = arena.alloc_aligned::<u8>(count, align) {
                assert!(buffer.as_ptr().addr().is_multiple_of(align));
            }
        }
    }
    assert_eq!(alloc.stats().bytes_in_use, 0);
}
