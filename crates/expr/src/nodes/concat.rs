//! Expressions one behind the other along an axis, each written to its place in one block.
//!
//! Unsafe code says that every slot is written.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::axes::Axis;
use crate::context::Context;
use crate::fill::{grain, in_parts};
use crate::node::{Node, known};
use crate::shape::{MAX_RANK, Operation, Shape, ShapeError, ShapeErrorKind, placed};
use crate::simd::Mode;
use crate::slots::copied;
use crate::source::{Leaf, RowSlice, Source, Tile, Values};
use crate::terms::{Term, Terms};
use crate::walk::{Rect, Space, TILE};

/// Expressions of one type: an array, a slice or a `Vec` of them.
pub trait Parts: Sealed {
    /// Their type.
    type Part: Node;

    /// They themselves.
    fn parts(&self) -> &[Self::Part];
}

/// Keeps others from adding what has other parts each time.
pub trait Sealed {}

macro_rules! parts {
    ($([$($generics:tt)*] $type:ty;)*) => {$(
        impl<$($generics)*> Sealed for $type {}

        impl<$($generics)*> Parts for $type {
            type Part = E;

            fn parts(&self) -> &[E] {
                &self[..]
            }
        }
    )*};
}

parts! {
    [E: Node, const N: usize] [E; N];
    [E: Node, const N: usize] &[E; N];
    [E: Node] &[E];
    [E: Node] Vec<E>;
    [E: Node] &Vec<E>;
}

/// See [`concat()`] and [`stack()`].
#[derive(Clone, Copy, Debug)]
pub struct Concat<P> {
    parts: P,
    axis: usize,
    /// Whether the axis is a new one.
    stacks: bool,
    shape: Result<Shape, ShapeError>,
}

/// Some expressions one behind the other along an axis. Their other axes have the same sizes. Expressions of different types become those of one
/// by [`boxed`](crate::Expr::boxed). Costs some small requests to the global allocator, for lists of the parts.
///
/// ```
/// use tenzor_expr::{Expr, View, concat, eval_into};
///
/// let (x, y) = (View::new(&[1.0_f32, 2.0, 3.0, 4.0], [2, 2])?, View::new(&[5.0_f32, 6.0], [2, 1])?);
/// let mut rows = [0.0; 6];
/// eval_into(&concat([x, y], 1), &mut rows)?;
/// assert_eq!(rows, [1.0, 2.0, 5.0, 3.0, 4.0, 6.0]);
/// eval_into(&concat([x.boxed(), (-y).boxed()], -1), &mut rows)?;
/// assert_eq!(rows, [1.0, 2.0, -5.0, 3.0, 4.0, -6.0]);
/// assert!(concat([x, y], 0).shape().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn concat<P: Parts>(parts: P, axis: impl Into<Axis>) -> Concat<P> {
    Concat::new(parts, axis.into(), false)
}

/// Some expressions of one shape one behind the other along a new axis, which is `axis` of the result; -1 is behind the last.
///
/// ```
/// use tenzor_expr::{Expr, View, eval_into, stack};
///
/// let (x, y) = (View::new(&[1.0_f32, 2.0], [2])?, View::new(&[3.0_f32, 4.0], [2])?);
/// let mut pairs = [0.0; 4];
/// eval_into(&stack([x, y], 0), &mut pairs)?;
/// assert_eq!(pairs, [1.0, 2.0, 3.0, 4.0]);
/// eval_into(&stack([x, y], -1), &mut pairs)?;
/// assert_eq!(pairs, [1.0, 3.0, 2.0, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn stack<P: Parts>(parts: P, axis: impl Into<Axis>) -> Concat<P> {
    Concat::new(parts, axis.into(), true)
}

impl<P: Parts> Concat<P> {
    #[track_caller]
    fn new(parts: P, axis: Axis, stacks: bool) -> Self {
        let mut number = 0;
        let shape = placed(Self::shape_of(parts.parts(), axis, stacks, &mut number));
        Self { parts, axis: number, stacks, shape }
    }

    fn name(stacks: bool) -> Operation {
        if stacks { &"stack" } else { &"concat" }
    }

    fn shape_of(parts: &[P::Part], axis: Axis, stacks: bool, number: &mut usize) -> Result<Shape, ShapeError> {
        let operation = Self::name(stacks);
        let Some((first, others)) = parts.split_first() else {
            return Err(ShapeErrorKind::NoParts { operation }.into());
        };
        let first = first.checked_shape()?;
        *number = if stacks { axis.between(&first, operation)? } else { axis.of(&first, operation)? };
        let mut size = if stacks { 1 } else { first[*number] };
        for other in others {
            let other = other.checked_shape()?;
            let others_size = match stacks {
                true => Some(1),
                false => other.get(*number).copied(),
            };
            let goes = match others_size {
                Some(size) if !stacks => other.rank() == first.rank() && first.with_size(*number, size) == other,
                _ => first == other,
            };
            match others_size {
                Some(more) if goes => size = size.checked_add(more).ok_or(ShapeErrorKind::TooLarge)?,
                _ => return Err(ShapeErrorKind::Mismatch { operation, left: first, right: other }.into()),
            }
        }
        let whole = if stacks { first.inserted(*number)? } else { first };
        let mut sizes = [0; MAX_RANK];
        sizes[..whole.rank()].copy_from_slice(&whole);
        sizes[*number] = size;
        Shape::new(&sizes[..whole.rank()])
    }
}

impl<P: Parts> Node for Concat<P> {
    type Elem = <P::Part as Node>::Elem;
    type Source<'e>
        = Leaf<'e, Self::Elem>
    where
        Self: 'e;
    type Row<'e>
        = RowSlice<'e, Self::Elem>
    where
        Self: 'e;

    fn checked_shape(&self) -> Result<Shape, ShapeError> {
        self.shape
    }

    fn term(&self, terms: &mut Terms) -> Term {
        let parts: Vec<_> = self.parts.parts().iter().map(|part| part.term(terms).to_string()).collect();
        terms.dear::<Self::Elem>(format!("{}([{}], {})", Self::name(self.stacks), parts.join(", "), self.axis))
    }

    fn prepare<'e>(&'e self, context: &'e Context<'e>, to: &Shape) -> Self::Source<'e> {
        let own = *known(&self.shape);
        let withheld = context.withhold();
        let parts: Vec<_> = self.parts.parts().iter().map(|part| self.prepare_part(part, context)).collect();
        context.offer(withheld);
        let text = || {
            let parts: Vec<_> = parts.iter().map(|(source, _)| source.text()).collect();
            format!("{}([{}], {})", Self::name(self.stacks), parts.join(", "), self.axis)
        };
        let write = |slots: &mut [_]| {
            let readers: Vec<_> = parts.iter().map(|(source, shape)| (source.reader(), *shape)).collect();
            let row: usize = own[self.axis..].iter().product();
            let mut start = 0;
            let places = readers.iter().map(|(reader, shape)| {
                let values: &dyn Values<_> = reader;
                let place = Place::new(values, shape, self.axis, start);
                start += place.len;
                place
            });
            let places: Vec<_> = places.collect();
            self::write(slots, &places, row, context.mode);
        };
        // SAFETY: the parts' places are all there is.
        let block = unsafe { context.produce(&own, text, write) };
        Leaf::own(block, &own, to)
    }
}

impl<P: Parts> Concat<P> {
    /// A part, and its shape with the axis.
    fn prepare_part<'e>(&self, part: &'e P::Part, context: &'e Context<'e>) -> (<P::Part as Node>::Source<'e>, Shape) {
        let shape = *known(&part.checked_shape());
        let mut source = part.prepare(context, &shape);
        if !self.stacks {
            return (source, shape);
        }
        source.relayout(&mut |strides| strides.insert(self.axis));
        (source, *known(&shape.inserted(self.axis)))
    }
}

/// A part's place in each row of the result: what lies behind an index of the axes before the one along which the parts follow each other.
struct Place<'s, T> {
    values: &'s dyn Values<T>,
    /// Where it begins, and of how many elements it is.
    start: usize,
    len: usize,
    outer: Space,
    inner: Space,
}

impl<'s, T: crate::Item> Place<'s, T> {
    fn new(values: &'s dyn Values<T>, shape: &Shape, axis: usize, start: usize) -> Self {
        let len = shape[axis..].iter().product();
        let (outer, inner) = (Space::new(shape, 0..axis, values), Space::new(shape, axis..shape.rank(), values));
        Self { values, start, len, outer, inner }
    }

    /// Writes what belongs to the rows from `first` on, of which `out` has a piece that starts within the first of them.
    fn write(&self, out: &mut [MaybeUninit<T>], first: usize, row: usize, mode: Mode) {
        let mut tile = Tile::<T>::default();
        let end = first + out.len();
        let mut number = first / row;
        while number * row < end {
            // What of the piece is this part's, counted from where it begins.
            let begin = number * row + self.start;
            let Range { start, end } = begin.max(first)..(begin + self.len).min(end);
            if start >= end {
                number += 1;
                continue;
            }
            let mut at = [0; MAX_RANK];
            self.outer.locate(number, &mut at);
            if self.len == 1 {
                // One of each row: some rows' at once.
                let rect = self.outer.rect(&at, (first + out.len() - begin).div_ceil(row).min(TILE));
                let values = self.values.read(&[], &rect, mode.level, &mut tile);
                for (slot, &value) in out[begin - first..].iter_mut().step_by(row).zip(values) {
                    slot.write(value);
                }
                number += rect.count();
                continue;
            }
            let ((down, lines), (across, len)) = (self.outer.inner(), self.inner.inner());
            // Short lines of some rows at once.
            let left = (first + out.len() - begin) / row;
            let lines = (lines.max(1) - if lines > 1 { at[down] } else { 0 }).min(left).min(TILE / self.len);
            if start == begin && len == self.len && lines > 1 {
                let rect = Rect { index: at, down, across, lines, len };
                let values = self.values.read(&[], &rect, mode.level, &mut tile);
                let out = &mut out[begin - first..];
                for (place, values) in out.chunks_mut(row).zip(values.chunks_exact(len)) {
                    copied(&mut place[..len], values);
                }
                number += lines;
                continue;
            }
            self.inner.locate(start - begin, &mut at);
            let mut done = start;
            while done < end {
                let rect = self.inner.rect(&at, end - done);
                self.values.fill(&[], &rect, mode.level, &mut out[done - first..][..rect.count()]);
                self.inner.pass(&rect, &mut at);
                done += rect.count();
            }
            number += 1;
        }
    }
}

/// So many elements are made at a time, part by part, so that what lies between those of one part is still in the cache when its turn comes.
const PIECE: usize = 1 << 15;

/// All parts, of rows of `row` elements: to every slot, as a row is nothing but the parts' places.
fn write<T: crate::Item>(slots: &mut [MaybeUninit<T>], places: &[Place<'_, T>], row: usize, mode: Mode) {
    if slots.is_empty() {
        return;
    }
    let cost = places.iter().map(|place| place.values.cost()).max().unwrap_or(0);
    let most = grain(slots.len(), 1 + cost, mode);
    let (unit, piece) = if row <= PIECE { (row, PIECE / row * row) } else { (1, PIECE) };
    in_parts(slots, 0, unit, most, &|slots, first| {
        for (number, slots) in slots.chunks_mut(piece).enumerate() {
            for place in places.iter().filter(|place| place.len > 0) {
                place.write(slots, first + number * piece, row, mode);
            }
        }
    });
}
