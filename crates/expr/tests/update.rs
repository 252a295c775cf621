//! Tensors that are written to: what comes out is what an evaluation elsewhere gives, whatever the change reads, and nothing is requested where
//! each element depends on itself alone.

use tenzor_expr::nodes::{Boxed, Current, Scalar};
use tenzor_expr::{EvalError, Expr, Tensor, eval};
use tenzor_memory::TensorAllocator;

type Floats<'a> = Tensor<f64, &'a TensorAllocator>;

/// A change, of current values or of a copy's.
type Change = for<'x> fn(Boxed<'x, f64>, Boxed<'x, f64>, Boxed<'x, f64>) -> Boxed<'x, f64>;

/// With how many blocks each is made.
const CHANGES: [(&str, Change, u64); 12] = [
    ("x", |x, _, _| x, 0),
    ("2 x + x", |x, y, _| (2.0 * x + y).boxed(), 0),
    ("x exp(-x)", |x, y, _| (x * (-y).exp()).boxed(), 0),
    ("x - g", |x, _, g| (x - g * 0.5).boxed(), 0),
    ("x + sum", |x, y, _| (x + y.sum(1).keep_dims()).boxed(), 1),
    ("x + transposed", |x, y, _| (x + y.transpose()).boxed(), 1),
    ("transposed", |x, _, _| x.transpose().boxed(), 1),
    ("product", |x, y, _| x.matmul(y).boxed(), 1),
    ("product and more", |x, y, g| (x.matmul(y) + g).boxed(), 1),
    ("softmax", |x, _, _| x.softmax(0).boxed(), 1),
    ("leaky", |x, y, g| x.lt(g).where_(y * 0.1, 1.0).boxed(), 1),
    ("of a row", |x, _, _| x.slice(0, ..1).boxed(), 1),
];

#[test]
fn updates_are_what_evaluations_are() -> Result<(), EvalError> {
    for n in [0, 1, 3, 40] {
        for (name, change, blocks) in CHANGES {
            if n == 0 && name == "of a row" {
                continue;
            }
            let alloc = TensorAllocator::new();
            let mut w: Floats<'_> = Tensor::from_fn_in([n, n], |i| (i * 7 % 11) as f64 - 5.0, &alloc)?;
            let g = Tensor::from_fn_in([n, n], |i| (i * 5 % 7) as f64 - 3.0, &alloc)?;
            let expected = {
                let expr = change((&w).boxed(), (&w).boxed(), (&g).boxed());
                eval(&expr.broadcast_to([n, n]), &alloc)?
            };
            let before = alloc.stats().allocations;
            w.update(|w: Current<f64>| change(w.boxed(), w.boxed(), (&g).boxed()))?;
            assert_eq!(w.as_slice(), expected.as_slice(), "{name}, {n}");
            let made = alloc.stats().allocations - before;
            // Of one element or none, more is in place.
            assert!(made == blocks || n <= 1 && made < blocks, "{name}, {n}: {made}");
        }
    }
    Ok(())
}

#[test]
fn large_tensors_are_updated_by_several_threads() -> Result<(), EvalError> {
    let alloc = TensorAllocator::new();
    let count = 1 << 22;
    let mut w = Tensor::from_fn_in([count], |i| (i % 1000) as f32 * 1e-3, &alloc)?;
    let expected = eval(&((&w).exp() * 0.5 + &w), &alloc)?;
    w.update(|w| w.exp() * 0.5 + w)?;
    assert_eq!(w.as_slice(), expected.as_slice());
    Ok(())
}

#[test]
fn what_is_assigned_is_stretched() -> Result<(), EvalError> {
    let alloc = TensorAllocator::new();
    let mut w = Tensor::zeros_in([2, 3], &alloc)?;
    let row = Tensor::from_slice_in(&[1.0_f32, 2.0, 3.0], [3], &alloc)?;
    let before = alloc.stats().allocations;
    w.assign(&row * 2.0)?;
    assert_eq!(w.as_slice(), [2.0, 4.0, 6.0, 2.0, 4.0, 6.0]);
    w.assign(Scalar(1.0))?;
    assert_eq!((w.as_slice(), alloc.stats().allocations), (&[1.0; 6][..], before));
    // Neither a larger one nor another one.
    let mut one = Tensor::zeros_in([3], &alloc)?;
    let error = one.assign(&w).unwrap_err().to_string();
    assert!(error.starts_with("assign: the shapes [3] and [2, 3] do not go together"), "{error}");
    assert!(w.assign(one.slice(0, ..2)).is_err() && w.update(|_| one.slice(0, ..2)).is_err());
    assert!(one.update(|x| x + &w).is_err());
    assert_eq!(w.as_slice(), [1.0; 6]);
    Ok(())
}

#[test]
fn current_values_are_nobody_elses() -> Result<(), EvalError> {
    let alloc = TensorAllocator::new();
    let mut w = Tensor::from_slice_in(&[1.0_f32, 2.0], [2], &alloc)?;
    let mut kept = None;
    w.update(|w| {
        kept = Some(w);
        w * 2.0
    })?;
    let kept = kept.expect("it was set");
    assert_eq!(eval(&(kept + 1.0), &alloc).unwrap_err(), EvalError::NotCurrent);
    assert_eq!(w.update(|w| w + kept).unwrap_err(), EvalError::NotCurrent);
    assert_eq!(w.as_slice(), [2.0, 4.0]);
    Ok(())
}

#[test]
fn a_refused_update_changes_nothing() -> Result<(), EvalError> {
    let config = tenzor_memory::PoolConfig::default().with_limit(Some(3000));
    let alloc = TensorAllocator::with_config(config);
    let mut w = Tensor::from_fn_in([16, 16], |i| i as f64, &alloc)?;
    let before = w.as_slice().to_vec();
    assert!(matches!(w.update(|w| w.matmul(w)).unwrap_err(), EvalError::Alloc(_)));
    assert!(matches!(w.update(|w| w + w.transpose()).unwrap_err(), EvalError::Alloc(_)));
    assert_eq!(w.as_slice(), before);
    w.update(|w| w * 2.0)?;
    assert_eq!(w.as_slice()[3], 6.0);
    Ok(())
}
