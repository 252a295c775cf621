use tenzor_memory::*;

fn main() {
    let mut arena = ComputeArena::new();
    let buffer = arena.alloc_filled(10, 1.0).unwrap();
    arena.reset();
    println!("{}", buffer[0]);
}
