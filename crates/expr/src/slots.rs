//! Slots: memory for values, and how it comes to have them.
//!
//! Unsafe code says that slots were written, after a loop over all of them.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

/// Values that start with a cache line: of vectors that lie in two, reading takes twice as long, and what was just written to them is not at hand.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Lines<T>(pub(crate) T);

/// Values, to be written over: by values alone.
pub(crate) fn uninit<T>(values: &mut [T]) -> &mut [MaybeUninit<T>] {
    // SAFETY: nobody in this crate writes anything but values.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut [MaybeUninit<T>]) }
}

/// Slots that were all written.
///
/// # Safety
/// They were.
#[inline(always)]
pub(crate) unsafe fn written<T>(slots: &mut [MaybeUninit<T>]) -> &mut [T] {
    // SAFETY: the caller's word.
    unsafe { &mut *(std::ptr::from_mut(slots) as *mut [T]) }
}

/// A copy of values in as many slots.
#[inline(always)]
pub(crate) fn copied<'o, T: Copy>(slots: &'o mut [MaybeUninit<T>], values: &[T]) -> &'o mut [T] {
    let slots = &mut slots[..values.len()];
    for (slot, &value) in slots.iter_mut().zip(values) {
        slot.write(value);
    }
    // SAFETY: the loop wrote to every slot, as there are as many values.
    unsafe { written(slots) }
}
