use tenzor_memory::*;

fn main() {
    let arena: &'static ComputeArena = Box::leak(Box::new(ComputeArena::new()));
    SharedAllocator::new(arena);
}
