//! Many values made one.
//!
//! What matters is that the totals stay in registers, and that enough of them do for one addition not to wait for another. Left to the
//! compiler they do on one day and not on another; so the vectors are spelt out.

use pulp::{Simd, WithSimd};

use super::Element;
use crate::simd::Level;
use crate::slots::Lines;

/// How values become one.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Fold {
    Add,
    Multiply,
    Maximum,
    Minimum,
}

impl Fold {
    /// What changes nothing.
    pub(crate) fn start<T: Element>(self) -> T {
        match self {
            Self::Add => Add::start(),
            Self::Multiply => Multiply::start(),
            Self::Maximum => Maximum::start(),
            Self::Minimum => Minimum::start(),
        }
    }

    /// Whether rows of so few values are combined by a loop over rows: those of two to four, and where two values take one instruction, others.
    pub(crate) fn is_narrow(self, len: usize) -> bool {
        matches!(len, 2..=4) || self.is_plain() && (5..LANES).contains(&len) && (len <= 8 || len.is_multiple_of(4))
    }

    /// Whether two values take one instruction.
    pub(crate) fn is_plain(self) -> bool {
        matches!(self, Self::Add | Self::Multiply)
    }

    /// One of two.
    pub(crate) fn combine<T: Element>(self, x: T, y: T) -> T {
        match self {
            Self::Add => Add::values(x, y),
            Self::Multiply => Multiply::values(x, y),
            Self::Maximum => Maximum::values(x, y),
            Self::Minimum => Minimum::values(x, y),
        }
    }
}

/// The totals of a fold, at every level of vectors, so that its result does not depend on that.
#[doc(hidden)]
pub(crate) const LANES: usize = 64;

/// The values that are combined in order, before what came of them is combined with the totals.
#[doc(hidden)]
pub(crate) const IN_ORDER: usize = 32 * LANES;

/// A way of making one value of two, each for itself, so that loops have no branches.
trait Combine: Sized {
    fn start<T: Element>() -> T;
    fn values<T: Element>(x: T, y: T) -> T;
    fn f32s<S: Simd>(simd: S, x: S::f32s, y: S::f32s) -> S::f32s;
    fn f64s<S: Simd>(simd: S, x: S::f64s, y: S::f64s) -> S::f64s;

    /// What stands for a value in `f32s`, and the value for that.
    #[inline(always)]
    fn turned_f32s<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        let _ = simd;
        x
    }

    /// The same for `f64s`.
    #[inline(always)]
    fn turned_f64s<S: Simd>(simd: S, x: S::f64s) -> S::f64s {
        let _ = simd;
        x
    }
}

/// The smaller of two, as [`Element::minimum`] has it and for its reasons.
trait Smaller: Simd {
    #[inline(always)]
    fn smaller_f32s(self, x: Self::f32s, y: Self::f32s) -> Self::f32s {
        let one = self.transmute_u32s_f32s(self.min_f32s(x, y));
        let another = self.transmute_u32s_f32s(self.min_f32s(y, x));
        self.transmute_f32s_u32s(self.or_u32s(one, another))
    }

    #[inline(always)]
    fn smaller_f64s(self, x: Self::f64s, y: Self::f64s) -> Self::f64s {
        let one = self.transmute_u64s_f64s(self.min_f64s(x, y));
        let another = self.transmute_u64s_f64s(self.min_f64s(y, x));
        self.transmute_f64s_u64s(self.or_u64s(one, another))
    }
}

impl<S: Simd> Smaller for S {}

macro_rules! combine {
    ($($name:ident $start:ident |$simd:ident, $x:ident, $y:ident| $values:expr, $f32s:expr, $f64s:expr
        $(, |$with:ident, $value:ident| $turned_f32s:expr, $turned_f64s:expr)?;)*) => {
        $(struct $name;

        impl Combine for $name {
            #[inline(always)]
            fn start<T: Element>() -> T {
                T::$start
            }

            #[inline(always)]
            fn values<T: Element>($x: T, $y: T) -> T {
                $values
            }

            #[inline(always)]
            fn f32s<S: Simd>($simd: S, $x: S::f32s, $y: S::f32s) -> S::f32s {
                $f32s
            }

            #[inline(always)]
            fn f64s<S: Simd>($simd: S, $x: S::f64s, $y: S::f64s) -> S::f64s {
                $f64s
            }

            $(#[inline(always)]
            fn turned_f32s<S: Simd>($with: S, $value: S::f32s) -> S::f32s {
                $turned_f32s
            }

            #[inline(always)]
            fn turned_f64s<S: Simd>($with: S, $value: S::f64s) -> S::f64s {
                $turned_f64s
            })?
        })*

        pub(super) fn total<T: Element>(fold: Fold, totals: &[T; LANES]) -> T {
            match fold {
                $(Fold::$name => {
                    let mut totals = *totals;
                    halve::<$name, T, LANES>(&mut totals, LANES, 1);
                    totals[0]
                })*
            }
        }

        kernels!(f32, f32s, whole_f32s, $($name)*);
        kernels!(f64, f64s, whole_f64s, $($name)*);
    };
}

/// What is compiled for each level, of one type's numbers.
macro_rules! kernels {
    ($type:ident, $fold:ident, $whole:ident, $($name:ident)*) => {
        impl WithSimd for Folding<'_, $type> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                match self.fold {
                    $(Fold::$name => $fold::<$name, S>(simd, self.values, self.totals),)*
                }
            }
        }

        impl WithSimd for FoldingRows<'_, $type> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self { fold, values, len, out, width } = self;
                match fold {
                    $(Fold::$name => {
                        if width == 1 && narrow::<$name, $type>(fold, values, len, out) {
                            return;
                        }
                        for (row, out) in values.chunks_exact(len).zip(out.chunks_exact_mut(width)) {
                            if width == 1 && len <= IN_ORDER {
                                out[0] = $whole::<$name, S>(simd, row);
                                continue;
                            }
                            let mut totals = Lines([fold.start(); LANES]);
                            $fold::<$name, S>(simd, row, &mut totals.0);
                            // The others have nothing.
                            halve::<$name, $type, LANES>(&mut totals.0, len.min(LANES).next_power_of_two(), width);
                            out.copy_from_slice(&totals.0[..width]);
                        }
                    })*
                }
            }
        }
    };
}

combine! {
    Add ZERO |simd, x, y| x + y, simd.add_f32s(x, y), simd.add_f64s(x, y);
    Multiply ONE |simd, x, y| x * y, simd.mul_f32s(x, y), simd.mul_f64s(x, y);
    // The largest is the smallest of the negatives.
    Maximum LEAST |simd, x, y| x.maximum(y), simd.smaller_f32s(x, y), simd.smaller_f64s(x, y),
        |simd, x| simd.neg_f32s(x), simd.neg_f64s(x);
    Minimum MOST |simd, x, y| x.minimum(y), simd.smaller_f32s(x, y), simd.smaller_f64s(x, y);
}

pub(super) struct Folding<'s, T> {
    fold: Fold,
    values: &'s [T],
    totals: &'s mut [T; LANES],
}

/// Combines each value with the total of its place in the slice, modulo their number.
pub(super) fn fold<T>(fold: Fold, level: Level, values: &[T], totals: &mut [T; LANES])
where
    for<'s> Folding<'s, T>: WithSimd<Output = ()>,
{
    level.dispatch(Folding { fold, values, totals });
}

pub(super) struct FoldingRows<'s, T> {
    fold: Fold,
    values: &'s [T],
    len: usize,
    out: &'s mut [T],
    width: usize,
}

/// Combines the values of each row of `len`, those of each place modulo `width`: as [`fold`] and [`total`] would, if `width` is 1. It is a power of 2.
pub(super) fn fold_rows<T>(fold: Fold, level: Level, values: &[T], len: usize, out: &mut [T], width: usize)
where
    for<'s> FoldingRows<'s, T>: WithSimd<Output = ()>,
{
    debug_assert!(width.is_power_of_two() && width <= LANES && len.is_multiple_of(width));
    level.dispatch(FoldingRows { fold, values, len, out, width });
}

macro_rules! vectors {
    ($name:ident, $whole:ident, $type:ident, $lanes:ident, [$($width:literal: $vectors:literal),*], $as_simd:ident, $as_mut_simd:ident, $splat:ident, $turned:ident) => {
        #[inline(always)]
        fn $name<C: Combine, S: Simd>(simd: S, values: &[$type], totals: &mut [$type; LANES]) {
            /// With so many vectors for the totals.
            #[inline(always)]
            fn vectors<C: Combine, S: Simd, const VECTORS: usize>(simd: S, values: &[$type], totals: &mut [$type; LANES]) {
                let (groups, others) = values.as_chunks::<LANES>();
                for groups in groups.chunks(IN_ORDER / LANES) {
                    let sums = $name::in_order::<C, S, VECTORS>(simd, groups);
                    let (totals, _) = S::$as_mut_simd(totals);
                    for i in 0..VECTORS {
                        totals[i] = C::$turned(simd, C::$name(simd, C::$turned(simd, totals[i]), sums[i]));
                    }
                }
                rest::<C, _>(others, totals);
            }

            match S::$lanes {
                $($width => vectors::<C, S, $vectors>(simd, values, totals),)*
                _ => one_by_one::<C, _>(values, totals),
            }
        }

        /// As above, and the total of it, of no more than are combined in order: the totals never leave their registers.
        #[inline(always)]
        fn $whole<C: Combine, S: Simd>(simd: S, values: &[$type]) -> $type {
            #[inline(always)]
            fn vectors<C: Combine, S: Simd, const VECTORS: usize>(simd: S, values: &[$type]) -> $type {
                let (groups, others) = values.as_chunks::<LANES>();
                let mut sums = $name::in_order::<C, S, VECTORS>(simd, groups);
                if !others.is_empty() {
                    let mut group = Lines([C::start(); LANES]);
                    group.0[..others.len()].copy_from_slice(others);
                    let (group, _) = S::$as_simd(&group.0);
                    for i in 0..VECTORS {
                        sums[i] = C::$name(simd, sums[i], C::$turned(simd, group[i]));
                    }
                }
                let mut left = VECTORS;
                let mut last = Lines([C::start(); LANES / 4]);
                while left * S::$lanes > LANES / 4 {
                    left /= 2;
                    for i in 0..left {
                        sums[i] = C::$name(simd, sums[i], sums[left + i]);
                    }
                }
                for (last, sum) in S::$as_mut_simd(&mut last.0).0.iter_mut().zip(sums) {
                    *last = C::$turned(simd, sum);
                }
                halve::<C, $type, { LANES / 4 }>(&mut last.0, LANES / 4, 1);
                last.0[0]
            }

            match S::$lanes {
                $($width => vectors::<C, S, $vectors>(simd, values),)*
                _ => {
                    let mut totals = [C::start(); LANES];
                    one_by_one::<C, _>(values, &mut totals);
                    halve::<C, $type, LANES>(&mut totals, LANES, 1);
                    totals[0]
                }
            }
        }

        mod $name {
            use super::*;

            /// What comes of each place in some groups, with so many vectors, turned.
            #[inline(always)]
            pub(super) fn in_order<C: Combine, S: Simd, const VECTORS: usize>(simd: S, groups: &[[$type; LANES]]) -> [S::$name; VECTORS] {
                let mut sums = [C::$turned(simd, simd.$splat(C::start())); VECTORS];
                for group in groups {
                    let (group, _) = S::$as_simd(group);
                    for i in 0..VECTORS {
                        sums[i] = C::$name(simd, sums[i], C::$turned(simd, group[i]));
                    }
                }
                sums
            }
        }
    };
}

vectors!(f32s, whole_f32s, f32, F32_LANES, [16: 4, 8: 8, 4: 16], as_simd_f32s, as_mut_simd_f32s, splat_f32s, turned_f32s);
vectors!(f64s, whole_f64s, f64, F64_LANES, [8: 8, 4: 16, 2: 32], as_simd_f64s, as_mut_simd_f64s, splat_f64s, turned_f64s);

/// As above, where there are no vectors.
#[inline(always)]
fn one_by_one<C: Combine, T: Element>(values: &[T], totals: &mut [T; LANES]) {
    let (groups, others) = values.as_chunks::<LANES>();
    for groups in groups.chunks(IN_ORDER / LANES) {
        let mut sums = [C::start(); LANES];
        for group in groups {
            rest::<C, _>(group, &mut sums);
        }
        rest::<C, _>(&sums, totals);
    }
    rest::<C, _>(others, totals);
}

/// Combines the values of each row by a loop over rows, if it [is one for that](Fold::is_narrow).
#[inline(always)]
fn narrow<C: Combine, T: Element>(fold: Fold, values: &[T], len: usize, out: &mut [T]) -> bool {
    match len {
        2 => columns::<C, T, 2>(values, out),
        3 => columns::<C, T, 3>(values, out),
        4 => columns::<C, T, 4>(values, out),
        5 if fold.is_narrow(5) => columns::<C, T, 5>(values, out),
        6 if fold.is_narrow(6) => columns::<C, T, 6>(values, out),
        7 if fold.is_narrow(7) => columns::<C, T, 7>(values, out),
        8 if fold.is_narrow(8) => columns::<C, T, 8>(values, out),
        _ if fold.is_narrow(len) => {
            const ROWS: usize = 16;
            for (rows, out) in values.chunks(ROWS * len).zip(out.chunks_mut(ROWS)) {
                let mut quarters = [[C::start(); 4]; ROWS];
                for (row, quarters) in rows.chunks_exact(len).zip(&mut quarters) {
                    for four in row.as_chunks::<4>().0 {
                        for i in 0..4 {
                            quarters[i] = C::values(quarters[i], four[i]);
                        }
                    }
                }
                columns::<C, T, 4>(quarters.as_flattened(), out);
            }
        }
        _ => return false,
    }
    true
}

/// Combines the values of each row, in order.
#[inline(always)]
fn columns<C: Combine, T: Element, const LEN: usize>(values: &[T], out: &mut [T]) {
    for (out, row) in out.iter_mut().zip(values.as_chunks::<LEN>().0) {
        let mut total = C::start();
        for &value in row {
            total = C::values(total, value);
        }
        *out = total;
    }
}

/// A group, or less than one.
#[inline(always)]
fn rest<C: Combine, T: Element>(values: &[T], totals: &mut [T; LANES]) {
    for (total, &value) in totals.iter_mut().zip(values) {
        *total = C::values(*total, value);
    }
}

/// Combines some totals in pairs, and those, until `width` are left.
#[inline(always)]
fn halve<C: Combine, T: Element, const N: usize>(totals: &mut [T; N], count: usize, width: usize) {
    macro_rules! halve {
        ($($left:literal)*) => {$(
            if $left < N && (width..count).contains(&$left) {
                for i in 0..$left {
                    totals[i] = C::values(totals[i], totals[$left + i]);
                }
            }
        )*};
    }
    halve!(32 16 8 4 2 1);
}
