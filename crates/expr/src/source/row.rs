//! Lines of values, and the loops over them.
//!
//! Unsafe code reads elements that are known to be there, and says that slots were written, after a loop over all of them.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use crate::elements::Elements;
use crate::item::Item;
use crate::math::{IN_ORDER, LANES};
use crate::ops::Reduction;
use crate::simd::{Kernel, Level, vectorised};
use crate::slots::{Lines, written};
use crate::walk::{PIECE, Rect};

/// Lines of values that are at hand.
#[allow(unreachable_pub, reason = "it is a bound of `Node`'s, which Rust 1.89 does not see")]
pub trait Row: Copy {
    /// The values.
    type Item: Item;

    /// Whether all values are one number; and whether such numbers can make operations [faster](crate::ops::BinaryOp::faster).
    const IS_NUMBER: bool = false;
    const HAS_FASTER: bool = false;

    /// Whether all those do.
    fn is_faster(&self) -> bool {
        true
    }

    /// That number.
    fn number(&self) -> Option<Self::Item> {
        None
    }

    /// The `i`-th of the first line. `FASTER`: [`is_faster`](Self::is_faster).
    ///
    /// # Safety
    /// There is one.
    unsafe fn at<const FASTER: bool>(&self, i: usize) -> Self::Item;

    /// Writes the values of the first line to slots: **the** loop of all element-wise expressions, compiled for every level of vectors.
    ///
    /// That there are as many values is the caller's word, not looked at for each: for an expression of many tensors the compiler does not see it, and of a
    /// loop that may end early the last vector's worth is computed one by one.
    ///
    /// It is written out, never handed over as a closure: whoever hands over a closure has no word on whether it is inlined, and past some
    /// length of an expression it is not. Then it is compiled without the vectors of the kernel around it, and takes ten times as long. It goes by numbers:
    /// of slots the compiler does not know that there are no more.
    /// And it is a method with its slots for an argument: so the compiler knows that nothing is read there, and does not ask for each leaf of each line.
    ///
    /// # Safety
    /// The first line has a value for each slot.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "see above")]
    unsafe fn write<const FASTER: bool>(&self, out: &mut [MaybeUninit<Self::Item>]) {
        for i in 0..out.len() {
            // SAFETY: the caller's word.
            out[i].write(unsafe { self.at::<FASTER>(i) });
        }
    }

    /// As above, by pieces, to no fewer slots than a piece has: what is stretched stands still meanwhile, so that few equal values are enough for a line of any
    /// length. A loop of a number that the compiler knows asks nothing for that.
    ///
    /// Where less than a piece is left, the last one begins earlier, and computes some values again; of less than a half, it is half a piece.
    ///
    /// # Safety
    /// As above, of a line that is made for that.
    #[inline(always)]
    unsafe fn write_pieces<const FASTER: bool>(&self, out: &mut [MaybeUninit<Self::Item>]) {
        const SMALL: usize = PIECE / 2;
        let mut at = 0;
        while out.len() - at > SMALL {
            let first = at.min(out.len() - PIECE);
            // SAFETY: the caller's word, of as many values as there are slots.
            unsafe { self.after(first).write::<FASTER>(&mut out[first..][..PIECE]) };
            at = first + PIECE;
        }
        if at < out.len() {
            let first = out.len() - SMALL;
            // SAFETY: as above.
            unsafe { self.after(first).write::<FASTER>(&mut out[first..]) };
        }
    }

    /// Combines some values of the first line with the total of their place among them, modulo the number of totals: to the very results that
    /// [`Element::fold`] has of values in memory.
    ///
    /// # Safety
    /// It has `len` values from number `first` on.
    #[inline(always)]
    unsafe fn fold<O: Reduction<Self::Item>, const FASTER: bool>(
        &self,
        mut first: usize,
        len: usize,
        totals: &mut [Self::Item; LANES],
    ) {
        let mut groups = len / LANES;
        while groups > 0 {
            let some = groups.min(IN_ORDER / LANES);
            // Of a number that the compiler knows, so that they stay in registers.
            let mut sums = [O::START; LANES];
            for _ in 0..some {
                for (lane, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: the caller's word.
                    *sum = O::combine(*sum, unsafe { self.at::<FASTER>(first + lane) });
                }
                first += LANES;
            }
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total = O::combine(*total, sum);
            }
            groups -= some;
        }
        // SAFETY: the caller's word.
        unsafe { self.combine::<O, FASTER>(first, &mut totals[..len % LANES]) };
    }

    /// Combines the values of the first line from number `first` on with totals.
    ///
    /// # Safety
    /// There is a value for each.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "as above")]
    unsafe fn combine<O: Reduction<Self::Item>, const FASTER: bool>(&self, first: usize, totals: &mut [Self::Item]) {
        for i in 0..totals.len() {
            // SAFETY: the caller's word.
            totals[i] = O::combine(totals[i], unsafe { self.at::<FASTER>(first + i) });
        }
    }

    /// Whether there are so many lines of so many values.
    fn has(&self, lines: usize, len: usize) -> bool;

    /// Whether lines of so many values lie next to each other.
    fn is_joined(&self, len: usize) -> bool;

    /// Whether there are lines of which each is one value, again and again: these are to be read by pieces.
    fn is_stretched(&self) -> bool;

    /// The first values of a line; `STRETCHED`: for who reads it by pieces, one after the other, and reads no other line meanwhile.
    ///
    /// # Safety
    /// There is such a line, with as many values or, if lines are joined, with as many to the end of the last. Not `STRETCHED`: nor [is it](Self::is_stretched).
    unsafe fn line<const STRETCHED: bool>(&self, number: usize, len: usize) -> Self;

    /// The values of a line that is read by pieces, after so many of them: a piece, or what is left.
    ///
    /// # Safety
    /// There are as many.
    unsafe fn after(&self, count: usize) -> Self;
}

/// Writes lines of a row to slots, where they begin `step` after each other.
struct Write<'o, R: Row> {
    out: &'o mut [MaybeUninit<R::Item>],
    step: usize,
    lines: usize,
    len: usize,
    row: &'o R,
}

impl<R: Row> Kernel for Write<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        if R::HAS_FASTER && self.row.is_faster() { self.lines::<true>() } else { self.lines::<false>() }
    }
}

impl<R: Row> Write<'_, R> {
    #[inline(always)]
    fn lines<const FASTER: bool>(self) {
        let Self { out, step, lines, len, row } = self;
        for number in 0..lines {
            // SAFETY: `write_lines` looked that there are such lines.
            unsafe { row.line::<false>(number, len).write::<FASTER>(&mut out[number * step..][..len]) };
        }
    }
}

/// As above, by pieces: a loop of its own, so that of the other the compiler makes what it would without this.
struct WritePieces<'o, R: Row>(Write<'o, R>);

impl<R: Row> Kernel for WritePieces<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        if R::HAS_FASTER && self.0.row.is_faster() { self.lines::<true>() } else { self.lines::<false>() }
    }
}

impl<R: Row> WritePieces<'_, R> {
    #[inline(always)]
    fn lines<const FASTER: bool>(self) {
        let Write { out, step, lines, len, row } = self.0;
        for number in 0..lines {
            // SAFETY: `write_lines` looked that there are such lines, no shorter than a piece.
            unsafe { row.line::<true>(number, len).write_pieces::<FASTER>(&mut out[number * step..][..len]) };
        }
    }
}

/// Writes the values of a rectangle to lines that begin `step` slots after each other. Other slots stay as they are.
#[inline(always)]
pub(crate) fn write_lines<R: Row>(
    out: &mut [MaybeUninit<R::Item>],
    step: usize,
    (mut lines, mut len): (usize, usize),
    row: R,
    level: Level,
) {
    assert!(row.has(lines, len), "there are not {lines} lines of {len} values");
    if row.is_stretched() {
        assert!(len >= PIECE, "{len} values are no piece");
        return vectorised(level, WritePieces(Write { out, step, lines, len, row: &row }));
    }
    if lines > 1 && step == len && row.is_joined(len) {
        (lines, len) = (1, lines * len);
    }
    vectorised(level, Write { out, step, lines, len, row: &row });
}

/// As above, to lines that follow each other, in slots for just them.
#[inline(always)]
pub(crate) fn filled<'o, R: Row>(
    out: &'o mut [MaybeUninit<R::Item>],
    rect: &Rect,
    row: R,
    level: Level,
) -> &'o mut [R::Item] {
    let out = &mut out[..rect.count()];
    write_lines(out, rect.len, (rect.lines, rect.len), row, level);
    // SAFETY: all lines were written, of which there are no others.
    unsafe { written(out) }
}

/// Writes the values of a single line, to every slot.
#[inline(always)]
pub(crate) fn write_row<R: Row>(out: &mut [MaybeUninit<R::Item>], row: R, level: Level) {
    let len = out.len();
    write_lines(out, len, (1, len), row, level);
}

/// Combines lines of a row with totals.
struct Combine<'o, R: Row, O> {
    totals: &'o mut [R::Item],
    lines: usize,
    row: &'o R,
    op: PhantomData<O>,
}

impl<R: Row, O: Reduction<R::Item>> Kernel for Combine<'_, R, O> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        if R::HAS_FASTER && self.row.is_faster() { self.lines::<true>() } else { self.lines::<false>() }
    }
}

impl<R: Row, O: Reduction<R::Item>> Combine<'_, R, O> {
    #[inline(always)]
    fn lines<const FASTER: bool>(self) {
        let Self { totals, lines, row, .. } = self;
        for number in 0..lines {
            // SAFETY: `combine_lines` looked that there are such lines.
            unsafe { row.line::<false>(number, totals.len()).combine::<O, FASTER>(0, totals) };
        }
    }
}

/// Combines the lines of a row with totals, one after the other.
#[inline(always)]
pub(super) fn combine_lines<O: Reduction<R::Item>, R: Row>(totals: &mut [R::Item], lines: usize, row: R, level: Level) {
    let len = totals.len();
    assert!(row.has(lines, len) && !row.is_stretched(), "there are not {lines} lines of {len} values");
    vectorised(level, Combine { totals, lines, row: &row, op: PhantomData::<O> });
}

/// Folds the rows of `len` values of which lines consist, each to one result.
struct FoldRows<'o, R: Row, O> {
    out: &'o mut [R::Item],
    len: usize,
    /// How many there are in each line.
    rows: usize,
    row: &'o R,
    op: PhantomData<O>,
}

impl<R: Row, O: Reduction<R::Item>> Kernel for FoldRows<'_, R, O> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        if R::HAS_FASTER && self.row.is_faster() { self.rows::<true>() } else { self.rows::<false>() }
    }
}

impl<R: Row, O: Reduction<R::Item>> FoldRows<'_, R, O> {
    #[inline(always)]
    fn rows<const FASTER: bool>(self) {
        let Self { out, len, rows, row, .. } = self;
        for (number, out) in out.chunks_mut(rows).enumerate() {
            // SAFETY: `fold_rows` looked that there are such lines.
            let line = unsafe { row.line::<false>(number, rows * len) };
            for (number, out) in out.iter_mut().enumerate() {
                let mut totals = Lines([O::START; LANES]);
                // SAFETY: as above.
                unsafe { line.fold::<O, FASTER>(number * len, len, &mut totals.0) };
                *out = halved::<O, _>(totals.0);
            }
        }
    }
}

/// What comes of totals in pairs, and of those in pairs.
#[inline(always)]
fn halved<O: Reduction<T>, T: Item>(mut totals: [T; LANES]) -> T {
    macro_rules! halve {
        ($($left:literal)*) => {$(
            for i in 0..$left {
                totals[i] = O::combine(totals[i], totals[$left + i]);
            }
        )*};
    }
    const { assert!(LANES == 64, "twice the first half") };
    halve!(32 16 8 4 2 1);
    totals[0]
}

/// Folds each `len` values of a rectangle, whose lines consist of such, to one result: as [`Element::fold_rows`] has it of values in memory.
#[inline(always)]
pub(super) fn fold_rows<O: Reduction<R::Item>, R: Row>(
    out: &mut [R::Item],
    rect: &Rect,
    len: usize,
    row: R,
    level: Level,
) {
    let rows = rect.len / len;
    assert!(rows * len == rect.len && out.len() == rows * rect.lines, "lines are not of rows");
    let has = row.has(rect.lines, rect.len) && !row.is_stretched();
    assert!(has, "there are not {} lines of {} values", rect.lines, rect.len);
    vectorised(level, FoldRows { out, len, rows, row: &row, op: PhantomData::<O> });
}

/// Combines the values of a row with the total whose turn it is.
struct Fold<'o, R: Row, O> {
    totals: &'o mut [R::Item; LANES],
    len: usize,
    row: &'o R,
    op: PhantomData<O>,
}

impl<R: Row, O: Reduction<R::Item>> Kernel for Fold<'_, R, O> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { totals, len, row, .. } = self;
        // SAFETY: `fold` looked that there are so many values.
        unsafe {
            if R::HAS_FASTER && row.is_faster() {
                row.fold::<O, true>(0, len, totals);
            } else {
                row.fold::<O, false>(0, len, totals);
            }
        }
    }
}

/// Combines the values of a single line with the total whose turn it is: as [`Element::fold`] has it of values in memory.
#[inline(always)]
pub(super) fn fold<O: Reduction<R::Item>, R: Row>(totals: &mut [R::Item; LANES], len: usize, row: R, level: Level) {
    assert!(row.has(1, len) && !row.is_stretched(), "there are not {len} values");
    vectorised(level, Fold { totals, len, row: &row, op: PhantomData::<O> });
}

/// Lines of elements, as far from each other as they like.
#[derive(Debug)]
pub struct RowSlice<'r, T> {
    first: NonNull<T>,
    lines: usize,
    len: usize,
    step: isize,
    /// If each line is a single element, again and again: room for a piece of them, which is this row's and its copies' alone.
    piece: Option<NonNull<T>>,
    life: PhantomData<&'r [T]>,
}

impl<T> Clone for RowSlice<'_, T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for RowSlice<'_, T> {}

impl<'r, T> From<&'r [T]> for RowSlice<'r, T> {
    /// A single line.
    #[inline(always)]
    fn from(values: &'r [T]) -> Self {
        let len = values.len();
        Self {
            first: NonNull::from(values).cast(),
            lines: 1,
            len,
            step: len.cast_signed(),
            piece: None,
            life: PhantomData,
        }
    }
}

impl<'r, T> RowSlice<'r, T> {
    /// Those of a rectangle, one after the other.
    #[inline(always)]
    pub(crate) fn new(values: &'r [T], &Rect { lines, len, .. }: &Rect) -> Self {
        assert!(values.len() == lines * len, "{} values are not {lines} lines of {len}", values.len());
        Self {
            first: NonNull::from(values).cast(),
            lines,
            len,
            step: len.cast_signed(),
            piece: None,
            life: PhantomData,
        }
    }

    /// Lines of `len` neighbours, of which the first begins at a place, and each `step` places after the one before.
    ///
    /// # Safety
    /// If these are places there, they are all elements.
    ///
    /// # Panics
    /// If they are not.
    #[inline(always)]
    pub(crate) unsafe fn of(data: Elements<'r, T>, first: usize, step: isize, lines: usize, len: usize) -> Self {
        assert!(data.has(first, step, lines, len), "{lines} lines of {len} elements from {first} on are out of range");
        // SAFETY: it is a place there, or the end.
        let first = unsafe { NonNull::new_unchecked(data.as_ptr().cast_mut().add(first)) };
        Self { first, lines, len, step, piece: None, life: PhantomData }
    }

    /// Lines of which each is a single element, `len` times, to be read by pieces: the first at a place, and each `step` places after the one before.
    ///
    /// # Safety
    /// As above.
    ///
    /// # Panics
    /// As above.
    #[inline(always)]
    pub(crate) unsafe fn stretched(
        data: Elements<'r, T>,
        first: usize,
        step: isize,
        lines: usize,
        len: usize,
        piece: &'r mut [MaybeUninit<T>; PIECE],
    ) -> Self {
        // SAFETY: the caller's word.
        let elements = unsafe { Self::of(data, first, step, lines, 1) };
        Self { len, piece: Some(NonNull::from(piece).cast()), ..elements }
    }

    /// The values, where they lie next to each other.
    #[inline(always)]
    pub(crate) fn as_slice(self) -> Option<&'r [T]> {
        let is_joined = self.piece.is_none() && (self.lines == 1 || self.step == self.len.cast_signed());
        // SAFETY: they are elements, which nobody writes to, who made this says.
        is_joined.then(|| unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.lines * self.len) })
    }
}

impl<T: Item> Row for RowSlice<'_, T> {
    type Item = T;

    #[inline(always)]
    unsafe fn at<const FASTER: bool>(&self, i: usize) -> T {
        debug_assert!(i < self.len, "there are {} values", self.len);
        // SAFETY: it is one of the first line's, as the caller says, all of which are elements.
        unsafe { *self.first.as_ptr().add(i) }
    }

    #[inline(always)]
    fn has(&self, lines: usize, len: usize) -> bool {
        lines <= self.lines && len <= self.len
    }

    #[inline(always)]
    fn is_joined(&self, len: usize) -> bool {
        self.piece.is_none() && self.step == len.cast_signed()
    }

    #[inline(always)]
    fn is_stretched(&self) -> bool {
        self.piece.is_some()
    }

    #[inline(always)]
    unsafe fn line<const STRETCHED: bool>(&self, number: usize, len: usize) -> Self {
        // SAFETY: there is such a line, the caller says.
        let first = unsafe { self.first.offset(self.step * number.cast_signed()) };
        if STRETCHED && let Some(piece) = self.piece {
            // SAFETY: there is room for a piece, of which nobody reads another line now, the caller says.
            unsafe {
                let value = *first.as_ptr();
                for i in 0..PIECE {
                    piece.add(i).write(value);
                }
            }
            return Self { first: piece, lines: 1, len: PIECE, ..*self };
        }
        Self { first, lines: 1, len, ..*self }
    }

    #[inline(always)]
    unsafe fn after(&self, count: usize) -> Self {
        // All pieces of a stretched line are the same.
        let count = if self.piece.is_some() { 0 } else { count };
        // SAFETY: it is one of the line's elements, or their end, as the caller says.
        Self { first: unsafe { self.first.add(count) }, len: self.len - count, ..*self }
    }
}
