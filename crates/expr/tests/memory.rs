//! What evaluations do to their allocator.
#![allow(missing_docs, clippy::unwrap_used)]

use std::error::Error;

use tenzor_expr::{EvalError, Expr, View, eval, explain};
use tenzor_memory::{ComputeArena, Failing, PoolConfig, System, TensorAllocator};

type Result = std::result::Result<(), Box<dyn Error>>;

/// Something with a temporary of every kind: products, a reduction, a softmax, and a reshape that has to move.
macro_rules! everything {
    ($x:expr) => {{
        let x = $x;
        let attended = x.matmul(x.transpose()).softmax(1).matmul(x);
        let turned = x.transpose().reshape([64, 64]) * 0.5;
        (attended + turned - x.mean(1).keep_dims()).layer_norm(1e-5).gelu()
    }};
}

fn numbers() -> Vec<f32> {
    (0..64 * 64).map(|i| ((i * 37) % 101) as f32 / 101.0).collect()
}

#[test]
fn a_thousand_rounds_hit_and_miss_as_explained() -> Result {
    let numbers = numbers();
    let x = View::new(&numbers, [64, 64])?;
    let expr = everything!(x);
    let plan = explain(&expr)?;
    let alloc = TensorAllocator::new();
    drop(eval(&expr, &alloc)?);
    let first = alloc.stats();
    assert_eq!(first.allocations as usize, plan.requests());
    assert_eq!(first.peak_bytes_in_use, plan.peak_bytes);
    for _ in 1..1000 {
        drop(eval(&expr, alloc.allocator())?);
    }
    let stats = alloc.stats();
    assert_eq!(stats.allocations as usize, 1000 * plan.requests());
    assert_eq!((stats.pool_misses, stats.bytes_in_use), (first.pool_misses, 0));
    assert_eq!(stats.peak_bytes_in_use, plan.peak_bytes);
    Ok(())
}

#[test]
fn in_an_arena_everything_goes_at_reset() -> Result {
    let numbers = numbers();
    let x = View::new(&numbers, [64, 64])?;
    let expr = everything!(x);
    let alloc = TensorAllocator::new();
    let expected = eval(&expr, &alloc)?;
    let mut arena = ComputeArena::new();
    for _ in 0..10 {
        let result = eval(&expr, &arena)?;
        assert_eq!(result.as_slice(), expected.as_slice());
        drop(result);
        arena.reset();
        assert_eq!(arena.usage().bytes_in_use, 0);
    }
    assert_eq!(arena.usage().blocks, 1);
    Ok(())
}

#[test]
fn whichever_request_is_refused_nothing_is_lost() -> Result {
    let numbers = numbers();
    let x = View::new(&numbers, [64, 64])?;
    let expr = everything!(x);
    // Without a pool, each request reaches the backing.
    let config = PoolConfig::default().with_max_pool_size(0);
    let requests = explain(&expr)?.requests() as u64;
    for k in 1..=requests + 1 {
        let backing = Failing::from(System, k);
        let alloc = TensorAllocator::with_config_in(config, &backing);
        let result = eval(&expr, &alloc);
        assert!(if k > requests { result.is_ok() } else { matches!(result, Err(EvalError::Alloc(_))) }, "refusal {k}");
        drop(result);
        assert_eq!(alloc.stats().bytes_in_use, 0, "refusal {k}");
    }
    Ok(())
}

/// Attention and a perceptron: what is alive between evaluations, and what each promises while it runs, make the layer's peak.
#[test]
fn the_peak_of_a_layer_is_what_its_explanations_promise() -> Result {
    let numbers = numbers();
    let x = View::new(&numbers, [64, 64])?;
    let w = View::new(&numbers[..64 * 16], [64, 16])?;
    let alloc = TensorAllocator::new();
    let (mut held, mut promised) = (0, 0);
    macro_rules! step {
        ($expr:expr) => {{
            let expr = $expr;
            let plan = explain(&expr)?;
            promised = promised.max(held + plan.peak_bytes);
            held += plan.output_bytes;
            eval(&expr, &alloc)?
        }};
    }
    let (query, key, value) = (step!(x.matmul(w)), step!(x.matmul(w) * 0.5), step!((x + 1.0).matmul(w)));
    let attended = step!((query.matmul(key.transpose()) / 4.0).softmax(1).matmul(&value));
    held -= 4 * (query.as_slice().len() + key.as_slice().len() + value.as_slice().len());
    drop((query, key, value));
    let normed = step!((attended.matmul(w.transpose()) + x).layer_norm(1e-5));
    let last = step!((normed.matmul(x).gelu().matmul(x) + &normed).layer_norm(1e-5));
    let results = attended.as_slice().len() + normed.as_slice().len() + last.as_slice().len();
    assert_eq!((alloc.stats().peak_bytes_in_use, held), (promised, 4 * results));
    Ok(())
}

#[test]
fn sums_depend_on_values_and_shapes_alone() -> Result {
    let numbers: Vec<f32> = (0..16_000 * 32).map(|i| 0.1 + (i % 3) as f32 * 0.01).collect();
    let part = View::new(&numbers, [16_000, 32])?.slice(1, 0..31);
    let alloc = TensorAllocator::new();
    let copy = eval(&(part * 1.0), &alloc)?;
    let (sliced, packed) = (eval(&part.sum(..), &alloc)?, eval(&copy.sum(..), &alloc)?);
    assert_eq!(sliced.as_slice(), packed.as_slice());
    let exact: f64 = copy.as_slice().iter().map(|&x| f64::from(x)).sum();
    let error = (f64::from(packed.as_slice()[0]) - exact).abs() / exact;
    assert!(error < 2e-6, "{error}");
    Ok(())
}

#[test]
fn a_softmax_of_very_small_or_large_numbers_is_one() -> Result {
    let alloc = TensorAllocator::new();
    for offset in [-1e4_f32, 0.0, 1e4] {
        let numbers = [offset, offset - 1.0, offset, offset - 1.0];
        let x = View::new(&numbers, [2, 2])?;
        let (rows, columns) = (eval(&x.softmax(1), &alloc)?, eval(&x.transpose().softmax(0), &alloc)?);
        let large = 1.0 / (1.0 + (-1.0_f32).exp());
        for (&x, wanted) in rows.as_slice().iter().zip([large, 1.0 - large, large, 1.0 - large]) {
            assert!((x - wanted).abs() < 1e-6, "{rows:?}");
        }
        let turned: Vec<f32> = [0, 2, 1, 3].iter().map(|&i| rows.as_slice()[i]).collect();
        assert!(columns.as_slice().iter().zip(turned).all(|(a, b)| (a - b).abs() < 1e-6), "{columns:?}");
    }
    Ok(())
}
