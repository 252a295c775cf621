use tenzor_memory::*;

fn main() {
    let alloc = TensorAllocator::new();
    let (ptr, len, alignment, alloc) = alloc.alloc_filled(10, 1.0).unwrap().into_raw_parts();
    let buffer = Buffer::from_raw_parts(ptr, len, alignment, alloc);
    println!("{}", buffer[0]);
}
