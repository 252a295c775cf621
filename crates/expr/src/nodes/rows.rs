//! Operations on whole rows: their values are written to the output, and changed there while they are in the cache.

use std::ops::Range;

use crate::axes::Axis;
use crate::context::Context;
use crate::fill::Rows;
use crate::math::{Element, Elementary, Fold, Through};
use crate::node::{Node, change_rows, known};
use crate::ops::{BinaryOp, Maximum};
use crate::shape::{Shape, ShapeError, ShapeErrorKind, placed};
use crate::simd::{Kernel, Level, vectorised};
use crate::source::{Leaf, RowSlice};
use crate::terms::{Term, Terms};
use crate::walk::TILE;

/// See [`Expr::softmax`](crate::Expr::softmax).
#[derive(Clone, Copy, Debug)]
pub struct Softmax<X> {
    x: X,
    axis: usize,
    shape: Result<Shape, ShapeError>,
}

impl<X: Node> Softmax<X> {
    #[track_caller]
    pub(crate) fn new(x: X, axis: Axis) -> Self {
        let mut number = 0;
        let shape = placed(x.checked_shape().and_then(|shape| {
            number = axis.of(&shape, &"softmax")?;
            Ok(shape)
        }));
        Self { x, axis: number, shape }
    }
}

impl<X: Node<Elem: Element>> Node for Softmax<X> {
    type Elem = X::Elem;
    type Source<'e>
        = Leaf<'e, X::Elem>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, X::Elem>
    where
        Self: 'e;

    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    fn term(&self, terms: &mut Terms) -> Term {
        let x = self.x.term(terms);
        terms.dear::<X::Elem>(format!("softmax({x}, {})", self.axis))
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let shape = *known(&self.shape);
        let size = shape[self.axis];
        let inner: usize = shape[self.axis + 1..].iter().product();
        changed(&self.x, context, (&shape, to), size * inner, SoftmaxRows { size, inner, level: context.mode.level })
    }
}

/// See [`Expr::layer_norm`](crate::Expr::layer_norm).
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm<X: Node> {
    x: X,
    epsilon: X::Elem,
    shape: Result<Shape, ShapeError>,
}

impl<X: Node> LayerNorm<X> {
    #[track_caller]
    pub(crate) fn new(x: X, epsilon: X::Elem) -> Self {
        let shape = placed(x.checked_shape().and_then(|shape| match shape.rank() {
            0 => Err(ShapeErrorKind::Axis { operation: &"layer_norm", shape, axis: 0 }.into()),
            _ => Ok(shape),
        }));
        Self { x, epsilon, shape }
    }
}

impl<X: Node<Elem: Element>> Node for LayerNorm<X> {
    type Elem = X::Elem;
    type Source<'e>
        = Leaf<'e, X::Elem>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, X::Elem>
    where
        Self: 'e;

    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    fn term(&self, terms: &mut Terms) -> Term {
        let x = self.x.term(terms);
        terms.dear::<X::Elem>(format!("layer_norm({x}, {})", self.epsilon))
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let shape = *known(&self.shape);
        let size = shape.last().copied().unwrap_or(1);
        changed(
            &self.x,
            context,
            (&shape, to),
            size,
            LayerNormRows { size, epsilon: self.epsilon, level: context.mode.level },
        )
    }
}

/// What is done to rows.
pub(super) trait RowOp<T>: Copy + Send + Sync {
    /// As it stands in formulas.
    const NAME: &'static str;
    /// Of each value, in additions or so.
    const COST: usize;

    /// Changes some whole rows.
    fn change(self, rows: &mut [T]);
}

#[derive(Clone, Copy)]
struct SoftmaxRows {
    /// The elements along the axis, and those of each along the axes behind it.
    size: usize,
    inner: usize,
    level: Level,
}

impl<T: Element> RowOp<T> for SoftmaxRows {
    const NAME: &'static str = "softmax";
    const COST: usize = 20;

    #[inline(always)]
    fn change(self, rows: &mut [T]) {
        if self.inner == 1 {
            softmax(rows, self.size, self.level);
        } else {
            for block in rows.chunks_exact_mut(self.size * self.inner) {
                softmax_columns(block, self.inner, self.level);
            }
        }
    }
}

#[derive(Clone, Copy)]
struct LayerNormRows<T> {
    size: usize,
    epsilon: T,
    level: Level,
}

impl<T: Element> RowOp<T> for LayerNormRows<T> {
    const NAME: &'static str = "layer_norm";
    const COST: usize = 4;

    #[inline(always)]
    fn change(self, rows: &mut [T]) {
        layer_norm(rows, self.size, self.epsilon, self.level);
    }
}

struct Change<'s, T, O> {
    rows: &'s mut [T],
    op: O,
}

impl<T, O: RowOp<T>> Kernel for Change<'_, T, O> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        self.op.change(self.rows);
    }
}

/// The values of an expression in memory, with their rows of `row` elements changed.
pub(super) fn changed<'e, E: Node, O: RowOp<E::Elem>>(
    x: &'e E,
    context: &'e Context<'e>,
    (shape, to): (&Shape, &Shape),
    row: usize,
    op: O,
) -> Leaf<'e, E::Elem> {
    let level = context.mode.level;
    let change = |rows: &mut [E::Elem]| {
        if !rows.is_empty() {
            vectorised(level, Change { rows, op });
        }
    };
    let rows = Rows { len: row.max(1), cost: O::COST, change: &change };
    Leaf::own(change_rows(context, x.prepare(context, shape), shape, &rows, O::NAME), shape, to)
}

/// So many elements at a time stay in the cache from one loop to the next; and so many rows at most are taken on together.
const BATCH: usize = 1 << 12;
const ROWS: usize = 64;

/// Rows of `size`, some at a time.
#[inline(always)]
fn batches<T>(rows: &mut [T], size: usize) -> impl Iterator<Item = &mut [T]> {
    rows.chunks_mut((BATCH / size).clamp(1, ROWS) * size)
}

/// Of rows of `size`. Where they are short, the elements of several go through the function at once.
#[inline(always)]
fn softmax<T: Element>(rows: &mut [T], size: usize, level: Level) {
    let mut of_each = [T::ZERO; ROWS];
    for batch in batches(rows, size) {
        let of_each = &mut of_each[..batch.len() / size];
        // Less the largest, so that nothing overflows.
        folded(Fold::Maximum, level, batch, size, of_each);
        for (row, &most) in batch.chunks_exact_mut(size).zip(&*of_each) {
            for x in row {
                *x = *x - most;
            }
        }
        T::apply(Elementary::Exp, level, Through::InPlace(batch));
        folded(Fold::Add, level, batch, size, of_each);
        for (row, &sum) in batch.chunks_exact_mut(size).zip(&*of_each) {
            let scale = T::ONE / sum;
            for x in row {
                *x = *x * scale;
            }
        }
    }
}

/// As above, along the columns of a block of rows of `width`.
#[inline(always)]
fn softmax_columns<T: Element>(block: &mut [T], width: usize, level: Level) {
    for first in (0..width).step_by(TILE) {
        let columns = first..width.min(first + TILE);
        let (mut most, mut sums) = ([T::LEAST; TILE], [T::ZERO; TILE]);
        let (most, sums) = (&mut most[..columns.len()], &mut sums[..columns.len()]);
        for row in block.chunks_exact(width) {
            for (most, &x) in most.iter_mut().zip(&row[columns.clone()]) {
                *most = Maximum.apply(*most, x);
            }
        }
        exponentials(block, width, &columns, most, level, sums);
        for sum in &mut *sums {
            *sum = T::ONE / *sum;
        }
        for row in block.chunks_exact_mut(width) {
            for (x, &scale) in row[columns.clone()].iter_mut().zip(&*sums) {
                *x = *x * scale;
            }
        }
    }
}

/// Puts the exponentials, less the largest, in the place of some columns, and their sums into `sums`: some rows in order, and those in pairs.
fn exponentials<T: Element>(
    block: &mut [T],
    width: usize,
    columns: &Range<usize>,
    most: &[T],
    level: Level,
    sums: &mut [T],
) {
    const ROWS: usize = 32;
    let rows = block.len() / width;
    if rows > ROWS {
        let (above, below) = block.split_at_mut(rows.next_power_of_two() / 2 * width);
        let mut others = [T::ZERO; TILE];
        let others = &mut others[..sums.len()];
        exponentials(above, width, columns, most, level, sums);
        exponentials(below, width, columns, most, level, others);
        for (sum, &other) in sums.iter_mut().zip(&*others) {
            *sum = *sum + other;
        }
        return;
    }
    vectorised(level, Exponentials { block, width, columns, most, level, sums });
}

/// As above, all rows in order.
struct Exponentials<'s, T> {
    block: &'s mut [T],
    width: usize,
    columns: &'s Range<usize>,
    most: &'s [T],
    level: Level,
    sums: &'s mut [T],
}

impl<T: Element> Kernel for Exponentials<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { block, width, columns, most, level, sums } = self;
        for row in block.chunks_exact_mut(width) {
            for (x, &most) in row[columns.clone()].iter_mut().zip(most) {
                *x = *x - most;
            }
        }
        // Columns from end to end lie next to each other.
        if columns.len() == width {
            T::apply(Elementary::Exp, level, Through::InPlace(block));
        } else {
            for row in block.chunks_exact_mut(width) {
                T::apply(Elementary::Exp, level, Through::InPlace(&mut row[columns.clone()]));
            }
        }
        sums.fill(T::ZERO);
        for row in block.chunks_exact(width) {
            for (sum, &x) in sums.iter_mut().zip(&row[columns.clone()]) {
                *sum = *sum + x;
            }
        }
    }
}

#[inline(always)]
fn layer_norm<T: Element>(rows: &mut [T], size: usize, epsilon: T, level: Level) {
    let count = T::from_count(size);
    let mut of_each = [T::ZERO; ROWS];
    for batch in batches(rows, size) {
        let of_each = &mut of_each[..batch.len() / size];
        folded(Fold::Add, level, batch, size, of_each);
        for (row, &sum) in batch.chunks_exact_mut(size).zip(&*of_each) {
            let mean = sum / count;
            for x in row {
                *x = *x - mean;
            }
        }
        // What rounding left of the mean.
        let mut means = [T::ZERO; ROWS];
        let means = &mut means[..of_each.len()];
        folded(Fold::Add, level, batch, size, means);
        squared(level, batch, size, of_each);
        for ((row, &sum), &squares) in batch.chunks_exact_mut(size).zip(&*means).zip(&*of_each) {
            let mean = sum / count;
            // Of a row of one value, rounding may leave less than nothing.
            let variance = (squares / count - mean * mean).maximum(T::ZERO);
            let scale = T::ONE / (variance + epsilon).sqrt();
            for x in row {
                *x = (*x - mean) * scale;
            }
        }
    }
}

/// So many values are combined in order, and what came of these in pairs, so that the error of a sum grows with the logarithm of their number.
const IN_ORDER: usize = 1 << 15;

/// The values of each row of `size` made one.
#[inline(always)]
fn folded<T: Element>(fold: Fold, level: Level, rows: &[T], size: usize, out: &mut [T]) {
    if size <= IN_ORDER {
        return T::fold_rows(fold, level, rows, size, out, 1);
    }
    for (row, out) in rows.chunks_exact(size).zip(out) {
        let one = &mut |values: &[T], out: &mut [T]| T::fold_rows(fold, level, values, values.len(), out, 1);
        *out = in_pairs(row, IN_ORDER, fold, one);
    }
}

/// The sum of the squares of each row of `size`.
#[inline(always)]
fn squared<T: Element>(level: Level, rows: &[T], size: usize, out: &mut [T]) {
    let mut squares = [T::ZERO; BATCH];
    let mut add = |values: &[T], size: usize, out: &mut [T]| {
        let squares = &mut squares[..values.len()];
        for (square, &x) in squares.iter_mut().zip(values) {
            *square = x * x;
        }
        T::fold_rows(Fold::Add, level, squares, size, out, 1);
    };
    if rows.len() <= BATCH {
        return add(rows, size, out);
    }
    for (row, out) in rows.chunks_exact(size).zip(out) {
        *out = in_pairs(row, BATCH, Fold::Add, &mut |values, out| add(values, values.len(), out));
    }
}

/// What comes of parts of a row, in pairs, and in pairs of those.
fn in_pairs<T: Element>(row: &[T], most: usize, fold: Fold, one: &mut dyn FnMut(&[T], &mut [T])) -> T {
    if row.len() <= most {
        let mut out = [T::ZERO];
        one(row, &mut out);
        return out[0];
    }
    let (left, right) = row.split_at(row.len().next_power_of_two() / 2);
    let left = in_pairs(left, most, fold, one);
    fold.combine(left, in_pairs(right, most, fold, one))
}
