//! What goes wrong on the way: requests that are refused, each of every operation, and functions of users that panic. Everything goes back to the
//! allocator, tensors stay whole, and those that were updated are what they were.
#![allow(missing_docs)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use tenzor_expr::nodes::{Boxed, Scalar};
use tenzor_expr::{Eval, EvalError, Expr, Tensor, View, concat, eval, explain, explain_into, stack};
use tenzor_memory::{Failing, PoolConfig, System, TensorAllocator};

const SIZE: usize = 8;

/// An operation of a square matrix, given twice, that stretches to its shape.
type Operation = for<'x> fn(Boxed<'x, f64>, Boxed<'x, f64>) -> Boxed<'x, f64>;

/// With the least number of requests for `eval`.
const OPERATIONS: [(&str, Operation, usize); 31] = [
    ("+", |x, y| (x + y).boxed(), 1),
    ("gather", |x, y| x.gather(0, y.argmax(0)).boxed(), 2),
    ("gather of what is computed", |x, y| (x * 2.0).transpose().gather(1, y.argmin(1)).boxed(), 3),
    ("one_hot", |x, _| x.argmax(1).one_hot::<f64>(SIZE).boxed(), 2),
    ("concat", |x, y| concat([x, y], 0).slice(0, 3..11).boxed(), 2),
    (
        "concat of sums",
        |x, y| concat([x.exp().cumsum(1).boxed(), y.sum(1).keep_dims().boxed()], 1).slice(1, 1..).boxed(),
        3,
    ),
    ("stack", |x, y| stack([x, y], -1).index_axis(2, 1).boxed(), 2),
    ("stack of sums", |x, y| stack([x.sum(0).boxed(), (y * 0.5).max(1).boxed()], 0).mean(0).boxed(), 4),
    ("var", |x, _| x.var(0).boxed(), 2),
    ("var of what is computed", |x, _| x.exp().var(1).keep_dims().boxed(), 3),
    ("std", |x, _| x.std(..).boxed(), 2),
    ("norm", |x, y| (y / x.norm(1).keep_dims()).boxed(), 2),
    ("cumsum", |x, _| x.cumsum(0).boxed(), 1),
    ("cumsum of a product", |x, y| x.matmul(y).cumsum(1).boxed(), 1),
    ("argmax", |x, y| y.gather(1, x.argmax(-1).flip(0)).boxed(), 3),
    ("softmax", |x, _| x.softmax(0).boxed(), 1),
    ("softmax of a transposed one", |x, y| (x.transpose().softmax(1) + y).boxed(), 1),
    ("layer_norm", |x, _| x.layer_norm(1e-5).boxed(), 1),
    ("matmul", |x, y| x.matmul(y).boxed(), 1),
    ("matmul of what is computed", |x, y| (x + 1.0).matmul(y.transpose().exp()).boxed(), 3),
    ("matmul with a vector", |x, y| x.matmul(y.index_axis(0, 1).exp()).boxed(), 2),
    ("sum", |x, y| (x + y.sum(1).keep_dims()).boxed(), 2),
    ("mean of sums", |x, _| x.sum(0).mean(0).boxed(), 2),
    ("prod, max, min", |x, y| (x.prod(0) + y.max(1) - 1.0).min(0).boxed(), 3),
    ("count", |x, y| y.gather(0, x.slice(0, 1..).gt(0.0).count(0)).boxed(), 3),
    ("any, all", |x, y| (x.gt(0.0).any(0) & y.lt(1.0).all(1)).cast::<f64>().boxed(), 3),
    ("materialise", |x, y| (x.exp().materialise() * y.materialise()).boxed(), 2),
    ("reshape", |x, _| x.transpose().reshape([4, 16]).reshape([8, 8]).boxed(), 1),
    ("stretched function", |x, y| (x.slice(0, ..1).exp() * y).boxed(), 2),
    ("where", |x, y| x.gt(0.0).where_(y.softmax(0), 1.0).boxed(), 1),
    (
        "boxes",
        |x, y| ((x.sum(0).boxed() + 1.0).boxed() * y.matmul(Scalar(2.0).broadcast_to([SIZE, SIZE]).boxed())).boxed(),
        3,
    ),
];

fn numbers() -> Vec<f64> {
    (0..SIZE * SIZE).map(|i| f64::from((i as u32 * 37) % 101) / 50.0 - 1.0).collect()
}

#[test]
fn whichever_request_is_refused_everything_goes_back() -> Result<(), EvalError> {
    let numbers = numbers();
    let x = View::new(&numbers, [SIZE, SIZE])?;
    // Without a pool, each request reaches the backing.
    let config = PoolConfig::default().with_max_pool_size(0);
    for (name, operation, least) in OPERATIONS {
        let expr = operation(x.boxed(), x.boxed()).broadcast_to([SIZE, SIZE]);
        let plenty = TensorAllocator::new();
        let wanted = eval(&expr, &plenty)?;
        let (whole, into) = (explain(&expr)?.requests(), explain_into(&expr)?.requests());
        assert!(whole >= least && into < whole, "{name}: {whole}, {into}");
        for way in ["eval", "eval_into", "assign", "update"] {
            for k in 1.. {
                let backing = Failing::from(System, k);
                let alloc = TensorAllocator::with_config_in(config, &backing);
                let eval = Eval::new(&alloc);
                let mut w = Tensor::from_slice_in(&numbers, [SIZE, SIZE], &plenty)?;
                let result = match way {
                    "eval" => eval.eval(&expr).and_then(|result| w.assign(&result)),
                    "eval_into" => eval.eval_into(&expr, w.as_mut_slice()),
                    "assign" => eval.assign(&mut w, &expr),
                    _ => eval.update(&mut w, |w| operation(w.boxed(), w.boxed())),
                };
                assert_eq!(alloc.stats().bytes_in_use, 0, "{name}, {way}, refusal {k}");
                if result.is_ok() {
                    let requests = if way == "eval" { whole } else { into };
                    assert!(k == requests as u64 + 1 || way == "update", "{name}, {way}: {k}");
                    assert_eq!(w.as_slice(), wanted.as_slice(), "{name}, {way}");
                    break;
                }
                assert!(matches!(result, Err(EvalError::Alloc(_))), "{name}, {way}, refusal {k}: {result:?}");
                assert!(way != "update" || w.as_slice() == numbers, "{name}, refusal {k}");
                assert!(k < 20, "{name}, {way}");
            }
        }
    }
    Ok(())
}

/// What fails for one number.
fn fails(x: f64) -> f64 {
    assert!(x != numbers()[40], "as it should");
    x * 2.0
}

/// As above.
const FUNCTIONS: [(&str, Operation); 12] = [
    ("map", |x, _| x.map(fails).boxed()),
    ("a chain", |x, y| ((x + 0.0).map(fails) * 1.0 + y * 0.0).boxed()),
    ("zip_map", |x, y| x.zip_map(y, |x, y| fails(x) + 0.0 * y).boxed()),
    ("in a sum", |x, y| (x + y.map(fails).sum(..)).boxed()),
    ("in a sum of columns", |x, y| (x + y.map(fails).transpose().sum(1)).boxed()),
    ("in a product", |x, y| x.map(fails).matmul(y).boxed()),
    ("behind a product", |x, y| (x.matmul(y) * 0.0 + Scalar(numbers()[40])).map(fails).boxed()),
    ("in a softmax", |x, _| x.map(fails).softmax(1).boxed()),
    ("in a join", |x, y| concat([x.boxed(), y.map(fails).boxed()], 0).slice(0, ..SIZE).boxed()),
    ("of what is gathered", |x, y| x.map(fails).gather(0, y.argmax(0)).boxed()),
    ("in a search", |x, y| x.gather(0, y.map(fails).argmax(1)).boxed()),
    ("in a variance", |x, y| (x + y.map(fails).var(0)).boxed()),
];

#[test]
fn a_function_that_panics_leaves_everything_whole() -> Result<(), EvalError> {
    let numbers = numbers();
    let x = View::new(&numbers, [SIZE, SIZE])?;
    for (name, operation) in FUNCTIONS {
        let alloc = TensorAllocator::new();
        let expr = operation(x.boxed(), x.boxed());
        let panics = |call: &mut dyn FnMut()| {
            assert!(catch_unwind(AssertUnwindSafe(call)).is_err(), "{name}");
        };
        panics(&mut || drop(eval(&expr, &alloc)));
        assert_eq!(alloc.stats().bytes_in_use, 0, "{name}");
        let mut output = vec![7.0; SIZE * SIZE];
        panics(&mut || drop(Eval::new(&alloc).eval_into(&expr, &mut output)));
        assert_eq!(alloc.stats().bytes_in_use, 0, "{name}");
        // Here no other values are between old and new ones.
        let mut w = Tensor::from_slice_in(&numbers, [SIZE, SIZE], &alloc)?;
        let before = alloc.stats().bytes_in_use;
        panics(&mut || drop(w.update(|w| operation(w.boxed(), w.boxed()))));
        let is_whole = |(&new, &old): (&f64, &f64)| new == old || new == 2.0 * old;
        assert!(w.as_slice().iter().zip(&numbers).all(is_whole), "{name}: {w:?}");
        assert_eq!(alloc.stats().bytes_in_use, before, "{name}");
        panics(&mut || drop(w.assign(&expr)));
        assert_eq!(alloc.stats().bytes_in_use, before, "{name}");
        w.assign(x)?;
        w.update(|w| w * 2.0)?;
        assert!(w.as_slice().iter().zip(&numbers).all(|(&new, &old)| new == 2.0 * old), "{name}");
    }
    Ok(())
}

#[test]
fn a_function_that_panics_on_another_thread_is_told_here() -> Result<(), EvalError> {
    let alloc = TensorAllocator::new();
    let count = 1 << 22;
    let mut w = Tensor::from_fn_in([count], |i| i as f32, &alloc)?;
    let before = alloc.stats().bytes_in_use;
    let fails = |x: f32| if x == 4_000_000.0 { panic!("as it should") } else { -x };
    let call = || w.update(|w| (w.tanh() * 0.0 + w).map(fails));
    assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
    assert_eq!(alloc.stats().bytes_in_use, before);
    assert!(w.as_slice().iter().enumerate().all(|(i, &x)| x.abs() == i as f32 || x.is_nan()));
    let call = || eval(&(&w).map(|x| if x.abs() == 4_000_000.0 { panic!("as it should") } else { x }).exp(), &alloc);
    assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
    assert_eq!(alloc.stats().bytes_in_use, before);
    Ok(())
}

#[test]
fn numbers_by_reference_are_numbers() -> Result<(), EvalError> {
    let alloc = TensorAllocator::new();
    let x = Tensor::from_slice_in(&[1.0_f32, 4.0, 9.0], [3], &alloc)?;
    let two = Scalar(2.0_f32);
    let by_value = eval(&((&x).powf(two) * two + two), &alloc)?;
    let by_reference = eval(&(&x).powf(&two).mul(&two).add(&two), &alloc)?;
    assert_eq!(by_value.as_slice(), by_reference.as_slice());
    assert_eq!(by_reference.as_slice(), [4.0, 34.0, 164.0]);
    assert_eq!(explain(&(&x).powf(&two))?.to_string(), explain(&(&x).powf(two))?.to_string());
    Ok(())
}

#[test]
fn law_14_the_limit_is_told_by_every_way_to_a_tensor() {
    use tenzor_memory::{AllocErrorKind, ComputeArena};

    let alloc = TensorAllocator::with_config(PoolConfig::default().with_limit(Some(1 << 20)));
    let x = Tensor::new(alloc.alloc_zeroed::<f32>(200_000).unwrap(), [200_000]).unwrap();
    let check = |error: EvalError| {
        let EvalError::Alloc(reason) = error else { panic!("{error}") };
        assert_eq!((reason.kind(), reason.limit()), (AllocErrorKind::OverLimit, Some(1 << 20)));
        assert_eq!(reason.in_use(), 800_000);
    };
    check(eval(&(&x * 2.0), alloc.allocator()).unwrap_err());
    check(Tensor::from_slice_in(&x.as_slice()[..150_000], [150_000], &alloc).unwrap_err());
    check(x.try_clone().unwrap_err());
    check(eval(&(&x * 2.0), &ComputeArena::new_in(alloc.clone())).unwrap_err());
    check(eval(&(&x * 2.0), TensorAllocator::new_in(alloc.clone())).unwrap_err());
}
