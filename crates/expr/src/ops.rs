//! The element-wise operations and the reductions. An operation is one entry of a table below, and nothing else; an elementary function has its
//! formulas in `math/` as well, and a reduction its method in `expr.rs`.

use std::fmt::{self, Debug};

use crate::block::Taken;
use crate::item::Item;
use crate::math::{Element, Elementary, Fold, Power, Through};
use crate::simd::Level;

/// The operations on one value: documentation, method, type, its cost in additions or so, and what it does to `x`.
macro_rules! unary_table {
    ($use:ident) => {
        $use! {
            /// The square root, rounded correctly; NaN below 0, and -0 of -0.
            sqrt Sqrt [1] |x| x.sqrt();
            /// The larger of x and 0; NaN of NaN, and -0 of -0.
            relu Relu [1] |x| if x < T::ZERO { T::ZERO } else { x };
            /// The absolute value; 0 of -0.
            abs Abs [1] |x| x.abs();
            /// 1 / x, rounded correctly; ∞ of 0, and -∞ of -0.
            recip Recip [1] |x| T::ONE / x;
            /// x · x.
            square Square [1] |x| x * x;
            /// 1 / √x, each rounded correctly; NaN below 0, ∞ of 0, and -∞ of -0.
            rsqrt Rsqrt [1] |x| T::ONE / x.sqrt();
        }
    };
}

/// The elementary functions: documentation, method, type, cost. What they do stands in `math/`.
macro_rules! function_table {
    ($use:ident) => {
        $use! {
            /// e to the power of each element; 0 at -∞.
            exp Exp [16];
            /// The natural logarithm; NaN below 0, -∞ of both zeros.
            ln Ln [16];
            /// The hyperbolic tangent; -0 of -0, and ±1 at ±∞.
            tanh Tanh [16];
            /// 1 / (1 + e^-x); 0 at -∞, and 1 at ∞.
            sigmoid Sigmoid [16];
            /// x times the normal distribution's probability of less than x; -0 at -∞ and of -0.
            gelu Gelu [16];
            /// x · sigmoid(x); -0 at -∞ and of -0.
            silu Silu [16];
        }
    };
}

/// The operations on two values: documentation, method, type, cost, and what it does to `x` and `y`.
macro_rules! binary_table {
    ($use:ident) => {
        $use! {
            /// The larger of both, as `maximum` of IEEE 754-2019: NaN if either is, and 0 is more than -0.
            maximum Maximum [1] |x, y| x.maximum(y);
            /// The smaller of both, as `minimum` of IEEE 754-2019: NaN if either is, and -0 is less than 0.
            minimum Minimum [1] |x, y| x.minimum(y);
        }
    };
}

/// As above, for the operators of the language, with their signs.
macro_rules! operator_table {
    ($use:ident) => {
        $use! {
            add Add "+" |x, y| x + y;
            sub Sub "-" |x, y| x - y;
            mul Mul "*" |x, y| x * y;
            div Div "/" |x, y| x / y;
        }
    };
}

/// The comparisons: documentation, method, type, sign, for which elements, and what is asked of `x` and `y`.
macro_rules! comparison_table {
    ($use:ident) => {
        $use! {
            /// Whether x is less than y.
            lt Less "<" Element |x, y| x < y;
            /// Whether x is at most y.
            le LessOrEqual "<=" Element |x, y| x <= y;
            /// Whether x is greater than y.
            gt Greater ">" Element |x, y| x > y;
            /// Whether x is at least y.
            ge GreaterOrEqual ">=" Element |x, y| x >= y;
            /// Whether both are equal; of elements of any type.
            equals Equal "==" Item |x, y| x == y;
            /// Whether they differ; of elements of any type.
            differs NotEqual "!=" Item |x, y| x != y;
        }
    };
}

pub(crate) use {binary_table, comparison_table, function_table, operator_table, unary_table};

/// What becomes of one value.
pub trait UnaryOp<T>: Copy + Send + Sync + Debug {
    /// As it stands in formulas.
    const NAME: &'static str;
    /// In additions or so.
    const COST: usize = 1;
    /// Whether it is the user's, of which nobody knows what it does.
    #[doc(hidden)]
    const IS_GIVEN: bool = false;

    /// The result.
    fn apply(self, x: T) -> T;
}

/// An elementary function.
pub trait FunctionOp: Copy + Send + Sync + Debug {
    /// As it stands in formulas.
    const NAME: &'static str;
    /// In additions or so.
    const COST: usize;

    /// Which.
    #[doc(hidden)]
    fn function(self) -> Elementary;

    /// The function of what is `x` in formulas.
    #[doc(hidden)]
    fn text(self, x: &str) -> String {
        format!("{}({x})", Self::NAME)
    }
}

/// An elementary function of two values.
pub trait Function2Op: Copy + Send + Sync + Debug {
    /// As it stands in formulas.
    const NAME: &'static str;
    /// In additions or so.
    const COST: usize;

    /// The function of the first value that it is where the second is this number, if there is one that is faster.
    #[doc(hidden)]
    fn with_number<T: Element>(number: T) -> Option<Elementary>;

    /// The function of each first value, and of the second in the same place.
    #[doc(hidden)]
    fn apply<'s, T: Element>(level: Level, first: Through<'s, '_, T>, second: &[T]) -> &'s mut [T];
}

/// What becomes of two values.
pub trait BinaryOp<T: Item>: Copy + Send + Sync + Debug {
    /// What the result is: a value, or whether something holds.
    type Output: Item;
    /// As it stands in formulas: a sign, or a name.
    const NAME: &'static str;
    /// In additions or so.
    const COST: usize = 1;
    /// As [`UnaryOp::IS_GIVEN`].
    #[doc(hidden)]
    const IS_GIVEN: bool = false;

    /// The result.
    fn apply(self, x: T, y: T) -> Self::Output;

    /// Whether there are second values for which it is [faster](Self::faster), and whether this is one.
    #[doc(hidden)]
    const HAS_FASTER: bool = false;
    #[doc(hidden)]
    fn is_faster(y: T) -> bool {
        let _ = y;
        false
    }

    /// The same for such a one.
    #[doc(hidden)]
    #[inline(always)]
    fn faster(self, x: T, y: T) -> Self::Output {
        self.apply(x, y)
    }

    /// Whether the result can stand where an operand stood.
    #[doc(hidden)]
    const STAYS: bool = false;

    /// The operand's memory for the result, where it can hold it.
    #[doc(hidden)]
    fn take_over(block: impl FnOnce() -> Option<Taken<T>>) -> Option<Taken<Self::Output>> {
        let _ = block;
        None
    }

    /// The operand's elements, where the result has taken over their memory.
    #[doc(hidden)]
    #[inline(always)]
    fn here(here: &[Self::Output]) -> &[T] {
        let _ = here;
        &[]
    }
}

/// Operations whose result can stand where an operand stood.
macro_rules! stays_in_place {
    () => {
        type Output = T;
        const STAYS: bool = true;

        fn take_over(block: impl FnOnce() -> Option<Taken<T>>) -> Option<Taken<T>> {
            block()
        }

        #[inline(always)]
        fn here(here: &[T]) -> &[T] {
            here
        }
    };
}

macro_rules! define_unary {
    ($($(#[$doc:meta])* $method:ident $op:ident [$cost:literal] |$x:ident| $value:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $op;

        impl<T: Element> UnaryOp<T> for $op {
            const NAME: &'static str = stringify!($method);
            const COST: usize = $cost;

            #[inline(always)]
            fn apply(self, $x: T) -> T {
                $value
            }
        }
    )*};
}

macro_rules! define_function {
    ($($(#[$doc:meta])* $method:ident $op:ident [$cost:literal];)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $op;

        impl FunctionOp for $op {
            const NAME: &'static str = stringify!($method);
            const COST: usize = $cost;

            fn function(self) -> Elementary {
                Elementary::$op
            }
        }
    )*};
}

macro_rules! define_binary {
    ($($(#[$doc:meta])* $method:ident $op:ident [$cost:literal] |$x:ident, $y:ident| $value:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $op;

        impl<T: Element> BinaryOp<T> for $op {
            stays_in_place!();

            const NAME: &'static str = stringify!($method);
            const COST: usize = $cost;

            #[inline(always)]
            fn apply(self, $x: T, $y: T) -> T {
                $value
            }
        }
    )*};
}

/// A quotient is a product with the inverse, where that is exact: it takes a tenth of the time.
macro_rules! faster {
    (Div) => {
        const HAS_FASTER: bool = true;

        fn is_faster(y: T) -> bool {
            y.has_exact_inverse()
        }

        #[inline(always)]
        fn faster(self, x: T, y: T) -> T {
            x * (T::ONE / y)
        }
    };
    ($other:ident) => {};
}

macro_rules! define_operators {
    ($($method:ident $op:ident $sign:literal |$x:ident, $y:ident| $value:expr;)*) => {$(
        #[doc = concat!("x ", $sign, " y")]
        #[derive(Clone, Copy, Debug)]
        pub struct $op;

        impl<T: Element> BinaryOp<T> for $op {
            stays_in_place!();
            faster!($op);

            const NAME: &'static str = $sign;

            #[inline(always)]
            fn apply(self, $x: T, $y: T) -> T {
                $value
            }
        }
    )*};
}

macro_rules! define_comparisons {
    ($($(#[$doc:meta])* $method:ident $op:ident $sign:literal $bound:ident |$x:ident, $y:ident| $holds:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $op;

        impl<T: $bound> BinaryOp<T> for $op {
            type Output = bool;
            const NAME: &'static str = $sign;

            #[inline(always)]
            fn apply(self, $x: T, $y: T) -> bool {
                $holds
            }
        }
    )*};
}

unary_table!(define_unary);
function_table!(define_function);
binary_table!(define_binary);
operator_table!(define_operators);
comparison_table!(define_comparisons);

/// `-x`.
#[derive(Clone, Copy, Debug)]
pub struct Neg;

impl<T: Element> UnaryOp<T> for Neg {
    const NAME: &'static str = "-";

    #[inline(always)]
    fn apply(self, x: T) -> T {
        -x
    }
}

macro_rules! define_connectives {
    ($($(#[$doc:meta])* $op:ident $sign:literal |$x:ident, $y:ident| $value:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $op;

        impl BinaryOp<bool> for $op {
            const STAYS: bool = true;
            type Output = bool;
            const NAME: &'static str = $sign;

            fn take_over(block: impl FnOnce() -> Option<Taken<bool>>) -> Option<Taken<bool>> {
                block()
            }

            #[inline(always)]
            fn here(here: &[bool]) -> &[bool] {
                here
            }

            #[inline(always)]
            fn apply(self, $x: bool, $y: bool) -> bool {
                $value
            }
        }
    )*};
}

define_connectives! {
    /// Whether both hold.
    And "&" |x, y| x & y;
    /// Whether one holds.
    Or "|" |x, y| x | y;
}

/// Whether it does not hold.
#[derive(Clone, Copy, Debug)]
pub struct Not;

impl UnaryOp<bool> for Not {
    const NAME: &'static str = "!";

    #[inline(always)]
    fn apply(self, x: bool) -> bool {
        !x
    }
}

/// A function of the user's.
#[derive(Clone, Copy)]
pub struct Map<F>(pub(crate) F);

impl<F> Debug for Map<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Map")
    }
}

/// What one of the user's costs, which nobody knows.
const MAPPED: usize = 4;

impl<T: Item, F: Fn(T) -> T + Copy + Send + Sync> UnaryOp<T> for Map<F> {
    const NAME: &'static str = "map";
    const COST: usize = MAPPED;
    const IS_GIVEN: bool = true;

    #[inline(always)]
    fn apply(self, x: T) -> T {
        (self.0)(x)
    }
}

impl<T: Item, F: Fn(T, T) -> T + Copy + Send + Sync> BinaryOp<T> for Map<F> {
    stays_in_place!();

    const NAME: &'static str = "zip_map";
    const COST: usize = MAPPED;
    const IS_GIVEN: bool = true;

    #[inline(always)]
    fn apply(self, x: T, y: T) -> T {
        (self.0)(x, y)
    }
}

/// A whole power.
#[derive(Clone, Copy, Debug)]
pub struct Powi(pub i32);

impl FunctionOp for Powi {
    const NAME: &'static str = "powi";
    const COST: usize = 8;

    fn function(self) -> Elementary {
        Elementary::Powi(self.0)
    }

    fn text(self, x: &str) -> String {
        format!("powi({x}, {})", self.0)
    }
}

/// x to the power of y.
#[derive(Clone, Copy, Debug)]
pub struct Powf;

impl Function2Op for Powf {
    const NAME: &'static str = "powf";
    const COST: usize = 64;

    fn with_number<T: Element>(number: T) -> Option<Elementary> {
        Power::of(number).map(Elementary::Power)
    }

    fn apply<'s, T: Element>(level: Level, first: Through<'s, '_, T>, second: &[T]) -> &'s mut [T] {
        T::raise(level, first, second)
    }
}

/// A sum of ones as a number of elements.
#[derive(Clone, Copy, Debug)]
pub struct Count;

impl BinaryOp<f64> for Count {
    type Output = usize;
    const NAME: &'static str = "count";

    #[inline(always)]
    fn apply(self, x: f64, start: f64) -> usize {
        // Whole numbers are the last bits of what they are with this; no vectors have a conversion.
        const WHOLE: f64 = (1_u64 << 52) as f64;
        (x + start + WHOLE).to_bits().wrapping_sub(WHOLE.to_bits()) as usize
    }
}

/// (x - y)².
#[derive(Clone, Copy, Debug)]
pub struct SquaredDifference;

impl<T: Element> BinaryOp<T> for SquaredDifference {
    stays_in_place!();

    const NAME: &'static str = "squared_difference";

    #[inline(always)]
    fn apply(self, x: T, y: T) -> T {
        (x - y) * (x - y)
    }
}

/// How values become one.
pub trait Reduction<T>: Copy + Send + Sync + Debug {
    /// As it stands in formulas.
    const NAME: &'static str;
    /// The result of no values; `None` where there is none.
    const OF_NONE: Option<T>;
    /// What changes nothing.
    const START: T;
    /// What combines rows.
    #[doc(hidden)]
    const FOLD: Fold;

    /// The result of two.
    fn combine(x: T, y: T) -> T;

    /// The result, from what came of `count` values.
    fn finish(total: T, count: usize) -> T {
        let _ = count;
        total
    }
}

macro_rules! reductions {
    ($($(#[$doc:meta])* $op:ident $fold:ident $name:literal, $start:expr, $of_none:expr, |$x:ident, $y:ident| $combined:expr $(, |$total:ident, $count:ident| $finished:expr)?;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $op;

        impl<T: Element> Reduction<T> for $op {
            const NAME: &'static str = $name;
            const OF_NONE: Option<T> = $of_none;
            const START: T = $start;
            const FOLD: Fold = Fold::$fold;

            #[inline(always)]
            fn combine($x: T, $y: T) -> T {
                $combined
            }

            $(#[inline(always)]
            fn finish($total: T, $count: usize) -> T {
                $finished
            })?
        }
    )*};
}

reductions! {
    /// The sum.
    Sum Add "sum", T::ZERO, Some(T::ZERO), |x, y| x + y;
    /// The sum, divided by the number.
    Mean Add "mean", T::ZERO, Some(T::ZERO), |x, y| x + y, |total, count| total / T::from_count(count);
    /// The product.
    Prod Multiply "prod", T::ONE, Some(T::ONE), |x, y| x * y;
    /// The largest.
    Max Maximum "max", T::LEAST, None, |x, y| Maximum.apply(x, y);
    /// The smallest.
    Min Minimum "min", T::MOST, None, |x, y| Minimum.apply(x, y);
}
