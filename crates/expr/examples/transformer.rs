//! A layer of a transformer's encoder, as large as one of BERT-base: attention of twelve heads, and a perceptron, each with a residual
//! connection and a normalisation.

use std::error::Error;
use std::io::Write;

use tenzor_expr::{Expr, Tensor, eval};
use tenzor_memory::TensorAllocator;

const TOKENS: usize = 128;
const WIDTH: usize = 768;
const HEADS: usize = 12;
const HEAD: usize = WIDTH / HEADS;
const INNER: usize = 4 * WIDTH;

/// Each head's part of each token, `[HEADS, TOKENS, HEAD]`. Nothing is moved.
fn heads(x: &Matrix<'_>) -> impl Expr<Elem = f32> {
    x.view().reshape([TOKENS, HEADS, HEAD]).permute([1, 0, 2])
}

type Matrix<'a> = Tensor<f32, &'a TensorAllocator>;

struct Linear<'a> {
    weight: Matrix<'a>,
    bias: Matrix<'a>,
}

struct Layer<'a> {
    query: Linear<'a>,
    key: Linear<'a>,
    value: Linear<'a>,
    output: Linear<'a>,
    inner: Linear<'a>,
    outer: Linear<'a>,
}

impl<'a> Linear<'a> {
    fn new(alloc: &'a TensorAllocator, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = |i: usize| ((i * 7919) % 1009) as f32 / 10_000.0 - 0.05;
        Ok(Self {
            weight: Tensor::new(alloc.alloc_from_fn(inputs * outputs, weight)?, [inputs, outputs])?,
            bias: Tensor::new(alloc.alloc_filled(outputs, 0.01)?, [outputs])?,
        })
    }

    /// `x` times the weights, plus the bias.
    fn of<E: Expr<Elem = f32>>(&self, x: E) -> impl Expr<Elem = f32> {
        x.matmul(&self.weight) + &self.bias
    }
}

impl<'a> Layer<'a> {
    fn new(alloc: &'a TensorAllocator) -> Result<Self> {
        let square = || Linear::new(alloc, WIDTH, WIDTH);
        Ok(Self {
            query: square()?,
            key: square()?,
            value: square()?,
            output: square()?,
            inner: Linear::new(alloc, WIDTH, INNER)?,
            outer: Linear::new(alloc, INNER, WIDTH)?,
        })
    }

    fn run(&self, x: &Matrix<'a>, alloc: &'a TensorAllocator) -> Result<Matrix<'a>> {
        let query = eval(&self.query.of(x), alloc)?;
        let key = eval(&self.key.of(x), alloc)?;
        let value = eval(&self.value.of(x), alloc)?;
        let scores = heads(&query).matmul(heads(&key).transpose()) / (HEAD as f32).sqrt();
        let attended = eval(&scores.softmax(2).matmul(heads(&value)), alloc)?;
        drop((query, key, value));
        let together = attended.permute([1, 0, 2]).reshape([TOKENS, WIDTH]);
        let x = eval(&self.output.of(together).add(x).layer_norm(1e-12), alloc)?;
        drop(attended);
        let inner = self.inner.of(&x).gelu();
        Ok(eval(&self.outer.of(inner).add(&x).layer_norm(1e-12), alloc)?)
    }
}

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Prints what it does.
pub(crate) fn run(out: &mut dyn Write) -> Result {
    let alloc = TensorAllocator::new();
    let layer = Layer::new(&alloc)?;
    let embedding = alloc.alloc_from_fn(TOKENS * WIDTH, |i| (i % 97) as f32 / 97.0)?;
    let mut x = Tensor::new(embedding, [TOKENS, WIDTH])?;
    for _ in 0..12 {
        x = layer.run(&x, &alloc)?;
    }
    writeln!(out, "the first numbers: {:?}\n", &x.as_slice()[..4])?;
    writeln!(out, "{}", alloc.stats())?;
    Ok(())
}

#[allow(dead_code)] // `tenzor demo` has a main function of its own.
fn main() -> Result {
    run(&mut std::io::stdout().lock())
}
