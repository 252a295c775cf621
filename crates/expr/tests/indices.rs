//! Indices: where extremes are, what is gathered by them, and what is refused.
#![allow(clippy::unwrap_used)]

use tenzor_expr::{
    Eval, EvalError, Expr, Shape, ShapeErrorKind, Tensor, View, concat, eval, eval_into, explain, stack,
};
use tenzor_memory::TensorAllocator;

/// What is wrong with an expression's shapes.
fn kind(expr: impl Expr) -> ShapeErrorKind {
    expr.shape().unwrap_err().kind
}

fn argmax(values: &[f32], shape: &[usize], axis: usize) -> Vec<usize> {
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let size = shape[axis];
    let mut places = Vec::new();
    for i in 0..outer * inner {
        let one = |k: usize| values[(i / inner * size + k) * inner + i % inner];
        let is_beyond = |x: f32, y: f32| x > y || x.is_nan() && !y.is_nan();
        places.push((1..size).fold(0, |best, k| if is_beyond(one(k), one(best)) { k } else { best }));
    }
    places
}

#[test]
fn extremes_are_found_along_any_axis_and_by_all_threads() {
    let alloc = TensorAllocator::new();
    let mut random = fastrand::Rng::with_seed(1);
    for shape in
        [[1, 1, 1_000_000], [100, 100, 100], [3, 1000, 7], [1000, 2, 300], [2, 1, 2], [300_000, 3, 5], [3001, 3, 1000]]
    {
        let count: usize = shape.iter().product();
        // Few different values, so that there are equals, and here and there a NaN.
        let rare = random.u32(2..1_000_000);
        let values: Vec<f32> =
            (0..count).map(|_| if random.u32(..rare) == 0 { f32::NAN } else { random.i8(-3..3).into() }).collect();
        let x = View::new(&values, shape).unwrap();
        for axis in 0..3 {
            let expected = argmax(&values, &shape, axis);
            assert_eq!(eval(&x.argmax(axis), &alloc).unwrap().as_slice(), expected, "{shape:?}, {axis}");
            assert_eq!(eval(&(-x).argmin(axis), &alloc).unwrap().as_slice(), expected, "{shape:?}, {axis}");
            let turned = x.permute([2, 0, 1]).argmax([1, 2, 0][axis]);
            let back = if axis == 2 { eval(&turned, &alloc) } else { eval(&turned.transpose(), &alloc) };
            assert_eq!(back.unwrap().as_slice(), expected, "{shape:?}, {axis}");
        }
    }
    let least = [f32::NEG_INFINITY; 700];
    assert_eq!(eval(&View::new(&least, [700]).unwrap().argmax(0), &alloc).unwrap().as_slice(), [0]);
}

#[test]
fn large_parts_are_gathered_and_joined() {
    let alloc = TensorAllocator::new();
    let values: Vec<f32> = (0..3_000_000_u32).map(|i| i as f32).collect();
    let indices: Vec<usize> = (0..10_000).map(|i| i * 7919 % 3000).collect();
    let x = View::new(&values, [3000, 1000]).unwrap();
    let rows = eval(&x.gather(0, View::new(&indices, [100, 100]).unwrap()), &alloc).unwrap();
    assert_eq!(rows.shape()[..], [100, 100, 1000]);
    let elements = rows.as_slice();
    assert!((0..elements.len()).all(|i| elements[i] == (indices[i / 1000] * 1000 + i % 1000) as f32));
    let columns = eval(&x.transpose().gather(1, View::new(&indices, [10_000]).unwrap()), &alloc).unwrap();
    let elements = columns.as_slice();
    assert!((0..elements.len()).all(|i| elements[i] == (indices[i % 10_000] * 1000 + i / 10_000) as f32));
    for axis in [0_usize, 1] {
        let parts = [x.boxed(), x.slice(axis, 1..).boxed(), x.transpose().transpose().slice(axis, ..7).boxed()];
        let joined = eval(&concat(parts, axis), &alloc).unwrap();
        let (size, other) = ([3000, 1000][axis], [1000, 3000][axis]);
        assert_eq!(joined.shape()[axis], 2 * size + 6);
        for i in (0..2 * size + 6).step_by(13) {
            let index = [i, i.wrapping_sub(size).wrapping_add(1), i.wrapping_sub(2 * size - 1)]
                [usize::from(i >= size) + usize::from(i >= 2 * size - 1)];
            let value = |at: [usize; 2]| (at[0] * 1000 + at[1]) as f32;
            for k in (0..other).step_by(17) {
                let (to, from) = if axis == 0 { ([i, k], [index, k]) } else { ([k, i], [k, index]) };
                assert_eq!(joined.get(&to), Some(&value(from)), "{axis}, {to:?}");
            }
        }
    }
    // An odd number of rows, so that some thread begins within one.
    let odd = x.slice(0, 1..);
    let joined = eval(&concat([odd.boxed(), (odd + 1.0).boxed()], 1), &alloc).unwrap();
    let elements = joined.as_slice();
    let value = |i: usize| (i / 2000 + 1) * 1000 + i % 1000 + usize::from(i % 2000 >= 1000);
    assert!((0..elements.len()).all(|i| elements[i] == value(i) as f32));
    let stacked = eval(&stack(vec![x + 1.0, x + 1.0], -1), &alloc).unwrap();
    let elements = stacked.as_slice();
    assert!((0..elements.len()).all(|i| elements[i] == (i / 2 + 1) as f32));
}

#[test]
fn what_is_not_there_is_told_before_anything_is_computed_of_it() {
    let alloc = TensorAllocator::new();
    let table = View::new(&[1.0_f32; 6], [3, 2]).unwrap();
    let wrong = View::new(&[0_usize, 3, 9], [3]).unwrap();
    let refused = Err(EvalError::Index { index: 3, size: 3 });
    let gathered = table.gather(0, wrong);
    // Whatever is made of it.
    assert_eq!(eval(&gathered, &alloc).map(|_| ()), refused);
    assert_eq!(eval(&(gathered * 2.0).sum(..).exp(), &alloc).map(|_| ()), refused);
    assert_eq!(
        eval(&table.transpose().matmul(concat([gathered, gathered], 1).softmax(0)), &alloc).map(|_| ()),
        refused
    );
    assert_eq!(eval(&gathered.var(0).cumsum(0).argmax(0), &alloc).map(|_| ()), refused);
    assert_eq!(eval_into(&(gathered + 1.0), &mut [0.0; 6]), refused);
    assert_eq!(eval(&wrong.one_hot::<f64>(3), &alloc).map(|_| ()), refused);
    assert_eq!(alloc.stats().bytes_in_use, 0);
    // An explanation has nothing to do with values.
    assert_eq!(explain(&gathered).unwrap().output_bytes, 24);
    let message = EvalError::Index { index: 3, size: 3 }.to_string();
    assert_eq!(message, "there is no index 3 along an axis of 3 elements");
}

#[test]
fn shapes_that_do_not_go_together_are_refused() {
    let flat = View::new(&[1.0_f32; 6], [6]).unwrap();
    let deep = View::new(&[1.0_f32; 1], [1, 1, 1, 1, 1, 1]).unwrap();
    let indices = View::new(&[0_usize; 4], [2, 2]).unwrap();
    assert_eq!(deep.gather(0, indices).shape(), Err(ShapeErrorKind::Rank { rank: 7 }.into()));
    assert_eq!(stack([deep], 0).shape(), Err(ShapeErrorKind::Rank { rank: 7 }.into()));
    assert!(matches!(kind(flat.gather(1, indices)), ShapeErrorKind::Axis { operation: &"gather", axis: 1, .. }));
    assert!(matches!(kind(flat.argmax(-2)), ShapeErrorKind::Axis { operation: &"argmax", axis: -2, .. }));
    assert!(matches!(kind(flat.slice(0, ..0).argmin(0)), ShapeErrorKind::Empty { operation: &"argmin", .. }));
    assert!(matches!(kind(flat.cumsum(1)), ShapeErrorKind::Axis { operation: &"cumsum", .. }));
    assert!(matches!(kind(flat.std([0, 0])), ShapeErrorKind::Axis { operation: &"std", .. }));
    assert!(matches!(kind(flat.dot(flat.slice(0, ..1))), ShapeErrorKind::Mismatch { operation: &"dot", .. }));
    assert!(matches!(kind(flat.matmul(flat.slice(0, ..1))), ShapeErrorKind::Mismatch { operation: &"matmul", .. }));
    assert!(matches!(kind(flat.sum(..).matmul(flat)), ShapeErrorKind::Mismatch { operation: &"matmul", .. }));
    assert!(matches!(kind(stack([flat.slice(0, ..1), flat.slice(0, ..2)], 0)), ShapeErrorKind::Mismatch { .. }));
    assert!(matches!(kind(concat([flat.sum(..)], 0)), ShapeErrorKind::Axis { operation: &"concat", .. }));
    let nothing = kind(concat(Vec::<View<'_, f32>>::new(), 0));
    assert_eq!(nothing, ShapeErrorKind::NoParts { operation: &"concat" });
    assert_eq!(nothing.to_string(), "concat: of no expressions, nothing tells the shape");
    assert_eq!(concat(&[flat, flat][..], 0).shape(), Shape::new(&[12]));
}

#[test]
fn of_no_elements_there_is_a_value_where_there_can_be_one() {
    let alloc = TensorAllocator::new();
    let none = View::<f32>::new(&[], [2, 0]).unwrap();
    assert_eq!(eval(&none.gt(0.0).count(1), &alloc).unwrap().as_slice(), [0, 0]);
    assert_eq!(eval(&none.gt(0.0).any(1), &alloc).unwrap().as_slice(), [false, false]);
    assert_eq!(eval(&none.gt(0.0).all(1), &alloc).unwrap().as_slice(), [true, true]);
    assert!(eval(&none.var(1), &alloc).unwrap().as_slice().iter().all(|x| x.is_nan()));
    assert!(eval(&View::new(&[1.0_f32], [1]).unwrap().std(0).ddof(1), &alloc).unwrap().as_slice()[0].is_nan());
    assert_eq!(eval(&none.argmax(0), &alloc).unwrap().as_slice(), [0_usize; 0]);
    assert_eq!(eval(&none.cumsum(0), &alloc).unwrap().as_slice(), [0.0_f32; 0]);
    assert_eq!(eval(&concat([none, none], 0), &alloc).unwrap().shape()[..], [4, 0]);
    let no_indices = View::<usize>::new(&[], [0]).unwrap();
    assert_eq!(eval(&none.gather(1, no_indices), &alloc).unwrap().shape()[..], [2, 0]);
    assert_eq!(eval(&no_indices.one_hot::<f32>(0), &alloc).unwrap().shape()[..], [0, 0]);
    assert_eq!(eval(&none.matmul(View::<f32>::new(&[], [0]).unwrap()), &alloc).unwrap().as_slice(), [0.0, 0.0]);
}

#[test]
fn what_is_infinite_or_no_number_stays_so() {
    let alloc = TensorAllocator::new();
    let mut values = vec![1.0_f32; 100];
    values[40] = f32::INFINITY;
    let x = View::new(&values, [100]).unwrap();
    for sums in [eval(&x.cumsum(0), &alloc), eval(&x.reshape([50, 2]).cumsum(0).reshape([100]), &alloc)] {
        let sums = sums.unwrap();
        assert!(sums.as_slice()[..39].iter().all(|x| x.is_finite()) && sums.as_slice()[98] == f32::INFINITY);
        assert!(!sums.as_slice().iter().any(|x| x.is_nan()));
    }
    let x = View::new(&[f32::NAN, -5.0, 0.5, 5.0], [4]).unwrap();
    let low = View::new(&[0.0_f32, -1.0, 0.0, f32::NAN], [4]).unwrap();
    let clipped = eval(&x.clip(low, 1.0), &alloc).unwrap();
    assert!(clipped.as_slice()[0].is_nan() && clipped.as_slice()[3].is_nan());
    assert_eq!(clipped.as_slice()[1..3], [-1.0, 0.5]);
}

#[test]
fn indices_are_tensors() {
    let alloc = TensorAllocator::new();
    let x = Tensor::from_slice_in(&[3_usize, 10, 7], [3], &alloc).unwrap();
    assert_eq!(x.to_string(), "[ 3 10  7]");
    assert_eq!(format!("{}", explain(&x.flip(0).materialise()).unwrap().passes[0].element), "usize");
}

/// Whether threads share a row, or what else there is, nobody can tell from the result.
#[test]
fn threads_change_nothing() {
    let alloc = TensorAllocator::new();
    let mut random = fastrand::Rng::with_seed(2);
    let (all, alone) = (Eval::new(&alloc), Eval::new(&alloc).sequential());
    for count in [(1 << 15) + 1, 3 << 15, 4_300_000] {
        let values: Vec<f32> = (0..count).map(|_| random.i8(-9..10).into()).collect();
        let x = View::new(&values, [count]).unwrap();
        // Enough to do for all threads, and the same order.
        let dear = (x.exp() * 0.5).exp().ln().tanh().exp().ln() + x;
        macro_rules! same {
            ($expr:expr) => {
                let expr = $expr;
                let (result, wanted) = (all.eval(&expr).unwrap(), alone.eval(&expr).unwrap());
                assert!(result.as_slice() == wanted.as_slice(), "{count}: {}", explain(&expr).unwrap());
            };
        }
        same!(dear.argmax(0));
        same!(dear.slice(0, ..count / 3 * 3).reshape([3, count / 3]).argmin(1));
        same!(dear.slice(0, ..count / 3 * 3).reshape([count / 3, 3]).argmax(0));
        same!(x.cumsum(0));
        same!(x.slice(0, ..count / 2 * 2).reshape([2, count / 2]).cumsum(1));
        same!(stack([dear, dear], -1));
        same!(x.slice(0, ..count / 9 * 9).reshape([count / 9, 9]).argmax(1).one_hot::<f32>(9));
        // Whole numbers, none of which is rounded.
        let sums = all.eval(&x.cumsum(0)).unwrap();
        let mut sum = 0.0;
        assert!(sums.as_slice().iter().zip(&values).all(|(&x, &value)| {
            sum += value;
            x == sum
        }));
    }
    let late = 4_000_000;
    let values: Vec<f64> = (0..late + 100_000).map(|i| if i < late { 1.0 } else { f64::NAN }).collect();
    let x = View::new(&values, [values.len()]).unwrap();
    for found in
        [all.eval(&(x.exp().ln() * 1.0).argmax(0)), all.eval(&x.exp().reshape([values.len() / 2, 2]).argmin(0))]
    {
        let wanted = if found.as_ref().unwrap().as_slice().len() == 1 { late } else { late / 2 };
        assert_eq!(found.unwrap().as_slice()[0], wanted);
    }
}

/// What the count of each one is, nobody has to add up: it is made where it is read.
#[test]
fn single_conditions_are_not_added() {
    let alloc = TensorAllocator::new();
    let x = View::new(&[1.0_f64, -1.0, 2.0, -2.0, 3.0, -3.0], [2, 1, 3]).unwrap();
    let truths = eval(&x.transpose().gt(0.0), &alloc).unwrap();
    let any = (x.transpose().gt(0.0)).any(2);
    assert_eq!((any.shape(), explain(&any).unwrap().requests()), (Shape::new(&[2, 3]), 1));
    assert_eq!(eval(&any, &alloc).unwrap().as_slice(), truths.as_slice());
    assert_eq!(eval(&!x.gt(0.0).all([-2]).keep_dims(), &alloc).unwrap().shape()[..], [2, 1, 3]);
    let counts = eval(&x.gt(0.0).count(1).transpose(), &alloc).unwrap();
    assert_eq!(counts.as_slice(), [1, 0, 0, 1, 1, 0]);
    // Stretched again.
    let stretched = x.gt(0.0).any(1).keep_dims().where_(x.permute([1, 0, 2]), 0.0);
    assert_eq!(eval(&stretched, &alloc).unwrap().as_slice()[..6], [1.0, 0.0, 2.0, -2.0, 0.0, -3.0]);
}

#[test]
fn indices_are_compared_and_counted() {
    let alloc = TensorAllocator::new();
    let scores = View::new(&[0.1_f64, 0.9, 0.8, 0.2, 0.3, 0.7], [3, 2]).unwrap();
    let labels = Tensor::from_slice_in(&[1_usize, 1, 1], [3], &alloc).unwrap();
    let is_right = scores.argmax(-1).equals(&labels);
    assert_eq!(eval(&is_right, &alloc).unwrap().as_slice(), [true, false, true]);
    assert_eq!(eval(&is_right.cast::<f64>().mean(..), &alloc).unwrap().as_slice(), [2.0 / 3.0]);
    assert_eq!(eval(&scores.argmax(-1).differs(0).count(..), &alloc).unwrap().as_slice(), [2]);
    assert_eq!(explain(&is_right).unwrap().passes[1].formula, "(%1 == usize[3])");
    // As floats, and as the indices of two rows.
    let share = labels.cast::<f32>() / 2.0;
    assert_eq!(eval(&share, &alloc).unwrap().as_slice(), [0.5; 3]);
    let chosen = View::new(&[10.0_f32, 20.0], [2]).unwrap().gather(0, is_right.cast::<usize>());
    assert_eq!(eval(&chosen, &alloc).unwrap().as_slice(), [20.0, 10.0, 20.0]);
    assert_eq!(eval(&is_right.equals(labels.equals(0)), &alloc).unwrap().as_slice(), [false, true, false]);
}

#[test]
fn conditions_that_are_tensors_are_connected_borrowed_or_not() {
    let alloc = TensorAllocator::new();
    let masks = || {
        let of = |bits: [bool; 4]| Tensor::from_slice_in(&bits, [4], &alloc).unwrap();
        (of([true, true, false, false]), of([true, false, true, false]))
    };
    let is = |expected: [bool; 4], value: Result<Tensor<bool, _>, EvalError>| {
        assert_eq!(value.unwrap().as_slice(), expected);
    };
    let ((a, b), (both, one, neither)) =
        (masks(), ([true, false, false, false], [true, true, true, false], [false; 4]));
    is(both, eval(&(&a & &b), &alloc));
    is(one, eval(&(&a | masks().1), &alloc));
    is(neither, eval(&(!masks().0 & a), &alloc));
    is(one, eval(&(masks().0 | &b), &alloc));
    is(both, eval(&!(!b | !masks().0), &alloc));
    // What is gathered, joined, boxed and updated.
    let (a, b) = masks();
    let boxed = (&a).boxed();
    is(both, eval(&(&boxed & &b), &alloc));
    is(neither, eval(&(!boxed & &a), &alloc));
    let turned = a.gather(0, View::new(&[3_usize, 2, 1, 0], [4]).unwrap());
    is(one, eval(&(!turned | &b), &alloc));
    is(both, eval(&(!concat([a.slice(0, 2..), a.slice(0, ..2)], 0) & &b), &alloc));
    let mut c = masks().0;
    c.update(|c| !c | &b).unwrap();
    assert_eq!(c.as_slice(), [true, false, true, true]);
}
