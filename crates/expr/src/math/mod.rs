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
    /// The larger, as `maximum` of IEEE 754-2019: NaN if either is, and 0 is more than -0.
    fn maximum(self, other: Self) -> Self;
    /// The smaller, as `minimum` of IEEE 754-2019: NaN if either is, and -0 is less than 0.
    fn minimum(self, other: Self) -> Self;

    /// Puts the function of each value in its place.
    #[doc(hidden)]
    fn apply(function: Elementary, level: Level, values: &mut [Self]);

    /// Puts the power of each value in its place, with the exponent in the same place of the other slice.
    #[doc(hidden)]
    fn raise(level: Level, values: &mut [Self], exponents: &[Self]);

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

            fn raise(level: Level, values: &mut [Self], exponents: &[Self]) {
                vectorised(level, Raise { values, exponents });
            }

            fn fold(fold: Fold, level: Level, values: &[Self], totals: &mut [Self; LANES]) {
                folds::fold(fold, level, values, totals);
            }

            fn total(fold: Fold, totals: &[Self; LANES]) -> Self {
                folds::total(fold, totals)
            }
        }

        impl Kernel for Raise<'_, $type> {
            type Output = ();

            #[inline(always)]
            fn run<const FUSED: bool>(self) {
                for (x, &y) in self.values.iter_mut().zip(self.exponents) {
                    *x = $functions::pow::<FUSED>(*x, y);
                }
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
                macro_rules! each_as {
                    (|$x:ident| $value:expr) => {
                        for value in self.values {
                            let $x = *value;
                            *value = $value;
                        }
                    };
                }
                // The roots of -0 and -∞ are 0 and ∞ for a power.
                let root = |x: $type| if x == $type::NEG_INFINITY { $type::INFINITY } else { (x + 0.0).sqrt() };
                match self.function {
                    Elementary::Exp => each!(exp),
                    Elementary::Ln => each!(ln),
                    Elementary::Tanh => each!(tanh),
                    Elementary::Sigmoid => each!(sigmoid),
                    Elementary::Gelu => each!(gelu),
                    Elementary::Silu => each!(silu),
                    Elementary::Powi(n) => powi(self.values, n),
                    Elementary::Power(power) => match power {
                        // The square of a number too large is infinite, while that of its inverse is not 0 yet.
                        Power::InverseSquare => each_as!(|x| (1.0 / x) * (1.0 / x)),
                        Power::Inverse => each_as!(|x| 1.0 / x),
                        Power::InverseRoot => each_as!(|x| 1.0 / root(x)),
                        Power::Root => each_as!(|x| root(x)),
                        Power::Itself => {}
                        Power::Square => each_as!(|x| x * x),
                        Power::Cube => each_as!(|x| x * x * x),
                        Power::Fourth => each_as!(|x| (x * x) * (x * x)),
                    },
                }
            }
        }
    };
}

/// Whole powers by repeated multiplication: each square, and the products of some of them. The loop over the bits of the exponent is outside of those
/// over values, so that these have vectors.
#[inline(always)]
fn powi<T: Element>(values: &mut [T], n: i32) {
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

struct Raise<'s, T> {
    values: &'s mut [T],
    exponents: &'s [T],
}

struct Apply<'s, T> {
    function: Elementary,
    values: &'s mut [T],
}

pub(crate) use folds::{Fold, IN_ORDER, LANES};
use polynomial;

element!(f32, u32, single);
element!(f64, u64, double);
