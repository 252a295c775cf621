//! Initialisation in parts: a buffer of values only once every element is written.

use std::thread;

use tenzor_memory::{ComputeArena, Slots, TensorAllocator};

#[test]
fn parts_are_written_by_many_threads() {
    let alloc = TensorAllocator::new();
    for (len, chunk) in
        [(0, 1), (1, 1), (1, 10), (10_000, 1), (10_000, 7), (10_000, 10_000), (10_000, usize::MAX), (100, 0)]
    {
        let buffer = alloc.alloc::<u64>(len).expect("memory").init_parts(|slots| {
            assert_eq!((slots.len(), slots.first()), (len, 0));
            let mut parts: Vec<Slots<'_, u64>> = slots.chunks(chunk).collect();
            assert_eq!(parts.len(), len.div_ceil(chunk.max(1)));
            let others = parts.split_off(parts.len() / 2);
            thread::scope(|scope| {
                scope.spawn(|| parts.into_iter().for_each(|part| _ = part.fill_with(|i| i as u64)));
                scope.spawn(|| others.into_iter().for_each(|part| _ = part.fill_with(|i| i as u64)));
            });
        });
        assert!(buffer.expect("all are written").iter().copied().eq(0..len as u64));
    }
}

#[test]
fn a_part_left_out_leaves_the_buffer_uninitialised() {
    let arena = ComputeArena::new();
    let buffer = arena.alloc::<f32>(100).expect("memory");
    let address = buffer.as_ptr();
    let buffer = buffer.init_parts(|_| ()).expect_err("nothing was written");
    let buffer = buffer.init_parts(|slots| slots.chunks(9).skip(1).for_each(|part| _ = part.fill_with(|_| 1.0)));
    let buffer = buffer.expect_err("the first part was not written");
    let buffer = buffer.init_parts(|slots| {
        let (left, right) = slots.split_at(60);
        let (middle, right) = right.split_at(usize::MAX);
        assert_eq!(
            (left.len(), middle.first(), middle.len(), right.first(), right.is_empty()),
            (60, 60, 40, 100, true)
        );
        left.fill_with(|i| i as f32);
        middle.fill_with(|i| -(i as f32));
    });
    let buffer = buffer.expect("the empty part needs no writing");
    assert_eq!((buffer.as_ptr(), buffer[59], buffer[60]), (address.cast(), 59.0, -60.0));
}

#[test]
fn a_panic_in_a_part_returns_the_memory() {
    let alloc = TensorAllocator::new();
    let result = thread::scope(|scope| {
        let init = || {
            let buffer = alloc.alloc::<u8>(100).expect("memory");
            buffer.init_parts(|slots| _ = slots.fill_with(|i| if i < 50 { 1 } else { panic!("element {i}") })).is_ok()
        };
        scope.spawn(init).join()
    });
    assert!(result.is_err());
    assert_eq!(alloc.stats().bytes_in_use, 0);
}
