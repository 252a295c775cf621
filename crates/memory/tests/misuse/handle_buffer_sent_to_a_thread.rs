use tenzor_memory::*;

fn main() {
    let arena = Handle::new(ComputeArena::new());
    let buffer = arena.alloc_filled(10, 1.0).unwrap().into_owned();
    std::thread::spawn(move || drop(buffer));
}
