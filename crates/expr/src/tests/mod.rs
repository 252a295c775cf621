//! Random expressions against a naive interpreter that follows each index by itself.
//!
//! They are boxed, each operation, so that their types say nothing. The leaves are small whole numbers and the operations exact, so that results agree to the last bit whatever the order of the additions.

mod naive;
mod terms;
mod transpose;

use tenzor_memory::TensorAllocator;

use self::naive::Maker;
use crate::eval::Eval;
use crate::explain::{explain, explain_into};
use crate::expr::Expr;
use crate::shape::Shape;
use crate::tensor::{Tensor, View};
use crate::{eval, eval_into};

fn cases(least: u64) -> u64 {
    std::env::var("TENZOR_TEST_OPS").ok().and_then(|n| n.parse().ok()).unwrap_or(least)
}

#[test]
fn random_expressions_have_the_values_they_should_and_need_what_was_explained() {
    let mut random = fastrand::Rng::with_seed(1);
    let pool: Vec<f64> = (0..10_000).map(|_| f64::from(random.i8(-2..3))).collect();
    let (mut compared, mut refused, mut saved) = (0_u64, 0_u64, 0_u64);
    for seed in 0..cases(100_000) {
        let mut maker = Maker { random: fastrand::Rng::with_seed(seed), pool: &pool };
        let depth = 1 + maker.random.u32(..5);
        let Some((node, naive)) = maker.any(depth) else {
            refused += 1;
            continue;
        };
        // Beyond, sums are not exact.
        if naive.elements.iter().any(|x| x.abs() > 1e9) || naive.elements.len() > 100_000 {
            continue;
        }
        let shape = node.shape().unwrap();
        assert_eq!(shape[..], naive.shape, "seed {seed}");
        let plan = explain(&node).unwrap();
        let alloc = TensorAllocator::new();
        let result = eval(&node, &alloc).unwrap();
        let is_equal =
            |elements: &[f64]| elements.iter().zip(&naive.elements).all(|(a, b)| a == b || a.is_nan() && b.is_nan());
        assert!(is_equal(result.as_slice()), "seed {seed}:\n{plan}\n{:?}\n{:?}", result.as_slice(), naive.elements);
        let stats = alloc.stats();
        assert_eq!(
            (stats.allocations as usize, stats.peak_bytes_in_use),
            (plan.requests(), plan.peak_bytes),
            "seed {seed}:\n{plan}"
        );
        assert_eq!(stats.bytes_in_use, plan.output_bytes, "seed {seed}");
        drop(result);
        assert_eq!(alloc.stats().bytes_in_use, 0, "seed {seed}");
        let alone = Eval::new(&alloc).sequential().eval(&node).unwrap();
        assert!(is_equal(alone.as_slice()), "seed {seed}");
        let mut into = vec![7.0; shape.elements()];
        let (requests, into_plan) = (plan.requests(), explain_into(&node).unwrap());
        let before = alloc.stats();
        Eval::new(&alloc).eval_into(&node, &mut into).unwrap();
        assert!(is_equal(&into), "seed {seed}:\n{into_plan}\n{into:?}\n{:?}", naive.elements);
        let stats = alloc.stats();
        assert_eq!(
            (stats.allocations - before.allocations) as usize,
            into_plan.requests(),
            "seed {seed}:\n{into_plan}"
        );
        assert_eq!(stats.bytes_in_use, before.bytes_in_use, "seed {seed}");
        assert!(into_plan.requests() <= requests, "seed {seed}:\n{into_plan}");
        saved += u64::from(into_plan.requests() + usize::from(into_plan.output_bytes > 0) <= requests);
        compared += 1;
    }
    assert!(compared > 4 * refused, "{compared} compared, {refused} refused");
    // But for views of views that together change nothing, the result is not requested where there is an output.
    assert!(100 * saved > 99 * compared, "{saved} of {compared}");
}

/// A short expression is computed by a way of its own, which another, that differs in nothing but a view, does not go.
#[test]
fn short_expressions_have_the_values_of_others() {
    fn is_short(expr: impl Expr) -> bool {
        expr.as_row(&expr.shape().unwrap()).is_some()
    }

    fn check<E: Expr<Elem: PartialEq> + Copy>(expr: E) {
        let alloc = TensorAllocator::new();
        let general = expr.broadcast_to(expr.shape().unwrap());
        assert!(!is_short(general));
        let value = eval(&expr, &alloc).unwrap();
        assert_eq!(value.as_slice(), eval(&general, &alloc).unwrap().as_slice());
        assert_eq!(value.shape(), expr.shape().unwrap());
        let mut output = vec![E::Elem::default(); value.as_slice().len()];
        eval_into(&expr, &mut output).unwrap();
        assert_eq!(value.as_slice(), output);
        assert_eq!(explain(&expr).unwrap().requests(), usize::from(!output.is_empty()));
    }

    for sizes in [&[][..], &[0], &[1], &[7], &[2, 3], &[3, 0], &[1, 5, 1], &[128, 128], &[128, 129]] {
        let shape = Shape::new(sizes).unwrap();
        let elements =
            |seed: usize| -> Vec<f64> { (0..shape.elements()).map(|i| (i * seed % 13) as f64 - 6.0).collect() };
        let (a, b, c) = (elements(7), elements(11), elements(5));
        let view = |elements| View::new(elements, shape).unwrap();
        let (a, b, c) = (view(&a), view(&b), view(&c));
        assert!(is_short(a * b + c - a / 2.0));
        check(a);
        check(a * b + c - a / 2.0);
        check(2.0 - a.abs().maximum(b).relu());
        check(a.lt(b));
        check(a.lt(b).where_(c * 2.0, 1.0));
    }

    let elements: Vec<f64> = (0..6).map(f64::from).collect();
    let matrix = View::new(&elements, [2, 3]).unwrap();
    let row = Tensor::from_slice_in(&elements[..3], [3], TensorAllocator::new()).unwrap();
    let row = &row;
    let column = View::new(&elements[..2], [2, 1]).unwrap();
    for wrong in
        [is_short(matrix + row), is_short(column + matrix), is_short(column * row), is_short(-matrix.transpose())]
    {
        assert!(!wrong);
    }
    assert!(!is_short(matrix.lt(row).where_(matrix, 0.0)) && !is_short(matrix - matrix.sum(1).keep_dims()));
    check(matrix + row);
    check(column * row);
}

/// An array whose axes were exchanged is in another order than its shape.
#[cfg(feature = "ndarray")]
#[test]
fn short_expressions_read_turned_arrays_in_order() {
    let array = ndarray::array![[1.0, 2.0], [3.0, 4.0]];
    let turned = View::try_from(array.t()).unwrap();
    let mut output = [0.0; 4];
    eval_into(&(turned + 0.0), &mut output).unwrap();
    assert_eq!(output, [1.0, 3.0, 2.0, 4.0]);
}
