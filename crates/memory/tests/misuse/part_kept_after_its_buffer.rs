//! A part owns its buffer: what is in it goes with the whole.
use tenzor_memory::TensorAllocator;

fn main() {
    let alloc = TensorAllocator::new();
    let part = alloc.alloc_filled(4, 1.0).unwrap().into_part(1..3).unwrap();
    let first = &part[0];
    let _whole = part.into_buffer();
    println!("{first}");
}
