//! The ways from uninitialised memory to a buffer of values.
#![allow(unsafe_code)]

use std::iter;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use allocator_api2::alloc::Allocator;

use super::Buffer;

impl<T, A: Allocator> Buffer<MaybeUninit<T>, A> {
    /// Initialises every element, the `i`-th to `f(i)`. Should `f` panic, the elements made so far are dropped and the
    /// memory is returned.
    ///
    /// ```
    /// use tenzor_memory::TensorAllocator;
    ///
    /// let alloc = TensorAllocator::new();
    /// let ramp = alloc.alloc::<f32>(100)?.init_with(|i| i as f32);
    /// assert_eq!(ramp[99], 99.0);
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    pub fn init_with(self, f: impl FnMut(usize) -> T) -> Buffer<T, A> {
        let len = self.len;
        // SAFETY: the iterator yields `len` values.
        unsafe { self.init_from((0..len).map(f)) }
    }

    /// Initialises every element with a clone of `value`.
    pub fn init_filled(self, value: T) -> Buffer<T, A>
    where
        T: Clone,
    {
        self.init_with(|_| value.clone())
    }

    /// # Safety
    /// `values` yields at least as many values as the buffer has elements.
    pub(crate) unsafe fn init_from(self, values: impl Iterator<Item = T>) -> Buffer<T, A> {
        let mut guard = Initialising { buffer: ManuallyDrop::new(self), done: 0 };
        let first = guard.buffer.as_mut_ptr();
        for (i, value) in (0..guard.buffer.len).zip(values) {
            // SAFETY: `i` is less than the buffer's length.
            unsafe { first.add(i).write(MaybeUninit::new(value)) };
            guard.done = i + 1;
        }
        debug_assert!(guard.done == guard.buffer.len);
        let mut guard = ManuallyDrop::new(guard);
        // SAFETY: the guard is not dropped, so the buffer is taken once; every element was written, as there were values
        // enough (the caller's word).
        unsafe { ManuallyDrop::take(&mut guard.buffer).assume_init() }
    }

    /// The same buffer, its contents taken for initialised.
    ///
    /// # Safety
    /// Every element is initialised.
    pub unsafe fn assume_init(self) -> Buffer<T, A> {
        let (ptr, len, alignment, alloc) = self.into_raw_parts();
        // SAFETY: the parts of a buffer of the same layout; that the elements are initialised is the caller's word.
        unsafe { Buffer::from_raw_parts(ptr.cast(), len, alignment, alloc) }
    }
}

/// A buffer of which the first `done` elements are initialised.
struct Initialising<T, A: Allocator> {
    buffer: ManuallyDrop<Buffer<MaybeUninit<T>, A>>,
    done: usize,
}

impl<T, A: Allocator> Drop for Initialising<T, A> {
    fn drop(&mut self) {
        debug_assert!(self.done <= self.buffer.len);
        // SAFETY: the guard goes away, so the buffer is taken once.
        let mut buffer = unsafe { ManuallyDrop::take(&mut self.buffer) };
        // SAFETY: exactly these elements are initialised, and nobody else will see them.
        unsafe { (&raw mut buffer[..self.done] as *mut [T]).drop_in_place() };
    }
}

impl<T: Copy, A: Allocator> Buffer<MaybeUninit<T>, A> {
    /// Initialises the buffer in parts, which `write` may hand to any threads it waits for.
    ///
    /// ```
    /// use tenzor_memory::TensorAllocator;
    ///
    /// let alloc = TensorAllocator::new();
    /// let ramp = alloc.alloc::<f32>(10_000)?.init_parts(|slots| {
    ///     std::thread::scope(|threads| {
    ///         for part in slots.chunks(2500) {
    ///             threads.spawn(move || part.fill_with(|i| i as f32));
    ///         }
    ///     });
    /// });
    /// assert_eq!(ramp.unwrap()[9_999], 9_999.0);
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    ///
    /// # Errors
    /// The buffer as it was given, when not every element was written.
    pub fn init_parts(mut self, write: impl FnOnce(Slots<'_, T>)) -> Result<Buffer<T, A>, Self> {
        let written = AtomicUsize::new(0);
        write(Slots { slots: &mut self, first: 0, written: &written });
        if written.into_inner() == self.len {
            // SAFETY: each element belongs to one `Slots`, which adds its elements once, after it has written them all;
            // so as many were added as there are only if all were written. Their lifetime, which `write` cannot
            // choose, ends before this point, so all writes are over.
            Ok(unsafe { self.assume_init() })
        } else {
            Err(self)
        }
    }
}

/// The uninitialised elements of a buffer, or some of them in a row. See [`Buffer::init_parts`].
#[derive(Debug)]
pub struct Slots<'a, T> {
    slots: &'a mut [MaybeUninit<T>],
    first: usize,
    written: &'a AtomicUsize,
}

impl<'a, T: Copy> Slots<'a, T> {
    /// The number of elements.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The index of the first element in the whole buffer.
    pub fn first(&self) -> usize {
        self.first
    }

    /// The first `mid` elements, or all if there are fewer, and the others.
    pub fn split_at(self, mid: usize) -> (Self, Self) {
        let mid = mid.min(self.len());
        let (left, right) = self.slots.split_at_mut(mid);
        let part = |slots, first| Self { slots, first, written: self.written };
        (part(left, self.first), part(right, self.first + mid))
    }

    /// The elements in parts of `len`, the last one shorter where that does not come out even; 0 is taken for 1.
    pub fn chunks(self, len: usize) -> impl Iterator<Item = Self> {
        let mut rest = Some(self);
        iter::from_fn(move || {
            let (next, others) = rest.take().filter(|rest| !rest.is_empty())?.split_at(len.max(1));
            rest = Some(others);
            Some(next)
        })
    }

    /// As [`chunks`](Self::chunks), for rayon's threads.
    ///
    /// ```
    /// use rayon::prelude::*;
    /// use tenzor_memory::TensorAllocator;
    ///
    /// let alloc = TensorAllocator::new();
    /// let ramp = alloc.alloc::<f32>(1 << 20)?.init_parts(|slots| {
    ///     slots.par_chunks(1 << 16).for_each(|part| _ = part.fill_with(|i| i as f32));
    /// });
    /// assert_eq!(ramp.unwrap()[99_999], 99_999.0);
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    #[cfg(feature = "rayon")]
    pub fn par_chunks(self, len: usize) -> impl rayon::iter::IndexedParallelIterator<Item = Self>
    where
        T: Send,
    {
        use rayon::prelude::*;

        let (len, first, written) = (len.max(1), self.first, self.written);
        let parts = self.slots.par_chunks_mut(len).enumerate();
        parts.map(move |(i, slots)| Self { slots, first: first + i * len, written })
    }

    /// Writes every element, that of index `i` in the whole buffer as `value(i)`. Returns them, to be changed further.
    #[inline(always)] // Into loops that are compiled for several generations of processors.
    pub fn fill_with(self, mut value: impl FnMut(usize) -> T) -> &'a mut [T] {
        for (i, slot) in self.slots.iter_mut().enumerate() {
            slot.write(value(self.first + i));
        }
        // SAFETY: every element was written.
        unsafe { self.assume_written() }
    }

    /// The elements, for who writes in another way.
    #[inline]
    pub fn as_uninit(&mut self) -> &mut [MaybeUninit<T>] {
        self.slots
    }

    /// Takes the elements for written, and returns them.
    ///
    /// ```
    /// use tenzor_memory::TensorAllocator;
    ///
    /// let alloc = TensorAllocator::new();
    /// let source = [1.0_f32, 2.0, 3.0];
    /// let copy = alloc.alloc::<f32>(3)?.init_parts(|mut slots| {
    ///     for (slot, &value) in slots.as_uninit().iter_mut().zip(&source) {
    ///         slot.write(value);
    ///     }
    ///     // SAFETY: all three are written.
    ///     unsafe { slots.assume_written() };
    /// });
    /// assert_eq!(copy.unwrap()[..], source);
    /// # Ok::<(), tenzor_memory::AllocError>(())
    /// ```
    ///
    /// # Safety
    /// Every element was written.
    #[inline]
    pub unsafe fn assume_written(self) -> &'a mut [T] {
        self.written.fetch_add(self.slots.len(), Ordering::Release);
        // SAFETY: the caller's word.
        unsafe { &mut *(ptr::from_mut(self.slots) as *mut [T]) }
    }
}
