//! Elements in memory that are read where they are.
//!
//! Between those of an array's part lies what is not of it, and may be written to by somebody else at the same time: of that there must be no
//! reference, so a part is no slice.
//!
//! Unsafe code makes slices of what are elements alone.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr::NonNull;

/// Some memory, of which certain places are elements. Who has it knows by strides which.
#[derive(Debug)]
pub(crate) struct Elements<'e, T> {
    first: NonNull<T>,
    len: usize,
    life: PhantomData<&'e [T]>,
}

impl<T> Clone for Elements<'_, T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Elements<'_, T> {}

// SAFETY: it is as good as references to elements.
unsafe impl<T: Sync> Send for Elements<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Elements<'_, T> {}

impl<'e, T> From<&'e [T]> for Elements<'e, T> {
    /// All places are elements.
    #[inline(always)]
    fn from(slice: &'e [T]) -> Self {
        Self { first: NonNull::from(slice).cast(), len: slice.len(), life: PhantomData }
    }
}

impl<'e, T> Elements<'e, T> {
    /// Those among `len` places from one on that strides lead to.
    ///
    /// # Safety
    /// All places are in one allocation. What the strides lead to are values, which nobody writes to during `'e`.
    #[cfg(feature = "ndarray")]
    pub(crate) unsafe fn new(first: NonNull<T>, len: usize) -> Self {
        Self { first, len, life: PhantomData }
    }

    /// How many places there are.
    #[inline(always)]
    pub(crate) fn len(self) -> usize {
        self.len
    }

    #[inline(always)]
    pub(crate) fn as_ptr(self) -> *const T {
        self.first.as_ptr()
    }

    /// Some neighbours.
    ///
    /// # Safety
    /// If these are places here, they are all elements.
    ///
    /// # Panics
    /// If they are not.
    #[inline(always)]
    pub(crate) unsafe fn range(self, first: usize, len: usize) -> &'e [T] {
        let is_here = first <= self.len && len <= self.len - first;
        assert!(is_here, "{len} elements from {first} on are out of range for {}", self.len);
        // SAFETY: they are places here, and elements, as the caller says; so they are values that nobody writes to, who made this says.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr().add(first), len) }
    }

    /// A single one.
    ///
    /// # Safety
    /// As above.
    #[inline(always)]
    pub(crate) unsafe fn at(self, place: usize) -> &'e T {
        assert!(place < self.len, "there is no element {place} of {}", self.len);
        // SAFETY: it is a place here, and an element, as the caller says; see above.
        unsafe { self.first.add(place).as_ref() }
    }

    /// Whether there are `lines` neighbours at each of `len` places, `step` from each other.
    #[inline(always)]
    pub(crate) fn has(self, first: usize, step: isize, len: usize, lines: usize) -> bool {
        let span = step.unsigned_abs().saturating_mul(len.saturating_sub(1));
        let least = if step < 0 { first.wrapping_sub(span) } else { first };
        least <= self.len && span.saturating_add(lines) <= self.len - least
    }

    /// Some at even distances.
    ///
    /// # Safety
    /// As above.
    #[inline(always)]
    pub(crate) unsafe fn line(self, first: usize, step: isize, len: usize) -> impl Iterator<Item = &'e T> {
        assert!(self.has(first, step, len, 1), "a line is out of range");
        let start = self.first.as_ptr().wrapping_add(first);
        // SAFETY: they lie between the first and the last, which are places here, and are elements, as the caller says; see above.
        (0..len.cast_signed()).map(move |i| unsafe { &*start.offset(step * i) })
    }
}
