use super::*;
use crate::simd::{Level, Simd};

/// The levels that this machine has, told so that a reader of the test's output knows what was tested.
fn levels() -> Vec<Level> {
    let all = [Simd::Base, Simd::V3, Simd::V4];
    let had: Vec<Simd> = all.into_iter().filter(|&simd| simd <= Simd::widest()).collect();
    println!("levels: {had:?}");
    had.into_iter().map(Level::at_most).collect()
}

/// The distance between a result and the exact value, in units of the last place of the result's type.
fn ulps32(result: f32, exact: f64) -> f64 {
    let nearest = exact as f32;
    if result == nearest || result.is_nan() && exact.is_nan() {
        return 0.0;
    }
    let unit =
        f64::from(nearest.abs().max(f32::MIN_POSITIVE).next_up()) - f64::from(nearest.abs().max(f32::MIN_POSITIVE));
    (f64::from(result) - exact).abs() / unit
}

fn ulps64(result: f64, exact: f64) -> f64 {
    if result == exact || result.is_nan() && exact.is_nan() {
        return 0.0;
    }
    let scale = exact.abs().max(f64::MIN_POSITIVE);
    (result - exact).abs() / (scale.next_up() - scale)
}

/// The results of many numbers, and these.
fn results<T: Element>(
    function: Elementary,
    level: Level,
    of: impl Iterator<Item = T>,
) -> impl Iterator<Item = (T, T)> {
    let of: Vec<T> = of.collect();
    let mut values = of.clone();
    T::apply(function, level, &mut values);
    of.into_iter().zip(values)
}

/// Numbers of every size and both signs.
fn every32() -> impl Iterator<Item = f32> {
    (0..=u32::MAX).step_by(997).map(f32::from_bits)
}

fn every64() -> impl Iterator<Item = f64> {
    let step = (1 << 43) + 12_345_678_901;
    let every = (0..=u64::MAX / step).map(move |i| f64::from_bits(i * step));
    every.chain((-2_000_000..2_000_000).map(|i| f64::from(i) * 1e-5))
}

fn sigmoid(x: f64) -> f64 {
    if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
}

fn silu(x: f64) -> f64 {
    match x {
        f64::NEG_INFINITY => 0.0,
        // Where e^x is subnormal, x · e^x need not be; and x + 100 is exact.
        _ if x < -600.0 => x * (x + 100.0).exp() * (-100.0_f64).exp(),
        _ => x * sigmoid(x),
    }
}

fn gelu(x: f64) -> f64 {
    if x == f64::NEG_INFINITY { 0.0 } else { 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2) }
}

/// A function, its exact value, and the error that is claimed, in units of the last place.
type Claim = (Elementary, fn(f64) -> f64, f64);

const CLAIMS: [Claim; 5] = [
    (Elementary::Exp, f64::exp, 2.0),
    (Elementary::Ln, f64::ln, 2.0),
    (Elementary::Tanh, f64::tanh, 3.0),
    (Elementary::Sigmoid, sigmoid, 4.0),
    (Elementary::Silu, silu, 4.0),
];

#[test]
fn functions_of_single_precision_are_as_exact_as_claimed() {
    for level in levels() {
        for (function, exact, claimed) in CLAIMS {
            let errors = results(function, level, every32()).map(|(x, y)| (x, ulps32(y, exact(f64::from(x)))));
            let (x, worst) = errors.fold((0.0, 0.0), |worst, next| if next.1 > worst.1 { next } else { worst });
            assert!(worst <= claimed, "{function:?}({x}) at {level:?}: {worst}");
        }
        for (x, y) in results(Elementary::Gelu, level, every32()).filter(|(x, _)| x.is_finite()) {
            let error = (f64::from(y) - gelu(f64::from(x))).abs();
            assert!(error <= 4e-7 * f64::from(x.abs().max(1.0)), "gelu({x}) at {level:?}: {error}");
        }
    }
}

#[test]
fn functions_of_double_precision_are_as_exact_as_claimed() {
    for level in levels() {
        for (function, exact, claimed) in CLAIMS {
            // The C library's own error counts as ours here.
            let errors = results(function, level, every64()).map(|(x, y)| (x, ulps64(y, exact(x))));
            let (x, worst) = errors.fold((0.0, 0.0), |worst, next| if next.1 > worst.1 { next } else { worst });
            assert!(worst <= claimed, "{function:?}({x}) at {level:?}: {worst}");
        }
    }
}

/// The levels with fused multiply-add agree to the last bit, and so do values wherever they lie in a slice.
#[test]
fn a_value_has_one_result() {
    let functions = CLAIMS.map(|(function, ..)| function).into_iter().chain([Elementary::Gelu]);
    for function in functions {
        let wide: Vec<u32> = results(function, Level::at_most(Simd::V4), every32()).map(|(_, y)| y.to_bits()).collect();
        let narrow: Vec<u32> =
            results(function, Level::at_most(Simd::V3), every32()).map(|(_, y)| y.to_bits()).collect();
        assert!(wide == narrow, "{function:?}");
        let numbers: Vec<f32> = every32().step_by(9973).collect();
        let together: Vec<u32> =
            results(function, Level::chosen(), numbers.iter().copied()).map(|(_, y)| y.to_bits()).collect();
        let alone = numbers.iter().map(|&x| {
            let mut one = [x];
            f32::apply(function, Level::chosen(), &mut one);
            one[0].to_bits()
        });
        assert!(alone.eq(together), "{function:?}");
    }
}

#[test]
fn functions_at_the_ends_of_their_range() {
    fn check<T: Element>(nan: T, subnormal: T) {
        let (most, zero, one) = (T::MOST, T::ZERO, T::ONE);
        let half = T::from_f64(0.5);
        let hundred = T::from_f64(100.0);
        let cases = [
            (Elementary::Exp, T::LEAST, zero),
            (Elementary::Exp, most, most),
            (Elementary::Exp, zero, one),
            (Elementary::Exp, -zero, one),
            (Elementary::Ln, zero, T::LEAST),
            (Elementary::Ln, -zero, T::LEAST),
            (Elementary::Ln, most, most),
            (Elementary::Ln, one, zero),
            (Elementary::Ln, -one, nan),
            (Elementary::Tanh, -hundred, -one),
            (Elementary::Tanh, most, one),
            (Elementary::Tanh, T::LEAST, -one),
            (Elementary::Tanh, zero, zero),
            (Elementary::Tanh, -zero, -zero),
            (Elementary::Sigmoid, T::LEAST, zero),
            (Elementary::Sigmoid, most, one),
            (Elementary::Sigmoid, zero, half),
            (Elementary::Sigmoid, -zero, half),
            (Elementary::Silu, T::LEAST, -zero),
            (Elementary::Silu, most, most),
            (Elementary::Silu, -zero, -zero),
            (Elementary::Gelu, T::LEAST, -zero),
            (Elementary::Gelu, most, most),
            (Elementary::Gelu, -zero, -zero),
            (Elementary::Silu, zero, zero),
            (Elementary::Gelu, zero, zero),
            (Elementary::Ln, T::LEAST, nan),
            (Elementary::Ln, -subnormal, nan),
            (Elementary::Exp, subnormal, one),
            (Elementary::Exp, -subnormal, one),
            (Elementary::Tanh, subnormal, subnormal),
            (Elementary::Tanh, -subnormal, -subnormal),
            (Elementary::Sigmoid, -subnormal, half),
            (Elementary::Silu, -subnormal, -subnormal * half),
            (Elementary::Gelu, -subnormal, -subnormal * half),
        ];
        let functions = [
            Elementary::Exp,
            Elementary::Ln,
            Elementary::Tanh,
            Elementary::Sigmoid,
            Elementary::Gelu,
            Elementary::Silu,
        ];
        for level in levels() {
            for (function, x, expected) in cases.into_iter().chain(functions.map(|function| (function, nan, nan))) {
                let mut y = [x];
                T::apply(function, level, &mut y);
                let same = y[0] == expected && T::ONE / y[0] == T::ONE / expected;
                assert!(
                    same || y[0].is_nan() && expected.is_nan(),
                    "{function:?}({x}) at {level:?}: {}, not {expected}",
                    y[0]
                );
            }
        }
    }
    check(f32::NAN, f32::MIN_POSITIVE / 8.0);
    check(f64::NAN, f64::MIN_POSITIVE / 8.0);
}

/// As `maximum` and `minimum` of IEEE 754-2019, wherever in a slice what decides stands.
#[test]
fn extremes_are_those_of_the_standard() {
    fn check<T: Element>(nan: T, subnormal: T) {
        let (zero, one) = (T::ZERO, T::ONE);
        let same = |x: T, y: T| x == y && T::ONE / x == T::ONE / y || x.is_nan() && y.is_nan();
        // In ascending order.
        let numbers = [T::LEAST, -one, -subnormal, -zero, zero, subnormal, one, T::MOST];
        let numbers = numbers.into_iter().enumerate();
        for ((i, x), (j, y)) in numbers.clone().flat_map(|x| numbers.clone().map(move |y| (x, y))) {
            let (least, most) = if i < j { (x, y) } else { (y, x) };
            let mut cases = vec![(x, y, most, least), (x, nan, nan, nan), (nan, y, nan, nan), (-nan, y, nan, nan)];
            cases.push((y, -nan, nan, nan));
            for (x, y, most, least) in cases {
                assert!(same(Element::maximum(x, y), most), "the larger of {x} and {y}");
                assert!(same(Element::minimum(x, y), least), "the smaller of {x} and {y}");
                for level in levels() {
                    for (place, other) in [(0, 64), (64, 0), (2111, 63), (5000, 4936), (17, 4999)] {
                        for (fold, expected) in [(Fold::Maximum, most), (Fold::Minimum, least)] {
                            let mut values = vec![fold.start::<T>(); 5001];
                            (values[place], values[other]) = (x, y);
                            let mut totals = [fold.start::<T>(); LANES];
                            T::fold(fold, level, &values, &mut totals);
                            let total = T::total(fold, &totals);
                            assert!(same(total, expected), "{fold:?} of {x} and {y} at {level:?}: {total}");
                        }
                    }
                }
            }
        }
    }
    check(f32::NAN, f32::MIN_POSITIVE / 8.0);
    check(f64::NAN, f64::MIN_POSITIVE / 8.0);
}
