use tenzor_memory::*;

fn main() {
    let mut arena = ComputeArena::new();
    let scope = arena.checkpoint();
    arena.reset();
    scope.alloc::<f32>(10).unwrap();
}
