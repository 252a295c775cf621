//! Std-style containers over every allocator, for each version of the interface.

use hashbrown::{DefaultHashBuilder, HashMap};
use tenzor_memory::{ComputeArena, System, TensorAllocator, Tracking};

macro_rules! containers {
    ($name:ident, $version:ident) => {
        mod $name {
            use super::*;
            use tenzor_memory::$version::{alloc::Allocator, boxed::Box, vec::Vec};

            fn exercise<A: Allocator + Clone>(alloc: A) {
                let mut vec = Vec::new_in(alloc.clone());
                vec.extend(0..10_000_u64);
                vec.retain(|value| value % 3 == 0);
                vec.shrink_to_fit();
                assert_eq!((vec.len(), vec[100]), (3334, 300));
                vec.resize(5000, 7);
                let mut copy = Vec::with_capacity_in(1, alloc.clone());
                copy.extend_from_slice(&vec);
                assert_eq!(vec, copy);
                let units = Vec::<(), A>::with_capacity_in(10, alloc.clone());
                assert_eq!(units.len(), 0);
                let strings: Vec<String, A> = {
                    let mut strings = Vec::new_in(alloc.clone());
                    strings.extend((0..100).map(|i| format!("number {i}")));
                    strings
                };
                assert_eq!(strings[42], "number 42");
                let boxed = Box::new_in([1.5_f64; 1000], alloc.clone());
                assert_eq!(boxed.iter().sum::<f64>(), 1500.0);
                let slice = copy.into_boxed_slice();
                assert_eq!(slice[4999], 7);
            }

            #[test]
            fn over_the_pool() {
                let ledger = Tracking::new(System);
                let alloc = TensorAllocator::new_in(&ledger);
                exercise(alloc.allocator());
                exercise(alloc.clone());
                let stats = alloc.stats();
                assert_eq!((stats.bytes_in_use, stats.bytes_in_use_rounded), (0, 0));
                assert_eq!(stats.bytes_allocated, stats.bytes_freed);
                drop(alloc);
                assert_eq!((ledger.live_blocks(), ledger.faults().len()), (0, 0));
            }

            #[test]
            fn over_the_arena_and_a_scope() {
                let arena = ComputeArena::new();
                exercise(arena.allocator());
                arena.scope(|scope| exercise(scope.allocator()));
            }

            #[test]
            fn a_vector_grows_in_place_while_its_class_allows() {
                let alloc = TensorAllocator::new();
                let mut vec: Vec<u8, _> = Vec::with_capacity_in(1025, alloc.allocator());
                let address = vec.as_ptr();
                for capacity in 1025..=1152 {
                    vec.reserve_exact(capacity);
                    assert_eq!(vec.as_ptr(), address);
                    assert_eq!(alloc.stats().bytes_in_use, capacity);
                }
                assert_eq!((alloc.stats().allocations, alloc.stats().peak_bytes_in_use), (1, 1152));
                vec.reserve_exact(1153);
                assert_eq!(alloc.stats().allocations, 2);
                vec.shrink_to(0);
                assert_eq!(alloc.stats().bytes_in_use, 0);
            }

            #[test]
            fn the_last_of_an_arena_grows_in_place() {
                let arena = ComputeArena::with_capacity(1 << 20);
                let mut vec: Vec<u64, _> = Vec::with_capacity_in(1, arena.allocator());
                let address = vec.as_ptr();
                vec.extend(0..100_000);
                assert_eq!((vec.as_ptr(), arena.usage().bytes_in_use), (address, 8 * vec.capacity()));
                assert!(vec.iter().copied().eq(0..100_000));
            }
        }
    };
}

containers!(version_02, allocator_api2);
#[cfg(feature = "allocator-api2-04")]
containers!(version_04, allocator_api2_04);

#[test]
fn hash_maps() {
    let alloc = TensorAllocator::new();
    let arena = ComputeArena::new();
    let mut pooled = HashMap::with_hasher_in(DefaultHashBuilder::default(), alloc.allocator());
    let mut owned = HashMap::with_hasher_in(DefaultHashBuilder::default(), alloc.clone());
    let mut bumped = HashMap::with_hasher_in(DefaultHashBuilder::default(), arena.allocator());
    for i in 0..10_000_u64 {
        pooled.insert(i, i * i);
        owned.insert(i, i * i);
        bumped.insert(i, i * i);
    }
    for i in (0..10_000).step_by(2) {
        pooled.remove(&i);
    }
    pooled.shrink_to_fit();
    assert!(pooled.iter().all(|(key, value)| owned[key] == *value && bumped[key] == *value));
    assert_eq!((pooled.len(), owned.len()), (5000, 10_000));
    drop((pooled, owned));
    assert_eq!(alloc.stats().bytes_in_use, 0);
}

#[test]
fn the_pool_serves_bumpalo_and_bumpalo_the_pool() {
    let bump = bumpalo::Bump::new();
    let alloc = TensorAllocator::new_in(tenzor_memory::FromAllocator(&bump));
    let buffer = alloc.alloc_from_fn(1000, |i| i).expect("memory");
    assert_eq!(buffer[999], 999);
}
