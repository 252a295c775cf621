//! The functions of `f64`.
//!
//! `ln` and `tanh`, and `exp` without fused multiply-add, follow S. L. Moshier's Cephes library (`log`, `tanh`, `exp`): reduction to a small interval, then a quotient of two polynomials. The other
//! polynomials are interpolations at Chebyshev's points.

use super::polynomial;

/// Adding it rounds to a whole number, which then stands in the lowest bits.
pub(super) const ROUND: f64 = 6_755_399_441_055_744.0;

/// The power of 2 whose exponent stands in the lowest bits, where it is that of a normal number.
#[inline(always)]
pub(super) fn power_of_2(exponent: u64) -> f64 {
    f64::from_bits(exponent.wrapping_add(1023) << 52)
}

#[inline(always)]
pub(super) fn mul_add<const FUSED: bool>(x: f64, y: f64, z: f64) -> f64 {
    if FUSED { x.mul_add(y, z) } else { x * y + z }
}

/// Whether e^x and e^-x are normal numbers for all these.
#[inline(always)]
pub(super) fn are_moderate(values: &[f64]) -> bool {
    // No shortcut, so that the loop has vectors.
    values.iter().fold(true, |all, x| all & (x.abs() < 708.0))
}

/// Whether all these are positive and normal.
#[inline(always)]
pub(super) fn are_normal(values: &[f64]) -> bool {
    values.iter().fold(true, |all, &x| all & (f64::MIN_POSITIVE..f64::INFINITY).contains(&x))
}

/// `PLAIN`: it is moderate; the result is the same.
#[inline(always)]
pub(super) fn exp<const FUSED: bool, const PLAIN: bool>(x: f64) -> f64 {
    let (value, power) = exp_parts::<FUSED, PLAIN>(x);
    value * power
}

/// A value and a power of 2 whose product it is: alone, either is neither too large nor too small.
#[inline(always)]
fn exp_parts<const FUSED: bool, const PLAIN: bool>(x: f64) -> (f64, f64) {
    if PLAIN {
        let (value, rounded) = exp_reduced::<FUSED>(x);
        // By arithmetic on the exponent.
        return (f64::from_bits(value.to_bits().wrapping_add(rounded.to_bits() << 52)), 1.0);
    }
    // Beyond, the result is infinite or 0 anyway. A comparison with NaN is false, so NaN stays.
    let x = if x > 710.0 { 710.0 } else { x };
    let x = if x < -800.0 { -800.0 } else { x };
    let (value, rounded) = exp_reduced::<FUSED>(x);
    scaled(value, rounded)
}

/// A value between √½ and √2, and a number that holds an exponent of 2 in its lowest bits.
#[inline(always)]
fn exp_reduced<const FUSED: bool>(x: f64) -> (f64, f64) {
    let rounded = mul_add::<FUSED>(x, std::f64::consts::LOG2_E, ROUND);
    let whole = rounded - ROUND;
    let r = mul_add::<FUSED>(whole, -0.693_145_751_953_125, x);
    let r = mul_add::<FUSED>(whole, -1.428_606_820_309_417_2e-6, r);
    if FUSED {
        return (mul_add::<FUSED>(exp_rest::<FUSED>(r), r * r, r) + 1.0, rounded);
    }
    // Cephes' quotient: where each term of a polynomial takes two instructions, a division is faster than many.
    let z = r * r;
    let p = r * polynomial!(z, 1.261_771_930_748_105_9e-4, 3.029_944_077_074_419_6e-2, 1.0);
    let q = polynomial!(z, 3.001_985_051_386_644_6e-6, 2.524_483_403_496_841e-3, 0.227_265_548_208_155_03, 2.0);
    (mul_add::<FUSED>(2.0, p / (q - p), 1.0), rounded)
}

/// (e^r - 1 - r) / r², for a small r.
#[inline(always)]
fn exp_rest<const FUSED: bool>(r: f64) -> f64 {
    polynomial!(
        r,
        2.510_037_609_844_579_3e-8,
        2.762_007_622_573_213_7e-7,
        2.755_726_847_975_115e-6,
        2.480_152_132_164_195e-5,
        1.984_126_986_304_090_5e-4,
        1.388_888_891_719_718_7e-3,
        8.333_333_333_330_065e-3,
        4.166_666_666_662_416_4e-2,
        0.166_666_666_666_666_69,
        0.500_000_000_000_000_1
    )
}

/// The value, times the power of 2 whose exponent stands in the lowest bits of `rounded`, as a value and a power of 2.
#[inline(always)]
fn scaled(value: f64, rounded: f64) -> (f64, f64) {
    let exponent = rounded.to_bits();
    let half = exponent >> 1;
    (value * power_of_2(half), power_of_2(exponent - half))
}

/// `PLAIN`: it is positive and normal; the result is the same.
#[inline(always)]
pub(super) fn ln<const FUSED: bool, const PLAIN: bool>(value: f64) -> f64 {
    const LEAST_MANTISSA: u64 = 0x3fe6_a09e_667f_3bcd;
    let tiny = !PLAIN && value < f64::MIN_POSITIVE;
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
    if PLAIN {
        return result;
    }
    let result = if value == f64::INFINITY { value } else { result };
    let result = if value == 0.0 { f64::NEG_INFINITY } else { result };
    if value >= 0.0 { result } else { f64::NAN }
}

#[inline(always)]
pub(super) fn tanh<const FUSED: bool>(x: f64) -> f64 {
    let a = x.abs();
    let z = a * a;
    let is_near = a < 0.625;
    let p = polynomial!(z, -0.964_399_179_425_052_3, -99.287_723_100_191_86, -1_614.687_684_417_084_4);
    let q = polynomial!(z, 1.0, 112.811_678_491_632_93, 2_235.488_390_601_004_5, 4_844.063_053_251_255);
    // Beyond, the result is 1.
    let (value, rounded) = exp_reduced::<FUSED>(if a > 20.0 { 40.0 } else { a + a });
    let below = mul_add::<FUSED>(value, power_of_2(rounded.to_bits()), 1.0);
    let (near, far) = if FUSED {
        // One division for both, as it is what takes time.
        let quotient = if is_near { p } else { 2.0 } / if is_near { q } else { below };
        (quotient, quotient)
    } else {
        (p / q, 2.0 / below)
    };
    // Of the sign of x, be it 0.
    (if is_near { mul_add::<FUSED>(a * z, near, a) } else { 1.0 - far }).copysign(x)
}

/// 1 / (1 + e^-x), from e^-|x|, which does not overflow.
#[inline(always)]
pub(super) fn sigmoid<const FUSED: bool, const PLAIN: bool>(x: f64) -> f64 {
    let e = exp::<FUSED, PLAIN>(-x.abs());
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

/// x · sigmoid(x).
#[inline(always)]
pub(super) fn silu<const FUSED: bool, const PLAIN: bool>(x: f64) -> f64 {
    // Beyond, the result is 0, though infinity times 0 has no value.
    let x = if !PLAIN && x < -800.0 { -800.0 } else { x };
    let (value, power) = exp_parts::<FUSED, PLAIN>(-x.abs());
    (if x < 0.0 { x * value * power } else { x }) / (1.0 + value * power)
}

/// x · Φ(x), where Φ is ½ erfc(a) or 1 - ½ erfc(a), a = |x| / √2, and erfc(a) = e^-a² · erfcx(a). The latter is a polynomial in (a - 4) / (a + 4), divided
/// by a + 4, after M. M. Shepherd and J. G. Laframboise (1981).
#[inline(always)]
pub(super) fn gelu<const FUSED: bool>(x: f64) -> f64 {
    // Beyond, the result is 0, or x.
    let x = if x < -40.0 { -40.0 } else { x };
    let a = x.abs();
    let near = if a > 40.0 { 40.0 } else { a };
    let b = near * std::f64::consts::FRAC_1_SQRT_2;
    let inverse = 1.0 / (b + 4.0);
    let g = polynomial!(
        (b - 4.0) * inverse,
        9.084_541_771_213_907e-10,
        -6.369_037_462_530_68e-10,
        -1.521_320_681_995_038_4e-8,
        3.386_310_002_251_368_6e-9,
        1.239_702_262_192_095_8e-7,
        -7.900_030_007_324_783e-8,
        -8.462_915_017_252_11e-7,
        1.426_852_538_040_701_2e-6,
        4.694_619_976_583_313e-6,
        -1.886_213_507_131_139e-5,
        -3.635_296_646_587_849e-6,
        1.768_131_904_676_480_6e-4,
        -4.550_526_455_639_654e-4,
        -2.809_589_355_808_719_3e-4,
        6.112_055_649_277_455_5e-3,
        -2.637_005_333_230_321e-2,
        7.638_151_490_987_771e-2,
        -0.174_010_937_240_444_53,
        0.330_851_587_877_988_13,
        -0.540_853_831_313_220_1,
        0.773_208_702_265_237_4,
        -0.976_548_729_080_882_1,
        1.095_995_661_000_491
    );
    // e^-a², of x² as it is before it is rounded.
    let (square, rest) = product::<FUSED>(near, near);
    let (value, power) = exp_parts::<FUSED, false>(-0.5 * square);
    let tail = 0.5 * g * inverse * mul_add::<FUSED>(-0.5 * rest, value, value);
    // The product with x comes first where the power is tiny, so that it is subnormal last.
    if x < 0.0 { x * tail * power } else { x * (1.0 - tail * power) }
}

/// Whether all these are finite.
#[inline(always)]
pub(super) fn are_finite(values: &[f64]) -> bool {
    values.iter().fold(true, |all, x| all & (x.abs() < f64::INFINITY))
}

/// x to the power of y: 2^(y · log2 |x|), where the logarithm has 65 bits or so, and the sign; the cases of C's `pow`.
///
/// `PLAIN`: x is positive and normal, and y finite; the result is the same.
#[inline(always)]
pub(super) fn pow<const FUSED: bool, const PLAIN: bool>(x: f64, y: f64) -> f64 {
    if !FUSED {
        // Products in two parts take so long there that the C library is faster.
        return x.powf(y);
    }
    const LEAST_MANTISSA: u64 = 0x3fe6_a09e_667f_3bcd;
    let a = if PLAIN { x } else { x.abs() };
    let tiny = !PLAIN && a < f64::MIN_POSITIVE;
    let upscaled = if tiny { a * 4_503_599_627_370_496.0 } else { a };
    let shifted = upscaled.to_bits().wrapping_sub(LEAST_MANTISSA);
    let exponent = ((shifted >> 32) as u32).cast_signed() >> 20;
    let m = f64::from_bits((shifted & 0x000f_ffff_ffff_ffff).wrapping_add(LEAST_MANTISSA));
    let e = f64::from(exponent) - if tiny { 52.0 } else { 0.0 };
    let (high, low) = log2::<FUSED>(m, e);
    let high = if !PLAIN && a == 0.0 { f64::NEG_INFINITY } else { high };
    let high = if PLAIN || a < f64::INFINITY { high } else { a };

    let (t, rest) = product::<FUSED>(y, high);
    let t_low = mul_add::<FUSED>(y, low, rest);
    // Beyond, the result is infinite or 0 anyway, and the rest may have no value.
    let t_low = if t.abs() < 1100.0 { t_low } else { 0.0 };
    let t = if t > 1100.0 { 1100.0 } else { t };
    let t = if t < -1100.0 { -1100.0 } else { t };
    let rounded = t + ROUND;
    let fraction = t - (rounded - ROUND);
    let (r, r_low) = sum(fraction, t_low);
    let (h, h_low) = product::<FUSED>(r, LN_2);
    let h_low = mul_add::<FUSED>(r, LN_2_LOW, mul_add::<FUSED>(r_low, LN_2, h_low));
    let p = (mul_add::<FUSED>(exp_rest::<FUSED>(h), h * h, h_low) + h) + 1.0;
    let (value, power) = scaled(p, rounded);
    let magnitude = value * power;
    if PLAIN {
        return magnitude;
    }

    let is_odd = is_whole(y) && !is_whole(0.5 * y);
    let result = if is_odd { magnitude.copysign(x) } else { magnitude };
    let result = if x < 0.0 && a < f64::INFINITY && !is_whole(y) { f64::NAN } else { result };
    // Whatever the other is, be it NaN.
    if y == 0.0 || x == 1.0 || (a == 1.0 && y.abs() == f64::INFINITY) { 1.0 } else { result }
}

const LN_2: f64 = std::f64::consts::LN_2;
const LN_2_LOW: f64 = 2.319_046_813_846_299_6e-17;

/// The logarithm, to base 2, of m · 2^e, in two parts: 2 / ln 2 times the inverse hyperbolic tangent of s = (m - 1) / (m + 1), which is s + s³/3 + s⁵/5 + ….
/// Of the terms that count for most, all is computed in two parts.
#[inline(always)]
fn log2<const FUSED: bool>(m: f64, e: f64) -> (f64, f64) {
    const THIRD: f64 = 1.0 / 3.0;
    const THIRD_LOW: f64 = 1.850_371_707_708_594e-17;
    const SCALE: f64 = 2.885_390_081_777_926_8;
    const SCALE_LOW: f64 = 4.071_054_748_186_206_6e-17;
    let above = m - 1.0;
    let below = m + 1.0;
    // The difference is exact either way.
    let below_low = m - (below - 1.0);
    let inverse = 1.0 / below;
    let s = above * inverse;
    let (back, back_low) = product::<FUSED>(s, below);
    let s_low = ((above - back) - mul_add::<FUSED>(s, below_low, back_low)) * inverse;
    let (z, z_low) = product::<FUSED>(s, s);
    let z_low = mul_add::<FUSED>(s + s, s_low, z_low);
    let fifth = polynomial!(
        z,
        5.861_526_122_469_028e-2,
        5.853_124_212_283_490_6e-2,
        6.667_402_121_285_018e-2,
        7.692_297_485_407_79e-2,
        9.090_909_167_657_575e-2,
        0.111_111_111_108_281_15,
        0.142_857_142_857_146_82,
        0.2
    );
    let (third, third_low) = sum(THIRD, z * fifth);
    let third_low = third_low + THIRD_LOW;
    let (cubic, cubic_low) = product::<FUSED>(z, third);
    let cubic_low = mul_add::<FUSED>(z, third_low, mul_add::<FUSED>(z_low, third, cubic_low));
    let (factor, factor_low) = sum(1.0, cubic);
    let factor_low = factor_low + cubic_low;
    let (tangent, tangent_low) = product::<FUSED>(s, factor);
    let tangent_low = mul_add::<FUSED>(s, factor_low, mul_add::<FUSED>(s_low, factor, tangent_low));
    let (log, log_low) = product::<FUSED>(tangent, SCALE);
    let log_low = mul_add::<FUSED>(tangent, SCALE_LOW, mul_add::<FUSED>(tangent_low, SCALE, log_low));
    let (high, low) = sum(e, log);
    // What is left of a number near 1 is in the lower part as well.
    sum(high, low + log_low)
}

/// A product, and what rounding took from it (T. J. Dekker's where it needs more than one instruction).
#[inline(always)]
fn product<const FUSED: bool>(x: f64, y: f64) -> (f64, f64) {
    let product = x * y;
    if FUSED {
        return (product, x.mul_add(y, -product));
    }
    let high = |x: f64| f64::from_bits(x.to_bits() & 0xffff_ffff_f800_0000);
    let (x_high, y_high) = (high(x), high(y));
    let (x_low, y_low) = (x - x_high, y - y_high);
    let rest = x_high * y_high - product;
    (product, ((rest + x_high * y_low) + x_low * y_high) + x_low * y_low)
}

/// A sum, and what rounding took from it; x is larger in magnitude, or 0.
#[inline(always)]
fn sum(x: f64, y: f64) -> (f64, f64) {
    let sum = x + y;
    (sum, (x - sum) + y)
}

/// Whether it has no fraction; infinities have none.
#[inline(always)]
fn is_whole(x: f64) -> bool {
    // From here on, no number has one. Below, adding it rounds to a whole number.
    const ALL: f64 = 4_503_599_627_370_496.0;
    let a = x.abs();
    a >= ALL || (a + ALL) - ALL == a
}
