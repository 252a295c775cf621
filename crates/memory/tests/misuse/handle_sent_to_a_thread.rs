use tenzor_memory::*;

fn main() {
    let arena = Handle::new(ComputeArena::new());
    std::thread::spawn(move || drop(arena));
}
