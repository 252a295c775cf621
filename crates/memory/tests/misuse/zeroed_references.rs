use tenzor_memory::*;

fn main() {
    let alloc = TensorAllocator::new();
    let buffer = alloc.alloc_zeroed::<&str>(10).unwrap();
    println!("{}", buffer[0]);
}
