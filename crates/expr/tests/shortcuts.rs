//! What is computed in another way than it is written has the value that is written.
#![allow(missing_docs, clippy::unwrap_used)]

use tenzor_expr::{Eval, Expr, Simd, Tensor, View, eval_into};
use tenzor_memory::TensorAllocator;

/// Whole numbers, of which sums and products are exact.
fn whole(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919) % 13) as f32 - 6.0).collect()
}

fn values<E: Expr<Elem = f32>>(expr: &E) -> Vec<f32> {
    let alloc = TensorAllocator::new();
    let [alone, together] = [Eval::new(&alloc).sequential(), Eval::new(&alloc)].map(|how| {
        let tensor: Tensor<f32, _> = how.eval(expr).unwrap();
        tensor.as_slice().to_vec()
    });
    assert_eq!(alone, together);
    alone
}

#[test]
fn sums_of_tensors_that_cross() {
    for (rows, columns) in [(96, 80), (64, 64), (257, 130), (2, 300), (1030, 70)] {
        let (left, right) = (whole(rows * columns), whole(rows * columns));
        let (x, y) =
            (View::new(&left, [rows, columns]).unwrap(), View::new(&right, [columns, rows]).unwrap().transpose());
        let product = values(&(x * y));
        let product = View::new(&product, [rows, columns]).unwrap();
        assert_eq!(values(&(x * y).sum(..)), values(&product.sum(..)));
        assert_eq!(values(&(x * y).mean(..)), values(&product.mean(..)));
        assert_eq!(values(&(x * y).max(..)), values(&product.max(..)));
        for axis in [0, 1] {
            assert_eq!(values(&(x * y).sum(axis)), values(&product.sum(axis)));
            assert_eq!(values(&(x * y).min(axis)), values(&product.min(axis)));
            assert_eq!(values(&(y * x).sum(axis).keep_dims()), values(&product.sum(axis)));
            assert_eq!(
                values(&(x * y).argmax(axis).one_hot::<f32>(rows.max(columns))),
                values(&product.argmax(axis).one_hot::<f32>(rows.max(columns)))
            );
        }
    }
    // Of more axes, of which all but one, or the middle one, are added.
    let (left, right) = (whole(70 * 3 * 66), whole(70 * 3 * 66));
    let (x, y) = (View::new(&left, [70, 3, 66]).unwrap(), View::new(&right, [66, 3, 70]).unwrap().permute([2, 1, 0]));
    let product = values(&(x + y));
    let product = View::new(&product, [70, 3, 66]).unwrap();
    for axes in [vec![0, 2], vec![0, 1], vec![1, 2], vec![1], vec![0, 1, 2]] {
        assert_eq!(values(&(x + y).sum(&axes[..])), values(&product.sum(&axes[..])));
    }
}

#[test]
fn chains_that_lie_across() {
    for (rows, columns) in [(1, 9), (5, 4), (16, 33), (47, 100), (79, 40), (130, 70), (600, 520)] {
        let (left, right) = (whole(rows * columns), whole(rows * columns));
        let (x, y) = (View::new(&left, [rows, columns]).unwrap(), View::new(&right, [rows, columns]).unwrap());
        let chain = values(&(x * y - x));
        let mut expected = Vec::new();
        for column in 0..columns {
            expected.extend((0..rows).map(|row| chain[row * columns + column]));
        }
        assert_eq!(values(&(x * y - x).transpose()), expected);
        assert_eq!(values(&(x.transpose() * y.transpose() - x.transpose())), expected);
        let row = whole(rows);
        let stretched = values(&(x.transpose() + View::new(&row, [rows]).unwrap()));
        assert!(
            stretched.iter().enumerate().all(|(i, &sum)| sum == left[i % rows * columns + i / rows] + row[i % rows])
        );
        let wide: Vec<f64> = left.iter().map(|&x| x.into()).collect();
        let x = View::new(&wide, [rows, columns]).unwrap();
        let mut chain = vec![0.0; rows * columns];
        eval_into(&(x * x - x).transpose(), &mut chain).unwrap();
        let of = |x: f64| x * x - x;
        assert!(chain.iter().enumerate().all(|(i, &value)| value == of(wide[i % rows * columns + i / rows])));
    }
}

/// To the last bit, at every level of vectors, whether values are computed on the way into a reduction or stand in memory.
#[test]
fn reductions_of_what_is_computed_are_those_of_its_values() {
    let alloc = TensorAllocator::new();
    for (rows, columns) in [
        (1, 1),
        (3, 63),
        (40, 64),
        (300, 70),
        (9, 130),
        (5, 2047),
        (3, 2048),
        (4, 2049),
        (2, 5000),
        (1, 70_000),
        (700, 300),
    ] {
        let numbers: Vec<f32> = (0..rows * columns).map(|i| ((i * 7919) % 1009) as f32 / 7.0 - 70.0).collect();
        // Of rows in one piece, and of some with gaps between them; short ones of several tensors are added in another order than those of one.
        for width in [columns, columns - columns / 8].into_iter().filter(|&width| width == columns || width >= 64) {
            let x = View::new(&numbers, [rows, columns]).unwrap().slice(1, 0..width);
            let (column, row) = (x.slice(1, 0..1), x.slice(0, 0..1));
            for how in [Simd::Base, Simd::V3, Simd::V4].map(|simd| Eval::new(&alloc).simd(simd)) {
                macro_rules! check {
                    ($chain:expr) => {{
                        let chain = $chain;
                        let values = how.eval(&chain).unwrap();
                        let memory = values.view();
                        macro_rules! same {
                            ($reduction:ident, $axes:expr) => {
                                let (ours, theirs) =
                                    (how.eval(&chain.$reduction($axes)), how.eval(&memory.$reduction($axes)));
                                let bits =
                                    |x: Tensor<f32, _>| x.as_slice().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                                let what =
                                    concat!(stringify!($chain), ", ", stringify!($reduction), " ", stringify!($axes));
                                assert_eq!(
                                    bits(ours.unwrap()),
                                    bits(theirs.unwrap()),
                                    "{rows}, {width}: {what}, {how:?}"
                                );
                            };
                        }
                        same!(sum, 1);
                        same!(mean, 1);
                        same!(prod, 1);
                        same!(max, 1);
                        if width == columns {
                            same!(sum, ..);
                            same!(min, ..);
                            same!(sum, 0);
                            same!(max, 0);
                        }
                    }};
                }
                check!(x * x / 4.0 - x);
                check!(x * column + row * 0.3 - x / 3.0 + x * x);
                check!(x.powf(2.0) - (x / 100.0).exp());
            }
        }
    }
}

#[test]
fn quotients_by_powers_of_two() {
    let (least, most) = (f32::from_bits(1), f32::MAX);
    let numbers =
        [1.0, -0.0, 0.0, 3.0, 1e-39, least, -least, most, -most, f32::INFINITY, f32::NAN, f32::MIN_POSITIVE, 0.1];
    let exact = (-149..128).map(|power| 2.0_f32.powi(power));
    let others = [0.0, -0.0, 3.0, -2.0, 0.75, least, most, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40];
    for by in exact.chain(others) {
        let x = View::new(&numbers, [numbers.len()]).unwrap();
        let mut quotients = [0.0; 13];
        eval_into(&(x / by), &mut quotients).unwrap();
        for (&x, quotient) in numbers.iter().zip(quotients) {
            assert!(
                (x / by).to_bits() == quotient.to_bits() || quotient.is_nan() && (x / by).is_nan(),
                "{x} / {by} is {quotient}"
            );
        }
        // Beside one that is not exact, each is a quotient; and what is no number divides as ever.
        let mut both = [0.0; 13];
        eval_into(&(x / by + x / 3.0 + 1.0 / x), &mut both).unwrap();
        for (&x, sum) in numbers.iter().zip(both) {
            let expected = x / by + x / 3.0 + 1.0 / x;
            assert!(
                expected.to_bits() == sum.to_bits() || sum.is_nan() && expected.is_nan(),
                "{x}, {by}: {sum}, not {expected}"
            );
        }
    }
}

/// Rows that are changed part by part as they are written.
#[test]
fn rows_of_all_lengths() {
    for (rows, size) in
        [(1, 1), (3, 1), (1000, 1), (70, 2), (5000, 3), (300, 64), (129, 65), (40, 1000), (3, 5000), (2, 40_000)]
    {
        let numbers: Vec<f32> = (0..rows * size).map(|i| ((i * 7919) % 1009) as f32 / 100.0 + 1000.0).collect();
        let x = View::new(&numbers, [rows, size]).unwrap();
        let (softmax, norm) = (values(&x.softmax(1)), values(&x.layer_norm(1e-5)));
        for (row, (softmax, norm)) in numbers.chunks(size).zip(softmax.chunks(size).zip(norm.chunks(size))) {
            let row: Vec<f64> = row.iter().map(|&x| x.into()).collect();
            let most = row.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = row.iter().map(|x| (x - most).exp()).sum();
            let mean = row.iter().sum::<f64>() / size as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / size as f64;
            for ((x, &softmax), &norm) in row.iter().zip(softmax).zip(norm) {
                let exact = (x - most).exp() / sum;
                assert!((f64::from(softmax) - exact).abs() <= 1e-6 * exact, "{rows}, {size}: {softmax}, not {exact}");
                let exact = (x - mean) / (variance + 1e-5).sqrt();
                assert!(
                    (f64::from(norm) - exact).abs() <= 1e-5 * (1.0 + exact.abs()),
                    "{rows}, {size}: {norm}, not {exact}"
                );
            }
        }
        // In another order in memory, and of something that is computed.
        let turned = values(&x.transpose());
        let turned = View::new(&turned, [size, rows]).unwrap();
        assert_eq!(values(&turned.transpose().softmax(1)), softmax);
        assert_eq!(values(&(x + 0.0).layer_norm(1e-5)), norm);
    }
}

/// Of a row of one value, whose mean is off by rounding: what its squares come to is less than the square of that by a little, which is no variance.
#[test]
fn a_row_of_one_value_is_numbers() {
    let row = vec![1e10_f32; 20_000_003];
    let norm = values(&View::new(&row, [1, row.len()]).unwrap().layer_norm(1e-30));
    assert!(norm.iter().all(|x| x.is_finite()));
}
