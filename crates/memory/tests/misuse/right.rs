//! The same things done right: what the cases beside this one get wrong is all that is wrong with them.
use tenzor_memory::*;

fn main() {
    let alloc = TensorAllocator::new();
    let buffer = alloc.alloc_filled(10, 1.0).unwrap();
    let total = std::thread::scope(|scope| scope.spawn(|| buffer.iter().sum::<f64>()).join().unwrap());
    assert_eq!(total, 10.0);
    alloc.free(buffer);
    assert_eq!(alloc.alloc::<f32>(10).unwrap().init_filled(1.0)[0], 1.0);
    assert_eq!(alloc.alloc_zeroed::<Option<std::num::NonZero<u8>>>(10).unwrap()[0], None);
    assert_eq!(alloc.alloc_filled(4, 2_u8).unwrap().cast::<u32>().unwrap()[0], 0x0202_0202);
    assert_eq!(alloc.alloc_filled(4, 1.0).unwrap().into_iter().sum::<f64>(), 4.0);
    assert_eq!(alloc.alloc_filled(4, 1.0).unwrap().into_part(1..3).unwrap().len(), 2);
    recycle::Vecs::new().give(vec![1.0_f32]);

    let mut arena = ComputeArena::new();
    let outer = arena.alloc_filled(10, 1.0).unwrap();
    let sum: f64 = arena.scope(|scope| scope.alloc_filled(10, outer[0]).unwrap().iter().sum());
    assert_eq!(sum, 10.0);
    drop(outer);
    arena.reset();
    assert_eq!(arena.alloc_filled(10, 2.0).unwrap()[0], 2.0);

    let handle = Handle::new(arena);
    let buffer = handle.alloc_filled(10, 1.0).unwrap().into_owned();
    drop(handle);
    assert_eq!(buffer[0], 1.0);
    let sum = buffer.allocator().scope(|scope| Ok::<f64, AllocError>(scope.alloc_filled(10, 1.0)?.iter().sum()));
    assert_eq!(sum.unwrap(), 10.0);

    let shared = SharedAllocator::new(Locked::new(ComputeArena::new()));
    let buffer = Buffer::filled_in(10, 1.0, shared).unwrap();
    std::thread::spawn(move || drop(buffer)).join().unwrap();
}
