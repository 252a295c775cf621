use tenzor_memory::*;

fn main() {
    let alloc = TensorAllocator::new();
    let buffer = alloc.alloc_filled(10, std::rc::Rc::new(1)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || drop(buffer));
    });
}
