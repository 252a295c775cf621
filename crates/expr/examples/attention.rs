//! Causal attention of several heads, said once for any expressions, behind one type.

use std::error::Error;

use tenzor_expr::nodes::Boxed;
use tenzor_expr::{Expr, Tensor, eval, explain};
use tenzor_memory::TensorAllocator;

/// Of queries, keys and values of the shape [batch, heads, time, width].
fn attention<'x>(
    [query, key, value]: [impl Expr<Elem = f32> + 'x; 3],
    mask: impl Expr<Elem = bool> + 'x,
    scale: f32,
) -> Boxed<'x, f32> {
    let scores = query.matmul(key.transpose()) * scale;
    mask.where_(scores, f32::NEG_INFINITY).softmax(-1).matmul(value).boxed()
}

fn main() -> Result<(), Box<dyn Error>> {
    let alloc = TensorAllocator::new();
    let (batch, time, heads, width) = (2, 5, 2, 4);
    let x = Tensor::from_fn_in([batch, time, heads * width], |i| ((i * 37 % 11) as f32 - 5.0) / 5.0, &alloc)?;
    let times = Tensor::arange_in(time, &alloc)?;
    let times: &Tensor<f32, _> = &times;
    // Each sees itself and what was before.
    let mask = times.unsqueeze(1).ge(times);
    let split = x.reshape([batch, time, heads, width]).permute([0, 2, 1, 3]);
    let joined = attention([split; 3], mask, 0.5).permute([0, 2, 1, 3]).reshape([batch, time, heads * width]);
    println!("{}", explain(&joined)?);
    println!("{:.3}", eval(&joined, &alloc)?);
    Ok(())
}
