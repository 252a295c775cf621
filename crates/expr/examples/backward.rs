//! A perceptron of two layers that learns: forward, backward by hand, and parameters updated in place.

use std::error::Error;

use tenzor_expr::{Element, Expr, Tensor, eval};
use tenzor_memory::TensorAllocator;

type Floats<'a> = Tensor<f32, &'a TensorAllocator>;

struct Perceptron<'a> {
    weights: [Floats<'a>; 2],
    biases: [Floats<'a>; 2],
}

impl<'a> Perceptron<'a> {
    /// One step down; returns the loss before it.
    fn step(
        &mut self,
        x: &Floats<'a>,
        wanted: &Floats<'a>,
        rate: f32,
        alloc: &'a TensorAllocator,
    ) -> Result<f32, Box<dyn Error>> {
        let ([w1, w2], [b1, b2]) = (&mut self.weights, &mut self.biases);
        let hidden = eval(&(x.matmul(&*w1) + &*b1).tanh(), alloc)?;
        let error = eval(&(hidden.matmul(&*w2) + &*b2 - wanted), alloc)?;
        let loss = eval(&error.square().mean(..), alloc)?.item()?;
        let output = eval(&(&error * (2.0 / f32::from_count(wanted.as_slice().len()))), alloc)?;
        let inner = eval(&(output.matmul(w2.transpose()) * (1.0 - hidden.square())), alloc)?;
        w2.update(|w| w - rate * hidden.transpose().matmul(&output))?;
        b2.update(|b| b - rate * output.sum(0))?;
        w1.update(|w| w - rate * x.transpose().matmul(&inner))?;
        b1.update(|b| b - rate * inner.sum(0))?;
        Ok(loss)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let alloc = TensorAllocator::new();
    let mut random = fastrand::Rng::with_seed(2);
    let mut tensor =
        |sizes: [usize; 2], scale: f32| Tensor::from_fn_in(sizes, |_| (random.f32() - 0.5) * scale, &alloc);
    let x = tensor([256, 2], 4.0)?;
    let wanted = eval(&(x.slice(1, ..1) * x.slice(1, 1..)), &alloc)?;
    let mut perceptron = Perceptron {
        weights: [tensor([2, 32], 1.0)?, tensor([32, 1], 0.5)?],
        biases: [Tensor::zeros_in([32], &alloc)?, Tensor::zeros_in([1], &alloc)?],
    };
    for step in 0..=2000 {
        let loss = perceptron.step(&x, &wanted, 0.1, &alloc)?;
        if step % 500 == 0 {
            println!("step {step}: loss {loss:.4}");
        }
    }
    println!("{} of {} requests were misses", alloc.stats().pool_misses, alloc.stats().allocations);
    Ok(())
}
