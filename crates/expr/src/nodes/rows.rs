//! Operations on whole rows: their values are written to the output, and changed there while they are in the cache.

use tenzor_memory::Allocator;

use crate::context::Context;
use crate::fill::grain;
use crate::math::{Element, Elementary};
use crate::node::{Node, known, materialise};
use crate::ops::{BinaryOp, Maximum};
use crate::shape::{Shape, ShapeError};
use crate::simd::{Kernel, Level, Mode, vectorised};
use crate::source::{Leaf, RowSlice, TILE};

/// See [`Expr::softmax`](crate::Expr::softmax).
#[derive(Clone, Copy, Debug)]
pub struct Softmax<X> {
    x: X,
    axis: usize,
    shape: Result<Shape, ShapeError>,
}

impl<X: Node> Softmax<X> {
    pub(crate) fn new(x: X, axis: usize) -> Self {
        let shape = x.checked_shape().and_then(|shape| match axis < shape.rank() {
            true => Ok(shape),
            false => Err(ShapeError::Axis { operation: "softmax", shape, axis }),
        });
        Self { x, axis, shape }
    }
}

impl<X: Node<Elem: Element>> Node for Softmax<X> {
    type Elem = X::Elem;
    type Source<'e, A: Allocator>
        = Leaf<'e, X::Elem, A>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, X::Elem>
    where
        Self: 'e;

    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    fn prepare<'e, A: Allocator + Clone>(&'e self, context: &Context<A>) -> Self::Source<'e, A>
    where
        Self: 'e,
    {
        let shape = *known(&self.shape);
        let size = shape[self.axis];
        let inner: usize = shape[self.axis + 1..].iter().product();
        in_place(&self.x, context, &shape, size * inner, SoftmaxRows { size, inner, level: context.mode.level })
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
    pub(crate) fn new(x: X, epsilon: X::Elem) -> Self {
        let shape = x.checked_shape().and_then(|shape| match shape.rank() {
            0 => Err(ShapeError::Axis { operation: "layer_norm", shape, axis: 0 }),
            _ => Ok(shape),
        });
        Self { x, epsilon, shape }
    }
}

impl<X: Node<Elem: Element>> Node for LayerNorm<X> {
    type Elem = X::Elem;
    type Source<'e, A: Allocator>
        = Leaf<'e, X::Elem, A>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, X::Elem>
    where
        Self: 'e;

    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    fn prepare<'e, A: Allocator + Clone>(&'e self, context: &Context<A>) -> Self::Source<'e, A>
    where
        Self: 'e,
    {
        let shape = *known(&self.shape);
        let size = shape.last().copied().unwrap_or(1);
        in_place(&self.x, context, &shape, size, LayerNormRows { size, epsilon: self.epsilon })
    }
}

/// What is done to rows.
trait RowOp<T>: Copy + Send + Sync {
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
}

impl<T: Element> RowOp<T> for LayerNormRows<T> {
    const NAME: &'static str = "layer_norm";
    const COST: usize = 4;

    #[inline(always)]
    fn change(self, rows: &mut [T]) {
        for row in rows.chunks_exact_mut(self.size) {
            layer_norm(row, self.epsilon);
        }
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

/// Materialises an expression, and then changes its rows of `row` elements, some at a time.
fn in_place<'e, E: Node, A: Allocator + Clone, O: RowOp<E::Elem>>(
    x: &'e E,
    context: &Context<A>,
    shape: &Shape,
    row: usize,
    op: O,
) -> Leaf<'e, E::Elem, A> {
    let block = materialise(context, x.prepare(context), shape);
    let id = block.id();
    let text = || format!("{}(%{id})", O::NAME);
    let rows = grain(shape.elements(), O::COST, context.mode).checked_div(row).unwrap_or(1).max(1);
    let block = context.reuse(block, shape, text, |out| change_rows(out, row, rows, op, context.mode));
    Leaf::own(block, shape)
}

fn change_rows<T: Send>(out: &mut [T], row: usize, rows: usize, op: impl RowOp<T>, mode: Mode) {
    if out.is_empty() {
        return;
    }
    let count = out.len() / row;
    if count <= rows {
        return vectorised(mode.level, Change { rows: out, op });
    }
    let (left, right) = out.split_at_mut(count / 2 * row);
    rayon::join(|| change_rows(left, row, rows, op, mode), || change_rows(right, row, rows, op, mode));
}

/// Combines the elements of a row, in as many lanes as make vectors.
#[inline(always)]
fn fold<T: Element>(row: &[T], start: T, value: impl Fn(T) -> T, combine: impl Fn(T, T) -> T) -> T {
    let (groups, rest) = row.as_chunks::<16>();
    let mut lanes = [start; 16];
    for group in groups {
        for (lane, &x) in lanes.iter_mut().zip(group) {
            *lane = combine(*lane, value(x));
        }
    }
    let total = lanes.into_iter().fold(start, &combine);
    rest.iter().fold(total, |total, &x| combine(total, value(x)))
}

/// So many elements at a time stay in the cache from one loop to the next.
const BATCH: usize = 1 << 12;

/// Of rows of `size`. Where they are short, the elements of several go through the function at once.
#[inline(always)]
fn softmax<T: Element>(rows: &mut [T], size: usize, level: Level) {
    for batch in rows.chunks_mut((BATCH / size).max(1) * size) {
        for row in batch.chunks_exact_mut(size) {
            // Less the largest, so that nothing overflows.
            let most = fold(row, T::LEAST, |x| x, |x, y| Maximum.apply(x, y));
            for x in row {
                *x = *x - most;
            }
        }
        T::apply(Elementary::Exp, level, batch);
        for row in batch.chunks_exact_mut(size) {
            let sum = fold(row, T::ZERO, |x| x, |x, y| x + y);
            for x in row {
                *x = *x / sum;
            }
        }
    }
}

/// As above, along the columns of a block of rows of `width`.
#[inline(always)]
fn softmax_columns<T: Element>(block: &mut [T], width: usize, level: Level) {
    let mut first = 0;
    while first < width {
        let len = TILE.min(width - first);
        let (mut most, mut sums) = ([T::LEAST; TILE], [T::ZERO; TILE]);
        for row in block.chunks_exact(width) {
            for (most, &x) in most.iter_mut().zip(&row[first..first + len]) {
                *most = Maximum.apply(*most, x);
            }
        }
        // Rows that are columns from end to end lie next to each other.
        let together = if len == width { (BATCH / width).max(1) * width } else { width };
        for batch in block.chunks_mut(together) {
            for row in batch.chunks_exact_mut(width) {
                for (x, &most) in row[first..first + len].iter_mut().zip(&most) {
                    *x = *x - most;
                }
            }
            T::apply(Elementary::Exp, level, if len == width { &mut *batch } else { &mut batch[first..first + len] });
            for row in batch.chunks_exact(width) {
                for (&x, sum) in row[first..first + len].iter().zip(&mut sums) {
                    *sum = *sum + x;
                }
            }
        }
        for row in block.chunks_exact_mut(width) {
            for (x, &sum) in row[first..first + len].iter_mut().zip(&sums) {
                *x = *x / sum;
            }
        }
        first += len;
    }
}

#[inline(always)]
fn layer_norm<T: Element>(row: &mut [T], epsilon: T) {
    let count = T::from_count(row.len());
    let mean = fold(row, T::ZERO, |x| x, |x, y| x + y) / count;
    let variance = fold(row, T::ZERO, |x| (x - mean) * (x - mean), |x, y| x + y) / count;
    let scale = T::ONE / (variance + epsilon).sqrt();
    for x in row {
        *x = (*x - mean) * scale;
    }
}
