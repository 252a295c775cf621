//! Running sums, in the place of what they are of.

use crate::axes::Axis;
use crate::context::Context;
use crate::fill::{grain, in_parts};
use crate::math::Element;
use crate::node::{Node, known};
use crate::shape::{Shape, ShapeError, placed};
use crate::simd::Mode;
use crate::source::{Leaf, RowSlice};
use crate::terms::{Term, Terms};
use crate::walk::TILE;

use super::rows::{RowOp, changed};

/// See [`Expr::cumsum`](crate::Expr::cumsum).
#[derive(Clone, Copy, Debug)]
pub struct CumSum<X> {
    x: X,
    axis: usize,
    shape: Result<Shape, ShapeError>,
}

impl<X: Node> CumSum<X> {
    #[track_caller]
    pub(crate) fn new(x: X, axis: Axis) -> Self {
        let mut number = 0;
        let shape = placed(x.checked_shape().and_then(|shape| {
            number = axis.of(&shape, &"cumsum")?;
            Ok(shape)
        }));
        Self { x, axis: number, shape }
    }
}

impl<X: Node<Elem: Element>> Node for CumSum<X> {
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
        terms.dear::<X::Elem>(format!("cumsum({x}, {})", self.axis))
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let shape = *known(&self.shape);
        // Of what was refused there is no axis; it is never prepared.
        let size = shape.get(self.axis).copied().unwrap_or(1);
        let inner: usize = shape.iter().skip(self.axis + 1).product();
        changed(&self.x, context, (&shape, to), size * inner, Cumulate { size, inner, mode: context.mode })
    }
}

/// Of each value, in additions or so.
const COST: usize = 4;

/// Rows of more values are cumulated in pieces of so many, each for itself, to which is added what those before come to. So threads can share a row, and
/// the sums do not depend on whether they do.
const PIECE: usize = 1 << 15;

/// So many values are added in order, on top of what those before come to.
const BLOCK: usize = 32;

/// What blocks come to: the nearest number, and how far it is off. So their number adds next to nothing to the error.
#[derive(Clone, Copy)]
struct Total<T> {
    sum: T,
    lost: T,
}

impl<T: Element> Total<T> {
    #[inline(always)]
    fn add(&mut self, x: T) {
        let sum = self.sum + x;
        let back = sum - self.sum;
        let lost = (self.sum - (sum - back)) + (x - back) + self.lost;
        // Left by itself, what is lost would grow until it is rounded like the sum.
        let nearest = sum + lost;
        let lost = lost - (nearest - sum);
        // Of what is infinite, nothing is lost.
        *self = if lost.abs() < T::MOST { Self { sum: nearest, lost } } else { Self { sum, lost: T::ZERO } };
    }
}

#[derive(Clone, Copy)]
struct Cumulate {
    /// The elements along the axis, and those of each along the axes behind it.
    size: usize,
    inner: usize,
    mode: Mode,
}

impl<T: Element> RowOp<T> for Cumulate {
    const NAME: &'static str = "cumsum";
    const COST: usize = COST;

    #[inline(always)]
    fn change(self, rows: &mut [T]) {
        for block in rows.chunks_exact_mut(self.size * self.inner) {
            if self.inner == 1 {
                row(block, self.mode);
            } else {
                for first in (0..self.inner).step_by(TILE) {
                    columns(block, self.inner, first, TILE.min(self.inner - first));
                }
            }
        }
    }
}

#[inline(always)]
fn row<T: Element>(row: &mut [T], mode: Mode) {
    if row.len() <= PIECE {
        return along(row);
    }
    let most = grain(row.len(), COST, mode);
    in_parts(row, 0, PIECE, most, &|part, _| part.chunks_mut(PIECE).for_each(along));
    let mut total = Total { sum: T::ZERO, lost: T::ZERO };
    for last in row.iter_mut().skip(PIECE - 1).step_by(PIECE) {
        total.add(*last);
        *last = total.sum + total.lost;
    }
    // What each last one comes to, and the values behind it but for the next last one.
    in_parts(&mut row[PIECE - 1..], 0, PIECE, most, &|part, _| {
        for piece in part.chunks_mut(PIECE) {
            if let [before, piece @ ..] = piece {
                for x in piece {
                    *x = *before + *x;
                }
            }
        }
    });
}

#[inline(always)]
fn along<T: Element>(row: &mut [T]) {
    let mut total = Total { sum: T::ZERO, lost: T::ZERO };
    let mut running = T::ZERO;
    for (i, block) in row.chunks_mut(BLOCK).enumerate() {
        // Short rows have but one.
        if i > 0 {
            total.add(running);
            running = T::ZERO;
        }
        let Total { sum, lost } = total;
        for x in block {
            running = running + *x;
            *x = sum + (running + lost);
        }
    }
}

/// As above, of some columns of rows of `width`, each with a total of its own.
#[inline(always)]
fn columns<T: Element>(block: &mut [T], width: usize, first: usize, count: usize) {
    let mut totals = [Total { sum: T::ZERO, lost: T::ZERO }; TILE];
    let mut running = [T::ZERO; TILE];
    let (totals, running) = (&mut totals[..count], &mut running[..count]);
    for rows in block.chunks_mut(BLOCK * width) {
        running.fill(T::ZERO);
        for row in rows.chunks_exact_mut(width) {
            for ((x, running), total) in row[first..first + count].iter_mut().zip(&mut *running).zip(&*totals) {
                *running = *running + *x;
                *x = total.sum + (*running + total.lost);
            }
        }
        for (total, &running) in totals.iter_mut().zip(&*running) {
            total.add(running);
        }
    }
}
