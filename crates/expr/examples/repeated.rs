//! The same computation a thousand times: from the second round on, every result finds its memory in the pool.

use std::error::Error;
use std::io::Write;

use tenzor_expr::{Expr, Tensor, eval, explain};
use tenzor_memory::TensorAllocator;

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Prints what it does.
pub(crate) fn run(out: &mut dyn Write) -> Result {
    let alloc = TensorAllocator::new();
    let size = 1 << 20;
    let a = Tensor::new(alloc.alloc_from_fn(size, |i| i as f32)?, [1024, 1024])?;
    let b = Tensor::new(alloc.alloc_filled(size, 0.5_f32)?, [1024, 1024])?;
    let c = Tensor::new(alloc.alloc_filled(1024, 2.0_f32)?, [1024])?;

    let expr = &a * &b + &c - &a / 2.0;
    writeln!(out, "{}\n", explain(&expr)?)?;
    for round in 0..1000 {
        let result = eval(&expr, alloc.allocator())?;
        if round == 999 {
            writeln!(out, "the sum of the last result: {}\n", eval(&result.sum(..), &alloc)?.as_slice()[0])?;
        }
        alloc.free(result);
    }
    writeln!(out, "{}", alloc.stats())?;
    Ok(())
}

#[allow(dead_code)] // `tenzor demo` has a main function of its own.
fn main() -> Result {
    run(&mut std::io::stdout().lock())
}
