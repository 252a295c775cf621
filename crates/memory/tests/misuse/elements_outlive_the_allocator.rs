//! The elements lie in the allocator's memory until they are taken out.
use tenzor_memory::TensorAllocator;

fn main() {
    let elements = {
        let alloc = TensorAllocator::new();
        alloc.alloc_filled(4, 1.0).unwrap().into_iter()
    };
    drop(elements);
}
