use tenzor_memory::*;

fn main() {
    let arena = ComputeArena::new();
    let scope = arena.checkpoint();
    let buffer = scope.alloc_filled(10, 1.0).unwrap();
    scope.rewind();
    println!("{}", buffer[0]);
}
