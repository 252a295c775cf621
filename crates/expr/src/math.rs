//! The elementary functions of floating-point numbers, without branches, so that the compiler makes vector code of a loop over them.
//!
//! `exp`, `ln` and `tanh` follow S. L. Moshier's Cephes library (`expf`, `logf`, `tanhf`, `exp`, `log`, `tanh`): reduction to a small
//! interval, then a polynomial or a quotient of two. `powf`, and `gelu` of `f64`, are those of the C library and of `libm`.

use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::item::Item;

/// The numbers that can be computed with: `f32` and `f64`.
///
/// The errors named are against the exact value, measured over the whole range by the crate's tests.
pub trait Element:
    Item
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + std::fmt::Display
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Less than every number.
    const LEAST: Self;
    /// More than every number.
    const MOST: Self;

    /// The nearest to `value`.
    fn from_f64(value: f64) -> Self;
    /// The nearest to a number of elements.
    fn from_count(count: usize) -> Self;
    /// Within 2 ulp.
    fn exp(self) -> Self;
    /// Within 2 ulp; NaN below 0.
    fn ln(self) -> Self;
    /// Rounded correctly; NaN below 0.
    fn sqrt(self) -> Self;
    /// Within 3 ulp.
    fn tanh(self) -> Self;
    /// `x · Φ(x)` with the normal distribution's Φ. For `f32`, with an error of at most 4·10⁻⁷ · max(1, |x|).
    fn gelu(self) -> Self;
    /// Exact.
    fn abs(self) -> Self;
    /// As the C library's.
    fn powf(self, exponent: Self) -> Self;
    /// Whether it is not a number.
    fn is_nan(self) -> bool;
}

/// The value of a polynomial, the highest coefficient first.
macro_rules! polynomial {
    ($x:expr, $highest:expr $(, $coefficient:expr)*) => {{
        let value = $highest;
        $(let value = value * $x + $coefficient;)*
        value
    }};
}

impl Element for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LEAST: Self = Self::NEG_INFINITY;
    const MOST: Self = Self::INFINITY;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as Self
    }

    #[inline(always)]
    fn from_count(count: usize) -> Self {
        count as Self
    }

    #[inline(always)]
    fn exp(self) -> Self {
        // Adding it rounds to a whole number, which then stands in the lowest bits.
        const ROUND: f32 = 12_582_912.0;
        // Beyond, the result is infinite or 0 anyway. A comparison with NaN is false, so NaN stays.
        let x = if self > 90.0 { 90.0 } else { self };
        let x = if x < -105.0 { -105.0 } else { x };
        let rounded = x * std::f32::consts::LOG2_E + ROUND;
        let whole = rounded - ROUND;
        let n = rounded.to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
        let r = x - whole * 0.693_359_4 - whole * -2.121_944_4e-4;
        let p = polynomial!(r, 1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5);
        let p = p * (r * r) + r + 1.0;
        // In two steps, as 2^n alone may be too large or too small where the result is not.
        let half = n >> 1;
        let power = |n: i32| Self::from_bits((n.wrapping_add(127).cast_unsigned()) << 23);
        p * power(half) * power(n.wrapping_sub(half))
    }

    #[inline(always)]
    fn ln(self) -> Self {
        let tiny = self < Self::MIN_POSITIVE;
        let x = if tiny { self * 8_388_608.0 } else { self };
        // The mantissa in [√½, √2), and its exponent.
        let shifted = x.to_bits().wrapping_sub(0x3f35_04f3);
        let exponent = shifted.cast_signed() >> 23;
        let m = Self::from_bits((shifted & 0x007f_ffff).wrapping_add(0x3f35_04f3));
        let e = exponent as Self - if tiny { 23.0 } else { 0.0 };
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
        let y = p * z2 * z + e * -2.121_944_4e-4 - 0.5 * z2;
        let result = z + y + e * 0.693_359_4;
        let result = if self == Self::INFINITY { self } else { result };
        let result = if self == 0.0 { Self::NEG_INFINITY } else { result };
        if self >= 0.0 { result } else { Self::NAN }
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn tanh(self) -> Self {
        let z = self * self;
        let near = polynomial!(z, -5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 0.133_314_42, -0.333_332_8);
        let near = near * z * self + self;
        let a = Element::abs(self);
        let far = 1.0 - 2.0 / (Element::exp(a + a) + 1.0);
        if a < 0.625 { near } else { far.copysign(self) }
    }

    #[inline(always)]
    fn gelu(self) -> Self {
        // The complement of the error function, with a relative error of 1.2·10⁻⁷ (Numerical Recipes, `erfcc`).
        let x = Element::abs(self) * std::f32::consts::FRAC_1_SQRT_2;
        let t = 1.0 / (1.0 + 0.5 * x);
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
        let tail = 0.5 * t * Element::exp(p - x * x);
        // Φ, whose tails are the same on both sides.
        self * if self < 0.0 { tail } else { 1.0 - tail }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }

    #[inline(always)]
    fn powf(self, exponent: Self) -> Self {
        self.powf(exponent)
    }

    #[inline(always)]
    fn is_nan(self) -> bool {
        self.is_nan()
    }
}

impl Element for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LEAST: Self = Self::NEG_INFINITY;
    const MOST: Self = Self::INFINITY;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn from_count(count: usize) -> Self {
        count as Self
    }

    #[inline(always)]
    fn exp(self) -> Self {
        const ROUND: f64 = 6_755_399_441_055_744.0;
        let x = if self > 710.0 { 710.0 } else { self };
        let x = if x < -746.0 { -746.0 } else { x };
        let rounded = x * std::f64::consts::LOG2_E + ROUND;
        let whole = rounded - ROUND;
        let n = rounded.to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
        let r = x - whole * 0.693_145_751_953_125 - whole * 1.428_606_820_309_417_2e-6;
        let z = r * r;
        let p = r * polynomial!(z, 1.261_771_930_748_105_9e-4, 3.029_944_077_074_419_6e-2, 1.0);
        let q = polynomial!(z, 3.001_985_051_386_644_6e-6, 2.524_483_403_496_841e-3, 0.227_265_548_208_155_03, 2.0);
        let p = 1.0 + 2.0 * (p / (q - p));
        let half = n >> 1;
        let power = |n: i64| Self::from_bits((n.wrapping_add(1023).cast_unsigned()) << 52);
        p * power(half) * power(n.wrapping_sub(half))
    }

    #[inline(always)]
    fn ln(self) -> Self {
        const LEAST_MANTISSA: u64 = 0x3fe6_a09e_667f_3bcd;
        let tiny = self < Self::MIN_POSITIVE;
        let x = if tiny { self * 4_503_599_627_370_496.0 } else { self };
        let shifted = x.to_bits().wrapping_sub(LEAST_MANTISSA);
        // The exponent stands in the highest 12 bits, which a 32-bit number can hold: that converts in vectors as well.
        let exponent = ((shifted >> 32) as u32).cast_signed() >> 20;
        let m = Self::from_bits((shifted & 0x000f_ffff_ffff_ffff).wrapping_add(LEAST_MANTISSA));
        let e = Self::from(exponent) - if tiny { 52.0 } else { 0.0 };
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
        let y = x * (z * p / q) - e * 2.121_944_400_546_905_8e-4 - 0.5 * z;
        let result = x + y + e * 0.693_359_375;
        let result = if self == Self::INFINITY { self } else { result };
        let result = if self == 0.0 { Self::NEG_INFINITY } else { result };
        if self >= 0.0 { result } else { Self::NAN }
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn tanh(self) -> Self {
        let z = self * self;
        let p = polynomial!(z, -0.964_399_179_425_052_3, -99.287_723_100_191_86, -1_614.687_684_417_084_4);
        let q = polynomial!(z, 1.0, 112.811_678_491_632_93, 2_235.488_390_601_004_5, 4_844.063_053_251_255);
        let near = self + self * z * (p / q);
        let a = Element::abs(self);
        let far = 1.0 - 2.0 / (Element::exp(a + a) + 1.0);
        if a < 0.625 { near } else { far.copysign(self) }
    }

    #[inline]
    fn gelu(self) -> Self {
        0.5 * self * libm::erfc(-self * std::f64::consts::FRAC_1_SQRT_2)
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }

    #[inline(always)]
    fn powf(self, exponent: Self) -> Self {
        self.powf(exponent)
    }

    #[inline(always)]
    fn is_nan(self) -> bool {
        self.is_nan()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// The largest error over numbers of every size and both signs.
    fn worst32(result: fn(f32) -> f32, exact: fn(f64) -> f64) -> f64 {
        let every = (0..=u32::MAX).step_by(997).map(f32::from_bits);
        every.map(|x| ulps32(result(x), exact(f64::from(x)))).fold(0.0, f64::max)
    }

    fn worst64(result: fn(f64) -> f64, exact: fn(f64) -> f64) -> f64 {
        let every = (0..=u64::MAX).step_by((1 << 43) + 12_345_678_901).map(f64::from_bits);
        let near = (-2_000_000..2_000_000).map(|i| f64::from(i) * 1e-5);
        every.chain(near).map(|x| ulps64(result(x), exact(x))).fold(0.0, f64::max)
    }

    #[test]
    fn functions_of_single_precision_are_as_exact_as_claimed() {
        assert!(worst32(Element::exp, f64::exp) <= 2.0);
        assert!(worst32(Element::ln, f64::ln) <= 2.0);
        assert!(worst32(Element::tanh, f64::tanh) <= 3.0);
        let gelu = |x: f64| 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
        for x in (0..=u32::MAX).step_by(997).map(f32::from_bits).filter(|x| x.is_finite()) {
            let error = (f64::from(Element::gelu(x)) - gelu(f64::from(x))).abs();
            assert!(error <= 4e-7 * f64::from(x.abs().max(1.0)), "gelu({x}): {error}");
        }
    }

    #[test]
    fn functions_of_double_precision_are_as_exact_as_claimed() {
        assert!(worst64(Element::exp, f64::exp) <= 2.0);
        assert!(worst64(Element::ln, f64::ln) <= 2.0);
        assert!(worst64(Element::tanh, f64::tanh) <= 3.0);
    }

    #[test]
    fn functions_at_the_ends_of_their_range() {
        assert_eq!((Element::exp(f32::NEG_INFINITY), Element::exp(f32::INFINITY)), (0.0, f32::INFINITY));
        assert_eq!((Element::exp(f64::NEG_INFINITY), Element::exp(f64::INFINITY)), (0.0, f64::INFINITY));
        assert_eq!((Element::ln(0.0_f32), Element::ln(f32::INFINITY)), (f32::NEG_INFINITY, f32::INFINITY));
        assert_eq!((Element::ln(0.0_f64), Element::ln(f64::INFINITY)), (f64::NEG_INFINITY, f64::INFINITY));
        assert!(Element::ln(-1.0_f32).is_nan() && Element::ln(-1.0_f64).is_nan());
        assert!(
            Element::exp(f32::NAN).is_nan() && Element::tanh(f64::NAN).is_nan() && Element::gelu(f32::NAN).is_nan()
        );
        assert_eq!((Element::tanh(-100.0_f32), Element::tanh(f64::INFINITY)), (-1.0, 1.0));
        assert_eq!(Element::exp(-100.0_f32), (-100.0_f64).exp() as f32);
    }
}
