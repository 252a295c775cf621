//! Scratch memory for some values, which stays in the first-level cache.
//!
//! Unsafe code says that slots were written, after a loop over all of them, and goes to the first of them.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use crate::item::Item;
use crate::slots::{Lines, written};
use crate::walk::{PIECE, Rect, TILE};

/// Memory for some values.
#[derive(Debug)]
pub struct Tile<T, const N: usize = TILE>(Lines<[MaybeUninit<T>; N]>);

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

    /// For a [piece](PIECE).
    #[inline(always)]
    pub(super) fn piece(&mut self) -> &mut [MaybeUninit<T>; PIECE] {
        const { assert!(PIECE <= N, "a tile has room for a piece") };
        // SAFETY: it is the first part of the tile, which is no smaller.
        unsafe { &mut *(&raw mut self.0.0).cast() }
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
    pub(super) unsafe fn gather_from(
        &mut self,
        out: &[MaybeUninit<T>],
        first: usize,
        step: usize,
        rect: &Rect,
    ) -> &[T] {
        let slots = self.slots(rect.count());
        for (line, slots) in slots.chunks_exact_mut(rect.len).enumerate() {
            slots.copy_from_slice(&out[first + line * step..][..rect.len]);
        }
        // SAFETY: all are copies of what is initialised.
        unsafe { written(slots) }
    }
}
