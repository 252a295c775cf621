//! The order in which passes go over the elements of a shape.
//!
//! Axes are merged where all leaves permit. A pass goes on by [`Rect`]s: some elements in a row, or some short rows at once, so that what a step costs
//! is shared by many elements.

use crate::shape::{MAX_RANK, Shape, Strides};

/// The elements in a tile: large enough to hide what a row costs, and a few of them fit into the first-level cache.
pub(crate) const TILE: usize = 512;

/// The most elements of which there is a copy to be read while others are written in their place.
pub(crate) const COPY: usize = 4 * TILE;

/// The most elements of lines that are [turned](Walk::turns).
pub(crate) const TURNED: usize = 4 * TILE;

/// How the leaves of an expression lie in memory.
pub(crate) trait Layout {
    /// Whether `holds` for the strides of every leaf that is not read in place.
    fn all(&self, holds: &mut dyn FnMut(&Strides) -> bool) -> bool;

    /// How many elements can be read at once in lines along this axis that are no shorter than [`LONE`], or, in `pieces`, than [`PIECE`].
    fn longest(&self, axis: usize, pieces: bool) -> usize;
}

/// Some lines of elements: from a place in a shape on, along two of its axes.
#[derive(Clone, Copy, Debug)]
pub struct Rect {
    /// Of the first element, by axis.
    pub(crate) index: [usize; MAX_RANK],
    /// The axis along which the lines follow each other, and that of each.
    pub(crate) down: usize,
    pub(crate) across: usize,
    pub(crate) lines: usize,
    /// The elements of each line.
    pub(crate) len: usize,
}

impl Rect {
    /// The elements.
    #[inline(always)]
    pub(crate) fn count(&self) -> usize {
        self.lines * self.len
    }

    /// The same elements, line by line along the other axis.
    #[inline(always)]
    pub(crate) fn turned(&self) -> Self {
        Self { down: self.across, across: self.down, lines: self.len, len: self.lines, ..*self }
    }

    /// Where the first element lies.
    #[inline(always)]
    pub(crate) fn offset(&self, strides: &Strides) -> usize {
        offset(&self.index, strides)
    }
}

/// Where the element of an index lies.
#[inline(always)]
pub(crate) fn offset(index: &[usize; MAX_RANK], strides: &Strides) -> usize {
    let steps = index.iter().zip(&strides.steps);
    let offset = steps.fold(0_isize, |sum, (&index, &step)| sum.wrapping_add(step.wrapping_mul(index.cast_signed())));
    strides.start.wrapping_add_signed(offset)
}

/// An axis, or neighbours along which the elements of every leaf lie at even distances: the last of them leads through all.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    axis: usize,
    size: usize,
}

/// The axes of a shape, or some of them, in as few groups as all leaves permit.
#[derive(Clone, Copy, Debug)]
struct Groups {
    groups: [Group; MAX_RANK],
    count: usize,
}

impl Groups {
    fn new(
        shape: &Shape,
        axes: std::ops::Range<usize>,
        all: impl Fn(&mut dyn FnMut(&Strides) -> bool) -> bool,
    ) -> Self {
        let mut this = Self { groups: [Group { axis: axes.end.saturating_sub(1), size: 1 }; MAX_RANK], count: 0 };
        for axis in axes.filter(|&axis| shape[axis] != 1) {
            let size = shape[axis];
            let is_even = |outer: usize| {
                all(&mut |strides| strides.steps[outer] == strides.steps[axis].wrapping_mul(size.cast_signed()))
            };
            match this.groups[..this.count].last_mut() {
                Some(outer) if is_even(outer.axis) => *outer = Group { axis, size: outer.size * size },
                _ => {
                    this.groups[this.count] = Group { axis, size };
                    this.count += 1;
                }
            }
        }
        this
    }

    /// One element, where there are no axes.
    fn inner(&self) -> Group {
        self.groups[self.count.saturating_sub(1)]
    }
}

/// Elements in the order of a shape, or of some of its axes, by their numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    groups: Groups,
    /// The most elements in a line.
    longest: usize,
}

impl Space {
    /// That of the axes `axes` of a shape.
    pub(crate) fn new(shape: &Shape, axes: std::ops::Range<usize>, values: &dyn Layout) -> Self {
        let groups = Groups::new(shape, axes, |holds| values.all(holds));
        let Group { axis, size } = groups.inner();
        Self { groups, longest: size.min(values.longest(axis, false)) }
    }

    /// For leaves of which `all` tells whether something holds for all their strides.
    pub(crate) fn over(
        shape: &Shape,
        axes: std::ops::Range<usize>,
        all: impl Fn(&mut dyn FnMut(&Strides) -> bool) -> bool,
    ) -> Self {
        let groups = Groups::new(shape, axes, all);
        Self { longest: groups.inner().size, groups }
    }

    /// The innermost axis, and its size.
    pub(crate) fn inner(&self) -> (usize, usize) {
        let Group { axis, size } = self.groups.inner();
        (axis, size)
    }

    /// Goes to the element number `linear`. Other axes stay.
    pub(crate) fn locate(&self, mut linear: usize, index: &mut [usize; MAX_RANK]) {
        for &Group { axis, size } in self.groups.groups[..self.groups.count].iter().rev() {
            // Most often it is the first.
            (index[axis], linear) =
                if linear < size { (linear, 0) } else { (linear % size.max(1), linear / size.max(1)) };
        }
    }

    /// The elements from an index on, in order, at most so many.
    pub(crate) fn rect(&self, index: &[usize; MAX_RANK], most: usize) -> Rect {
        let Groups { groups, count } = &self.groups;
        let Group { axis, size } = self.groups.inner();
        // Without axes there is one element, and the index is that of other axes.
        let left = if *count == 0 { 1 } else { size - index[axis] };
        let len = left.min(most).min(self.longest);
        let mut rect = Rect { index: *index, down: axis, across: axis, lines: 1, len };
        if *count > 1 && len == size && 2 * size <= TILE.min(most) {
            let Group { axis, size } = groups[count - 2];
            rect.down = axis;
            rect.lines = (size - index[axis]).min(TILE.min(most) / len);
        }
        rect
    }

    /// Goes on behind the elements of a rectangle that came of [`rect`](Self::rect).
    #[inline(always)]
    pub(crate) fn pass(&self, rect: &Rect, index: &mut [usize; MAX_RANK]) {
        self.advance(index, rect.count());
    }

    /// Goes on by so many elements: to the end of a line, or by whole ones.
    #[inline(always)]
    pub(crate) fn advance(&self, index: &mut [usize; MAX_RANK], mut by: usize) {
        for &Group { axis, size } in self.groups.groups[..self.groups.count].iter().rev() {
            index[axis] += by;
            if index[axis] < size {
                return;
            }
            by = index[axis] / size.max(1);
            index[axis] %= size.max(1);
        }
    }
}

/// A walk over all elements of a shape, or over those that follow each other in its order, in the order that suits memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    groups: Groups,
    /// The first index along each group, and how far its elements are from each other in the order of the shape.
    starts: [usize; MAX_RANK],
    steps: [usize; MAX_RANK],
    /// The group along which lines follow each other, and the most lines and elements of a line at once.
    down: usize,
    lines: usize,
    len: usize,
    /// Whether for all leaves elements lie rather along `down`.
    turns: bool,
}

/// Lines of no more elements are taken on together.
const SHORT: usize = TILE / 2;

/// Lines of fewer elements are copied where they do not lie next to each other, so that a loop goes through all of them.
pub(crate) const LONE: usize = 16;

/// Lines of one value each are read by as many, of which there is no copy for a whole line then.
pub(crate) const PIECE: usize = 64;

/// A part begins with a multiple of so many elements, so that no cache line is written by two threads.
const ALIGNED: usize = 64;

/// The cache lines along which elements are read that are turned.
const WIDE: usize = 4;

impl Walk {
    /// For elements of type `T`.
    pub(crate) fn new<T>(shape: &Shape, values: &dyn Layout) -> Self {
        let groups = Groups::new(shape, 0..shape.rank(), |holds| values.all(holds));
        let Groups { groups: all, count } = groups;
        let mut steps = [1; MAX_RANK];
        for place in (0..count.saturating_sub(1)).rev() {
            steps[place] = steps[place + 1] * all[place + 1].size.max(1);
        }
        let inner = groups.inner();
        let last = count.saturating_sub(1);
        let longest = if inner.size < LONE { TILE } else { values.longest(inner.axis, inner.size >= PIECE) };
        let row = inner.size.min(longest);
        let mut walk =
            Self { groups, starts: [0; MAX_RANK], steps, down: last, lines: 1, len: row.max(1), turns: false };
        if let Some(down) = Self::conflicting(&groups, values) {
            walk.turns = values.all(&mut |strides| matches!(strides.steps[all[down].axis], 0 | 1));
            // As many lines as there are elements in a cache line, of which each is read once then. In several, where values of several tensors are computed
            // along that: what a line costs for each of them is shared by more.
            let size = all[down].size;
            let is_wide = walk.turns && size >= LONE && values.longest(all[down].axis, false) == usize::MAX && {
                let mut leaves = 0;
                values.all(&mut |_| {
                    leaves += 1;
                    true
                });
                leaves > 1
            };
            let (wide, most, longest) = if is_wide { (WIDE, TURNED, TILE / LONE) } else { (1, TILE, TILE) };
            walk.lines = size.min(wide * 64 / size_of::<T>().max(1)).max(1);
            // Even of the fewest lines that are left, which are copied if they are short, there are no more than a tile has.
            walk.len = inner.size.min(most / walk.lines).min(longest).max(1);
            walk.down = down;
        } else if count > 1 && (longest == usize::MAX || inner.size <= SHORT) {
            walk.len = inner.size.max(1);
            // The next axis, or a longer one, if it is too short to fill a tile, or to share what a rectangle costs.
            let wanted = if longest == usize::MAX { 8 } else { TILE / walk.len };
            walk.down = (0..last).rev().max_by_key(|&place| (all[place].size.min(wanted), place)).unwrap_or(last);
            walk.lines = all[walk.down].size.min(longest / walk.len).max(1);
        }
        walk
    }

    /// The group along which a leaf's elements lie next to each other, where they do not along the innermost one.
    fn conflicting(Groups { groups, count }: &Groups, values: &dyn Layout) -> Option<usize> {
        let mut found = None;
        let (inner, outer) = groups[..*count].split_last()?;
        values.all(&mut |strides| {
            if !matches!(strides.steps[inner.axis], 0 | 1) {
                let is_next = |group: &Group| group.size >= 4 && strides.steps[group.axis] == 1;
                found = found.or(outer.iter().position(is_next));
            }
            true
        });
        found
    }

    /// The elements.
    pub(crate) fn elements(&self) -> usize {
        self.groups.groups[..self.groups.count].iter().map(|group| group.size).product()
    }

    /// Two walks, of the elements before one and from there on, and how many the first has: whole rows of `row`, the elements along the last axes of the
    /// shape. None if they are too few.
    pub(crate) fn split(&self, row: usize) -> Option<(Self, Self, usize)> {
        let Groups { groups, count } = &self.groups;
        let place = groups[..*count].iter().position(|group| group.size > 1)?;
        let size = groups[place].size;
        let unit = match () {
            // Both are the elements along some last axes.
            () if row > self.steps[place] => row / self.steps[place],
            () if place + 1 == *count => ALIGNED,
            () if place == self.down => self.lines.min((TILE / self.len).max(1)),
            () => 1,
        };
        let middle = (size / 2).next_multiple_of(unit);
        if middle >= size {
            return None;
        }
        let (mut left, mut right) = (*self, *self);
        left.groups.groups[place].size = middle;
        right.groups.groups[place].size = size - middle;
        right.starts[place] += middle;
        Some((left, right, middle * self.steps[place]))
    }

    /// All elements, in rectangles, each with the number of its first one among them.
    pub(crate) fn rects(&self) -> Rects<'_> {
        let Groups { groups, count } = &self.groups;
        let (inner, down) = (groups[count.saturating_sub(1)], groups[self.down]);
        let mut rect = Rect { index: [0; MAX_RANK], down: down.axis, across: inner.axis, lines: 1, len: 1 };
        for (group, &start) in groups[..*count].iter().zip(&self.starts) {
            rect.index[group.axis] = start;
        }
        if *count > 0 {
            rect.len = self.len.min(inner.size);
            rect.lines = self.lines.min(down.size);
        }
        Rects { walk: self, rect, first: 0, is_left: self.elements() > 0 }
    }

    /// Whether rectangles are better read [turned](Rect::turned), and their values transposed.
    #[inline(always)]
    pub(crate) fn turns(&self) -> bool {
        self.turns
    }

    /// How far the lines of a rectangle are from each other in the order of the shape.
    #[inline(always)]
    pub(crate) fn step(&self) -> usize {
        self.steps[self.down]
    }
}

/// See [`Walk::rects`].
pub(crate) struct Rects<'w> {
    walk: &'w Walk,
    /// The next one, and the number of its first element.
    rect: Rect,
    first: usize,
    is_left: bool,
}

impl Rects<'_> {
    /// Goes on along a group, or back to its beginning. How many indices are left there then, if it went on.
    #[inline(always)]
    fn go_on(&mut self, place: usize, by: usize) -> Option<usize> {
        let Group { axis, size } = self.walk.groups.groups[place];
        let (start, step) = (self.walk.starts[place], self.walk.steps[place]);
        let next = self.rect.index[axis] + by;
        let left = (start + size).checked_sub(next).filter(|&left| left > 0);
        if left.is_some() {
            self.rect.index[axis] = next;
            self.first += by * step;
        } else {
            self.first -= (self.rect.index[axis] - start) * step;
            self.rect.index[axis] = start;
        }
        left
    }

    /// Goes on to the next one: along the innermost group first, then along that of the lines, then along the others.
    #[inline(always)]
    fn advance(&mut self) -> bool {
        let Walk { groups: Groups { groups, count }, down, lines, len, .. } = self.walk;
        let Some(last) = count.checked_sub(1) else { return false };
        let left = self.go_on(last, self.rect.len);
        self.rect.len = left.unwrap_or(groups[last].size).min(*len);
        if left.is_some() {
            return true;
        }
        if *down != last {
            let left = self.go_on(*down, self.rect.lines);
            self.rect.lines = left.unwrap_or(groups[*down].size).min(*lines);
            if left.is_some() {
                return true;
            }
        }
        (0..last).rev().any(|place| place != *down && self.go_on(place, 1).is_some())
    }
}

impl Iterator for Rects<'_> {
    type Item = (Rect, usize);

    #[inline]
    fn next(&mut self) -> Option<(Rect, usize)> {
        let next = self.is_left.then_some((self.rect, self.first))?;
        self.is_left = self.advance();
        Some(next)
    }
}
