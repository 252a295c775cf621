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

    let mut arena = ComputeArena::new();
    let outer = arena.alloc_filled(10, 1.0).unwrap();
    let sum: f64 = arena.scope(|scope| scope.alloc_filled(10, outer[0]).unwrap().iter().sum());
    assert_eq!(sum, 10.0);
    drop(outer);
    arena.reset();
    assert_eq!(arena.alloc_filled(10, 2.0).unwrap()[0], 2.0);
}
