use tenzor_memory::*;

fn main() {
    let arena = ComputeArena::new();
    let buffer = arena.alloc_filled(10, 1.0).unwrap();
    drop(arena);
    println!("{}", buffer[0]);
}
