use tenzor_memory::*;

fn main() {
    let alloc = TensorAllocator::new();
    let buffer = alloc.alloc::<f32>(10).unwrap().init_parts(|slots| {
        let (left, right) = slots.split_at(5);
        left.fill_with(|_| 1.0);
        left.fill_with(|_| 2.0);
        drop(right);
    });
    println!("{}", buffer.is_ok());
}
