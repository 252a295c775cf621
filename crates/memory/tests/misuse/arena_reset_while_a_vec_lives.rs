use tenzor_memory::*;

fn main() {
    let mut arena = ComputeArena::new();
    let mut vec = allocator_api2::vec::Vec::new_in(arena.allocator());
    vec.push(1);
    arena.reset();
    vec.push(2);
}
