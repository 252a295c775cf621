//! The functions of `f64`.
//!
//! `exp`, `ln` and `tanh` follow S. L. Moshier's Cephes library (`exp`, `log`, `tanh`): reduction to a small interval, then a quotient of two polynomials.

use super::polynomial;

#[inline(always)]
fn mul_add<const FUSED: bool>(x: f64, y: f64, z: f64) -> f64 {
    if FUSED { x.mul_add(y, z) } else { x * y + z }
}

#[inline(always)]
pub(super) fn exp<const FUSED: bool>(x: f64) -> f64 {
    let (value, power) = exp_parts::<FUSED>(x);
    value * power
}

/// A value and a power of 2 whose product it is: alone, either is neither too large nor too small.
#[inline(always)]
fn exp_parts<const FUSED: bool>(x: f64) -> (f64, f64) {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let x = if x > 710.0 { 710.0 } else { x };
    let x = if x < -800.0 { -800.0 } else { x };
    let rounded = mul_add::<FUSED>(x, std::f64::consts::LOG2_E, ROUND);
    let whole = rounded - ROUND;
    let n = rounded.to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
    let r = mul_add::<FUSED>(whole, -0.693_145_751_953_125, x);
    let r = mul_add::<FUSED>(whole, -1.428_606_820_309_417_2e-6, r);
    let z = r * r;
    let p = r * polynomial!(z, 1.261_771_930_748_105_9e-4, 3.029_944_077_074_419_6e-2, 1.0);
    let q = polynomial!(z, 3.001_985_051_386_644_6e-6, 2.524_483_403_496_841e-3, 0.227_265_548_208_155_03, 2.0);
    let p = mul_add::<FUSED>(2.0, p / (q - p), 1.0);
    let half = n >> 1;
    let power = |n: i64| f64::from_bits((n.wrapping_add(1023).cast_unsigned()) << 52);
    (p * power(half), power(n.wrapping_sub(half)))
}

#[inline(always)]
pub(super) fn ln<const FUSED: bool>(value: f64) -> f64 {
    const LEAST_MANTISSA: u64 = 0x3fe6_a09e_667f_3bcd;
    let tiny = value < f64::MIN_POSITIVE;
    let x = if tiny { value * 4_503_599_627_370_496.0 } else { value };
    let shifted = x.to_bits().wrapping_sub(LEAST_MANTISSA);
    // The exponent stands in the highest 12 bits, which a 32-bit number can hold: that converts in vectors as well.
    let exponent = ((shifted >> 32) as u32).cast_signed() >> 20;
    let m = f64::from_bits((shifted & 0x000f_ffff_ffff_ffff).wrapping_add(LEAST_MANTISSA));
    let e = f64::from(exponent) - if tiny { 52.0 } else { 0.0 };
    let x = m - 1.0;
    let z = x * x;
    let p = polynomial!(
        x,
        1.018_756_638_045_809_3e-4,
        0.497_494_994_976_747,
        4.705_791_198_788_817,
        14.498_922_534_161_093,
        17.936_867_850_781_983,
        7.708_387_337_558_854
    );
    let q = polynomial!(
        x,
        1.0,
        11.287_358_718_916_746,
        45.227_914_583_753_225,
        82.987_526_691_277_67,
        71.154_475_061_856_39,
        23.125_162_012_676_533
    );
    let y = mul_add::<FUSED>(e, -2.121_944_400_546_905_8e-4, x * (z * p / q));
    let y = mul_add::<FUSED>(-0.5, z, y);
    let result = mul_add::<FUSED>(e, 0.693_359_375, x + y);
    let result = if value == f64::INFINITY { value } else { result };
    let result = if value == 0.0 { f64::NEG_INFINITY } else { result };
    if value >= 0.0 { result } else { f64::NAN }
}

#[inline(always)]
pub(super) fn tanh<const FUSED: bool>(x: f64) -> f64 {
    let a = x.abs();
    let z = a * a;
    let p = polynomial!(z, -0.964_399_179_425_052_3, -99.287_723_100_191_86, -1_614.687_684_417_084_4);
    let q = polynomial!(z, 1.0, 112.811_678_491_632_93, 2_235.488_390_601_004_5, 4_844.063_053_251_255);
    let near = mul_add::<FUSED>(a * z, p / q, a);
    let far = 1.0 - 2.0 / (exp::<FUSED>(a + a) + 1.0);
    (if a < 0.625 { near } else { far }).copysign(x)
}

/// 1 / (1 + e^-x), from e^-|x|, which does not overflow.
#[inline(always)]
pub(super) fn sigmoid<const FUSED: bool>(x: f64) -> f64 {
    let e = exp::<FUSED>(-x.abs());
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

/// x · sigmoid(x).
#[inline(always)]
pub(super) fn silu<const FUSED: bool>(x: f64) -> f64 {
    // Beyond, the result is 0, though infinity times 0 has no value.
    let x = if x < -800.0 { -800.0 } else { x };
    let (value, power) = exp_parts::<FUSED>(-x.abs());
    (if x < 0.0 { x * value * power } else { x }) / (1.0 + value * power)
}

/// No loop over it has vectors.
#[inline(always)]
pub(super) fn gelu<const FUSED: bool>(x: f64) -> f64 {
    let x = if x < f64::MIN { f64::MIN } else { x };
    0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}
