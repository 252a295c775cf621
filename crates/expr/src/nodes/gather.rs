//! Elements by their indices, which are values themselves.
//!
//! Unsafe code says that every slot is written.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use crate::axes::Axis;
use crate::context::Context;
use crate::error::EvalError;
use crate::fill::{grain, in_parts};
use crate::math::Element;
use crate::node::{Node, known, materialise};
use crate::settled::Settled;
use crate::shape::{MAX_RANK, Shape, ShapeError, placed};
use crate::simd::Mode;
use crate::slots::copied;
use crate::source::{Leaf, LeafReader, RowSlice, Source, Values};
use crate::terms::{Term, Terms};
use crate::walk::{Space, offset};

use super::matmul::in_memory;

/// See [`Expr::gather`](crate::Expr::gather).
#[derive(Clone, Copy, Debug)]
pub struct Gather<X, I> {
    x: X,
    indices: I,
    axis: usize,
    shape: Result<Shape, ShapeError>,
}

impl<X: Node, I: Node<Elem = usize>> Gather<X, I> {
    #[track_caller]
    pub(crate) fn new(x: X, axis: Axis, indices: I) -> Self {
        let mut number = 0;
        let shape = placed(x.checked_shape().and_then(|shape| {
            number = axis.of(&shape, &"gather")?;
            let within = indices.checked_shape()?;
            let rank = shape.rank() - 1 + within.rank();
            let mut sizes = [1; 2 * MAX_RANK];
            sizes[..number].copy_from_slice(&shape[..number]);
            sizes[number..number + within.rank()].copy_from_slice(&within);
            sizes[number + within.rank()..rank].copy_from_slice(&shape[number + 1..]);
            Shape::new(&sizes[..rank])
        }));
        Self { x, indices, axis: number, shape }
    }
}

/// Pieces of fewer elements are not worth to be computed one by one.
const SHORT: usize = 16;

impl<X: Node, I: Node<Elem = usize>> Node for Gather<X, I> {
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
        let (x, indices) = (self.x.term(terms), self.indices.term(terms));
        terms.dear::<X::Elem>(format!("gather({x}, {}, {indices})", self.axis))
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let (from, own) = (*known(&self.x.checked_shape()), *known(&self.shape));
        let size = from[self.axis];
        let inner: usize = from[self.axis + 1..].iter().product();
        let withheld = context.withhold();
        // What is not in memory is computed as it is gathered, unless it is then computed more often than it would be otherwise.
        let x = if inner >= SHORT && own.elements() <= from.elements() {
            Settled::As(self.x.prepare(context, &from))
        } else {
            in_memory(&self.x, context, &from)
        };
        let indices = in_order(&self.indices, context, size);
        let text = || format!("gather({}, {}, {})", x.text(), self.axis, indices.text());
        let within = *known(&self.indices.checked_shape());
        context.offer(withheld);
        let write = |slots: &mut [_]| {
            let (values, leaf) = (x.reader(), x.leaf());
            let values: &dyn Values<_> = &values;
            let inner_space = Space::new(&from, self.axis + 1..from.rank(), values);
            let (innermost, size) = inner_space.inner();
            let is_whole = |leaf: &LeafReader<'_, _>| size == inner && leaf.strides.steps[innermost] == 1;
            let pieces = Pieces {
                values,
                leaf: leaf.filter(|leaf| inner == 1 || is_whole(leaf)),
                indices: elements(&indices, &within),
                axis: self.axis,
                inner,
                outer_space: Space::new(&from, 0..self.axis, values),
                inner_space,
                mode: context.mode,
            };
            pieces.write(slots);
        };
        // SAFETY: pieces are written to all.
        let block = unsafe { context.produce(&own, text, write) };
        Leaf::own(block, &own, to)
    }
}

/// Indices in memory, in the order of their shape, each less than `size`, or else the evaluation fails.
fn in_order<'e, I: Node<Elem = usize>>(
    indices: &'e I,
    context: &'e Context<'e>,
    size: usize,
) -> Settled<'e, I::Source<'e>> {
    let shape = *known(&indices.checked_shape());
    let source = indices.prepare(context, &shape);
    let indices = match source.leaf() {
        Some(leaf) if leaf.strides.is_row_major(&shape) => Settled::As(source),
        _ => Settled::Moved(Leaf::own(materialise(context, source, &shape), &shape, &shape)),
    };
    // Explanations have nothing to do with values.
    if !context.is_planning()
        && let Some(&index) = elements(&indices, &shape).iter().find(|&&index| index >= size)
    {
        context.fail(EvalError::Index { index, size });
    }
    indices
}

/// As many as their shape has; none where nothing is computed.
fn elements<'s>(indices: &'s impl Source<Item = usize>, shape: &Shape) -> &'s [usize] {
    // SAFETY: they lie in the order of their shape, next to each other; where nothing is computed there are none.
    let all = |leaf: LeafReader<'s, usize>| unsafe { leaf.data.range(0, shape.elements().min(leaf.data.len())) };
    indices.leaf().map(all).unwrap_or_default()
}

/// What all threads need to know.
struct Pieces<'s, T> {
    values: &'s dyn Values<T>,
    /// What pieces are in memory, if the elements of each lie next to each other.
    leaf: Option<LeafReader<'s, T>>,
    indices: &'s [usize],
    axis: usize,
    /// The elements of a piece, and their axes.
    inner: usize,
    inner_space: Space,
    outer_space: Space,
    mode: Mode,
}

impl<T: crate::Item> Pieces<'_, T> {
    /// Writes to every slot.
    fn write(&self, slots: &mut [MaybeUninit<T>]) {
        if slots.is_empty() {
            return;
        }
        let most = grain(slots.len(), 2 + self.values.cost(), self.mode);
        in_parts(slots, 0, self.inner, most, &|slots, first| match self.leaf {
            Some(leaf) => self.copy_pieces(leaf, slots, first / self.inner),
            None => self.write_pieces(slots, first / self.inner),
        });
    }

    fn copy_pieces(
        &self,
        LeafReader { data, strides, .. }: LeafReader<'_, T>,
        mut out: &mut [MaybeUninit<T>],
        first: usize,
    ) {
        let (inner, count, step) = (self.inner, self.indices.len(), strides.steps[self.axis]);
        let (mut outer, mut place) = (first / count, first % count);
        while !out.is_empty() {
            let mut at = [0; MAX_RANK];
            self.outer_space.locate(outer, &mut at);
            let base = offset(&at, strides);
            let indices = &self.indices[place..count.min(place + out.len() / inner)];
            let (now, later) = out.split_at_mut(indices.len() * inner);
            if inner == 1 {
                for (slot, &index) in now.iter_mut().zip(indices) {
                    let place = base.wrapping_add_signed(step.wrapping_mul(index.cast_signed()));
                    // SAFETY: there is such an index, so the strides lead to an element.
                    slot.write(*unsafe { data.at(place) });
                }
            } else {
                for (piece, &index) in now.chunks_exact_mut(inner).zip(indices) {
                    let start = base.wrapping_add_signed(step.wrapping_mul(index.cast_signed()));
                    // SAFETY: as above, and the elements of a piece are neighbours.
                    copied(piece, unsafe { data.range(start, inner) });
                }
            }
            out = later;
            (outer, place) = (outer + 1, 0);
        }
    }

    fn write_pieces(&self, out: &mut [MaybeUninit<T>], first: usize) {
        let count = self.indices.len();
        let (mut outer, mut place) = (first / count, first % count);
        let mut at = [0; MAX_RANK];
        self.outer_space.locate(outer, &mut at);
        for piece in out.chunks_exact_mut(self.inner) {
            at[self.axis] = self.indices[place];
            let mut done = 0;
            while done < piece.len() {
                let rect = self.inner_space.rect(&at, piece.len() - done);
                let part = &mut piece[done..done + rect.count()];
                match self.values.memory(&rect) {
                    Some(values) => copied(part, values),
                    None => self.values.fill(&[], &rect, self.mode.level, part),
                };
                done += rect.count();
                self.inner_space.pass(&rect, &mut at);
            }
            place += 1;
            if place == count {
                (outer, place) = (outer + 1, 0);
                self.outer_space.locate(outer, &mut at);
            }
        }
    }
}

/// So many elements of one-hot rows are made at a time.
const PIECE: usize = 1 << 12;

/// See [`Expr::one_hot`](crate::Expr::one_hot).
#[derive(Clone, Copy, Debug)]
pub struct OneHot<T, I> {
    indices: I,
    count: usize,
    shape: Result<Shape, ShapeError>,
    element: PhantomData<T>,
}

impl<T: Element, I: Node<Elem = usize>> OneHot<T, I> {
    #[track_caller]
    pub(crate) fn new(indices: I, count: usize) -> Self {
        let shape = placed(indices.checked_shape().and_then(|shape| {
            let mut sizes = [count; MAX_RANK + 1];
            sizes[..shape.rank()].copy_from_slice(&shape);
            Shape::new(&sizes[..=shape.rank()])
        }));
        Self { indices, count, shape, element: PhantomData }
    }
}

impl<T: Element, I: Node<Elem = usize>> Node for OneHot<T, I> {
    type Elem = T;
    type Source<'e>
        = Leaf<'e, T>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, T>
    where
        Self: 'e;

    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    fn term(&self, terms: &mut Terms) -> Term {
        let indices = self.indices.term(terms);
        terms.dear::<T>(format!("one_hot({indices}, {})", self.count))
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let own = *known(&self.shape);
        let within = *known(&self.indices.checked_shape());
        let withheld = context.withhold();
        let indices = in_order(&self.indices, context, self.count);
        context.offer(withheld);
        let text = || format!("one_hot({}, {})", indices.text(), self.count);
        let write = |slots: &mut [MaybeUninit<T>]| {
            let (row, indices) = (self.count.max(1), elements(&indices, &within));
            // So many rows at a time that they are still in the cache when their ones are written.
            let rows = (PIECE / row).max(1);
            in_parts(slots, 0, row, grain(slots.len(), 1, context.mode), &|slots, first| {
                for (number, slots) in slots.chunks_mut(rows * row).enumerate() {
                    for slot in &mut *slots {
                        slot.write(T::ZERO);
                    }
                    let indices = indices.get(first / row + number * rows..).unwrap_or_default();
                    for (row, &index) in slots.chunks_exact_mut(row).zip(indices) {
                        row[index].write(T::ONE);
                    }
                }
            });
        };
        // SAFETY: the loop writes to all.
        let block = unsafe { context.produce(&own, text, write) };
        Leaf::own(block, &own, to)
    }
}
