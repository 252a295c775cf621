//! The same computation a thousand times: from the second round on, every result finds its memory in the pool.

use std::error::Error;

use tenzor_expr::{Expr, Tensor, eval, explain};
use tenzor_memory::TensorAllocator;

/// Prints what it does.
pub fn run() -> Result<(), Box<dyn Error>> {
    let alloc = TensorAllocator::new();
    let size = 1 << 20;
    let a = Tensor::new(alloc.alloc_from_fn(size, |i| i as f32)?, [1024, 1024])?;
    let b = Tensor::new(alloc.alloc_filled(size, 0.5_f32)?, [1024, 1024])?;
    let c = Tensor::new(alloc.alloc_filled(1024, 2.0_f32)?, [1024])?;

    let expr = &a * &b + &c - &a / 2.0;
    println!("{}\n", explain(&expr)?);
    for round in 0..1000 {
        let result = eval(&expr, alloc.allocator())?;
        if round == 999 {
            println!("the sum of the last result: {}\n", eval(&result.sum(..), &alloc)?.as_slice()[0]);
        }
        alloc.free(result);
    }
    println!("{}", alloc.stats());
    Ok(())
}

#[allow(dead_code)] // `tenzor demo` has a main function of its own.
fn main() -> Result<(), Box<dyn Error>> {
    run()
}
