//! candle's cases.

use anyhow::Result;
use candle_core::{Device, Tensor};
use candle_nn::ops;

use super::{Case, Clock, Input};

pub(super) fn time(case: &Case, clock: &Clock) -> Result<()> {
    let input = |input: &Input| {
        let elements: Vec<f32> = (0..input.elements()).map(input.values()).collect();
        Ok(Tensor::from_vec(elements, &input.shape[..], &Device::Cpu)?)
    };
    let mut tensors = case.inputs.iter().map(input).collect::<Result<Vec<_>>>()?;
    while tensors.len() < 3 {
        tensors.push(Tensor::new(&[0.0_f32], &Device::Cpu)?);
    }
    let [a, b, c] = [&tensors[0], &tensors[1], &tensors[2]];
    macro_rules! time {
        ($value:expr) => {
            clock.time(|| Ok($value?), |value: &Tensor| Ok(value.flatten_all()?.to_vec1()?))
        };
    }
    match case.operation.as_str() {
        "a*b + c - a/2" => time!(((a * b)? + c)? - (a / 2.0)?),
        "exp(a)*exp(-b) + 1/(1 + exp(c))" => time!((a.exp()? * b.neg()?.exp()?)? + (c.exp()? + 1.0)?.recip()?),
        "where(a < b, a, c)" => time!(a.lt(b)?.where_cond(a, c)),
        "exp" => time!(a.exp()),
        "ln" => time!(a.log()),
        "tanh" => time!(a.tanh()),
        "sigmoid" => time!(ops::sigmoid(a)),
        "gelu" => time!(a.gelu_erf()),
        "silu" => time!(a.silu()),
        "x**2" => time!(a.sqr()),
        "x**1.5" => time!(a.powf(1.5)),
        "stencil" => {
            let (rows, columns) = a.dims2()?;
            let part = |row, column| a.narrow(0, row, rows - 2)?.narrow(1, column, columns - 2);
            time!({
                let around = (((part(0, 1)? + part(2, 1)?)? + part(1, 0)?)? + part(1, 2)?)?;
                part(1, 1)? + ((around - (part(1, 1)? * 4.0)?)? * 0.1)?
            })
        }
        "a + b" => time!(a.broadcast_add(b)),
        "a * exp(b)" => time!(a.broadcast_mul(&b.exp()?)),
        "a + b.T" => time!(a + b.t()?),
        "sum" => time!(a.sum_all()),
        "sum of a.T" => time!(a.t()?.sum_all()),
        "sum 0" => time!(a.sum(0)),
        "sum 1" => time!(a.sum(1)),
        "sum 0 of a.T" => time!(a.t()?.sum(0)),
        "sum 1 of a.T" => time!(a.t()?.sum(1)),
        "max 1" => time!(a.max(1)),
        "mean 02" => time!(a.mean((0, 2))),
        "softmax rows" => time!(ops::softmax_last_dim(a)),
        "softmax columns" => time!(ops::softmax(a, 0)),
        "layer_norm" => {
            let ones = Tensor::ones(a.dim(1)?, candle_core::DType::F32, &Device::Cpu)?;
            let zeros = ones.zeros_like()?;
            time!(ops::layer_norm(a, &ones, &zeros, 1e-5))
        }
        "copy of a.T" => time!(a.t()?.contiguous()),
        "permute 0213" => time!(a.permute((0, 2, 1, 3))?.contiguous()),
        "permute 021" => time!(a.permute((0, 2, 1))?.contiguous()),
        "permute 102" => time!(a.permute((1, 0, 2))?.contiguous()),
        "matmul" => time!(a.matmul(b)),
        "gelu(a@b + c)" => time!(a.matmul(b)?.broadcast_add(c)?.gelu_erf()),
        _ => Ok(()),
    }
}
