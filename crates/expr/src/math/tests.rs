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
    T::apply(function, level, Through::InPlace(&mut values));
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
    use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
    if x.is_infinite() {
        return if x > 0.0 { x } else { -0.0 };
    }
    let a = -x * FRAC_1_SQRT_2;
    // What rounding took from it counts for much in the tail: by the derivative.
    let rest = (-x).mul_add(FRAC_1_SQRT_2, -a) + x * 4.833_646_656_726_457e-17;
    let tail = libm::erfc(a);
    0.5 * x * (tail - FRAC_2_SQRT_PI * (-a * a).exp() * rest)
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
    let raised = |level| {
        let mut values: Vec<f64> = scattered(100_003).map(|(a, _)| a * 9.0).collect();
        let exponents: Vec<f64> = scattered(100_003).map(|(_, b)| b * 200.0 - 100.0).collect();
        let mut singles: Vec<f32> = values.iter().map(|&x| x as f32).collect();
        f64::raise(level, Through::InPlace(&mut values), &exponents);
        f32::raise(level, Through::InPlace(&mut singles), &exponents.iter().map(|&y| y as f32).collect::<Vec<_>>());
        (values, singles)
    };
    assert!(raised(Level::at_most(Simd::V4)) == raised(Level::at_most(Simd::V3)), "powf");
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
            f32::apply(function, Level::chosen(), Through::InPlace(&mut one));
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
                T::apply(function, level, Through::InPlace(&mut y));
                assert!(same(y[0], expected), "{function:?}({x}) at {level:?}: {}, not {expected}", y[0]);
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
        let levels = levels();
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
                for &level in &levels {
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

/// Numbers at the ends and between them, whose powers are of every kind.
fn ends<T: Element>(nan: T, subnormal: T) -> Vec<T> {
    let numbers =
        [0.0, 0.25, 0.5, 0.9, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.5, 1e3, 1e7, 16_777_215.0, 33_554_431.0, 9e15, 1e30];
    let numbers = numbers.map(T::from_f64).into_iter().chain([subnormal, T::MOST, T::ONE / subnormal, nan]);
    numbers.flat_map(|x| [x, -x]).collect()
}

/// Numbers that look random, between 0 and 1.
fn scattered(count: u64) -> impl Iterator<Item = (f64, f64)> {
    let number = |i: u64, by: u64| (i.wrapping_mul(by) >> 11) as f64 / (1_u64 << 53) as f64;
    (0..count).map(move |i| (number(i, 0x9e37_79b9_7f4a_7c15), number(i, 0xd1b5_4a32_d192_ed03)))
}

fn same<T: Element>(x: T, y: T) -> bool {
    x == y && T::ONE / x == T::ONE / y || x.is_nan() && y.is_nan()
}

#[test]
fn powers_at_the_ends_are_those_of_the_c_library() {
    fn check<T: Element>(nan: T, subnormal: T) {
        let ends = ends(nan, subnormal);
        for level in levels() {
            for &y in &ends {
                let exact = |x: T| Element::powf(x, y);
                let is_end = |x: T| x.is_nan() || x == T::ZERO || x == T::ONE || x.abs() == T::MOST;
                let mut values = ends.clone();
                T::raise(level, Through::InPlace(&mut values), &vec![y; ends.len()]);
                let mut cases: Vec<(T, T)> = ends.iter().copied().zip(values).collect();
                if let Some(power) = Power::of(y) {
                    cases.extend(results(Elementary::Power(power), level, ends.iter().copied()));
                }
                for (x, result) in cases {
                    let expected = exact(x);
                    if is_end(expected) {
                        assert!(same(result, expected), "{x} to the {y} at {level:?}: {result}, not {expected}");
                    }
                    let is_near = (result - expected).abs() <= expected.abs() * T::from_f64(1e-6);
                    assert!(
                        is_near || is_end(expected) || expected.abs() < T::ONE / T::MOST.abs() || result == expected,
                        "{x} to the {y} at {level:?}: {result}, not {expected}"
                    );
                }
            }
        }
    }
    check(f32::NAN, f32::MIN_POSITIVE / 8.0);
    check(f64::NAN, f64::MIN_POSITIVE / 8.0);
}

/// The worst of some errors, where it lies, and at which level.
fn report(what: &str, level: Level, claimed: f64, errors: impl Iterator<Item = (String, f64)>) {
    let (at, worst) = errors.fold((String::new(), 0.0), |worst, next| if next.1 > worst.1 { next } else { worst });
    println!("{what} at {level:?}: {worst:.3}, {at}");
    assert!(worst <= claimed, "{what} at {level:?}: {worst} of {at}");
}

const POWERS: [f64; 8] = [-2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 3.0, 4.0];

#[test]
fn powers_of_single_precision_are_as_exact_as_claimed() {
    // Of all sizes, with results of all sizes; and near 1, where exponents are large.
    let pairs: Vec<(f32, f32)> = scattered(300_000)
        .flat_map(|(a, b)| {
            let (x, t) = ((a * 276.0 - 149.0).exp2() as f32, b * 280.0 - 151.0);
            let near = (1.0 + (a - 0.5) * b * b) as f32;
            [
                (x, (t / f64::from(x).log2()) as f32),
                (near, (t / f64::from(near).log2()) as f32),
                (x, (b * 8.0 - 4.0) as f32),
            ]
        })
        .collect();
    for level in levels() {
        let mut values: Vec<f32> = pairs.iter().map(|pair| pair.0).collect();
        let exponents: Vec<f32> = pairs.iter().map(|pair| pair.1).collect();
        f32::raise(level, Through::InPlace(&mut values), &exponents);
        let errors = pairs
            .iter()
            .zip(values)
            .map(|(&(x, y), result)| (format!("{x} to the {y}"), ulps32(result, f64::from(x).powf(f64::from(y)))));
        report("powf of f32", level, 1.0, errors);
        for y in POWERS {
            let Some(power) = Power::of(y as f32) else { unreachable!() };
            let errors = results(Elementary::Power(power), level, every32().step_by(7))
                .map(|(x, result)| (x.to_string(), ulps32(result, f64::from(x).powf(y))));
            report(&format!("{y}"), level, 2.0, errors);
        }
        for n in [-9, -4, -3, -1, 0, 1, 2, 3, 4, 5, 6, 7, 10, 15, 16, 31, 63] {
            let errors = results(Elementary::Powi(n), level, every32().step_by(31)).map(|(x, result)| {
                let exact = f64::from(x).powi(n);
                // Where what is divided by is subnormal or infinite, the result is far off.
                let is_far = n < 0 && !(f64::from(x).powi(-n).abs() as f32).is_normal() && x != 0.0 && x.is_finite();
                (x.to_string(), if is_far { 0.0 } else { ulps32(result, exact) })
            });
            report(&format!("{n}"), level, f64::from(n.unsigned_abs()), errors);
        }
    }
}

#[test]
fn powers_of_double_precision_are_as_exact_as_claimed() {
    let pairs: Vec<(f64, f64)> = scattered(300_000)
        .flat_map(|(a, b)| {
            let (x, t) = ((a * 2097.0 - 1074.0).exp2(), b * 2099.0 - 1075.0);
            let near = 1.0 + (a - 0.5) * b * b;
            [(x, t / x.log2()), (near, t / near.log2()), (x, b * 8.0 - 4.0), (0.5 + a, 2.0 * t)]
        })
        .collect();
    for level in levels() {
        let mut values: Vec<f64> = pairs.iter().map(|pair| pair.0).collect();
        let exponents: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
        f64::raise(level, Through::InPlace(&mut values), &exponents);
        // The C library's own error counts as ours.
        let errors =
            pairs.iter().zip(values).map(|(&(x, y), result)| (format!("{x} to the {y}"), ulps64(result, x.powf(y))));
        report("powf of f64", level, 2.0, errors);
        for y in POWERS {
            let Some(power) = Power::of(y) else { unreachable!() };
            let errors = results(Elementary::Power(power), level, every64().step_by(7))
                .map(|(x, result)| (x.to_string(), ulps64(result, x.powf(y))));
            report(&format!("{y}"), level, 2.0, errors);
        }
        for (x, y) in results(Elementary::Gelu, level, every64().step_by(3)).filter(|(x, _)| x.is_finite()) {
            let error = (y - gelu(x)).abs();
            assert!(error <= 1e-15 * x.abs().max(1.0), "gelu({x}) at {level:?}: {error}");
        }
        let far = results(Elementary::Gelu, level, every64().filter(|x| (-37.0..-1.0).contains(x)));
        report("gelu of f64", level, 16.0, far.map(|(x, y)| (x.to_string(), ulps64(y, gelu(x)))));
    }
}
