use tenzor_memory::*;

fn main() {
    let arena = ComputeArena::new();
    let buffer = arena.alloc_filled(10, 1.0).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || drop(buffer));
    });
}
