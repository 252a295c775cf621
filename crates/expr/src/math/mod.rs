//! Numbers, and the elementary functions of many at once.
//!
//! The functions have no branches, so that the compiler makes vector code of a loop over them, and stand here once for each level of
//! vectors, whatever expressions they occur in. Where the processor has it, products and sums in them are rounded once.
//!
//! Unsafe code says that slots were written, after a loop over all of them.
#![allow(unsafe_code)]

mod double;
mod folds;
mod single;
#[cfg(test)]
mod tests;

use std::mem::MaybeUninit;
use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::item::Item;
use crate::simd::{Kernel, Level, vectorised};
use crate::slots::{copied, written};

/// The numbers that can be computed with: `f32` and `f64`.
///
/// | of a value | error, in units of the last place |
/// |---|---|
/// | `exp`, `ln` | at most 2 |
/// | `tanh` | at most 3 |
/// | `sigmoid`, `silu` | at most 4 where the result is not subnormal |
/// | `gelu` of `f32` | at most 4·10⁻⁷ · max(1, \|x\|) in absolute terms |
/// | `gelu` of `f64` | at most 10⁻¹⁵ · max(1, \|x\|) in absolute terms, and at most 16 for -37 < x < -1 |
/// | `powf` | at most 2 |
/// | `powi(n)` | at most \|n\| where neither the result nor its inverse is subnormal or infinite |
/// | `rsqrt` | at most 1.5 |
/// | `sqrt`, `square`, `recip`, `+ - * /` | rounded correctly |
///
/// Errors are against the exact value, measured over the whole range by the crate's tests, at every level of vectors.
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
    /// From 1 to the next number.
    const EPSILON: Self;

    /// The nearest to `value`.
    fn from_f64(value: f64) -> Self;
    /// The nearest to a number of elements.
    fn from_count(count: usize) -> Self;
    /// Rounded correctly; NaN below 0.
    fn sqrt(self) -> Self;
    /// Exact.
    fn abs(self) -> Self;
    /// As the C library's; expressions compute the powers of many at once.
    fn powf(self, exponent: Self) -> Self;
    /// Whether it is not a number.
    fn is_nan(self) -> bool;
    /// Whether 1 divided by it is exact and normal: it is a power of 2, and not too large.
    #[doc(hidden)]
    fn has_exact_inverse(self) -> bool;
    /// The larger, as `maximum` of IEEE 754-2019: NaN if either is, and 0 is more than -0.
    fn maximum(self, other: Self) -> Self;
    /// The smaller, as `minimum` of IEEE 754-2019: NaN if either is, and -0 is less than 0.
    fn minimum(self, other: Self) -> Self;

    /// The function of each value.
    #[doc(hidden)]
    fn apply<'s>(function: Elementary, level: Level, values: Through<'s, '_, Self>) -> &'s mut [Self];

    /// The power of each value, with the exponent in the same place of the other slice.
    #[doc(hidden)]
    fn raise<'s>(level: Level, values: Through<'s, '_, Self>, exponents: &[Self]) -> &'s mut [Self];

    /// Combines each value with the total of its place in the slice, modulo their number.
    #[doc(hidden)]
    fn fold(fold: Fold, level: Level, values: &[Self], totals: &mut [Self; LANES]);

    /// Combines the values of each row of `len`, those of each place modulo `width`, a power of 2 that is no more than the totals.
    #[doc(hidden)]
    fn fold_rows(fold: Fold, level: Level, values: &[Self], len: usize, out: &mut [Self], width: usize);

    /// Combines all totals, in pairs.
    #[doc(hidden)]
    fn total(fold: Fold, totals: &[Self; LANES]) -> Self;
}

/// Values to which a function is applied, and where the results go: to every slot.
#[doc(hidden)]
#[derive(Debug)]
pub enum Through<'o, 'v, T> {
    InPlace(&'o mut [T]),
    /// While values come from memory and results go there, the processor computes: all at once, where a copy that is changed then would wait for memory
    /// first.
    To(&'o mut [MaybeUninit<T>], &'v [T]),
}

impl<'o, T: Copy> Through<'o, '_, T> {
    #[inline(always)]
    fn get(&self) -> &[T] {
        match self {
            Self::InPlace(values) => values,
            Self::To(_, values) => values,
        }
    }

    /// The values themselves where results go.
    #[inline(always)]
    fn copied(self) -> &'o mut [T] {
        match self {
            Self::InPlace(values) => values,
            Self::To(out, values) => copied(out, values),
        }
    }
}

/// An elementary function: one that takes so long that its values go through a tile.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Elementary {
    Exp,
    Ln,
    Tanh,
    Sigmoid,
    Gelu,
    Silu,
    /// A whole power.
    Powi(i32),
    /// A power that products, quotients and roots make.
    Power(Power),
}

/// The powers that products, quotients and roots make as exactly as `powf` is.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    InverseSquare,
    Inverse,
    InverseRoot,
    Root,
    Itself,
    Square,
    Cube,
    Fourth,
}

impl Power {
    /// The one with this exponent.
    pub(crate) fn of<T: Element>(exponent: T) -> Option<Self> {
        let all = [
            (-2.0, Self::InverseSquare),
            (-1.0, Self::Inverse),
            (-0.5, Self::InverseRoot),
            (0.5, Self::Root),
            (1.0, Self::Itself),
            (2.0, Self::Square),
            (3.0, Self::Cube),
            (4.0, Self::Fourth),
        ];
        all.into_iter().find(|&(of, _)| T::from_f64(of) == exponent).map(|(_, power)| power)
    }
}

/// The value of a polynomial, the highest coefficient first.
macro_rules! polynomial {
    ($x:expr, $highest:expr $(, $coefficient:expr)*) => {{
        let value = $highest;
        $(let value = mul_add::<FUSED>(value, $x, $coefficient);)*
        value
    }};
}

/// One type's numbers: what the language has under the same names, and the loops over its functions.
macro_rules! element {
    ($type:ident, $bits:ident, $functions:ident) => {
        impl Element for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const LEAST: Self = Self::NEG_INFINITY;
            const MOST: Self = Self::INFINITY;
            const EPSILON: Self = Self::EPSILON;

            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as Self
            }

            #[inline(always)]
            fn from_count(count: usize) -> Self {
                count as Self
            }

            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
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

            fn has_exact_inverse(self) -> bool {
                let fraction = self.to_bits() << ($bits::BITS - $type::MANTISSA_DIGITS + 1);
                self.is_normal() && (1.0 / self).is_normal() && fraction == 0
            }

            // The two instructions that there are for the larger of two, one for either order, agree but for zeros and NaN, where each has its second
            // operand. Of zeros, the result has the sign that both have; and what has the bits of a NaN and others as well is one.
            #[inline(always)]
            fn maximum(self, other: Self) -> Self {
                const SIGN: $bits = 1 << ($bits::BITS - 1);
                let one = if self > other { self } else { other }.to_bits();
                let another = if other > self { other } else { self }.to_bits();
                Self::from_bits((one | another) & !SIGN | one & another)
            }

            #[inline(always)]
            fn minimum(self, other: Self) -> Self {
                let one = if self < other { self } else { other }.to_bits();
                let another = if other < self { other } else { self }.to_bits();
                Self::from_bits(one | another)
            }

            fn apply<'s>(function: Elementary, level: Level, values: Through<'s, '_, Self>) -> &'s mut [Self] {
                vectorised(level, Apply { function, values })
            }

            fn raise<'s>(level: Level, values: Through<'s, '_, Self>, exponents: &[Self]) -> &'s mut [Self] {
                vectorised(level, Raise { values, exponents })
            }

            fn fold(fold: Fold, level: Level, values: &[Self], totals: &mut [Self; LANES]) {
                folds::fold(fold, level, values, totals);
            }

            fn fold_rows(fold: Fold, level: Level, values: &[Self], len: usize, out: &mut [Self], width: usize) {
                folds::fold_rows(fold, level, values, len, out, width);
            }

            fn total(fold: Fold, totals: &[Self; LANES]) -> Self {
                folds::total(fold, totals)
            }
        }

        impl<'o> Kernel for Raise<'o, '_, $type> {
            type Output = &'o mut [$type];

            #[inline(always)]
            fn run<const FUSED: bool>(self) -> Self::Output {
                macro_rules! each {
                    ($plain:literal) => {
                        match self.values {
                            Through::InPlace(values) => {
                                for (x, &y) in values.iter_mut().zip(self.exponents) {
                                    *x = $functions::pow::<FUSED, $plain>(*x, y);
                                }
                                values
                            }
                            Through::To(out, values) => {
                                let out = &mut out[..values.len()];
                                let exponents = &self.exponents[..values.len()];
                                for ((slot, &x), &y) in out.iter_mut().zip(values).zip(exponents) {
                                    slot.write($functions::pow::<FUSED, $plain>(x, y));
                                }
                                // SAFETY: the loop wrote to every slot, as there are as many values and exponents.
                                unsafe { written(out) }
                            }
                        }
                    };
                }
                if $functions::are_normal(self.values.get()) && $functions::are_finite(self.exponents) {
                    each!(true)
                } else {
                    each!(false)
                }
            }
        }

        impl<'o> Kernel for Apply<'o, '_, $type> {
            type Output = &'o mut [$type];

            #[inline(always)]
            fn run<const FUSED: bool>(self) -> Self::Output {
                macro_rules! each {
                    (|$x:ident| $value:expr) => {
                        match self.values {
                            Through::InPlace(values) => {
                                for value in &mut *values {
                                    let $x = *value;
                                    *value = $value;
                                }
                                values
                            }
                            Through::To(out, values) => {
                                let out = &mut out[..values.len()];
                                for (slot, &$x) in out.iter_mut().zip(values) {
                                    slot.write($value);
                                }
                                // SAFETY: the loop wrote to every slot, as there are as many values.
                                unsafe { written(out) }
                            }
                        }
                    };
                }
                // Numbers at the ends of the range are rare, and what they need takes long: where there are none, the loop is a plain one.
                macro_rules! plain {
                    ($are_plain:ident, $function:ident) => {
                        if $functions::$are_plain(self.values.get()) {
                            each!(|x| $functions::$function::<FUSED, true>(x))
                        } else {
                            each!(|x| $functions::$function::<FUSED, false>(x))
                        }
                    };
                }
                // The roots of -0 and -∞ are 0 and ∞ for a power.
                let root = |x: $type| if x == $type::NEG_INFINITY { $type::INFINITY } else { (x + 0.0).sqrt() };
                match self.function {
                    Elementary::Exp => plain!(are_moderate, exp),
                    Elementary::Ln => plain!(are_normal, ln),
                    Elementary::Tanh => each!(|x| $functions::tanh::<FUSED>(x)),
                    Elementary::Sigmoid => plain!(are_moderate, sigmoid),
                    Elementary::Gelu => each!(|x| $functions::gelu::<FUSED>(x)),
                    Elementary::Silu => plain!(are_moderate, silu),
                    Elementary::Powi(n) => powi(self.values, n),
                    Elementary::Power(power) => match power {
                        // The square of a number too large is infinite, while that of its inverse is not 0 yet.
                        Power::InverseSquare => each!(|x| (1.0 / x) * (1.0 / x)),
                        Power::Inverse => each!(|x| 1.0 / x),
                        Power::InverseRoot => each!(|x| 1.0 / root(x)),
                        Power::Root => each!(|x| root(x)),
                        Power::Itself => self.values.copied(),
                        Power::Square => each!(|x| x * x),
                        Power::Cube => each!(|x| x * x * x),
                        Power::Fourth => each!(|x| (x * x) * (x * x)),
                    },
                }
            }
        }
    };
}

/// Whole powers by repeated multiplication: each square, and the products of some of them. The loop over the bits of the exponent is outside of those
/// over values, so that these have vectors.
#[inline(always)]
fn powi<'o, T: Element>(values: Through<'o, '_, T>, n: i32) -> &'o mut [T] {
    let values = values.copied();
    let (blocks, others) = values.as_chunks_mut::<LANES>();
    for block in blocks {
        powi_block(block, n);
    }
    if !others.is_empty() {
        let mut block = [T::ONE; LANES];
        block[..others.len()].copy_from_slice(others);
        powi_block(&mut block, n);
        others.copy_from_slice(&block[..others.len()]);
    }
    values
}

#[inline(always)]
fn powi_block<T: Element>(values: &mut [T; LANES], n: i32) {
    let mut left = n.unsigned_abs();
    if left == 0 {
        *values = [T::ONE; LANES];
        return;
    }
    let mut squares = *values;
    while left.is_multiple_of(2) {
        for square in &mut squares {
            *square = *square * *square;
        }
        left /= 2;
    }
    *values = squares;
    left /= 2;
    while left > 0 {
        for square in &mut squares {
            *square = *square * *square;
        }
        if !left.is_multiple_of(2) {
            for (value, square) in values.iter_mut().zip(squares) {
                *value = *value * square;
            }
        }
        left /= 2;
    }
    if n < 0 {
        for value in values {
            *value = T::ONE / *value;
        }
    }
}

struct Raise<'o, 'v, T> {
    values: Through<'o, 'v, T>,
    exponents: &'v [T],
}

struct Apply<'o, 'v, T> {
    function: Elementary,
    values: Through<'o, 'v, T>,
}

pub(crate) use folds::{Fold, IN_ORDER, LANES};
use polynomial;

element!(f32, u32, single);
element!(f64, u64, double);
