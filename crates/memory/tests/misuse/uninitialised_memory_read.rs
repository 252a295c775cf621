use tenzor_memory::*;

fn main() {
    let alloc = TensorAllocator::new();
    let buffer = alloc.alloc::<f32>(10).unwrap();
    let sum: f32 = buffer.iter().sum();
    println!("{sum}");
}
