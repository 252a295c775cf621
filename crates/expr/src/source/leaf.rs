//! Elements in memory, and how they are read.
//!
//! Unsafe code says that slots were written, after a loop over all of them.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use super::{InPlace, Reader, RowSlice, Source, Tile, filled, write_lines};
use crate::block::{Block, Taken};
use crate::context::Context;
use crate::elements::Elements;
use crate::item::Item;
use crate::shape::{Shape, Strides};
use crate::simd::{Kernel, Level, vectorised};
use crate::slots::{copied, written};
use crate::transpose::{Across, transpose};
use crate::walk::{COPY, LONE, PIECE, Rect, TILE};

/// Elements in memory.
#[derive(Debug)]
pub struct Leaf<'e, T: Item> {
    data: Data<'e, T>,
    strides: Strides,
    /// What explanations call it.
    name: Option<Box<str>>,
}

#[derive(Debug)]
enum Data<'e, T: Item> {
    /// The user's.
    Given(Elements<'e, T>),
    /// Materialised.
    Own(Block<'e, T>),
    /// Those of the tensor that is updated.
    Current(Elements<'e, T>),
    /// Taken over by who reads it; the number that the block had.
    Here(usize),
}

impl<'e, T: Item> Leaf<'e, T> {
    /// Materialised elements of a shape in its order, stretched to another.
    #[inline]
    pub(crate) fn own(block: Block<'e, T>, shape: &Shape, to: &Shape) -> Self {
        Self::placed(block, Strides::row_major(shape), shape, to)
    }

    /// As above, in another order than that of their shape.
    #[inline]
    pub(crate) fn placed(block: Block<'e, T>, strides: Strides, shape: &Shape, to: &Shape) -> Self {
        Self { data: Data::Own(block), strides: strides.stretched(shape, to), name: None }
    }

    #[inline]
    pub(crate) fn given(data: Elements<'e, T>, strides: Strides, shape: &Shape, to: &Shape, context: &Context) -> Self {
        let name = context.name_of(data.as_ptr(), shape, &strides);
        Self { data: Data::Given(data), strides: strides.stretched(shape, to), name }
    }

    #[inline]
    pub(crate) fn current(data: Elements<'e, T>, shape: &Shape, to: &Shape, context: &Context<'_>) -> Self {
        let given = Self::given(data, Strides::row_major(shape), shape, to, context);
        Self { data: Data::Current(data), ..given }
    }

    fn elements(&self) -> Elements<'_, T> {
        match &self.data {
            Data::Given(data) | Data::Current(data) => *data,
            Data::Own(block) => block.as_slice().into(),
            Data::Here(_) => Elements::from(&[][..]),
        }
    }
}

impl<'e, T: Item> Source for Leaf<'e, T> {
    type Item = T;
    type Reader<'s>
        = LeafReader<'s, T>
    where
        Self: 's;

    fn reader(&self) -> LeafReader<'_, T> {
        LeafReader { data: self.elements(), strides: &self.strides, is_here: self.is_here() }
    }

    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides)) {
        change(&mut self.strides);
    }

    fn take_over(&mut self, shape: &Shape) -> Option<Taken<T>> {
        let is_whole = |block: &Block<'_, T>| block.len() == shape.elements() && self.strides.is_row_major(shape);
        let here = match &self.data {
            Data::Own(block) if is_whole(block) => Data::Here(block.id()),
            _ => return None,
        };
        match std::mem::replace(&mut self.data, here) {
            Data::Own(block) => Some(block.take()),
            _ => None,
        }
    }

    fn in_place(&mut self, shape: &Shape, how: InPlace) -> bool {
        let Data::Current(data) = self.data else { return true };
        let could = how != InPlace::None && data.len() == shape.elements() && self.strides.is_row_major(shape);
        if could && how == InPlace::Now {
            self.data = Data::Here(0);
        }
        could
    }

    fn is_here(&self) -> bool {
        matches!(self.data, Data::Here(_))
    }

    fn leaf(&self) -> Option<LeafReader<'_, T>> {
        Some(self.reader())
    }

    fn text(&self) -> String {
        match &self.data {
            Data::Own(block) => format!("%{}", block.id()),
            Data::Here(id) => format!("%{id}"),
            Data::Given(_) | Data::Current(_) => self.name.as_deref().unwrap_or_default().to_owned(),
        }
    }
}

/// Reads elements in memory.
#[derive(Clone, Copy, Debug)]
pub struct LeafReader<'s, T> {
    pub(crate) data: Elements<'s, T>,
    pub(crate) strides: &'s Strides,
    is_here: bool,
}

impl<'s, T: Item> LeafReader<'s, T> {
    pub(crate) fn new(data: Elements<'s, T>, strides: &'s Strides) -> Self {
        Self { data, strides, is_here: false }
    }

    /// The lines of a rectangle, if each lies in one piece.
    #[inline(always)]
    fn lines(&self, rect: &Rect) -> Option<RowSlice<'s, T>> {
        let (across, down) = (self.strides.steps[rect.across], self.strides.steps[rect.down]);
        let is_line = across == 1 || rect.len == 1;
        // SAFETY: a rectangle has elements alone.
        is_line.then(|| unsafe { RowSlice::of(self.data, rect.offset(self.strides), down, rect.lines, rect.len) })
    }

    /// The lines of a rectangle, where they lie across memory, next to each other.
    #[inline(always)]
    fn across(&self, rect: &Rect) -> Option<Across> {
        let (step, down) = (self.strides.steps[rect.across], self.strides.steps[rect.down]);
        let &Rect { lines, len, .. } = rect;
        let is_across = lines > 1 && len > 1 && down == 1 && !matches!(step, 0 | 1);
        is_across.then(|| Across { first: rect.offset(self.strides), step, lines, len })
    }

    /// Copies elements that are `step` places from each other.
    #[inline(always)]
    fn gather(&self, first: usize, step: isize, out: &mut [MaybeUninit<T>]) {
        match step {
            1 => {
                // SAFETY: a rectangle has elements alone.
                let values = unsafe { self.data.range(first, out.len()) };
                for (slot, &value) in out.iter_mut().zip(values) {
                    slot.write(value);
                }
            }
            0 => {
                // SAFETY: as above.
                let value = *unsafe { self.data.at(first) };
                for slot in out {
                    slot.write(value);
                }
            }
            _ => {
                // SAFETY: as above.
                let values = unsafe { self.data.line(first, step, out.len()) };
                for (slot, &value) in out.iter_mut().zip(values) {
                    slot.write(value);
                }
            }
        }
    }

    /// Copies the elements of a rectangle.
    #[inline(always)]
    fn copy<'o>(&self, rect: &Rect, level: Level, out: &'o mut [MaybeUninit<T>]) -> &'o mut [T] {
        match self.across(rect) {
            Some(across) => transpose(level, self.data, across, out, rect.len),
            None => vectorised(level, Gather { leaf: *self, rect, out }),
        }
        // SAFETY: a gathering writes to each slot.
        unsafe { written(out) }
    }
}

impl<T: Item> Reader for LeafReader<'_, T> {
    type Item = T;
    type Scratch = Tile<T>;
    type Row<'r>
        = RowSlice<'r, T>
    where
        Self: 'r;

    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        self.is_here || holds(self.strides)
    }

    fn reads_here(&self) -> bool {
        self.is_here
    }

    fn longest(&self, axis: usize, pieces: bool) -> usize {
        match self.strides.steps[axis] {
            _ if self.is_here => COPY,
            0 if pieces => usize::MAX,
            1 => usize::MAX,
            _ => TILE,
        }
    }

    fn cost(&self) -> usize {
        1
    }

    #[inline(always)]
    fn row<'r>(
        &'r self,
        scratch: &'r mut Tile<T>,
        here: &'r [T],
        rect: &Rect,
        level: Level,
        pieces: bool,
    ) -> RowSlice<'r, T> {
        if self.is_here {
            return RowSlice::new(here, rect);
        }
        if pieces && rect.len >= PIECE && self.strides.steps[rect.across] == 0 {
            let (first, down) = (rect.offset(self.strides), self.strides.steps[rect.down]);
            // SAFETY: a rectangle has elements alone.
            return unsafe { RowSlice::stretched(self.data, first, down, rect.lines, rect.len, scratch.piece()) };
        }
        match self.lines(rect) {
            Some(lines) if rect.len >= LONE => lines,
            Some(lines) if lines.as_slice().is_some() => lines,
            _ => RowSlice::new(self.copy(rect, level, scratch.slots(rect.count())), rect),
        }
    }

    #[inline(always)]
    fn memory(&self, rect: &Rect) -> Option<&[T]> {
        if self.is_here { None } else { self.lines(rect)?.as_slice() }
    }

    #[inline(always)]
    fn fill<'o>(
        &self,
        _: &mut Tile<T>,
        here: &[T],
        rect: &Rect,
        level: Level,
        out: &'o mut [MaybeUninit<T>],
    ) -> &'o mut [T] {
        if self.is_here {
            return copied(out, here);
        }
        match self.lines(rect) {
            Some(lines) => filled(out, rect, lines, level),
            None => self.copy(rect, level, out),
        }
    }

    fn fill_lines(
        &self,
        scratch: &mut Tile<T>,
        here: &[T],
        rect: &Rect,
        level: Level,
        out: &mut [MaybeUninit<T>],
        step: usize,
        _: bool,
    ) {
        if !self.is_here
            && let Some(across) = self.across(rect)
        {
            return transpose(level, self.data, across, out, step);
        }
        let lines = if self.is_here { None } else { self.lines(rect) };
        let row = lines.unwrap_or_else(|| self.row(scratch, here, rect, level, true));
        write_lines(out, step, (rect.lines, rect.len), row, level);
    }
}

/// Copies the elements of a rectangle that do not lie next to each other.
struct Gather<'s, 'o, T> {
    leaf: LeafReader<'s, T>,
    rect: &'s Rect,
    out: &'o mut [MaybeUninit<T>],
}

impl<T: Item> Kernel for Gather<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { leaf, rect, out } = self;
        let LeafReader { data, strides, .. } = leaf;
        let (across, down) = (strides.steps[rect.across], strides.steps[rect.down]);
        let (lines, len, first) = (rect.lines, rect.len, rect.offset(strides));
        debug_assert_eq!(out.len(), lines * len);
        if lines > 1 && down == 0 {
            // The same line again and again: twice as many each time.
            leaf.gather(first, across, &mut out[..len]);
            let mut done = len;
            while done < out.len() {
                let (written, rest) = out.split_at_mut(done);
                let more = done.min(rest.len());
                rest[..more].copy_from_slice(&written[..more]);
                done += more;
            }
        } else if lines > 1 && down == 1 && across == 0 {
            // SAFETY: as above.
            let values = unsafe { data.range(first, lines) };
            match len {
                2 => repeat::<T, 2>(values, out),
                3 => repeat::<T, 3>(values, out),
                4 => repeat::<T, 4>(values, out),
                _ => {
                    for (slots, &value) in out.chunks_exact_mut(len).zip(values) {
                        slots.fill(MaybeUninit::new(value));
                    }
                }
            }
        } else {
            for (i, slots) in out.chunks_exact_mut(len).enumerate() {
                leaf.gather(first.wrapping_add_signed(down.wrapping_mul(i.cast_signed())), across, slots);
            }
        }
    }
}

/// Each value so many times.
#[inline(always)]
fn repeat<T: Item, const TIMES: usize>(values: &[T], out: &mut [MaybeUninit<T>]) {
    for (slots, &value) in out.as_chunks_mut::<TIMES>().0.iter_mut().zip(values) {
        *slots = [MaybeUninit::new(value); TIMES];
    }
}
