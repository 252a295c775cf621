//! Where along an axis the largest or the smallest element is.
//!
//! As in other reductions, memory is read in its order: where the axis lies innermost, rows are searched; elsewhere rows are compared with rows.
//!
//! Unsafe code says that every slot is written.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use crate::axes::Axis;
use crate::context::Context;
use crate::fill::grain;
use crate::math::{Element, IN_ORDER, LANES};
use crate::node::{Node, known};
use crate::ops::Reduction;
use crate::shape::{MAX_RANK, Shape, ShapeError};
use crate::simd::{Kernel, Mode, vectorised};
use crate::slots::copied;
use crate::source::{Leaf, RowSlice, Source, Tile, Values};
use crate::walk::{Rect, Space, TILE};

use super::reduce::{Order, kept};

/// The index of the largest or the smallest element along an axis; see [`Expr::argmax`](crate::Expr::argmax).
#[derive(Clone, Copy, Debug)]
pub struct Arg<O, X> {
    x: X,
    axis: usize,
    shape: Result<Shape, ShapeError>,
    op: PhantomData<O>,
}

impl<O: Extreme<X::Elem>, X: Node<Elem: Element>> Arg<O, X> {
    pub(crate) fn new(x: X, axis: Axis) -> Self {
        let mut number = 0;
        let shape = x.checked_shape().and_then(|shape| {
            number = axis.of(&shape, O::ARG)?;
            match shape[number] {
                0 => Err(ShapeError::Empty { operation: O::ARG, shape }),
                _ => Ok(shape.without(|axis| axis == number)),
            }
        });
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

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let (from, own, set) = (*known(&self.x.checked_shape()), *known(&self.shape), 1 << self.axis);
        let withheld = context.withhold();
        let mut source = self.x.prepare(context, &from);
        let order = Order::new(&from, set, &source.reader());
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
    mode: Mode,
}

/// Shorter rows are searched value by value.
const SHORT: usize = 2 * LANES;

impl<T: Element> Search<'_, T> {
    /// Writes to every slot.
    fn write<O: Extreme<T>>(&self, slots: &mut [MaybeUninit<usize>]) {
        let cost = (1 + self.values.cost()).saturating_mul(self.count);
        let most = grain(slots.len(), cost, self.mode).max(1);
        self.split::<O>(slots, 0, most);
    }

    /// From the result number `first` on.
    fn split<O: Extreme<T>>(&self, slots: &mut [MaybeUninit<usize>], first: usize, most: usize) {
        if slots.len() > most {
            let middle = slots.len() / 2;
            let (left, right) = slots.split_at_mut(middle);
            rayon::join(|| self.split::<O>(left, first, most), || self.split::<O>(right, first + middle, most));
        } else if self.width == 1 {
            self.search::<O>(slots, first);
        } else {
            self.compare::<O>(slots, first);
        }
    }

    /// Rows searched.
    fn search<O: Extreme<T>>(&self, slots: &mut [MaybeUninit<usize>], first: usize) {
        let mut at = [0; MAX_RANK];
        self.kept.locate(first, &mut at);
        for slot in slots {
            slot.write(self.find::<O>(at));
            self.kept.advance(&mut at, 1);
        }
    }

    fn find<O: Extreme<T>>(&self, mut at: [usize; MAX_RANK]) -> usize {
        let mut tile = Tile::<T>::default();
        let (mut best, mut place, mut done) = (O::START, 0, 0);
        at[self.axis] = 0;
        while done < self.count && !best.is_nan() {
            let left = self.count - done;
            let (all, some) = (self.along.rect(&at, left.min(IN_ORDER)), self.along.rect(&at, left.min(TILE)));
            let (values, rect) = match self.values.memory(&all) {
                Some(values) => (values, all),
                None => (self.values.read(&[], &some, self.mode.level, &mut tile), some),
            };
            // Most often nothing here is beyond the best so far, which vectors find out, and otherwise they tell what to look for.
            let most = if values.len() < SHORT {
                values.iter().fold(O::START, |most, &value| O::combine(most, value))
            } else {
                let mut totals = [O::START; LANES];
                T::fold(O::FOLD, self.mode.level, values, &mut totals);
                T::total(O::FOLD, &totals)
            };
            // Where no value is beyond what others start with, the first is as good as any.
            if most.is_nan() || O::is_beyond(most, best) {
                let is_it = |value: T| value == most || value.is_nan() && most.is_nan();
                place = done + values.iter().position(|&value| is_it(value)).unwrap_or(0);
                best = most;
            }
            done += rect.count();
            self.along.pass(&rect, &mut at);
        }
        place
    }

    /// Rows compared with rows.
    fn compare<O: Extreme<T>>(&self, out: &mut [MaybeUninit<usize>], first: usize) {
        let (mut tile, mut best, mut places) = (Tile::<T>::default(), Tile::<T>::default(), Tile::<usize>::default());
        let mut done = 0;
        while done < out.len() {
            let mut at = [0; MAX_RANK];
            self.kept.locate((first + done) / self.width, &mut at);
            self.inner.locate((first + done) % self.width, &mut at);
            let Rect { across, len, .. } = self.inner.rect(&at, TILE.min(out.len() - done));
            let (best, places) = (best.filled(len, O::START), places.filled(len, 0));
            let mut number = 0;
            while number < self.count {
                at[self.axis] = number;
                let lines = (TILE / len).max(1).min(self.count - number);
                let rect = Rect { index: at, down: self.axis, across, lines, len };
                let values = self.values.read(&[], &rect, self.mode.level, &mut tile);
                vectorised(self.mode.level, Compare { values, number, best, places, op: PhantomData::<O> });
                number += lines;
            }
            copied(&mut out[done..done + len], places);
            done += len;
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
                let is_next = O::is_beyond(value, *best) || value.is_nan() && !best.is_nan();
                *best = if is_next { value } else { *best };
                *place = if is_next { number + line } else { *place };
            }
        }
    }
}
