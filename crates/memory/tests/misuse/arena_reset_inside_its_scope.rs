use tenzor_memory::*;

fn main() {
    let mut arena = ComputeArena::new();
    arena.scope(|_| arena.reset());
}
