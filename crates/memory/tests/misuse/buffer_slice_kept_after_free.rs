use tenzor_memory::*;

fn main() {
    let alloc = TensorAllocator::new();
    let buffer = alloc.alloc_filled(10, 1.0).unwrap();
    let slice: &[f64] = &buffer;
    alloc.free(buffer);
    println!("{}", slice[0]);
}
