//! Sums against exact ones: the error grows with the logarithm of their length, along whatever axis, and threads change nothing.

use tenzor_expr::{Element, Eval, Expr, Simd, View, eval};
use tenzor_memory::TensorAllocator;

/// What an error may be, relative to the sum of all magnitudes: some roundings for the rows that are added in order, and one for each level of the tree.
fn bound(count: usize) -> f64 {
    (16.0 + (count as f64).log2()) * f64::from(f32::EPSILON) / 2.0
}

/// Tenths are not exact, and all round the same way.
const TENTH: f32 = 0.1;

const ELEMENTS: usize = 6_144_000;

#[test]
fn sums_along_any_axis_have_a_small_error() {
    let alloc = TensorAllocator::new();
    let tenths = vec![TENTH; ELEMENTS];
    let check = |what: &str, sums: &[f32], count: usize| {
        let exact = f64::from(TENTH) * count as f64;
        for &sum in sums {
            let error = (f64::from(sum) - exact).abs() / exact;
            assert!(error <= bound(count), "{what}: {error:e} of {count}");
        }
    };
    let all = View::new(&tenths, [ELEMENTS]).unwrap();
    check("all", eval(&all.sum(..), &alloc).unwrap().as_slice(), ELEMENTS);
    check("computed", eval(&(all * 1.0).sum(..), &alloc).unwrap().as_slice(), ELEMENTS);
    for width in [1, 2, 3, 4, 16, 30, 32, 100, 1000, 3000] {
        let count = ELEMENTS / width;
        let tall = View::new(&tenths, [count, width]).unwrap();
        check("first", eval(&tall.sum(0), &alloc).unwrap().as_slice(), count);
        check("of a transposed", eval(&tall.transpose().sum(1), &alloc).unwrap().as_slice(), count);
        check("computed", eval(&(tall + 0.0).sum(0), &alloc).unwrap().as_slice(), count);
        // Rows that do not go on in memory.
        let narrower = width.div_ceil(2);
        check("a slice", eval(&tall.slice(1, 0..narrower).sum(..), &alloc).unwrap().as_slice(), count * narrower);
        let wide = View::new(&tenths, [width, count]).unwrap();
        check("last", eval(&wide.sum(1), &alloc).unwrap().as_slice(), count);
        check("of a transposed", eval(&wide.transpose().sum(0), &alloc).unwrap().as_slice(), count);
        if count.is_multiple_of(2) {
            let between = View::new(&tenths, [2, count / 2, width]).unwrap();
            check("first and second", eval(&between.sum([0, 1]), &alloc).unwrap().as_slice(), count);
        }
    }
}

#[test]
fn means_and_norms_of_long_rows_are_right() {
    let alloc = TensorAllocator::new();
    let ones = vec![1.0_f32; 20_000_000];
    let means = eval(&View::new(&ones, [10_000_000, 2]).unwrap().mean(0), &alloc).unwrap();
    assert_eq!(means.as_slice(), [1.0; 2]);
    let signs: Vec<f32> = (0..ELEMENTS).map(|i| if i % 2 == 0 { -1.0 } else { 1.0 }).collect();
    let normal = eval(&View::new(&signs, [ELEMENTS]).unwrap().layer_norm(0.0), &alloc).unwrap();
    assert!(normal.as_slice().iter().zip(&signs).all(|(x, sign)| (x - sign).abs() < 1e-6));
    // Of equal values, each has the same share, along either axis.
    for (shape, axis) in [([1, ELEMENTS], 1), ([ELEMENTS, 1], 0), ([ELEMENTS / 4, 4], 0)] {
        let shares = eval(&View::new(&ones[..ELEMENTS], shape).unwrap().softmax(axis), &alloc).unwrap();
        let exact = 1.0 / shape[axis] as f64;
        assert!(
            shares.as_slice().iter().all(|&x| (f64::from(x) - exact).abs() <= exact * bound(ELEMENTS)),
            "{shape:?}"
        );
    }
}

#[test]
fn neither_threads_nor_vectors_change_a_result() {
    let alloc = TensorAllocator::new();
    let values: Vec<f32> = (0..3_000_000_u64).map(|i| ((i * 7919) % 10_007) as f32 * 1e-3 - 5.0).collect();
    for shape in [[3_000_000, 1], [1_500_000, 2], [1000, 3000], [3, 1_000_000]] {
        let x = View::new(&values, shape).unwrap();
        for axis in 0..2 {
            let together = eval(&(x * 1.5).sum(axis), &alloc).unwrap();
            for simd in [Simd::Base, Simd::V3, Simd::V4] {
                let alone = Eval::new(&alloc).sequential().simd(simd).eval(&(x * 1.5).sum(axis)).unwrap();
                assert_eq!(alone.as_slice(), together.as_slice(), "{shape:?}, {axis}, {simd:?}");
            }
        }
    }
}

/// What the table in `docs/expressions.md` says of the operations that are not elementary functions, which the crate tests itself.
#[test]
fn operations_at_the_ends_of_their_range() {
    fn same<T: Element>(x: T, y: T) -> bool {
        x == y && T::ONE / x == T::ONE / y || x.is_nan() && y.is_nan()
    }

    fn check<T: Element>(nan: T, subnormal: T) {
        let (zero, one, most) = (T::ZERO, T::ONE, T::MOST);
        let alloc = TensorAllocator::new();
        // As many as vectors have places, and more.
        const REPEATED: usize = 67;
        let inputs = [-zero, zero, T::LEAST, most, nan, subnormal, -subnormal];
        let values: Vec<T> = inputs.iter().flat_map(|&x| [x; REPEATED]).collect();
        let x = View::new(&values, [values.len()]).unwrap();
        for simd in [Simd::Base, Simd::V3, Simd::V4] {
            let eval = Eval::new(&alloc).simd(simd);
            let is = |what: &str, result: &[T], expected: [T; 7]| {
                for ((results, expected), x) in result.chunks(REPEATED).zip(expected).zip(inputs) {
                    assert!(results.iter().all(|&y| same(y, expected)), "{what}({x}) at {simd:?}: {}", results[0]);
                }
            };
            let root = subnormal.sqrt();
            let of_subnormal = one / subnormal;
            is("sqrt", eval.eval(&x.sqrt()).unwrap().as_slice(), [-zero, zero, nan, most, nan, root, nan]);
            is("relu", eval.eval(&x.relu()).unwrap().as_slice(), [-zero, zero, zero, most, nan, subnormal, zero]);
            is("abs", eval.eval(&x.abs()).unwrap().as_slice(), [zero, zero, most, most, nan, subnormal, subnormal]);
            is(
                "recip",
                eval.eval(&x.recip()).unwrap().as_slice(),
                [T::LEAST, most, -zero, zero, nan, of_subnormal, -of_subnormal],
            );
            is("rsqrt", eval.eval(&x.rsqrt()).unwrap().as_slice(), [T::LEAST, most, nan, zero, nan, one / root, nan]);
            let squared = subnormal * subnormal;
            is("square", eval.eval(&x.square()).unwrap().as_slice(), [zero, zero, most, most, nan, squared, squared]);
            is("powi", eval.eval(&x.powi(0)).unwrap().as_slice(), [one; 7]);
            is("powi", eval.eval(&x.powi(-3)).unwrap().as_slice(), [T::LEAST, most, -zero, zero, nan, most, T::LEAST]);
            // A number for exponent, an expression, and one that is stretched.
            let exponents = [0.0, 2.0, 0.5, -0.5, 3.0, 1.0, -1.0, -2.0, 1.5, 0.3].map(T::from_f64);
            for y in exponents.into_iter().chain([nan, most, T::LEAST]) {
                let expected = inputs.map(|x| Element::powf(x, y));
                let (all, one) = (vec![y; values.len()], [y]);
                let (all, one) = (View::new(&all, [values.len()]).unwrap(), View::new(&one, [1]).unwrap());
                let number = tenzor_expr::nodes::Scalar(y);
                for result in [
                    eval.eval(&x.powf(number)).unwrap(),
                    eval.eval(&x.powf(all)).unwrap(),
                    eval.eval(&x.powf(one)).unwrap(),
                ] {
                    for ((results, expected), x) in result.as_slice().chunks(REPEATED).zip(expected).zip(inputs) {
                        let is_near = |y: T| (y - expected).abs() <= expected.abs() * T::from_f64(1e-6);
                        assert!(
                            results.iter().all(|&y| same(y, expected) || expected.abs() < most && is_near(y)),
                            "{x} to the {y} at {simd:?}: {}, not {expected}",
                            results[0]
                        );
                    }
                }
            }
            for (left, right, largest, smallest) in [
                (zero, -zero, zero, -zero),
                (-zero, zero, zero, -zero),
                (-zero, -zero, -zero, -zero),
                (zero, zero, zero, zero),
                (nan, one, nan, nan),
                (one, nan, nan, nan),
                (-subnormal, zero, zero, -subnormal),
                (-zero, subnormal, subnormal, -zero),
                (T::LEAST, most, most, T::LEAST),
            ] {
                let (lefts, rights) = ([left; REPEATED], [right; REPEATED]);
                let (l, r) = (View::new(&lefts, [REPEATED]).unwrap(), View::new(&rights, [REPEATED]).unwrap());
                let maxima = eval.eval(&l.maximum(r)).unwrap();
                let minima = eval.eval(&l.minimum(r)).unwrap();
                assert!(maxima.as_slice().iter().all(|&x| same(x, largest)), "{left} and {right} at {simd:?}");
                assert!(minima.as_slice().iter().all(|&x| same(x, smallest)), "{left} and {right} at {simd:?}");
                // Along an axis, and of all.
                let both: Vec<T> = lefts.into_iter().chain(rights).collect();
                let both = View::new(&both, [2, REPEATED]).unwrap();
                let (max, min) = (eval.eval(&both.max(0)).unwrap(), eval.eval(&both.min(0)).unwrap());
                assert!(max.as_slice().iter().all(|&x| same(x, largest)), "{left} and {right} at {simd:?}");
                assert!(min.as_slice().iter().all(|&x| same(x, smallest)), "{left} and {right} at {simd:?}");
                let (max, min) = (eval.eval(&both.max(..)).unwrap(), eval.eval(&both.min(..)).unwrap());
                assert!(same(max.as_slice()[0], largest), "{left} and {right} at {simd:?}");
                assert!(same(min.as_slice()[0], smallest), "{left} and {right} at {simd:?}");
            }
        }
    }
    check(f32::NAN, f32::MIN_POSITIVE / 8.0);
    check(f64::NAN, f64::MIN_POSITIVE / 8.0);
}

#[test]
fn variances_are_right_however_long_and_wherever_the_mean() {
    let alloc = TensorAllocator::new();
    let mut random = fastrand::Rng::with_seed(1);
    for (count, mean) in [(1_000_000, 0.0), (1_000_000, 1000.0), (10_000_000, 3.0)] {
        let values: Vec<f32> = (0..count).map(|_| mean + random.f32()).collect();
        for width in [1, 2, 100] {
            let x = View::new(&values, [count / width, width]).unwrap();
            let variances = eval(&x.var(0), &alloc).unwrap();
            let deviations = eval(&x.transpose().std(1).ddof(1), &alloc).unwrap();
            for column in 0..width {
                let values = || values[column..].iter().step_by(width).map(|&x| f64::from(x));
                let number = (count / width) as f64;
                let mean = values().sum::<f64>() / number;
                let squares = values().map(|x| (x - mean) * (x - mean)).sum::<f64>();
                let check = |value: f32, exact: f64| {
                    let error = (f64::from(value) - exact).abs() / exact;
                    assert!(error <= 2.0 * bound(count), "{count}, {mean}, {width}: {error:e}");
                };
                check(variances.as_slice()[column], squares / number);
                check(deviations.as_slice()[column], (squares / (number - 1.0)).sqrt());
            }
        }
    }
}

#[test]
fn running_sums_have_a_small_error() {
    let alloc = TensorAllocator::new();
    let tenths = vec![TENTH; ELEMENTS];
    let mut random = fastrand::Rng::with_seed(1);
    let others: Vec<f32> = (0..ELEMENTS).map(|_| random.f32()).collect();
    for values in [&tenths, &others] {
        for width in [1, 3, 1000] {
            let x = View::new(values, [ELEMENTS / width, width]).unwrap();
            let down = eval(&x.cumsum(0), &alloc).unwrap();
            let across = eval(&x.transpose().cumsum(1), &alloc).unwrap();
            for column in [0, width - 1] {
                let mut sum = 0.0;
                for row in 0..ELEMENTS / width {
                    sum += f64::from(values[row * width + column]);
                    let place = column * (ELEMENTS / width) + row;
                    for value in [down.as_slice()[row * width + column], across.as_slice()[place]] {
                        let error = (f64::from(value) - sum).abs() / sum;
                        // As many additions in order as a block has, and some at its end.
                        assert!(error <= 35.0 * f64::from(f32::EPSILON) / 2.0, "{width}, {row}: {error:e}");
                    }
                }
            }
        }
    }
}

/// So many that what is lost to rounding is itself rounded again and again.
#[test]
fn running_sums_of_ten_million_have_a_small_error() {
    const LONG: usize = 10_000_000;
    let alloc = TensorAllocator::new();
    let mut random = fastrand::Rng::with_seed(1);
    let large: Vec<f32> = (0..LONG).map(|_| 10_000.0 + random.f32()).collect();
    for values in [vec![TENTH; LONG], large] {
        let x = View::new(&values, [LONG, 1]).unwrap();
        let across = eval(&x.transpose().cumsum(1), &alloc).unwrap();
        let down = eval(&x.broadcast_to([LONG, 4]).cumsum(0), &alloc).unwrap();
        let mut sum = 0.0;
        for (row, &value) in values.iter().enumerate() {
            sum += f64::from(value);
            for value in [across.as_slice()[row], down.as_slice()[4 * row], down.as_slice()[4 * row + 3]] {
                let error = (f64::from(value) - sum).abs() / sum;
                assert!(error <= 35.0 * f64::from(f32::EPSILON) / 2.0, "{row} of {}: {error:e}", values[0]);
            }
        }
    }
}

/// The mean has no more digits than the values, which differ in their last ones.
#[test]
fn variances_of_values_that_differ_little_are_right() {
    fn exact(values: impl Iterator<Item = f64> + Clone) -> f64 {
        let count = values.clone().count() as f64;
        // Less the first, so that nothing is rounded much.
        let first = values.clone().next().unwrap_or_default();
        let mean = values.clone().map(|x| x - first).sum::<f64>() / count;
        values.map(|x| (x - first - mean) * (x - first - mean)).sum::<f64>() / count
    }

    fn check<T: Element + Into<f64>>(values: &[T]) {
        let alloc = TensorAllocator::new();
        let epsilon: f64 = T::EPSILON.into();
        for width in [1, 2, 3, 16, 31, 32, 100, 600] {
            let count = values.len() / width;
            let x = View::new(&values[..count * width], [count, width]).unwrap();
            let y = View::new(&values[..count * width], [width, count]).unwrap();
            let down = eval(&x.var(0), &alloc).unwrap();
            let turned = eval(&x.transpose().var(1).keep_dims(), &alloc).unwrap();
            let across = eval(&y.std(1), &alloc).unwrap();
            for i in 0..width {
                let column = exact(values[..count * width].iter().skip(i).step_by(width).map(|&x| x.into()));
                let row = exact(values[i * count..(i + 1) * count].iter().map(|&x| x.into()));
                let (down, turned, across) = (down.as_slice()[i], turned.as_slice()[i], across.as_slice()[i]);
                for (value, exact) in [(down, column), (turned, column), (across, row.sqrt())] {
                    let error = (value.into() - exact).abs();
                    assert!(error <= exact * 100.0 * epsilon, "{width}, {i}: {value}, not {exact}");
                }
            }
        }
    }

    let alloc = TensorAllocator::new();
    let three = [16_777_214.0_f32, 16_777_215.0, 16_777_215.0];
    let column = View::new(&three, [3, 1]).unwrap();
    let all = eval(&column.var(..), &alloc).unwrap();
    // More means than values.
    let stretched = eval(&column.broadcast_to([3, 1000]).var(0), &alloc).unwrap();
    let groups: Vec<f32> = (0..15).map(|i| (i % 5) as f32 * 1e6 + 1e7 + if i < 5 { 0.0 } else { 1.0 }).collect();
    let groups = View::new(&groups, [3, 5, 1]).unwrap().broadcast_to([3, 5, 70]);
    let groups = eval(&groups.var(0), &alloc).unwrap();
    // Some rows have small means, of which nothing has to be taken off.
    let both = [three, [1.0, 2.0, 3.0]].concat();
    let rows = eval(&View::new(&both, [2, 3]).unwrap().var(1), &alloc).unwrap();
    for &variance in
        all.as_slice().iter().chain(stretched.as_slice()).chain(groups.as_slice()).chain(&rows.as_slice()[..1])
    {
        assert!((variance - 2.0 / 9.0).abs() < 1e-6, "{variance}");
    }
    assert!((rows.as_slice()[1] - 2.0 / 3.0).abs() < 1e-6);
    check(&(0..4096).map(|i| 1e6 + (i % 16) as f32 / 16.0).collect::<Vec<_>>());
    check(&(0..100_000).map(|i| -1e6 - (i * 7 % 16) as f32 / 16.0).collect::<Vec<_>>());
    check(&(0..4096).map(|i| 1e15 + f64::from(i % 16) / 8.0).collect::<Vec<_>>());
    // By several threads, whatever their number.
    let many: Vec<f32> = (0..1 << 24).map(|i| 1e6 + (i % 16) as f32 / 16.0).collect();
    let many = View::new(&many, [1 << 18, 1 << 6]).unwrap();
    for axis in 0..2 {
        let together = eval(&many.var(axis), &alloc).unwrap();
        let alone = Eval::new(&alloc).sequential().eval(&many.var(axis)).unwrap();
        assert_eq!(together.as_slice(), alone.as_slice());
    }
    // What is all the same differs by nothing.
    let same = vec![TENTH; 1000];
    let variance = eval(&View::new(&same, [1000]).unwrap().var(..), &alloc).unwrap();
    assert!((0.0..1e-20).contains(&variance.as_slice()[0]), "{variance}");
}

#[test]
fn products_of_vectors_and_norms_have_a_small_error() {
    let alloc = TensorAllocator::new();
    let tenths = vec![TENTH; ELEMENTS];
    let x = View::new(&tenths, [ELEMENTS]).unwrap();
    let exact = f64::from(TENTH) * f64::from(TENTH) * ELEMENTS as f64;
    for (value, exact) in
        [(eval(&x.dot(x), &alloc).unwrap(), exact), (eval(&x.norm(..), &alloc).unwrap(), exact.sqrt())]
    {
        let error = (f64::from(value.as_slice()[0]) - exact).abs() / exact;
        assert!(error <= bound(ELEMENTS), "{error:e}");
    }
}
