//! Copies of what lies across memory: some lines of elements, where those of the same place in each are neighbours.
//!
//! Taken by itself, an element costs a load and a store. Vectors of neighbours are loaded here, and transposed in registers.
//!
//! Unsafe code calls instructions that a level of vectors stands for, on memory that slices were asked for.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use crate::elements::Elements;
use crate::simd::Level;

/// Lines of elements: from which place of a slice on, and how far the elements of a line are from each other there.
#[derive(Clone, Copy)]
pub(crate) struct Across {
    pub(crate) first: usize,
    pub(crate) step: isize,
    pub(crate) lines: usize,
    /// The elements of each.
    pub(crate) len: usize,
}

impl Across {
    /// Where the elements of that number begin, one of each line.
    #[inline(always)]
    fn at(&self, i: usize) -> usize {
        self.first.wrapping_add_signed(self.step.wrapping_mul(i.cast_signed()))
    }
}

/// Copies lines to where they begin `step` elements after each other.
pub(crate) fn transpose<T: Copy>(
    level: Level,
    from: Elements<'_, T>,
    across: Across,
    out: &mut [MaybeUninit<T>],
    step: usize,
) {
    let Across { lines, len, .. } = across;
    if lines == 0 || len == 0 {
        return;
    }
    // All places lie between the first and the last: here it panics if they are not in the slices.
    assert!(from.has(across.first, across.step, len, lines), "lines are out of range");
    let out = &mut out[..(lines - 1) * step + len];
    let (whole_lines, whole) = whole::<T>(level, lines, len);
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if whole_lines > 0 {
        // SAFETY: the processor has these instructions; all places are in the slices, as was asked for above.
        unsafe { avx2::blocks(from, across, (whole_lines, whole), out, step) };
    }
    match lines - whole_lines {
        0 => {}
        1 => rest::<T, 1>(from, across, whole_lines, 0..len, out, step),
        2 => rest::<T, 2>(from, across, whole_lines, 0..len, out, step),
        3 => rest::<T, 3>(from, across, whole_lines, 0..len, out, step),
        _ => {
            for line in whole_lines..lines {
                rest::<T, 1>(from, across, line, 0..len, out, step);
            }
        }
    }
    for line in 0..whole_lines {
        rest::<T, 1>(from, across, line, whole..len, out, step);
    }
}

/// How many lines, and how many elements of each, vectors can have.
fn whole<T>(level: Level, lines: usize, len: usize) -> (usize, usize) {
    let size = size_of::<T>();
    if cfg!(any(target_arch = "x86", target_arch = "x86_64")) && level.has_avx2() && matches!(size, 4 | 8) {
        (lines - lines % (16 / size), len - len % (32 / size))
    } else {
        (0, 0)
    }
}

/// So many lines, one element after the other.
#[inline(always)]
fn rest<T: Copy, const LINES: usize>(
    from: Elements<'_, T>,
    across: Across,
    first: usize,
    range: std::ops::Range<usize>,
    out: &mut [MaybeUninit<T>],
    step: usize,
) {
    let mut lines = out[first * step..].chunks_mut(step.max(1));
    let mut lines: [&mut [MaybeUninit<T>]; LINES] =
        std::array::from_fn(|_| lines.next().map(|line| &mut line[range.clone()]).unwrap_or_default());
    if LINES == 2 && across.step == 2 {
        // From end to end: a loop that has vectors.
        // SAFETY: the lines are of elements.
        let (pairs, _) = unsafe { from.range(across.at(range.start) + first, 2 * range.len()) }.as_chunks::<2>();
        let [evens, odds, ..] = &mut lines[..] else { return };
        for ((even, odd), &[a, b]) in evens.iter_mut().zip(odds.iter_mut()).zip(pairs) {
            even.write(a);
            odd.write(b);
        }
        return;
    }
    for (slot, i) in range.enumerate() {
        // SAFETY: as above.
        let values = unsafe { from.range(across.at(i) + first, LINES) };
        for (line, &value) in lines.iter_mut().zip(values) {
            line[slot].write(value);
        }
    }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod avx2 {
    #[cfg(target_arch = "x86")]
    use std::arch::x86::*;
    #[cfg(target_arch = "x86_64")]
    use std::arch::x86_64::*;
    use std::mem::MaybeUninit;

    use super::{Across, Elements};

    /// # Safety
    /// The elements have 4 or 8 bytes. All places are in the slices; `lines` is a multiple of 16 bytes' elements, and `len` of 32's.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn blocks<T>(
        from: Elements<'_, T>,
        across: Across,
        (lines, len): (usize, usize),
        out: &mut [MaybeUninit<T>],
        step: usize,
    ) {
        let (height, width) = (16 / size_of::<T>(), 32 / size_of::<T>());
        // What most often comes next, so that it is on its way while this is computed with. There need not be anything.
        let ahead = from.as_ptr().wrapping_offset(across.step * len.cast_signed());
        let is_far = across.step.unsigned_abs() * size_of::<T>() >= 64;
        for i in (0..len).step_by(width) {
            // SAFETY: the blocks are those that the caller's word is for; and to fetch ahead is no access.
            unsafe {
                for j in (i..i + width).take(if is_far { width } else { 1 }) {
                    _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(across.at(j)).cast());
                }
                for line in (0..lines).step_by(height) {
                    let (from, out) = (from.as_ptr().add(across.at(i) + line), out.as_mut_ptr().add(line * step + i));
                    if size_of::<T>() == 4 {
                        eight_of_four(from.cast(), across.step, out.cast(), step);
                    } else {
                        four_of_two(from.cast(), across.step, out.cast(), step);
                    }
                }
            }
        }
    }

    /// Eight times four neighbours, `across` from each other, as four lines of eight.
    ///
    /// # Safety
    /// All is there.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn eight_of_four(from: *const f32, across: isize, out: *mut f32, step: usize) {
        // SAFETY: the caller's word.
        unsafe {
            let pair = |i: isize| {
                let (low, high) = (_mm_loadu_ps(from.offset(across * i)), _mm_loadu_ps(from.offset(across * (i + 4))));
                _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high)
            };
            let (a, b, c, d) = (pair(0), pair(1), pair(2), pair(3));
            let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
            _mm256_storeu_ps(out, _mm256_shuffle_ps::<0x44>(ab, cd));
            _mm256_storeu_ps(out.add(step), _mm256_shuffle_ps::<0xee>(ab, cd));
            let (ab, cd) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
            _mm256_storeu_ps(out.add(2 * step), _mm256_shuffle_ps::<0x44>(ab, cd));
            _mm256_storeu_ps(out.add(3 * step), _mm256_shuffle_ps::<0xee>(ab, cd));
        }
    }

    /// Four times two neighbours as two lines of four.
    ///
    /// # Safety
    /// All is there.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn four_of_two(from: *const f64, across: isize, out: *mut f64, step: usize) {
        // SAFETY: the caller's word.
        unsafe {
            let pair = |i: isize| {
                let (low, high) = (_mm_loadu_pd(from.offset(across * i)), _mm_loadu_pd(from.offset(across * (i + 2))));
                _mm256_insertf128_pd::<1>(_mm256_castpd128_pd256(low), high)
            };
            let (a, b) = (pair(0), pair(1));
            _mm256_storeu_pd(out, _mm256_unpacklo_pd(a, b));
            _mm256_storeu_pd(out.add(step), _mm256_unpackhi_pd(a, b));
        }
    }
}
