//! The functions of `f32`.
//!
//! `exp`, `ln` and `tanh` follow S. L. Moshier's Cephes library (`expf`, `logf`, `tanhf`): reduction to a small interval, then a polynomial.

use super::polynomial;

#[inline(always)]
fn mul_add<const FUSED: bool>(x: f32, y: f32, z: f32) -> f32 {
    if FUSED { x.mul_add(y, z) } else { x * y + z }
}

#[inline(always)]
pub(super) fn exp<const FUSED: bool>(x: f32) -> f32 {
    let (value, power) = exp_parts::<FUSED>(x);
    value * power
}

/// A value and a power of 2 whose product it is: alone, either is neither too large nor too small.
#[inline(always)]
fn exp_parts<const FUSED: bool>(x: f32) -> (f32, f32) {
    // Adding it rounds to a whole number, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // Beyond, the result is infinite or 0 anyway. A comparison with NaN is false, so NaN stays.
    let x = if x > 90.0 { 90.0 } else { x };
    let x = if x < -125.0 { -125.0 } else { x };
    let rounded = mul_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUND);
    let whole = rounded - ROUND;
    let n = rounded.to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
    let r = mul_add::<FUSED>(whole, -0.693_359_4, x);
    let r = mul_add::<FUSED>(whole, 2.121_944_4e-4, r);
    let p = polynomial!(r, 1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5);
    let p = mul_add::<FUSED>(p, r * r, r) + 1.0;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127).cast_unsigned()) << 23);
    (p * power(half), power(n.wrapping_sub(half)))
}

#[inline(always)]
pub(super) fn ln<const FUSED: bool>(value: f32) -> f32 {
    let tiny = value < f32::MIN_POSITIVE;
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
    let result = if value == f32::INFINITY { value } else { result };
    let result = if value == 0.0 { f32::NEG_INFINITY } else { result };
    if value >= 0.0 { result } else { f32::NAN }
}

#[inline(always)]
pub(super) fn tanh<const FUSED: bool>(x: f32) -> f32 {
    let a = x.abs();
    let z = a * a;
    let near = polynomial!(z, -5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 0.133_314_42, -0.333_332_8);
    let near = mul_add::<FUSED>(near * z, a, a);
    let far = 1.0 - 2.0 / (exp::<FUSED>(a + a) + 1.0);
    // Of the sign of x, be it 0.
    (if a < 0.625 { near } else { far }).copysign(x)
}

/// 1 / (1 + e^-x), from e^-|x|, which does not overflow.
#[inline(always)]
pub(super) fn sigmoid<const FUSED: bool>(x: f32) -> f32 {
    let e = exp::<FUSED>(-x.abs());
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

/// x · sigmoid(x).
#[inline(always)]
pub(super) fn silu<const FUSED: bool>(x: f32) -> f32 {
    // Beyond, the result is 0, though infinity times 0 has no value.
    let x = if x < -125.0 { -125.0 } else { x };
    let (value, power) = exp_parts::<FUSED>(-x.abs());
    (if x < 0.0 { x * value * power } else { x }) / (1.0 + value * power)
}

#[inline(always)]
pub(super) fn gelu<const FUSED: bool>(x: f32) -> f32 {
    let x = if x < f32::MIN { f32::MIN } else { x };
    // The complement of the error function, with a relative error of 1.2·10⁻⁷ (Numerical Recipes, `erfcc`).
    let a = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / mul_add::<FUSED>(0.5, a, 1.0);
    let p = polynomial!(
        t,
        0.170_872_77,
        -0.822_152_23,
        1.488_515_9,
        -1.135_204,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_7,
        -1.265_512_2
    );
    let tail = 0.5 * t * exp::<FUSED>(mul_add::<FUSED>(-a, a, p));
    // Φ, whose tails are the same on both sides.
    x * if x < 0.0 { tail } else { 1.0 - tail }
}
