use tenzor_memory::*;

fn main() {
    let arena = ComputeArena::new();
    std::thread::scope(|scope| {
        scope.spawn(|| arena.alloc::<f32>(10).is_ok());
    });
}
