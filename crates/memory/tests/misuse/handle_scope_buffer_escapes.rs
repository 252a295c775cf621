use tenzor_memory::*;

fn main() {
    let arena = Handle::new(ComputeArena::new());
    let _escaped = arena.scope(|scope| scope.alloc_filled(10, 1.0));
}
