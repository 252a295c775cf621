use tenzor_memory::*;

fn main() {
    let alloc = TensorAllocator::new();
    let buffer = alloc.alloc::<f32>(10).unwrap().assume_init();
    println!("{}", buffer[0]);
}
