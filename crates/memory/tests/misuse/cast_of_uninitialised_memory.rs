//! What was never written is no number.
use tenzor_memory::TensorAllocator;

fn main() {
    let alloc = TensorAllocator::new();
    let _numbers = alloc.alloc::<u8>(4).unwrap().cast::<u32>();
}
