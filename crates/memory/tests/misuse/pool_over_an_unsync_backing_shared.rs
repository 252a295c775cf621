use tenzor_memory::*;

fn main() {
    let arena = ComputeArena::new();
    let alloc = TensorAllocator::new_in(&arena);
    std::thread::scope(|scope| {
        scope.spawn(|| alloc.stats());
    });
}
