//! The functions of `f32`.
//!
//! `exp` and `ln` follow S. L. Moshier's Cephes library (`expf`, `logf`): reduction to a small interval, then a polynomial.

use super::{double, polynomial};

#[inline(always)]
fn mul_add<const FUSED: bool>(x: f32, y: f32, z: f32) -> f32 {
    if FUSED { x.mul_add(y, z) } else { x * y + z }
}

/// Whether e^x and e^-x are normal numbers for all these.
#[inline(always)]
pub(super) fn are_moderate(values: &[f32]) -> bool {
    // No shortcut, so that the loop has vectors.
    values.iter().fold(true, |all, x| all & (x.abs() < 87.0))
}

/// Whether all these are positive and normal.
#[inline(always)]
pub(super) fn are_normal(values: &[f32]) -> bool {
    values.iter().fold(true, |all, &x| all & (f32::MIN_POSITIVE..f32::INFINITY).contains(&x))
}

/// `PLAIN`: it is moderate; the result is the same.
#[inline(always)]
pub(super) fn exp<const FUSED: bool, const PLAIN: bool>(x: f32) -> f32 {
    let (value, power) = exp_parts::<FUSED, PLAIN>(x);
    value * power
}

/// A value and a power of 2 whose product it is: alone, either is neither too large nor too small.
#[inline(always)]
fn exp_parts<const FUSED: bool, const PLAIN: bool>(x: f32) -> (f32, f32) {
    if PLAIN {
        let (value, exponent) = exp_reduced::<FUSED>(x);
        return (times_power_of_2(value, exponent), 1.0);
    }
    // Beyond, the result is infinite or 0 anyway. A comparison with NaN is false, so NaN stays.
    let x = if x > 90.0 { 90.0 } else { x };
    let x = if x < -125.0 { -125.0 } else { x };
    let (value, exponent) = exp_reduced::<FUSED>(x);
    let half = exponent >> 1;
    (value * power_of_2(half), power_of_2(exponent - half))
}

/// Adding it rounds to a whole number, which then stands in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// A value between √½ and √2, and an exponent of 2 in the lowest bits of a number.
#[inline(always)]
fn exp_reduced<const FUSED: bool>(x: f32) -> (f32, u32) {
    let (above, exponent) = exp_above_1::<FUSED>(x);
    (above + 1.0, exponent)
}

/// As above, less 1.
#[inline(always)]
fn exp_above_1<const FUSED: bool>(x: f32) -> (f32, u32) {
    let rounded = mul_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUND);
    let whole = rounded - ROUND;
    let r = mul_add::<FUSED>(whole, -0.693_359_4, x);
    let r = mul_add::<FUSED>(whole, 2.121_944_4e-4, r);
    let p = polynomial!(r, 1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5);
    (mul_add::<FUSED>(p, r * r, r), rounded.to_bits())
}

/// The power of 2 whose exponent stands in the lowest bits, where it is that of a normal number; 0 for the next below.
#[inline(always)]
fn power_of_2(exponent: u32) -> f32 {
    f32::from_bits(exponent.wrapping_add(127) << 23)
}

/// As it is made by arithmetic on the exponent, where it is normal.
#[inline(always)]
fn times_power_of_2(value: f32, exponent: u32) -> f32 {
    f32::from_bits(value.to_bits().wrapping_add(exponent << 23))
}

/// `PLAIN`: it is positive and normal; the result is the same.
#[inline(always)]
pub(super) fn ln<const FUSED: bool, const PLAIN: bool>(value: f32) -> f32 {
    let tiny = !PLAIN && value < f32::MIN_POSITIVE;
    let x = if tiny { value * 8_388_608.0 } else { value };
    // The mantissa in [√½, √2), and its exponent.
    let shifted = x.to_bits().wrapping_sub(0x3f35_04f3);
    let exponent = shifted.cast_signed() >> 23;
    let m = f32::from_bits((shifted & 0x007f_ffff).wrapping_add(0x3f35_04f3));
    let e = exponent as f32 - if tiny { 23.0 } else { 0.0 };
    let z = m - 1.0;
    let p = polynomial!(
        z,
        7.037_683_6e-2,
        -0.115_146_1,
        0.116_769_99,
        -0.124_201_41,
        0.142_493_23,
        -0.166_680_58,
        0.200_007_14,
        -0.249_999_94,
        0.333_333_3
    );
    let z2 = z * z;
    let y = mul_add::<FUSED>(e, -2.121_944_4e-4, p * z2 * z);
    let y = mul_add::<FUSED>(-0.5, z2, y);
    let result = mul_add::<FUSED>(e, 0.693_359_4, z + y);
    if PLAIN {
        return result;
    }
    let result = if value == f32::INFINITY { value } else { result };
    let result = if value == 0.0 { f32::NEG_INFINITY } else { result };
    if value >= 0.0 { result } else { f32::NAN }
}

/// t / (t + 2), where t = e^2|x| - 1, which is exact near 0 as well.
#[inline(always)]
pub(super) fn tanh<const FUSED: bool>(x: f32) -> f32 {
    let a = x.abs();
    // Beyond, the result is 1.
    let (above, exponent) = exp_above_1::<FUSED>(if a > 10.0 { 20.0 } else { a + a });
    let power = power_of_2(exponent);
    let t = mul_add::<FUSED>(power, above, power - 1.0);
    // Of the sign of x, be it 0.
    (t / (t + 2.0)).copysign(x)
}

/// 1 / (1 + e^-x), from e^-|x|, which does not overflow.
#[inline(always)]
pub(super) fn sigmoid<const FUSED: bool, const PLAIN: bool>(x: f32) -> f32 {
    let e = exp::<FUSED, PLAIN>(-x.abs());
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

/// x · sigmoid(x).
#[inline(always)]
pub(super) fn silu<const FUSED: bool, const PLAIN: bool>(x: f32) -> f32 {
    // Beyond, the result is 0, though infinity times 0 has no value.
    let x = if !PLAIN && x < -125.0 { -125.0 } else { x };
    let (value, power) = exp_parts::<FUSED, PLAIN>(-x.abs());
    (if x < 0.0 { x * value * power } else { x }) / (1.0 + value * power)
}

/// x · Φ(x), where Φ(-a) = t · exp(q(t) - a²/2) and t = 1 / (1 + 0.26 a), after the complement of the error function in Numerical Recipes (`erfcc`), with a
/// polynomial q of its own: weighted least squares, such that Φ(0) is ½, and the error otherwise 5·10⁻⁸ at most, and for every a 5·10⁻⁶ of Φ(-a).
#[inline(always)]
pub(super) fn gelu<const FUSED: bool>(x: f32) -> f32 {
    let x = if x < f32::MIN { f32::MIN } else { x };
    let a = x.abs();
    let t = 1.0 / mul_add::<FUSED>(0.26, a, 1.0);
    let q =
        polynomial!(t, 0.292_513_85, -1.067_708_1, 1.172_823_3, -0.414_381, 0.616_276_56, 0.971_585_9, -2.264_257_7);
    // Where the tail would be subnormal, which takes ten times as long, it is 0.
    let power = mul_add::<FUSED>(-0.5 * a, a, q);
    let power = if power < -85.5 { -88.1 } else { power };
    let rounded = mul_add::<FUSED>(power, std::f32::consts::LOG2_E, ROUND);
    let r = mul_add::<FUSED>(rounded - ROUND, -std::f32::consts::LN_2, power);
    let e = polynomial!(r, 8.297_58e-3, 4.191_588e-2, 0.166_675_78, 0.499_988_9, 0.999_999_7, 1.0);
    let tail = t * (e * power_of_2(rounded.to_bits()));
    // Φ, whose tails are the same on both sides.
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

/// Whether all these are finite.
#[inline(always)]
pub(super) fn are_finite(values: &[f32]) -> bool {
    values.iter().fold(true, |all, x| all & (x.abs() < f32::INFINITY))
}

/// x to the power of y: 2^(y · log2 |x|) in double precision, of which some 30 bits count, and the sign; the cases of C's `pow`. The logarithm is the
/// series of the inverse hyperbolic tangent, with coefficients for the interval (interpolation at Chebyshev's points), as is 2^x.
///
/// `PLAIN`: x is positive and normal, and y finite; the result is the same.
#[inline(always)]
pub(super) fn pow<const FUSED: bool, const PLAIN: bool>(x: f32, y: f32) -> f32 {
    let a = if PLAIN { x } else { x.abs() };
    let tiny = !PLAIN && a < f32::MIN_POSITIVE;
    let scaled = if tiny { a * 8_388_608.0 } else { a };
    // The mantissa in [√½, √2), and its exponent.
    let shifted = scaled.to_bits().wrapping_sub(0x3f35_04f3);
    let exponent = (shifted.cast_signed() >> 23) - if tiny { 23 } else { 0 };
    let m = f32::from_bits((shifted & 0x007f_ffff).wrapping_add(0x3f35_04f3));
    let log2 = log2::<FUSED>(m, exponent);
    if PLAIN {
        return exp2::<FUSED>(f64::from(y) * log2);
    }
    let log2 = if a == 0.0 { f64::NEG_INFINITY } else { log2 };
    let log2 = if a < f32::INFINITY { log2 } else { f64::from(a) };
    let magnitude = exp2::<FUSED>(f64::from(y) * log2);
    let odd = is_whole(y) && !is_whole(0.5 * y);
    let result = if odd { magnitude.copysign(x) } else { magnitude };
    let result = if x < 0.0 && a < f32::INFINITY && !is_whole(y) { f32::NAN } else { result };
    // Whatever the other is, be it NaN.
    if y == 0.0 || x == 1.0 || (a == 1.0 && y.abs() == f32::INFINITY) { 1.0 } else { result }
}

/// The logarithm, to base 2, of m · 2^exponent, with an error of 2^-38 of it.
#[inline(always)]
fn log2<const FUSED: bool>(m: f32, exponent: i32) -> f64 {
    use double::mul_add;
    // (m - 1) / (m + 1), of a single-precision inverse by a step of Newton's.
    let inverse = f64::from(1.0 / (m + 1.0));
    let m = f64::from(m);
    let (above, below) = (m - 1.0, m + 1.0);
    let quotient = above * inverse;
    let s = mul_add::<FUSED>(mul_add::<FUSED>(-quotient, below, above), inverse, quotient);
    let p = polynomial!(
        s * s,
        0.340_712_061_542_161_94,
        0.411_673_765_209_352_95,
        0.577_083_566_021_063_5,
        0.961_796_673_451_469_1,
        2.885_390_081_789_987
    );
    mul_add::<FUSED>(s, p, f64::from(exponent))
}

/// 2^x, with an error of 2^-27 of it before it is rounded.
#[inline(always)]
fn exp2<const FUSED: bool>(x: f64) -> f32 {
    use double::{ROUND, mul_add, power_of_2};
    // Beyond, the result is infinite or 0 anyway. A comparison with NaN is false, so NaN stays.
    let x = if x > 200.0 { 200.0 } else { x };
    let x = if x < -200.0 { -200.0 } else { x };
    let rounded = x + ROUND;
    let r = x - (rounded - ROUND);
    let p = polynomial!(
        r,
        1.545_316_313_473_84e-4,
        1.339_086_358_368_391_1e-3,
        9.618_082_556_922_357e-3,
        5.550_357_113_808_485e-2,
        0.240_226_507_605_688_67,
        0.693_147_188_026_314_3,
        1.0
    );
    (p * power_of_2(rounded.to_bits())) as f32
}

/// Whether it has no fraction; infinities have none.
#[inline(always)]
fn is_whole(x: f32) -> bool {
    // From here on, no number has one. Below, adding it rounds to a whole number.
    const ALL: f32 = 8_388_608.0;
    let a = x.abs();
    a >= ALL || (a + ALL) - ALL == a
}
