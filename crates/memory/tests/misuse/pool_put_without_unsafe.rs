use tenzor_memory::*;

fn main() {
    let pool = BufferPool::new();
    let layout = std::alloc::Layout::new::<u64>();
    let buffer = pool.get(layout).unwrap();
    pool.put(buffer, layout);
}
