//! Numbers, and the elementary functions of many at once.
//!
//! The functions have no branches, so that the compiler makes vector code of a loop over them, and stand here once for each level of
//! vectors, whatever expressions they occur in. Where the processor has it, products and sums in them are rounded once.

mod double;
mod folds;
mod single;
#[cfg(test)]
mod tests;

use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::item::Item;
use crate::simd::{Kernel, Level, vectorised};

/// The numbers that can be computed with: `f32` and `f64`.
///
/// | of a value | error, in units of the last place |
/// |---|---|
/// | `exp`, `ln` | at most 2 |
/// | `tanh` | at most 3 |
/// | `sigmoid`, `silu` | at most 4 where the result is not subnormal |
/// | `gelu` of `f32` | at most 4·10⁻⁷ · max(1, \|x\|) in absolute terms |
/// | `sqrt`, `+ - * /` | rounded correctly |
/// | `powf`, `gelu` of `f64` | those of the C library |
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

    /// The nearest to `value`.
    fn from_f64(value: f64) -> Self;
    /// The nearest to a number of elements.
    fn from_count(count: usize) -> Self;
    /// Rounded correctly; NaN below 0.
    fn sqrt(self) -> Self;
    /// Exact.
    fn abs(self) -> Self;
    /// As the C library's.
    fn powf(self, exponent: Self) -> Self;
    /// Whether it is not a number.
    fn is_nan(self) -> bool;
    /// The larger, as `maximum` of IEEE 754-2019: NaN if either is, and 0 is more than -0.
    fn maximum(self, other: Self) -> Self;
    /// The smaller, as `minimum` of IEEE 754-2019: NaN if either is, and -0 is less than 0.
    fn minimum(self, other: Self) -> Self;

    /// Puts the function of each value in its place.
    #[doc(hidden)]
    fn apply(function: Elementary, level: Level, values: &mut [Self]);

    /// Combines each value with the total of its place in the slice, modulo their number.
    #[doc(hidden)]
    fn fold(fold: Fold, level: Level, values: &[Self], totals: &mut [Self; LANES]);

    /// Combines all totals, in pairs.
    #[doc(hidden)]
    fn total(fold: Fold, totals: &[Self; LANES]) -> Self;
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

            fn apply(function: Elementary, level: Level, values: &mut [Self]) {
                vectorised(level, Apply { function, values });
            }

            fn fold(fold: Fold, level: Level, values: &[Self], totals: &mut [Self; LANES]) {
                folds::fold(fold, level, values, totals);
            }

            fn total(fold: Fold, totals: &[Self; LANES]) -> Self {
                folds::total(fold, totals)
            }
        }

        impl Kernel for Apply<'_, $type> {
            type Output = ();

            #[inline(always)]
            fn run<const FUSED: bool>(self) {
                macro_rules! each {
                    ($function:ident) => {
                        for x in self.values {
                            *x = $functions::$function::<FUSED>(*x);
                        }
                    };
                }
                match self.function {
                    Elementary::Exp => each!(exp),
                    Elementary::Ln => each!(ln),
                    Elementary::Tanh => each!(tanh),
                    Elementary::Sigmoid => each!(sigmoid),
                    Elementary::Gelu => each!(gelu),
                    Elementary::Silu => each!(silu),
                }
            }
        }
    };
}

struct Apply<'s, T> {
    function: Elementary,
    values: &'s mut [T],
}

pub(crate) use folds::{Fold, IN_ORDER, LANES};
use polynomial;

element!(f32, u32, single);
element!(f64, u64, double);
