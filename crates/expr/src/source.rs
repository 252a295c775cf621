//! What an expression becomes when it is evaluated: a source of values, read row by row.
//!
//! A [`Source`] owns what had to be materialised below it. Its [`Reader`] only points there, so that threads can share it. A reader
//! is asked for a [`Row`] at a time, of which the compiler makes one loop over slices: the leaves know where their elements lie,
//! everything between them is arithmetic on values in registers.
//!
//! Rows are slices, always. A leaf whose elements do not lie next to each other, as after a transposition or where a size of 1
//! is stretched, copies them to a **tile** first, a piece of scratch memory that stays in the first-level cache. A leaf whose
//! memory was **taken over** for the output reads what stands there (`here`), of which a tile holds a copy as well.

use tenzor_memory::Allocator;

use crate::block::Block;
use crate::context::Context;
use crate::item::Item;
use crate::shape::{MAX_RANK, Shape, Strides};

/// The elements in a tile: large enough to hide what a row costs, and a few of them fit into the first-level cache.
pub(crate) const TILE: usize = 512;

/// Values that are ready to be read, and what was materialised for them.
pub trait Source<A: Allocator> {
    /// The elements.
    type Item: Item;
    /// What reads them.
    type Reader<'s>: Reader<Item = Self::Item>
    where
        Self: 's;

    /// Reads from here.
    fn reader(&self) -> Self::Reader<'_>;

    /// Changes how each leaf's elements are found.
    fn relayout(&mut self, change: &mut dyn FnMut(&mut Strides));

    /// Gives up memory that nobody will read any more, with the elements of this shape in order, to be written to. Reading
    /// goes on in place.
    fn take_over(&mut self, shape: &Shape) -> Option<Block<Self::Item, A>> {
        let _ = shape;
        None
    }

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

/// Reads the values of a source, from any thread.
pub trait Reader: Send + Sync {
    /// The elements.
    type Item: Item;
    /// Tiles for the leaves, for each thread.
    type Scratch: Default + Send;
    /// Whether its rows are slices of memory or of a tile.
    const IS_SLICE: bool = false;
    /// Values at hand.
    type Row<'r>: Row<Item = Self::Item>
    where
        Self: 'r;

    /// Whether `holds` for the strides of every leaf that is not read in place.
    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool;

    /// Whether something is read in place, where `here` is needed.
    fn reads_here(&self) -> bool;

    /// Whether rows along this axis may be longer than a tile.
    fn is_sliced(&self, axis: usize) -> bool;

    /// What a value costs, in additions or so.
    fn cost(&self) -> usize;

    /// `len` values from `at` on, along the axis `at.inner`. Of what is read in place, `here` is a copy.
    fn row<'r>(&'r self, scratch: &'r mut Self::Scratch, here: &'r [Self::Item], at: &At, len: usize) -> Self::Row<'r>;
}

/// Values that are at hand.
pub trait Row: Copy {
    /// The values.
    type Item: Item;

    /// The `i`-th.
    fn at(&self, i: usize) -> Self::Item;

    /// The first `len` of no fewer. Where all slices of an expression are cut to one length, its loop needs no checks.
    fn head(self, len: usize) -> Self;

    /// All of them, where they stand in memory.
    #[inline(always)]
    fn as_slice(&self) -> Option<&[Self::Item]> {
        None
    }

    /// Writes as many as there are values in their place.
    ///
    /// All loops over rows are written out, never handed over as closures: whoever hands over a closure has no word on whether it is
    /// inlined, and past some length of an expression it is not. Then it is compiled without the vectors of the kernel around
    /// it, and takes ten times as long.
    #[inline(always)]
    fn overwrite(self, values: &mut [Self::Item]) {
        let row = self.head(values.len());
        for (i, value) in values.iter_mut().enumerate() {
            *value = row.at(i);
        }
    }
}

/// A place in a shape, and the axis along which a row lies there.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub(crate) index: [usize; MAX_RANK],
    pub(crate) inner: usize,
}

impl At {
    pub(crate) const FIRST: Self = Self { index: [0; MAX_RANK], inner: MAX_RANK - 1 };

    #[inline(always)]
    pub(crate) fn offset(&self, strides: &Strides) -> usize {
        let steps = self.index.iter().zip(&strides.steps);
        let offset =
            steps.fold(0_isize, |sum, (&index, &step)| sum.wrapping_add(step.wrapping_mul(index.cast_signed())));
        strides.start.wrapping_add_signed(offset)
    }
}

/// Elements in memory.
#[derive(Debug)]
pub struct Leaf<'e, T: Item, A: Allocator> {
    pub(crate) data: Data<'e, T, A>,
    pub(crate) strides: Strides,
    /// What explanations call it.
    name: Option<Box<str>>,
}

#[derive(Debug)]
pub(crate) enum Data<'e, T: Item, A: Allocator> {
    /// The user's.
    Given(&'e [T]),
    /// Materialised.
    Own(Block<T, A>),
    /// Taken over by who reads it; the number that the block had.
    Here(usize),
}

impl<'e, T: Item, A: Allocator> Leaf<'e, T, A> {
    #[inline]
    pub(crate) fn own(block: Block<T, A>, shape: &Shape) -> Self {
        Self::placed(block, Strides::row_major(shape))
    }

    /// Materialised in another order than that of its shape.
    #[inline]
    pub(crate) fn placed(block: Block<T, A>, strides: Strides) -> Self {
        Self { data: Data::Own(block), strides, name: None }
    }

    #[inline]
    pub(crate) fn given(data: &'e [T], strides: Strides, shape: &Shape, context: &Context<A>) -> Self {
        let name = || format!("{}{shape}", T::NAME).into_boxed_str();
        Self { data: Data::Given(data), strides, name: context.is_planning().then(name) }
    }

    fn slice(&self) -> &[T] {
        match &self.data {
            Data::Given(data) => data,
            Data::Own(block) => block.as_slice(),
            Data::Here(_) => &[],
        }
    }
}

impl<T: Item, A: Allocator> Source<A> for Leaf<'_, T, A> {
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

    fn take_over(&mut self, shape: &Shape) -> Option<Block<T, A>> {
        let is_whole = |block: &Block<T, A>| block.len() == shape.elements() && self.strides.is_row_major(shape);
        let here = match &self.data {
            Data::Own(block) if is_whole(block) => Data::Here(block.id()),
            _ => return None,
        };
        match std::mem::replace(&mut self.data, here) {
            Data::Own(block) => Some(block),
            _ => None,
        }
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
            Data::Given(_) => self.name.as_deref().unwrap_or_default().to_owned(),
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

impl<'s, T> LeafReader<'s, T> {
    pub(crate) fn new(data: &'s [T], strides: &'s Strides) -> Self {
        Self { data, strides, is_here: false }
    }
}

/// Values that start with a cache line, as vectors that lie in two are read at half the speed.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Lines<T, const N: usize>(pub(crate) [T; N]);

/// A copy of elements that do not lie in a row.
#[derive(Debug)]
pub struct Tile<T>(Option<Lines<T, TILE>>);

impl<T> Default for Tile<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Item> Tile<T> {
    /// The first `len` values of a row, at most [`TILE`].
    #[inline(always)]
    pub(crate) fn fill(&mut self, len: usize, row: impl Row<Item = T>) -> &mut [T] {
        let tile = &mut self.0.get_or_insert(Lines([T::default(); TILE])).0[..len];
        row.overwrite(tile);
        tile
    }
}

impl<T: Item> Reader for LeafReader<'_, T> {
    type Item = T;
    type Scratch = Tile<T>;
    const IS_SLICE: bool = true;
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
    fn row<'r>(&'r self, scratch: &'r mut Tile<T>, here: &'r [T], at: &At, len: usize) -> RowSlice<'r, T> {
        if self.is_here {
            return RowSlice(&here[..len]);
        }
        let first = at.offset(self.strides);
        match self.strides.steps[at.inner] {
            1 => RowSlice(&self.data[first..first + len]),
            0 => RowSlice(scratch.fill(len, Same(self.data[first]))),
            step => RowSlice(scratch.fill(len, Apart { data: self.data, first, step })),
        }
    }
}

/// A row of elements.
#[derive(Clone, Copy, Debug)]
pub struct RowSlice<'r, T>(pub(crate) &'r [T]);

impl<T: Item> Row for RowSlice<'_, T> {
    type Item = T;

    #[inline(always)]
    fn at(&self, i: usize) -> T {
        self.0[i]
    }

    #[inline(always)]
    fn head(self, len: usize) -> Self {
        Self(&self.0[..len])
    }

    #[inline(always)]
    fn as_slice(&self) -> Option<&[T]> {
        Some(self.0)
    }
}

/// Elements at even distances.
#[derive(Clone, Copy, Debug)]
struct Apart<'r, T> {
    data: &'r [T],
    first: usize,
    step: isize,
}

impl<T: Item> Row for Apart<'_, T> {
    type Item = T;

    #[inline(always)]
    fn at(&self, i: usize) -> T {
        self.data[self.first.wrapping_add_signed(self.step.wrapping_mul(i.cast_signed()))]
    }

    #[inline(always)]
    fn head(self, _: usize) -> Self {
        self
    }
}

/// One value again and again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Same<T>(pub(crate) T);

impl<T: Item> Row for Same<T> {
    type Item = T;

    #[inline(always)]
    fn at(&self, _: usize) -> T {
        self.0
    }

    #[inline(always)]
    fn head(self, _: usize) -> Self {
        self
    }
}

/// The axes of a shape, or some of them, as few as all leaves permit: neighbours along which the elements of every leaf lie at
/// even distances are one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    /// The size of each, and the axis whose steps lead through it.
    groups: [(usize, usize); MAX_RANK],
    count: usize,
    /// The most values in a row.
    row: usize,
}

impl Space {
    /// That of the axes `axes` of a shape, for rows of a reader.
    pub(crate) fn new<R: Reader>(shape: &Shape, axes: std::ops::Range<usize>, reader: &R) -> Self {
        let mut space = Self::over(shape, axes, |holds| reader.all(holds));
        let (size, inner) = space.inner();
        space.row = if reader.is_sliced(inner) { size } else { size.min(TILE) };
        space
    }

    /// That of some axes of a shape, for leaves of which `all` tells whether something holds for all their strides.
    pub(crate) fn over(
        shape: &Shape,
        axes: std::ops::Range<usize>,
        all: impl Fn(&mut dyn FnMut(&Strides) -> bool) -> bool,
    ) -> Self {
        let mut space = Self { groups: [(1, axes.end.saturating_sub(1)); MAX_RANK], count: 0, row: 1 };
        for axis in axes.filter(|&axis| shape[axis] != 1) {
            let size = shape[axis];
            let outer = space.groups[..space.count].last().copied();
            let is_even = |(_, outer): (usize, usize)| {
                all(&mut |strides| strides.steps[outer] == strides.steps[axis] * size.cast_signed())
            };
            match outer.filter(|&outer| is_even(outer)) {
                Some((outer, _)) => space.groups[space.count - 1] = (outer * size, axis),
                None => {
                    space.groups[space.count] = (size, axis);
                    space.count += 1;
                }
            }
        }
        space
    }

    /// The innermost: its size, and its axis.
    pub(crate) fn inner(&self) -> (usize, usize) {
        self.groups[self.count.saturating_sub(1)]
    }

    /// Where the element number `linear` is, in the order of rows, with the other axes as in `at`.
    pub(crate) fn locate(&self, mut linear: usize, at: &mut At) {
        for &(size, axis) in self.groups[..self.count].iter().rev() {
            // Most often it is the first.
            (at.index[axis], linear) =
                if linear < size { (linear, 0) } else { (linear % size.max(1), linear / size.max(1)) };
        }
        at.inner = self.inner().1;
    }

    /// The most values that lie in one row.
    pub(crate) fn longest(&self) -> usize {
        self.row
    }

    /// How many values from `at` on lie in one row.
    #[inline(always)]
    pub(crate) fn row_at(&self, at: &At) -> usize {
        let (size, inner) = self.inner();
        // Without axes there is one value, and the index is that of other axes.
        if self.count == 0 { 1 } else { (size - at.index[inner]).min(self.row) }
    }

    /// Goes on by `len` values, at most to the end of the row.
    #[inline(always)]
    pub(crate) fn advance(&self, at: &mut At, len: usize) {
        let mut step = len;
        for &(size, axis) in self.groups[..self.count].iter().rev() {
            at.index[axis] += step;
            if at.index[axis] < size {
                return;
            }
            at.index[axis] = 0;
            step = 1;
        }
    }
}
