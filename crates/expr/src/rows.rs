//! Operations on whole rows: their values are written to the output, and changed there while they are in the cache.

use tenzor_memory::Allocator;

use crate::context::Context;
use crate::error::EvalError;
use crate::eval::materialise;
use crate::expr::Expr;
use crate::fill::{grain, vectorised};
use crate::math::Element;
use crate::shape::{Shape, ShapeError};
use crate::source::{Leaf, TILE};

/// See [`Expr::softmax`].
#[derive(Clone, Copy, Debug)]
pub struct Softmax<X> {
    x: X,
    axis: usize,
    shape: Result<Shape, ShapeError>,
}

impl<X: Expr> Softmax<X> {
    pub(crate) fn new(x: X, axis: usize) -> Self {
        let shape = x.shape().and_then(|shape| match axis < shape.rank() {
            true => Ok(shape),
            false => Err(ShapeError::Axis { operation: "softmax", shape, axis }),
        });
        Self { x, axis, shape }
    }
}

impl<X: Expr<Elem: Element>> Expr for Softmax<X> {
    type Elem = X::Elem;
    type Source<'e, A: Allocator>
        = Leaf<'e, X::Elem, A>
    where
        Self: 'e;

    fn shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    fn prepare<'e, A: Allocator + Clone>(&'e self, context: &Context<A>) -> Result<Self::Source<'e, A>, EvalError>
    where
        Self: 'e,
    {
        let shape = self.shape?;
        let size = shape[self.axis];
        let inner: usize = shape[self.axis + 1..].iter().product();
        in_place(&self.x, context, &shape, "softmax", size * inner, |rows| {
            if inner == 1 {
                rows.chunks_exact_mut(size).for_each(softmax);
            } else {
                rows.chunks_exact_mut(size * inner).for_each(|block| softmax_columns(block, inner));
            }
        })
    }
}

/// See [`Expr::layer_norm`].
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm<X: Expr> {
    x: X,
    epsilon: X::Elem,
    shape: Result<Shape, ShapeError>,
}

impl<X: Expr> LayerNorm<X> {
    pub(crate) fn new(x: X, epsilon: X::Elem) -> Self {
        let shape = x.shape().and_then(|shape| match shape.rank() {
            0 => Err(ShapeError::Axis { operation: "layer_norm", shape, axis: 0 }),
            _ => Ok(shape),
        });
        Self { x, epsilon, shape }
    }
}

impl<X: Expr<Elem: Element>> Expr for LayerNorm<X> {
    type Elem = X::Elem;
    type Source<'e, A: Allocator>
        = Leaf<'e, X::Elem, A>
    where
        Self: 'e;

    fn shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    fn prepare<'e, A: Allocator + Clone>(&'e self, context: &Context<A>) -> Result<Self::Source<'e, A>, EvalError>
    where
        Self: 'e,
    {
        let shape = self.shape?;
        let size = shape.last().copied().unwrap_or(1);
        let epsilon = self.epsilon;
        in_place(&self.x, context, &shape, "layer_norm", size, |rows| {
            rows.chunks_exact_mut(size).for_each(|row| layer_norm(row, epsilon));
        })
    }
}

/// Materialises an expression, and then changes its rows of `row` elements, some at a time.
fn in_place<'e, E: Expr, A: Allocator + Clone>(
    x: &'e E,
    context: &Context<A>,
    shape: &Shape,
    name: &str,
    row: usize,
    change: impl Fn(&mut [E::Elem]) + Sync,
) -> Result<Leaf<'e, E::Elem, A>, EvalError> {
    let block = materialise(context, x.prepare(context)?, shape)?;
    let text = format!("{name}(%{})", block.id());
    let rows = grain(shape.elements(), context.parallel).checked_div(row).unwrap_or(1).max(1);
    let block = context.reuse(block, shape, || text, |out| change_rows(out, row, rows, &change));
    Ok(Leaf::own(block, *shape))
}

fn change_rows<T: Send>(out: &mut [T], row: usize, rows: usize, change: &(impl Fn(&mut [T]) + Sync)) {
    if out.is_empty() {
        return;
    }
    let count = out.len() / row;
    if count <= rows {
        return vectorised(|| change(out));
    }
    let (left, right) = out.split_at_mut(count / 2 * row);
    rayon::join(|| change_rows(left, row, rows, change), || change_rows(right, row, rows, change));
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

#[inline(always)]
fn softmax<T: Element>(row: &mut [T]) {
    // Less the largest, so that nothing overflows.
    let most = fold(row, T::LEAST, |x| x, |x, y| if x > y || x.is_nan() { x } else { y });
    for x in row.iter_mut() {
        *x = (*x - most).exp();
    }
    let sum = fold(row, T::ZERO, |x| x, |x, y| x + y);
    for x in row {
        *x = *x / sum;
    }
}

/// As above, along the columns of a block of rows of `width`.
#[inline(always)]
fn softmax_columns<T: Element>(block: &mut [T], width: usize) {
    let mut first = 0;
    while first < width {
        let len = TILE.min(width - first);
        let (mut most, mut sums) = ([T::LEAST; TILE], [T::ZERO; TILE]);
        for row in block.chunks_exact(width) {
            for (most, &x) in most.iter_mut().zip(&row[first..first + len]) {
                *most = if *most > x || most.is_nan() { *most } else { x };
            }
        }
        for row in block.chunks_exact_mut(width) {
            for ((x, &most), sum) in row[first..first + len].iter_mut().zip(&most).zip(&mut sums) {
                *x = (*x - most).exp();
                *sum = *sum + *x;
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
