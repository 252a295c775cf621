//! What an expression becomes when it is evaluated: a source of values, read rectangle by rectangle.
//!
//! A [`Source`] owns what had to be materialised below it. Its [`Reader`] only points there, so that threads can share it. A reader
//! is asked for a [`Row`] at a time, of which the compiler makes one loop over slices: the leaves know where their elements lie,
//! everything between them is arithmetic on values in registers. There is one such loop for what stands between two leaves or
//! functions, in whatever way the expression is evaluated: all passes see readers as [`Values`], which hides their types.
//!
//! Rows are slices, always. A leaf whose elements do not lie next to each other, as after a transposition or where a size of 1
//! is stretched, copies them to a **tile** first, a piece of scratch memory that stays in the first-level cache. A leaf whose
//! memory was **taken over** for the output reads what stands there (`here`), of which a tile holds a copy as well.
//!
//! Unsafe code says that slots were written, after a loop over all of them.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use crate::block::{Block, Taken};
use crate::context::Context;
use crate::item::Item;
use crate::shape::{Shape, Strides};
use crate::simd::{Kernel, Level, vectorised};
use crate::slots::{copied, written};
use crate::transpose::{Across, transpose};
use crate::walk::{Layout, Rect, TILE, Walk};

/// Values that are ready to be read, and what was materialised for them.
pub trait Source {
    /// The elements.
    type Item: Item;
    /// What reads them.
    type Reader<'s>: Reader<Item = Self::Item> + 's
    where
        Self: 's;

    /// Reads from here.
    fn reader(&self) -> Self::Reader<'_>;

    /// Changes how each leaf's elements are found.
    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides));

    /// Gives up memory that nobody will read any more, with the elements of this shape in order, to be written to. Reading
    /// goes on in place.
    fn take_over(&mut self, shape: &Shape) -> Option<Taken<Self::Item>> {
        let _ = shape;
        None
    }

    /// Makes the leaves that read the tensor that is updated read in place, if all can, for the output has its elements of this shape in order.
    fn in_place(&mut self, shape: &Shape, how: InPlace) -> bool;

    /// Whether the values are just those of the memory that was taken over.
    fn is_here(&self) -> bool {
        false
    }

    /// The values themselves, where they stand in memory.
    fn leaf(&self) -> Option<LeafReader<'_, Self::Item>> {
        None
    }

    /// What is computed, in terms of what is in memory.
    fn text(&self) -> String;
}

/// What is asked of leaves; see [`Source::in_place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InPlace {
    /// Whether none reads the tensor.
    None,
    /// Whether those that do could read in place.
    Could,
    /// To do so.
    Now,
}

/// Reads the values of a source, from any thread.
pub trait Reader: Send + Sync {
    /// The elements.
    type Item: Item;
    /// Tiles for the leaves, for each thread.
    type Scratch: Default;
    /// Values at hand.
    type Row<'r>: Row<Item = Self::Item>
    where
        Self: 'r;

    /// Whether `holds` for the strides of every leaf that is not read in place.
    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool;

    /// Whether something is read in place, where `here` is needed.
    fn reads_here(&self) -> bool;

    /// Whether lines along this axis may be longer than a tile.
    fn is_sliced(&self, axis: usize) -> bool;

    /// What a value costs, in additions or so.
    fn cost(&self) -> usize;

    /// The values of a rectangle, line after line. Of what is read in place, `here` is a copy. Only single lines along an axis that
    /// [`is_sliced`](Self::is_sliced) may have more values than a tile.
    fn row<'r>(
        &'r self,
        scratch: &'r mut Self::Scratch,
        here: &'r [Self::Item],
        rect: &Rect,
        level: Level,
    ) -> Self::Row<'r>;

    /// As above, where they stand in memory next to each other.
    #[inline(always)]
    fn memory(&self, rect: &Rect) -> Option<&[Self::Item]> {
        let _ = rect;
        None
    }

    /// As above, written to `out`, which has room for just them.
    fn fill<'o>(
        &self,
        scratch: &mut Self::Scratch,
        here: &[Self::Item],
        rect: &Rect,
        level: Level,
        out: &'o mut [MaybeUninit<Self::Item>],
    ) -> &'o mut [Self::Item] {
        write_row(out, self.row(scratch, here, rect, level), level)
    }

    /// As above, where the lines begin `step` elements after each other in `out`; other elements there stay as they are. `turns`: elements lie along
    /// the other axis for all leaves.
    #[expect(clippy::too_many_arguments, reason = "as above, and two more")]
    fn fill_lines(
        &self,
        scratch: &mut Self::Scratch,
        here: &[Self::Item],
        rect: &Rect,
        level: Level,
        out: &mut [MaybeUninit<Self::Item>],
        step: usize,
        turns: bool,
    ) {
        let mut tile = Tile::<Self::Item>::default();
        if turns {
            // One transposition of the values, instead of one for each leaf.
            let values = self.fill(scratch, here, &rect.turned(), level, tile.slots(rect.count()));
            let across = Across { first: 0, step: rect.lines.cast_signed(), lines: rect.lines, len: rect.len };
            return transpose(level, values, across, out, step);
        }
        let values = self.fill(scratch, here, rect, level, tile.slots(rect.count()));
        for (line, values) in values.chunks_exact(rect.len).enumerate() {
            copied(&mut out[line * step..][..rect.len], values);
        }
    }
}

/// Values that are at hand.
pub trait Row: Copy {
    /// The values.
    type Item: Item;

    /// Whether all values are one number; and whether such numbers can make operations [faster](crate::ops::BinaryOp::faster).
    const IS_NUMBER: bool = false;
    const HAS_FASTER: bool = false;

    /// Whether all those do.
    fn is_faster(&self) -> bool {
        true
    }

    /// The `i`-th. `FASTER`: [`is_faster`](Self::is_faster).
    fn at<const FASTER: bool>(&self, i: usize) -> Self::Item;

    /// The first `len` of no fewer. Where all slices of an expression are cut to one length, its loop needs no checks.
    fn head(self, len: usize) -> Self;
}

/// Writes a value of a row to each slot: **the** loop of all element-wise expressions, compiled for every level of vectors.
///
/// It is written out, never handed over as a closure: whoever hands over a closure has no word on whether it is inlined, and past some
/// length of an expression it is not. Then it is compiled without the vectors of the kernel around it, and takes ten times as long.
#[inline(always)]
pub(crate) fn write_row<R: Row>(out: &mut [MaybeUninit<R::Item>], row: R, level: Level) -> &mut [R::Item] {
    struct Write<'o, R: Row> {
        out: &'o mut [MaybeUninit<R::Item>],
        row: R,
    }

    impl<R: Row> Kernel for Write<'_, R> {
        type Output = ();

        #[inline(always)]
        fn run<const FUSED: bool>(self) {
            let row = self.row.head(self.out.len());
            if R::HAS_FASTER && row.is_faster() {
                for (i, slot) in self.out.iter_mut().enumerate() {
                    slot.write(row.at::<true>(i));
                }
                return;
            }
            for (i, slot) in self.out.iter_mut().enumerate() {
                slot.write(row.at::<false>(i));
            }
        }
    }

    vectorised(level, Write { out, row });
    // SAFETY: either loop wrote to every slot.
    unsafe { written(out) }
}

/// The values of an expression, whatever its type: what passes over memory see.
pub(crate) trait Values<T>: Layout + Send + Sync {
    /// See [`Reader::reads_here`].
    fn reads_here(&self) -> bool;
    /// See [`Reader::cost`].
    fn cost(&self) -> usize;
    /// See [`Reader::memory`].
    fn memory(&self, rect: &Rect) -> Option<&[T]>;
    /// See [`Reader::fill`].
    fn fill<'o>(&self, here: &[T], rect: &Rect, level: Level, out: &'o mut [MaybeUninit<T>]) -> &'o mut [T];

    /// Writes the values of a walk to `out`, which has room for just them.
    ///
    /// # Safety
    /// Where something is read in place, `out` is initialised.
    unsafe fn fill_all<'o>(&self, walk: &Walk, level: Level, out: &'o mut [MaybeUninit<T>]) -> &'o mut [T];
}

impl<T: Item> dyn Values<T> + '_ {
    /// The values of a rectangle where they stand in memory, or else in a tile.
    #[inline]
    pub(crate) fn read<'t>(&'t self, here: &[T], rect: &Rect, level: Level, tile: &'t mut Tile<T>) -> &'t [T] {
        match self.memory(rect) {
            Some(values) => values,
            None => self.fill(here, rect, level, tile.slots(rect.count())),
        }
    }
}

impl<R: Reader> Layout for R {
    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool {
        Reader::all(self, holds)
    }

    fn is_sliced(&self, axis: usize) -> bool {
        Reader::is_sliced(self, axis)
    }
}

impl<R: Reader> Values<R::Item> for R {
    fn reads_here(&self) -> bool {
        Reader::reads_here(self)
    }

    fn cost(&self) -> usize {
        Reader::cost(self)
    }

    fn memory(&self, rect: &Rect) -> Option<&[R::Item]> {
        Reader::memory(self, rect)
    }

    fn fill<'o>(
        &self,
        here: &[R::Item],
        rect: &Rect,
        level: Level,
        out: &'o mut [MaybeUninit<R::Item>],
    ) -> &'o mut [R::Item] {
        Reader::fill(self, &mut R::Scratch::default(), here, rect, level, out)
    }

    unsafe fn fill_all<'o>(&self, walk: &Walk, level: Level, out: &'o mut [MaybeUninit<R::Item>]) -> &'o mut [R::Item] {
        let mut scratch = R::Scratch::default();
        let mut copy: Tile<R::Item> = Tile::default();
        let (reads_here, step) = (Reader::reads_here(self), walk.step());
        let turns = walk.turns() && !reads_here;
        for (rect, first) in walk.rects() {
            let here = if reads_here {
                // SAFETY: it is initialised, as the caller says: what is read in place is not read before.
                unsafe { copy.gather_from(out, first, step, &rect) }
            } else {
                &[]
            };
            if rect.lines == 1 || step == rect.len && !turns {
                Reader::fill(self, &mut scratch, here, &rect, level, &mut out[first..first + rect.count()]);
                continue;
            }
            Reader::fill_lines(self, &mut scratch, here, &rect, level, &mut out[first..], step, turns);
        }
        // SAFETY: the rectangles of a walk have all its elements.
        unsafe { written(out) }
    }
}

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
    Given(&'e [T]),
    /// Materialised.
    Own(Block<'e, T>),
    /// Those of the tensor that is updated.
    Current(&'e [T]),
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
    pub(crate) fn given(data: &'e [T], strides: Strides, shape: &Shape, to: &Shape, context: &Context) -> Self {
        let name = context.name_of(data, shape, &strides);
        Self { data: Data::Given(data), strides: strides.stretched(shape, to), name }
    }

    #[inline]
    pub(crate) fn current(data: &'e [T], shape: &Shape, to: &Shape, context: &Context<'_>) -> Self {
        let given = Self::given(data, Strides::row_major(shape), shape, to, context);
        Self { data: Data::Current(data), ..given }
    }

    fn slice(&self) -> &[T] {
        match &self.data {
            Data::Given(data) | Data::Current(data) => data,
            Data::Own(block) => block.as_slice(),
            Data::Here(_) => &[],
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
        LeafReader { data: self.slice(), strides: &self.strides, is_here: self.is_here() }
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
    pub(crate) data: &'s [T],
    pub(crate) strides: &'s Strides,
    is_here: bool,
}

impl<'s, T: Item> LeafReader<'s, T> {
    pub(crate) fn new(data: &'s [T], strides: &'s Strides) -> Self {
        Self { data, strides, is_here: false }
    }

    /// The elements of a rectangle, if they lie next to each other.
    #[inline(always)]
    fn slice(&self, rect: &Rect) -> Option<&'s [T]> {
        let (across, down) = (self.strides.steps[rect.across], self.strides.steps[rect.down]);
        let is_line = across == 1 || rect.len == 1;
        if !is_line || rect.lines > 1 && down != rect.len.cast_signed() {
            return None;
        }
        let first = rect.offset(self.strides);
        Some(&self.data[first..first + rect.count()])
    }

    /// The lines of a rectangle, where they lie across memory, next to each other.
    #[inline(always)]
    fn across(&self, rect: &Rect) -> Option<Across> {
        let (step, down) = (self.strides.steps[rect.across], self.strides.steps[rect.down]);
        let &Rect { lines, len, .. } = rect;
        let is_across = lines > 1 && len > 1 && down == 1 && !matches!(step, 0 | 1);
        is_across.then(|| Across { first: rect.offset(self.strides), step, lines, len })
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

/// Values that start with a cache line, as vectors that lie in two are read at half the speed.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Lines<T, const N: usize>(pub(crate) [T; N]);

/// Memory for some values.
#[derive(Debug)]
pub struct Tile<T, const N: usize = TILE>(Lines<MaybeUninit<T>, N>);

impl<T, const N: usize> Default for Tile<T, N> {
    #[inline(always)]
    fn default() -> Self {
        Self(Lines([const { MaybeUninit::uninit() }; N]))
    }
}

impl<T: Item, const N: usize> Tile<T, N> {
    /// For `len` values.
    #[inline(always)]
    pub(crate) fn slots(&mut self, len: usize) -> &mut [MaybeUninit<T>] {
        &mut self.0.0[..len]
    }

    /// `len` times the same value.
    #[inline(always)]
    pub(crate) fn filled(&mut self, len: usize, value: T) -> &mut [T] {
        let slots = self.slots(len);
        for slot in &mut *slots {
            slot.write(value);
        }
        // SAFETY: the loop wrote to each.
        unsafe { written(slots) }
    }

    /// A copy of the values of a rectangle in an output.
    ///
    /// # Safety
    /// They are initialised.
    unsafe fn gather_from(&mut self, out: &[MaybeUninit<T>], first: usize, step: usize, rect: &Rect) -> &[T] {
        let slots = self.slots(rect.count());
        for (line, slots) in slots.chunks_exact_mut(rect.len).enumerate() {
            slots.copy_from_slice(&out[first + line * step..][..rect.len]);
        }
        // SAFETY: all are copies of what is initialised.
        unsafe { written(slots) }
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

    fn is_sliced(&self, axis: usize) -> bool {
        !self.is_here && self.strides.steps[axis] == 1
    }

    fn cost(&self) -> usize {
        1
    }

    #[inline(always)]
    fn row<'r>(&'r self, scratch: &'r mut Tile<T>, here: &'r [T], rect: &Rect, level: Level) -> RowSlice<'r, T> {
        if self.is_here {
            return RowSlice(here);
        }
        RowSlice(match self.slice(rect) {
            Some(slice) => slice,
            None => self.copy(rect, level, scratch.slots(rect.count())),
        })
    }

    #[inline(always)]
    fn memory(&self, rect: &Rect) -> Option<&[T]> {
        if self.is_here { None } else { self.slice(rect) }
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
        match self.slice(rect) {
            Some(slice) => copied(out, slice),
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
        let Strides { steps, .. } = self.strides;
        if !self.is_here && steps[rect.across] == 1 {
            let first = rect.offset(self.strides);
            for line in 0..rect.lines {
                let from = first.wrapping_add_signed(steps[rect.down].wrapping_mul(line.cast_signed()));
                copied(&mut out[line * step..], &self.data[from..][..rect.len]);
            }
            return;
        }
        let values = self.row(scratch, here, rect, level).0;
        for (line, values) in values.chunks_exact(rect.len).enumerate() {
            copied(&mut out[line * step..], values);
        }
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
        let Self { leaf: LeafReader { data, strides, .. }, rect, out } = self;
        let (across, down) = (strides.steps[rect.across], strides.steps[rect.down]);
        let (lines, len, first) = (rect.lines, rect.len, rect.offset(strides));
        debug_assert_eq!(out.len(), lines * len);
        let at = |line: usize, i: usize| {
            let steps = down.wrapping_mul(line.cast_signed()).wrapping_add(across.wrapping_mul(i.cast_signed()));
            first.wrapping_add_signed(steps)
        };
        let line = |line: usize, slots: &mut [MaybeUninit<T>]| match across {
            1 => {
                let values = &data[at(line, 0)..][..len];
                for (slot, &value) in slots.iter_mut().zip(values) {
                    slot.write(value);
                }
            }
            0 => {
                let value = data[at(line, 0)];
                for slot in slots {
                    slot.write(value);
                }
            }
            _ => {
                for (i, slot) in slots.iter_mut().enumerate() {
                    slot.write(data[at(line, i)]);
                }
            }
        };
        if lines > 1 && down == 0 {
            // The same line again and again: twice as many each time.
            line(0, &mut out[..len]);
            let mut done = len;
            while done < out.len() {
                let (written, rest) = out.split_at_mut(done);
                let more = done.min(rest.len());
                rest[..more].copy_from_slice(&written[..more]);
                done += more;
            }
        } else if lines > 1 && down == 1 && across == 0 {
            let values = &data[first..][..lines];
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
                line(i, slots);
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

/// A row of elements.
#[derive(Clone, Copy, Debug)]
pub struct RowSlice<'r, T>(pub(crate) &'r [T]);

impl<T: Item> Row for RowSlice<'_, T> {
    type Item = T;

    #[inline(always)]
    fn at<const FASTER: bool>(&self, i: usize) -> T {
        self.0[i]
    }

    #[inline(always)]
    fn head(self, len: usize) -> Self {
        Self(&self.0[..len])
    }
}
