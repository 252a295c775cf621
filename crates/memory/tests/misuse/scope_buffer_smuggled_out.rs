use tenzor_memory::*;

fn main() {
    let arena = ComputeArena::new();
    let mut outer = Vec::new();
    arena.scope(|scope| outer.push(scope.alloc_filled(10, 1.0).unwrap()));
    println!("{}", outer[0][0]);
}
