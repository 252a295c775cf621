use tenzor_memory::*;

fn ones() -> PoolBuffer<'static, f32> {
    let alloc = TensorAllocator::new();
    alloc.alloc_filled(10, 1.0).unwrap()
}

fn main() {
    println!("{}", ones()[0]);
}
