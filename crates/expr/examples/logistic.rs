//! Logistic regression of three classes: one-hot labels, weights that are updated in place, and the share of what is told right.

use std::error::Error;

use tenzor_expr::{Expr, Tensor, eval};
use tenzor_memory::TensorAllocator;

const POINTS: usize = 600;
const FEATURES: usize = 4;
const CLASSES: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let alloc = TensorAllocator::new();
    let labels = Tensor::from_fn_in([POINTS], |i| i % CLASSES, &alloc)?;
    let mut random = fastrand::Rng::with_seed(1);
    let mut feature = |i: usize| {
        let is_own = i / FEATURES % CLASSES == i % FEATURES;
        random.f32() - 0.5 + if is_own { 1.0 } else { 0.0 }
    };
    let x = Tensor::from_fn_in([POINTS, FEATURES], &mut feature, &alloc)?;
    let wanted = eval(&labels.one_hot::<f32>(CLASSES), &alloc)?;
    let mut w = Tensor::zeros_in([FEATURES, CLASSES], &alloc)?;
    let mut b = Tensor::zeros_in([CLASSES], &alloc)?;
    for step in 0..100 {
        let shares = eval(&(x.matmul(&w) + &b).softmax(-1), &alloc)?;
        if step % 25 == 0 {
            let loss = eval(&-(shares.maximum(1e-12).ln() * &wanted).sum(1).mean(..), &alloc)?;
            println!("step {step}: loss {:.4}", loss.item()?);
        }
        let gradient = eval(&((&shares - &wanted) / POINTS as f32), &alloc)?;
        w.update(|w| w - x.transpose().matmul(&gradient))?;
        b.update(|b| b - gradient.sum(0))?;
    }
    let told = (x.matmul(&w) + &b).argmax(-1);
    let right = eval(&told.equals(&labels).cast::<f32>().mean(..), &alloc)?.item()?;
    println!(
        "{:.1} % of {POINTS} are told right; {} of {} requests were misses",
        100.0 * right,
        alloc.stats().pool_misses,
        alloc.stats().allocations
    );
    Ok(())
}
