//! Layers of networks, in tenzor and in candle.

use std::hint::black_box;

use anyhow::Result;
use candle_core::{D, Device, Tensor as Candle};
use tenzor_expr::{Expr, eval};
use tenzor_memory::TensorAllocator;

use crate::{Matrix, compare, matrix};

const TOKENS: usize = 128;
const WIDTH: usize = 768;
const HEADS: usize = 12;
const HEAD: usize = WIDTH / HEADS;
const INNER: usize = 4 * WIDTH;
const EPSILON: f32 = 1e-12;

/// A layer's weights, for both.
struct Linear<'a> {
    weight: Matrix<'a>,
    bias: Matrix<'a>,
    candle: candle_nn::Linear,
}

fn to_candle(x: &Matrix<'_>) -> candle_core::Result<Candle> {
    Candle::from_slice(x.as_slice(), &x.shape()[..], &Device::Cpu)
}

impl<'a> Linear<'a> {
    fn new(alloc: &'a TensorAllocator, inputs: usize, outputs: usize) -> Result<Self> {
        let (weight, bias) = (matrix(alloc, &[inputs, outputs], 0.1)?, matrix(alloc, &[outputs], 0.1)?);
        // Candle's convention: a row for each output.
        let rows = to_candle(&weight)?.t()?.contiguous()?;
        let candle = candle_nn::Linear::new(rows, Some(to_candle(&bias)?));
        Ok(Self { weight, bias, candle })
    }

    fn of<E: Expr<Elem = f32>>(&self, x: E) -> impl Expr<Elem = f32> {
        x.matmul(&self.weight) + &self.bias
    }

    fn candle(&self, x: &Candle) -> candle_core::Result<Candle> {
        candle_nn::Module::forward(&self.candle, x)
    }
}

struct Encoder<'a> {
    query: Linear<'a>,
    key: Linear<'a>,
    value: Linear<'a>,
    output: Linear<'a>,
    inner: Linear<'a>,
    outer: Linear<'a>,
    norm: candle_nn::LayerNorm,
}

fn heads(x: &Matrix<'_>) -> impl Expr<Elem = f32> {
    x.view().reshape([TOKENS, HEADS, HEAD]).permute([1, 0, 2])
}

impl<'a> Encoder<'a> {
    fn new(alloc: &'a TensorAllocator) -> Result<Self> {
        let square = || Linear::new(alloc, WIDTH, WIDTH);
        let ones = Candle::ones(WIDTH, candle_core::DType::F32, &Device::Cpu)?;
        let norm = candle_nn::LayerNorm::new(ones.clone(), ones.zeros_like()?, EPSILON.into());
        let (inner, outer) = (Linear::new(alloc, WIDTH, INNER)?, Linear::new(alloc, INNER, WIDTH)?);
        Ok(Self { query: square()?, key: square()?, value: square()?, output: square()?, inner, outer, norm })
    }

    fn tenzor(&self, x: &Matrix<'a>, alloc: &'a TensorAllocator) -> Result<Matrix<'a>> {
        let query = eval(&self.query.of(x), alloc)?;
        let key = eval(&self.key.of(x), alloc)?;
        let value = eval(&self.value.of(x), alloc)?;
        let scores = heads(&query).matmul(heads(&key).transpose()) / (HEAD as f32).sqrt();
        let attended = eval(&scores.softmax(2).matmul(heads(&value)), alloc)?;
        let together = attended.permute([1, 0, 2]).reshape([TOKENS, WIDTH]);
        let x = eval(&self.output.of(together).add(x).layer_norm(EPSILON), alloc)?;
        Ok(eval(&self.outer.of(self.inner.of(&x).gelu()).add(&x).layer_norm(EPSILON), alloc)?)
    }

    fn candle(&self, x: &Candle) -> candle_core::Result<Candle> {
        let heads = |x: Candle| x.reshape((TOKENS, HEADS, HEAD))?.transpose(0, 1)?.contiguous();
        let (query, key, value) =
            (heads(self.query.candle(x)?)?, heads(self.key.candle(x)?)?, heads(self.value.candle(x)?)?);
        let scores = (query.matmul(&key.transpose(1, 2)?)? / f64::from(HEAD as u32).sqrt())?;
        let attended = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&value)?;
        let together = attended.transpose(0, 1)?.reshape((TOKENS, WIDTH))?;
        let x = candle_nn::Module::forward(&self.norm, &(self.output.candle(&together)? + x)?)?;
        let inner = self.inner.candle(&x)?.gelu_erf()?;
        candle_nn::Module::forward(&self.norm, &(self.outer.candle(&inner)? + &x)?)
    }
}

/// The largest difference between the elements of both results.
fn difference(ours: &Matrix<'_>, theirs: &Candle) -> Result<f32> {
    let theirs: Vec<f32> = theirs.flatten_all()?.to_vec1()?;
    Ok(ours.as_slice().iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max))
}

pub(crate) fn run(alloc: &TensorAllocator) -> Result<()> {
    println!("\n| layer | tenzor | candle |\n|---|---|---|");
    let (first, second) = (Linear::new(alloc, 512, 2048)?, Linear::new(alloc, 2048, 512)?);
    let x = matrix(alloc, &[64, 512], 2.0)?;
    let candle_x = to_candle(&x)?;
    let ours = || -> Result<Matrix<'_>> { Ok(eval(&second.of(first.of(&x).relu()), alloc)?) };
    let theirs = || second.candle(&first.candle(&candle_x)?.relu()?);
    let apart = difference(&ours()?, &theirs()?)?;
    let ours = || Ok(drop(black_box(ours()?)));
    let theirs = || Ok(drop(black_box(theirs()?)));
    let name = format!("perceptron 512-2048-512, batch 64; results {apart:.0e} apart");
    compare(&name, vec![Box::new(ours), Box::new(theirs)])?;

    let layer = Encoder::new(alloc)?;
    let x = matrix(alloc, &[TOKENS, WIDTH], 2.0)?;
    let candle_x = to_candle(&x)?;
    let apart = difference(&layer.tenzor(&x, alloc)?, &layer.candle(&candle_x)?)?;
    let ours = || Ok(drop(black_box(layer.tenzor(&x, alloc)?)));
    let theirs = || Ok(drop(black_box(layer.candle(&candle_x)?)));
    let name = format!("BERT-base's encoder layer, 128 tokens; results {apart:.0e} apart");
    compare(&name, vec![Box::new(ours), Box::new(theirs)])
}
