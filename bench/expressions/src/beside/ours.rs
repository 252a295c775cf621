//! Tenzor's cases.

use std::sync::OnceLock;

use anyhow::Result;
use tenzor_expr::{Eval, Expr, Tensor, View};
use tenzor_memory::{PoolConfig, TensorAllocator};

use super::{Case, Clock, Input};

pub(super) fn time(case: &Case, clock: &Clock, threads: usize, warm: bool) -> Result<()> {
    // One for all cases, as in a program.
    static ALLOC: OnceLock<TensorAllocator> = OnceLock::new();
    let config = PoolConfig::default();
    let config = if warm { config.with_max_pool_size(4 << 30) } else { config };
    let alloc = ALLOC.get_or_init(|| TensorAllocator::with_config(config));
    let input =
        |input: &Input| Ok(Tensor::new(alloc.alloc_from_fn(input.elements(), input.values())?, &input.shape[..])?);
    let mut tensors = case.inputs.iter().map(input).collect::<Result<Vec<_>>>()?;
    while tensors.len() < 3 {
        tensors.push(Tensor::from_slice_in(&[0.0], [1], alloc)?);
    }
    let [a, b, c] = [0, 1, 2].map(|i| tensors[i].view());
    let on = Eval::new(alloc);
    let on = if threads == 1 { on.sequential() } else { on };
    macro_rules! time {
        ($expr:expr) => {
            clock.time(|| Ok(on.eval(&$expr)?), |value| Ok(value.as_slice().to_vec()))
        };
    }
    match case.operation.as_str() {
        "a*b + c - a/2" => time!(a * b + c - a / 2.0),
        "exp(a)*exp(-b) + 1/(1 + exp(c))" => time!(a.exp() * (-b).exp() + 1.0 / (1.0 + c.exp())),
        "where(a < b, a, c)" => time!(a.lt(b).where_(a, c)),
        "exp" => time!(a.exp()),
        "ln" => time!(a.ln()),
        "tanh" => time!(a.tanh()),
        "sigmoid" => time!(a.sigmoid()),
        "gelu" => time!(a.gelu()),
        "silu" => time!(a.silu()),
        "x**2" => time!(a.powf(2.0)),
        "x**1.5" => time!(a.powf(1.5)),
        "stencil" => time!(stencil(a)?),
        "a + b" => time!(a + b),
        "a * exp(b)" => time!(a * b.exp()),
        "a + b.T" => time!(a + b.transpose()),
        "sum" => time!(a.sum(..)),
        "sum of a.T" => time!(a.transpose().sum(..)),
        "sum 0" => time!(a.sum(0)),
        "sum 1" => time!(a.sum(1)),
        "sum 0 of a.T" => time!(a.transpose().sum(0)),
        "sum 1 of a.T" => time!(a.transpose().sum(1)),
        "max 1" => time!(a.max(1)),
        "mean 02" => time!(a.mean([0, 2])),
        "softmax rows" => time!(a.softmax(1)),
        "softmax columns" => time!(a.softmax(0)),
        "layer_norm" => time!(a.layer_norm(1e-5)),
        "copy of a.T" => time!(a.transpose()),
        "permute 0213" => time!(a.permute([0, 2, 1, 3])),
        "permute 021" => time!(a.permute([0, 2, 1])),
        "permute 102" => time!(a.permute([1, 0, 2])),
        "matmul" => time!(a.matmul(b)),
        "gelu(a@b + c)" => time!(a.matmul(b).add(c).gelu()),
        _ => Ok(()),
    }
}

/// A step of heat over a plate, but for its edge.
fn stencil(x: View<'_, f32>) -> Result<impl Expr<Elem = f32>> {
    let (rows, columns) = (x.shape()[0], x.shape()[1]);
    let part = |row: usize, column: usize| x.slice(0, row..row + rows - 2).slice(1, column..column + columns - 2);
    Ok(part(1, 1) + 0.1 * (part(0, 1) + part(2, 1) + part(1, 0) + part(1, 2) - 4.0 * part(1, 1)))
}
