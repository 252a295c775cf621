//! What belongs to a pool goes back to the pool, not to the global allocator.
use tenzor_memory::TensorAllocator;
use tenzor_memory::allocator_api2::vec::Vec;
use tenzor_memory::recycle::Vecs;

fn main() {
    let alloc = TensorAllocator::new();
    let vec: Vec<f32, _> = Vec::new_in(alloc.allocator());
    Vecs::new().give(vec);
}
