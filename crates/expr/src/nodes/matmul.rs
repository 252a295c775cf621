//! Matrix products, by the crate `gemm`.
//!
//! The one module with unsafe code: `gemm` takes pointers, and writes memory that was never initialised, which is what we want.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use crate::context::Context;
use crate::fill::in_parts;
use crate::math::Element;
use crate::node::{Node, known, materialise};
use crate::settled::Settled;
use crate::shape::{MAX_RANK, Shape, ShapeError, ShapeErrorKind, placed};
use crate::source::{Leaf, LeafReader, RowSlice, Source};
use crate::terms::{Term, Terms};
use crate::walk::{Space, offset};

/// See [`Expr::matmul`](crate::Expr::matmul).
#[derive(Clone, Copy, Debug)]
pub struct MatMul<L, R> {
    left: L,
    right: R,
    shapes: Result<Shapes, ShapeError>,
}

#[derive(Clone, Copy, Debug)]
struct Shapes {
    /// Of the operands, with the outer axes stretched.
    left: Shape,
    right: Shape,
    result: Shape,
    /// Of the result, without the axes that vectors have not.
    own: Shape,
}

impl Shapes {
    /// Of nothing that is ever prepared; see [`known`].
    const NONE: Self = Self { left: Shape::SCALAR, right: Shape::SCALAR, result: Shape::SCALAR, own: Shape::SCALAR };

    fn new(left: Shape, right: Shape) -> Result<Self, ShapeError> {
        let mismatch = ShapeErrorKind::Mismatch { operation: &"matmul", left, right };
        // A vector is a row to the left, and a column to the right.
        let (left_outer, m, k) = match *left {
            [k] => (&[][..], None, k),
            [ref outer @ .., m, k] => (outer, Some(m), k),
            [] => return Err(mismatch.into()),
        };
        let (right_outer, k_right, n) = match *right {
            [k] => (&[][..], k, None),
            [ref outer @ .., k, n] => (outer, k, Some(n)),
            [] => return Err(mismatch.into()),
        };
        if k != k_right {
            return Err(mismatch.into());
        }
        let outer =
            Shape::new(left_outer)?.broadcast(&Shape::new(right_outer)?, &"matmul").map_err(|error| {
                match error.kind {
                    ShapeErrorKind::TooLarge => error,
                    _ => mismatch.into(),
                }
            })?;
        let with = |rows: Option<usize>, columns: Option<usize>| {
            let (rows, columns) = (rows.unwrap_or(1), columns.unwrap_or(1));
            let mut sizes = [1; MAX_RANK + 2];
            let rank = outer.rank();
            sizes[..rank].copy_from_slice(&outer);
            (sizes[rank], sizes[rank + 1]) = (rows, columns);
            Shape::new(&sizes[..rank + 2])
        };
        let (result, rank) = (with(m, n)?, outer.rank());
        let own = result.without(|axis| axis == rank && m.is_none() || axis == rank + 1 && n.is_none());
        Ok(Self { left: with(m, Some(k))?, right: with(Some(k), n)?, result, own })
    }
}

impl<L: Node, R: Node<Elem = L::Elem>> MatMul<L, R> {
    #[track_caller]
    pub(crate) fn new(left: L, right: R) -> Self {
        let shapes = placed(left.checked_shape().and_then(|left| Shapes::new(left, right.checked_shape()?)));
        Self { left, right, shapes }
    }
}

impl<L: Node<Elem: Element>, R: Node<Elem = L::Elem>> Node for MatMul<L, R> {
    type Elem = L::Elem;
    type Source<'e>
        = Leaf<'e, L::Elem>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, L::Elem>
    where
        Self: 'e;

    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.shapes.map(|shapes| shapes.own)
    }

    fn term(&self, terms: &mut Terms) -> Term {
        let (left, right) = (self.left.term(terms), self.right.term(terms));
        terms.dear::<L::Elem>(format!("matmul({left}, {right})"))
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let shapes = self.shapes.unwrap_or(Shapes::NONE);
        let withheld = context.withhold();
        let left = in_memory(&self.left, context, &shapes.left);
        let right = match known(&self.right.checked_shape()).rank() {
            1 => as_column(&self.right, context, &shapes.right),
            _ => in_memory(&self.right, context, &shapes.right),
        };
        context.offer(withheld);
        let text = || format!("matmul({}, {})", left.text(), right.text());
        let write = |slots: &mut [_]| {
            // Both are in memory.
            if let (Some(left), Some(right)) = (left.leaf(), right.leaf()) {
                Product::new(left, right, &shapes, context.mode.parallel).write(slots);
            }
        };
        // SAFETY: products write to all.
        let block = unsafe { context.produce(&shapes.own, text, write) };
        Leaf::own(block, &shapes.own, to)
    }
}

/// The values of an expression, stretched to a shape, as they stand in memory; put there if they do not.
pub(super) fn in_memory<'e, E: Node>(expr: &'e E, context: &'e Context<'e>, to: &Shape) -> Settled<'e, E::Source<'e>> {
    let from = *known(&expr.checked_shape());
    let source = expr.prepare(context, &from);
    let mut settled = match source.leaf() {
        Some(_) => Settled::As(source),
        None => Settled::Moved(Leaf::own(materialise(context, source, &from), &from, &from)),
    };
    settled.relayout(&mut |strides| *strides = strides.stretched(&from, to));
    settled
}

/// A vector as a matrix of one column, stretched to a shape.
fn as_column<'e, E: Node>(expr: &'e E, context: &'e Context<'e>, to: &Shape) -> Settled<'e, E::Source<'e>> {
    let from = *known(&expr.checked_shape());
    let mut column = in_memory(expr, context, &from);
    let shape = *known(&from.inserted(1));
    column.relayout(&mut |strides| {
        strides.insert(1);
        *strides = strides.stretched(&shape, to);
    });
    column
}

/// Products of matrices, one for each place along the outer axes.
#[derive(Clone, Copy)]
struct Product<'s, T: Element> {
    left: LeafReader<'s, T>,
    right: LeafReader<'s, T>,
    outer: Space,
    /// The axis of rows; that of columns is the next.
    rows: usize,
    m: usize,
    k: usize,
    n: usize,
    parallel: bool,
}

/// What each thread needs to be worth its while, in multiplications: less than for [`grain`](crate::fill::grain), as each split moves whole
/// products, and `gemm`, if it is not done here, splits them as early.
const GRAIN: usize = 1 << 18;

impl<'s, T: Element> Product<'s, T> {
    fn new(left: LeafReader<'s, T>, right: LeafReader<'s, T>, shapes: &Shapes, parallel: bool) -> Self {
        let result = &shapes.result;
        let rows = result.rank() - 2;
        let (m, k, n) = (result[rows], shapes.left[rows + 1], result[rows + 1]);
        let outer = Space::over(result, 0..rows, |holds| holds(left.strides) && holds(right.strides));
        Self { left, right, outer, rows, m, k, n, parallel }
    }

    /// Writes to every slot.
    fn write(&self, slots: &mut [MaybeUninit<T>]) {
        let one = self.m * self.n;
        if one == 0 {
            return;
        }
        let most = if self.parallel { 2 * GRAIN / self.k.max(1) } else { usize::MAX };
        in_parts(slots, 0, one, most, &|slots, first| {
            slots.chunks_mut(one).zip(first / one..).for_each(|(slots, number)| self.write_one(slots, number));
        });
    }

    fn write_one(&self, slots: &mut [MaybeUninit<T>], number: usize) {
        let Self { rows, m, n, k, .. } = *self;
        let mut at = [0; MAX_RANK];
        self.outer.locate(number, &mut at);
        let (Some(left), Some(right)) =
            (Matrix::new(self.left, &at, rows, m, k), Matrix::new(self.right, &at, rows, k, n))
        else {
            // Of no elements, the sum is 0.
            if k == 0 {
                for slot in slots {
                    slot.write(T::ZERO);
                }
            }
            return;
        };
        let threads = if self.parallel { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
        // SAFETY: all `m * k` and `k * n` elements that the steps lead to lie within the slices (the invariant of `Matrix`), which are
        // borrowed meanwhile. The result's `m * n` elements are those of `slots`, row by row, which nobody else can reach;
        // they are written and, as `read_dst` is false, not read.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                slots.as_mut_ptr().cast(),
                1,
                n.cast_signed(),
                false,
                left.first,
                left.column,
                left.row,
                right.first,
                right.column,
                right.row,
                T::ZERO,
                T::ONE,
                false,
                false,
                false,
                threads,
            );
        }
    }
}

/// A matrix in a slice. All its elements lie there.
struct Matrix<T> {
    first: *const T,
    /// How far the next row and the next column are.
    row: isize,
    column: isize,
}

impl<T: Element> Matrix<T> {
    /// `None` if it has no elements.
    fn new(leaf: LeafReader<'_, T>, at: &[usize; MAX_RANK], axis: usize, rows: usize, columns: usize) -> Option<Self> {
        let (row, column) = (leaf.strides.steps[axis], leaf.strides.steps[axis + 1]);
        let first = offset(at, leaf.strides).cast_signed();
        let down = rows.checked_sub(1)?.cast_signed().checked_mul(row)?;
        let across = columns.checked_sub(1)?.cast_signed().checked_mul(column)?;
        let least = first.checked_add(down.min(0))?.checked_add(across.min(0))?;
        let most = first.checked_add(down.max(0))?.checked_add(across.max(0))?;
        let is_within = least >= 0 && most < leaf.data.len().cast_signed();
        // Of the whole slice, as steps may be negative.
        is_within.then(|| Self { first: leaf.data.as_ptr().wrapping_offset(first), row, column })
    }
}
