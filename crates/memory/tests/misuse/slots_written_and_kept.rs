use tenzor_memory::*;

fn main() {
    let alloc = TensorAllocator::new();
    let mut kept = None;
    let buffer = alloc.alloc::<f32>(10).unwrap().init_parts(|slots| kept = Some(slots.fill_with(|_| 1.0)));
    kept.unwrap()[0] = 2.0;
    println!("{}", buffer.is_ok());
}
