//! Operands whose elements are stretched along the lines of others: columns, numbers in memory, masks of rows. Of every length around that of the pieces by which
//! such lines are computed, and of the tiles; with all vectors, and by every way to be read, against indexing by hand.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Debug;

use tenzor_expr::{Eval, Expr, Simd, Tensor, View, explain};
use tenzor_memory::TensorAllocator;

const LINES: [usize; 4] = [1, 2, 3, 9];
const LENGTHS: [usize; 27] = [
    1, 2, 15, 16, 17, 63, 64, 65, 95, 96, 97, 100, 127, 128, 129, 160, 161, 192, 255, 256, 257, 511, 512, 513, 576,
    577, 1100,
];
const LEVELS: [Simd; 3] = [Simd::Base, Simd::V3, Simd::V4];

/// Small whole numbers, which are exact however they are added.
fn some(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7 + seed * 5) % 23) as f32 - 11.0).collect()
}

/// What an expression of some lines is, evaluated by each way, against what its elements should be.
fn check<E: Expr<Elem: PartialEq + Debug>>(
    expr: &E,
    [lines, len]: [usize; 2],
    element: impl Fn(usize, usize) -> E::Elem,
) {
    let expected: Vec<_> = (0..lines * len).map(|i| element(i / len, i % len)).collect();
    let alloc = TensorAllocator::new();
    for level in LEVELS {
        let on = Eval::new(&alloc).simd(level);
        let what = || format!("[{lines}, {len}], {level:?}: {}", explain(expr).unwrap());
        assert_eq!(on.eval(expr).unwrap().as_slice(), expected, "{}", what());
        let mut out = vec![E::Elem::default(); expected.len()];
        on.eval_into(expr, &mut out).unwrap();
        assert_eq!(out, expected, "into, {}", what());
        let turned = on.eval(&expr.transpose()).unwrap();
        let is_equal = |(i, x): (usize, &E::Elem)| *x == expected[i % lines * len + i / lines];
        assert!(turned.as_slice().iter().enumerate().all(is_equal), "transposed, {}", what());
    }
}

fn each(mut check: impl FnMut(usize, usize)) {
    for lines in LINES {
        for len in LENGTHS {
            check(lines, len);
        }
    }
}

#[test]
fn columns_go_with_all_that_is_element_wise() {
    each(|lines, len| {
        let (a, column, row) = (some(1, lines * len), some(2, lines), some(3, len));
        let [x, y, z] = [
            View::new(&a, [lines, len]).unwrap(),
            View::new(&column, [lines, 1]).unwrap(),
            View::new(&row, [len]).unwrap(),
        ];
        let shape = [lines, len];
        let at = |i: usize, j: usize| (a[i * len + j], column[i], row[j]);
        check(&(x + y), shape, |i, j| at(i, j).0 + at(i, j).1);
        check(&(y - x), shape, |i, j| at(i, j).1 - at(i, j).0);
        check(&(y * z), shape, |i, j| at(i, j).1 * at(i, j).2);
        check(&y.broadcast_to(shape), shape, |i, _| column[i]);
        check(&((x - y) / 2.0), shape, |i, j| (at(i, j).0 - at(i, j).1) / 2.0);
        check(&((x - y) / 3.0), shape, |i, j| (at(i, j).0 - at(i, j).1) / 3.0);
        check(&(-(x * y + z).abs() - y), shape, |i, j| -(at(i, j).0 * column[i] + row[j]).abs() - column[i]);
        check(&x.lt(y), shape, |i, j| at(i, j).0 < column[i]);
        check(&x.lt(y).where_(y, z), shape, |i, j| if at(i, j).0 < column[i] { column[i] } else { row[j] });
        check(&(x.cast::<f64>() + y.cast::<f64>()), shape, |i, j| f64::from(at(i, j).0) + f64::from(column[i]));
        check(&(x + y.boxed()), shape, |i, j| at(i, j).0 + column[i]);
        check(&(x + y).boxed(), shape, |i, j| at(i, j).0 + column[i]);
        check(&(x.boxed() + y + z), shape, |i, j| at(i, j).0 + column[i] + row[j]);
        check(&(x + y.abs().sqrt()), shape, |i, j| at(i, j).0 + column[i].abs().sqrt());
        check(&(x + y.powf(2.0)), shape, |i, j| at(i, j).0 + column[i] * column[i]);
        check(&(x + y).powf(2.0), shape, |i, j| (at(i, j).0 + column[i]).powi(2));
    });
}

#[test]
fn masks_and_doubles_are_stretched_as_well() {
    each(|lines, len| {
        let shape = [lines, len];
        let a: Vec<f64> = some(1, lines * len).into_iter().map(f64::from).collect();
        let column: Vec<f64> = some(2, lines).into_iter().map(f64::from).collect();
        let mask: Vec<bool> = column.iter().map(|&x| x > 0.0).collect();
        let mask_of_all: Vec<bool> = a.iter().map(|&x| x > 2.0).collect();
        let [x, y] = [View::new(&a, shape).unwrap(), View::new(&column, [lines, 1]).unwrap()];
        let [m, n] = [View::new(&mask, [lines, 1]).unwrap(), View::new(&mask_of_all, shape).unwrap()];
        check(&(x * y), shape, |i, j| a[i * len + j] * column[i]);
        check(&m.where_(x, y), shape, |i, j| if mask[i] { a[i * len + j] } else { column[i] });
        check(&m.and(n), shape, |i, j| mask[i] & mask_of_all[i * len + j]);
        check(&m.broadcast_to(shape), shape, |i, _| mask[i]);
    });
}

/// Columns of what is wider, backwards, of every other line, of one element for all; a column whose elements are as far from each other as lines are long.
#[test]
fn columns_lie_in_memory_as_they_like() {
    each(|lines, len| {
        let shape = [lines, len];
        let (a, wide) = (some(1, lines * len), some(2, 2 * lines * len));
        let x = View::new(&a, shape).unwrap();
        let all = View::new(&wide, [2 * lines, len]).unwrap();
        let last = all.slice(1, len - 1..);
        check(&(x + last.slice(0, ..lines)), shape, |i, j| a[i * len + j] + wide[(i + 1) * len - 1]);
        check(&(x + last.stepped(0, .., 2)), shape, |i, j| a[i * len + j] + wide[(2 * i + 1) * len - 1]);
        check(&(x + last.slice(0, ..lines).flip(0)), shape, |i, j| a[i * len + j] + wide[(lines - i) * len - 1]);
        check(&(x + all.slice(0, ..1).slice(1, ..1)), shape, |i, j| a[i * len + j] + wide[0]);
        let joined = View::new(&wide[..lines * len], shape).unwrap().slice(1, ..1);
        check(&(x - joined), shape, |i, j| a[i * len + j] - wide[i * len]);
        // Of cubes, along the middle as well, and with a part of lines that lie apart.
        let cube = View::new(&wide, [lines, 2, len]).unwrap();
        let (middle, number) = (cube.slice(1, ..1), cube.slice(2, ..1));
        let expected = |i: usize, k: usize, j: usize| wide[2 * i * len + j] * 2.0 - wide[(2 * i + k) * len];
        let alloc = TensorAllocator::new();
        for level in LEVELS {
            let value = Eval::new(&alloc).simd(level).eval(&(middle * 2.0 - number)).unwrap();
            let is_equal = |(n, &x): (usize, &f32)| x == expected(n / len / 2, n / len % 2, n % len);
            assert!(value.as_slice().iter().enumerate().all(is_equal), "{shape:?}, {level:?}");
        }
        if len > 2 {
            let part = x.slice(1, 1..len - 1);
            check(&(part + last.slice(0, ..lines)), [lines, len - 2], |i, j| {
                a[i * len + j + 1] + wide[(i + 1) * len - 1]
            });
        }
    });
}

#[test]
fn reductions_of_columns_and_others_find_all_values() {
    each(|lines, len| {
        let (a, column) = (some(1, lines * len), some(2, lines));
        let [x, y] = [View::new(&a, [lines, len]).unwrap(), View::new(&column, [lines, 1]).unwrap()];
        let expr = x * 2.0 - y;
        let of = |i: usize, j: usize| a[i * len + j] * 2.0 - column[i];
        let sum = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, |sum, x| sum + x);
        let most = |values: &mut dyn Iterator<Item = f32>| values.fold(f32::MIN, f32::max);
        let alloc = TensorAllocator::new();
        for level in LEVELS {
            let on = Eval::new(&alloc).simd(level);
            let what = format!("[{lines}, {len}], {level:?}");
            let rows: Vec<f32> = (0..lines).map(|i| sum(&mut (0..len).map(|j| of(i, j)))).collect();
            assert_eq!(on.eval(&expr.sum(1)).unwrap().as_slice(), rows, "{what}");
            let columns: Vec<f32> = (0..len).map(|j| sum(&mut (0..lines).map(|i| of(i, j)))).collect();
            assert_eq!(on.eval(&expr.sum(0)).unwrap().as_slice(), columns, "{what}");
            assert_eq!(on.eval(&expr.sum(..)).unwrap().as_slice(), [sum(&mut rows.iter().copied())], "{what}");
            let rows: Vec<f32> = (0..lines).map(|i| most(&mut (0..len).map(|j| of(i, j)))).collect();
            assert_eq!(on.eval(&expr.max(1)).unwrap().as_slice(), rows, "{what}");
            // What is left of a row without its mean, in one expression.
            let centred = expr - expr.sum(1).keep_dims();
            let rows: Vec<f32> = (0..lines).map(|i| sum(&mut (0..len).map(|j| of(i, j)))).collect();
            let value = on.eval(&centred).unwrap();
            let is_equal = |(n, &x): (usize, &f32)| x == of(n / len, n % len) - rows[n / len];
            assert!(value.as_slice().iter().enumerate().all(is_equal), "{what}");
        }
    });
}

/// What is read in place is copied some lines at a time, also where they are longer than such a copy.
#[test]
fn tensors_are_updated_by_columns_in_place() {
    let alloc = TensorAllocator::new();
    for lines in LINES {
        for len in LENGTHS.into_iter().chain([2047, 2048, 2050, 4200]) {
            let (a, column) = (some(1, lines * len), some(2, lines));
            let y = View::new(&column, [lines, 1]).unwrap();
            for level in LEVELS {
                let mut x = Tensor::from_slice_in(&a, [lines, len], &alloc).unwrap();
                let before = alloc.stats().allocations;
                Eval::new(&alloc).simd(level).update(&mut x, |x| x * y - x + y).unwrap();
                assert_eq!(alloc.stats().allocations, before);
                let expected = |(n, &x): (usize, &f32)| x == a[n] * column[n / len] - a[n] + column[n / len];
                assert!(x.as_slice().iter().enumerate().all(expected), "[{lines}, {len}], {level:?}");
            }
        }
    }
}

/// Parts of lines, which other threads take on.
#[test]
fn long_lines_are_computed_by_several_threads() {
    let alloc = TensorAllocator::new();
    for [lines, len] in [[1, (4 << 20) + 100], [3, (1 << 20) + 33], [1 << 14, 260], [(1 << 16) + 1, 65]] {
        let (column, row) = (some(2, lines), some(3, len));
        let [y, z] = [View::new(&column, [lines, 1]).unwrap(), View::new(&row, [len]).unwrap()];
        let value = Eval::new(&alloc).eval(&(y * z)).unwrap();
        let is_equal = |(n, &x): (usize, &f32)| x == column[n / len] * row[n % len];
        assert!(value.as_slice().iter().enumerate().all(is_equal), "[{lines}, {len}]");
    }
}
