use tenzor_memory::*;

fn main() {
    let buffer = {
        let arena = Locked::new(ComputeArena::new());
        arena.alloc_filled(10, 1.0).unwrap()
    };
    assert_eq!(buffer[0], 1.0);
}
