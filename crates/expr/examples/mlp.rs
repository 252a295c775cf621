//! A perceptron of two layers. Bias and activation run over each product where it stands.

use std::error::Error;
use std::io::Write;

use tenzor_expr::{Expr, Tensor, eval, explain};
use tenzor_memory::TensorAllocator;

const BATCH: usize = 64;
const INPUTS: usize = 512;
const HIDDEN: usize = 2048;
const OUTPUTS: usize = 512;

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Prints what it does.
pub(crate) fn run(out: &mut dyn Write) -> Result {
    let alloc = TensorAllocator::new();
    let mut state = 1_u32;
    let mut tensor = |rows: usize, columns: usize| -> Result<_> {
        let random = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        Ok(Tensor::new(alloc.alloc_from_fn(rows * columns, random)?, [rows, columns])?)
    };
    let x = tensor(BATCH, INPUTS)?;
    let (w1, b1) = (tensor(INPUTS, HIDDEN)?, tensor(1, HIDDEN)?);
    let (w2, b2) = (tensor(HIDDEN, OUTPUTS)?, tensor(1, OUTPUTS)?);

    let hidden = (x.matmul(&w1) + &b1).relu();
    let output = hidden.matmul(&w2) + &b2;
    writeln!(out, "{}\n", explain(&output)?)?;
    for _ in 0..10 {
        alloc.free(eval(&output, &alloc)?);
    }
    writeln!(out, "{}", alloc.stats())?;
    Ok(())
}

#[allow(dead_code)] // `tenzor demo` has a main function of its own.
fn main() -> Result {
    run(&mut std::io::stdout().lock())
}
