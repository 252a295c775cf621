use tenzor_memory::*;

fn main() {
    let arena = ComputeArena::new();
    let escaped = arena.scope(|scope| scope.alloc_filled(10, 1.0).unwrap());
    println!("{}", escaped[0]);
}
