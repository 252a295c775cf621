//! Where along an axis the largest or the smallest element is.
//!
//! As in other reductions, memory is read in its order: where the axis lies innermost, rows are searched; elsewhere rows are compared with rows.
//!
//! Unsafe code says that every slot is written.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use crate::axes::Axis;
use crate::context::Context;
use crate::fill::{grain, in_parts};
use crate::math::{Element, IN_ORDER};
use crate::node::{Node, known};
use crate::ops::Reduction;
use crate::shape::{MAX_RANK, Shape, ShapeError, ShapeErrorKind, placed};
use crate::simd::{Kernel, Mode, vectorised};
use crate::slots::copied;
use crate::source::{Leaf, RowSlice, Source, Tile, Values};
use crate::terms::{Term, Terms};
use crate::walk::{Rect, Space, TILE};

use super::reduce::{Order, kept, with_axes};

/// The index of the largest or the smallest element along an axis; see [`Expr::argmax`](crate::Expr::argmax).
#[derive(Clone, Copy, Debug)]
pub struct Arg<O, X> {
    x: X,
    axis: usize,
    shape: Result<Shape, ShapeError>,
    op: PhantomData<O>,
}

impl<O: Extreme<X::Elem>, X: Node<Elem: Element>> Arg<O, X> {
    #[track_caller]
    pub(crate) fn new(x: X, axis: Axis) -> Self {
        let mut number = 0;
        let shape = placed(x.checked_shape().and_then(|shape| {
            number = axis.of(&shape, &O::ARG)?;
            match shape[number] {
                0 => Err(ShapeErrorKind::Empty { operation: &O::ARG, shape }.into()),
                _ => Ok(shape.without(|axis| axis == number)),
            }
        }));
        Self { x, axis: number, shape, op: PhantomData }
    }

    /// As [`Reduce::keep_dims`](super::Reduce::keep_dims).
    pub fn keep_dims(self) -> Self {
        let kept = self.x.checked_shape().map(|shape| kept(&shape, 1 << self.axis));
        Self { shape: self.shape.and(kept), ..self }
    }
}

/// Reductions that choose one of the values.
pub trait Extreme<T>: Reduction<T> {
    /// As it stands in formulas.
    const ARG: &'static str;

    /// Whether `x` is chosen where `y` comes first. Both are numbers.
    fn is_beyond(x: T, y: T) -> bool;
}

/// Whether `x` is chosen where `y` comes first: no number is before any.
#[inline(always)]
fn is_next<T: Element, O: Extreme<T>>(x: T, y: T) -> bool {
    O::is_beyond(x, y) || x.is_nan() && !y.is_nan()
}

impl<T: Element> Extreme<T> for crate::ops::Max {
    const ARG: &'static str = "argmax";

    #[inline(always)]
    fn is_beyond(x: T, y: T) -> bool {
        x > y
    }
}

impl<T: Element> Extreme<T> for crate::ops::Min {
    const ARG: &'static str = "argmin";

    #[inline(always)]
    fn is_beyond(x: T, y: T) -> bool {
        x < y
    }
}

impl<O: Extreme<X::Elem>, X: Node<Elem: Element>> Node for Arg<O, X> {
    type Elem = usize;
    type Source<'e>
        = Leaf<'e, usize>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, usize>
    where
        Self: 'e;

    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    fn term(&self, terms: &mut Terms) -> Term {
        let x = self.x.term(terms);
        let kept = with_axes(&self.x.checked_shape(), &self.shape);
        terms.dear::<usize>(format!("{}({x}, {}){kept}", O::ARG, self.axis))
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let (from, own, set) = (*known(&self.x.checked_shape()), *known(&self.shape), 1 << self.axis);
        let withheld = context.withhold();
        let mut source = self.x.prepare(context, &from);
        let order = Order::new(&from, set, &source.reader(), None);
        source.relayout(&mut |strides| strides.permute(&order.axes[..from.rank()]));
        let text = || format!("{}({}, {})", O::ARG, source.text(), self.axis);
        let strides = order.strides(&from, &own, set);
        if strides.is_row_major(&own) {
            context.offer(withheld);
        }
        let write = |slots: &mut [_]| {
            let reader = source.reader();
            let values: &dyn Values<_> = &reader;
            let space = |axes| Space::new(&order.shape, axes, values);
            let search = Search {
                values,
                kept: space(0..order.reduced),
                along: space(order.reduced..order.inner),
                inner: space(order.inner..from.rank()),
                axis: order.reduced,
                count: from[self.axis],
                width: order.shape[order.inner..].iter().product(),
                most: grain(from.elements(), 1 + values.cost(), context.mode),
                mode: context.mode,
            };
            search.write::<O>(slots);
        };
        // SAFETY: a search writes to all.
        let block = unsafe { context.produce(&own, text, write) };
        Leaf::placed(block, strides, &own, to)
    }
}

/// What all threads need to know.
struct Search<'s, T> {
    values: &'s dyn Values<T>,
    kept: Space,
    along: Space,
    inner: Space,
    /// The axis, its size, and how many results lie next to each other.
    axis: usize,
    count: usize,
    width: usize,
    /// How many values a thread takes on.
    most: usize,
    mode: Mode,
}

impl<T: Element> Search<'_, T> {
    /// Writes to every slot.
    fn write<O: Extreme<T>>(&self, slots: &mut [MaybeUninit<usize>]) {
        in_parts(slots, 0, 1, (self.most / self.count).max(1), &|slots, first| match self.width {
            1 => self.search::<O>(slots, first),
            _ => self.compare::<O>(slots, first),
        });
    }

    /// Rows searched.
    fn search<O: Extreme<T>>(&self, slots: &mut [MaybeUninit<usize>], first: usize) {
        let mut at = [0; MAX_RANK];
        self.kept.locate(first, &mut at);
        for slot in slots {
            slot.write(self.find::<O>(at, 0..self.count).1);
            self.kept.advance(&mut at, 1);
        }
    }

    /// The best of some values of a row, and where it is.
    fn find<O: Extreme<T>>(&self, mut at: [usize; MAX_RANK], range: Range<usize>) -> (T, usize) {
        if range.len() > self.most {
            let middle = range.start + range.len() / 2;
            let (first, second) =
                rayon::join(|| self.find::<O>(at, range.start..middle), || self.find::<O>(at, middle..range.end));
            return if is_next::<T, O>(second.0, first.0) { second } else { first };
        }
        let mut tile = Tile::<T>::default();
        let (mut best, mut place, mut done) = (O::START, range.start, range.start);
        at[self.axis] = range.start;
        while done < range.end && !best.is_nan() {
            let left = range.end - done;
            let (all, some) = (self.along.rect(&at, left.min(IN_ORDER)), self.along.rect(&at, left.min(TILE)));
            let (values, rect) = match self.values.memory(&all) {
                Some(values) => (values, all),
                None => (self.values.read(&[], &some, self.mode.level, &mut tile), some),
            };
            // Most often nothing here is beyond the best so far, which vectors find out, and otherwise they tell what to look for.
            let mut most = [O::START];
            T::fold_rows(O::FOLD, self.mode.level, values, values.len(), &mut most, 1);
            let [most] = most;
            // Where no value is beyond what others start with, the first is as good as any.
            if is_next::<T, O>(most, best) {
                let is_it = |value: T| value == most || value.is_nan() && most.is_nan();
                place = done + values.iter().position(|&value| is_it(value)).unwrap_or(0);
                best = most;
            }
            done += rect.count();
            self.along.pass(&rect, &mut at);
        }
        (best, place)
    }

    /// Rows compared with rows.
    fn compare<O: Extreme<T>>(&self, out: &mut [MaybeUninit<usize>], first: usize) {
        let (mut best, mut places) = (Tile::<T>::default(), Tile::<usize>::default());
        let mut done = 0;
        while done < out.len() {
            let mut at = [0; MAX_RANK];
            self.kept.locate((first + done) / self.width, &mut at);
            self.inner.locate((first + done) % self.width, &mut at);
            let Rect { across, len, .. } = self.inner.rect(&at, TILE.min(out.len() - done));
            let (best, places) = (best.filled(len, O::START), places.filled(len, 0));
            self.compare_rows::<O>(Rect { index: at, down: self.axis, across, lines: self.count, len }, best, places);
            copied(&mut out[done..done + len], places);
            done += len;
        }
    }

    /// The lines of a rectangle, each with the best of those before.
    fn compare_rows<O: Extreme<T>>(&self, rect: Rect, best: &mut [T], places: &mut [usize]) {
        let len = rect.len;
        let first = rect.index[self.axis];
        if rect.lines > 1 && rect.count() > self.most {
            let (left, mut right) = (Rect { lines: rect.lines / 2, ..rect }, rect);
            right.index[self.axis] += left.lines;
            right.lines -= left.lines;
            let (mut others, mut numbers) = (Tile::<T>::default(), Tile::<usize>::default());
            let (others, numbers) = (others.filled(len, O::START), numbers.filled(len, first));
            rayon::join(
                || self.compare_rows::<O>(left, best, places),
                || self.compare_rows::<O>(right, others, numbers),
            );
            for ((best, place), (&other, &number)) in best.iter_mut().zip(places).zip(others.iter().zip(&*numbers)) {
                if is_next::<T, O>(other, *best) {
                    (*best, *place) = (other, number);
                }
            }
            return;
        }
        let mut tile = Tile::<T>::default();
        let mut done = 0;
        while done < rect.lines {
            let mut some = Rect { lines: (TILE / len).max(1).min(rect.lines - done), ..rect };
            some.index[self.axis] += done;
            let values = self.values.read(&[], &some, self.mode.level, &mut tile);
            vectorised(self.mode.level, Compare { values, number: first + done, best, places, op: PhantomData::<O> });
            done += some.lines;
        }
    }
}

/// Compares rows, of which the first has a number, with the best of those before.
struct Compare<'s, T, O> {
    values: &'s [T],
    number: usize,
    best: &'s mut [T],
    places: &'s mut [usize],
    op: PhantomData<O>,
}

impl<T: Element, O: Extreme<T>> Kernel for Compare<'_, T, O> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { values, number, best, places, .. } = self;
        for (line, row) in values.chunks_exact(best.len()).enumerate() {
            for ((best, place), &value) in best.iter_mut().zip(&mut *places).zip(row) {
                let is_next = is_next::<T, O>(value, *best);
                *best = if is_next { value } else { *best };
                *place = if is_next { number + line } else { *place };
            }
        }
    }
}
