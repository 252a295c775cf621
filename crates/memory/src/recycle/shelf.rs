//! What is kept: memory that was a `Vec`'s, by its bytes and in the order in which it came.
#![allow(unsafe_code)]

use std::alloc::{Layout, dealloc};
use std::array;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use crate::layout::{BUCKETS, bucket_of};
use crate::pressure::hushed;

/// A block of the global allocator, which was a `Vec`'s and goes back on drop.
///
/// Invariant: `ptr` is a live block of the global allocator for `layout`, which is not zero-sized, owned by this value.
pub(super) struct Memory {
    pub(super) ptr: NonNull<u8>,
    pub(super) layout: Layout,
}

// SAFETY: it owns its memory, which has no contents.
unsafe impl Send for Memory {}

impl Memory {
    /// That of a `Vec`, whose elements are dropped; `None` if it has none.
    pub(super) fn of<T>(mut vec: Vec<T>) -> Option<Self> {
        vec.clear();
        let mut vec = ManuallyDrop::new(vec);
        // SAFETY: it is the layout of the vector's block, or has no size.
        let layout = unsafe { Layout::from_size_align_unchecked(vec.capacity() * size_of::<T>(), align_of::<T>()) };
        // What has no size is not lost by not being dropped.
        NonNull::new(vec.as_mut_ptr().cast()).filter(|_| layout.size() != 0).map(|ptr| Self { ptr, layout })
    }

    /// Whether it can become a `Vec` of such elements.
    fn fits<T>(&self) -> bool {
        self.layout.align() == align_of::<T>() && self.layout.size().is_multiple_of(size_of::<T>())
    }

    /// An empty `Vec`.
    ///
    /// # Safety
    /// It [fits](Self::fits).
    pub(super) unsafe fn into_vec<T>(self) -> Vec<T> {
        debug_assert!(self.fits::<T>());
        let memory = ManuallyDrop::new(self);
        let capacity = memory.layout.size() / size_of::<T>();
        // SAFETY: a block of the global allocator, which nobody else owns, for just so many elements, as it fits.
        unsafe { Vec::from_raw_parts(memory.ptr.cast().as_ptr(), 0, capacity) }
    }

    pub(super) fn wipe(&mut self) {
        // SAFETY: the block has so many bytes (the invariant).
        unsafe { self.ptr.write_bytes(0, self.layout.size()) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it is a live block for this layout (the invariant), and its owner goes away.
        unsafe { dealloc(self.ptr.as_ptr(), self.layout) };
    }
}

/// What is kept, and what was counted.
pub(super) struct Shelf {
    pub(super) buckets: [Bucket; BUCKETS],
    pub(super) kept_bytes: usize,
    pub(super) peak_kept_bytes: usize,
    pub(super) handed_out: usize,
    pub(super) taken_back: usize,
    /// How many were given.
    pub(super) given: u64,
    pub(super) refused: u64,
}

#[derive(Default)]
pub(super) struct Bucket {
    /// What was given first comes first.
    pub(super) kept: Vec<Kept>,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) released: u64,
}

pub(super) struct Kept {
    memory: Memory,
    /// How many were given before.
    since: u64,
}

impl Shelf {
    pub(super) fn new() -> Self {
        Self {
            buckets: array::from_fn(|_| Bucket::default()),
            kept_bytes: 0,
            peak_kept_bytes: 0,
            handed_out: 0,
            taken_back: 0,
            given: 0,
            refused: 0,
        }
    }

    /// The least that is kept of at least `size` bytes and less than twice `rounded`, and can become a `Vec` of such elements; of equal ones, what was
    /// given last.
    pub(super) fn find<T>(&mut self, size: usize, rounded: usize) -> Option<Memory> {
        let most = rounded.saturating_mul(2) - 1;
        for bucket in bucket_of(size)..=bucket_of(most) {
            let kept = self.buckets[bucket].kept.iter().enumerate().rev();
            let fits = kept.filter(|(_, kept)| (size..=most).contains(&kept.size()) && kept.memory.fits::<T>());
            if let Some((index, _)) = fits.min_by_key(|(_, kept)| kept.size()) {
                return self.remove(bucket, index);
            }
        }
        None
    }

    /// What has been idle longest, of all or of one bucket.
    pub(super) fn oldest(&mut self, bucket: Option<usize>) -> Option<Memory> {
        let buckets = bucket.map_or(0..BUCKETS, |bucket| bucket..bucket + 1);
        let first = |&bucket: &usize| self.buckets[bucket].kept.first().map(|kept| kept.since);
        let bucket = buckets.filter(|bucket| first(bucket).is_some()).min_by_key(first)?;
        self.buckets[bucket].released += 1;
        self.remove(bucket, 0)
    }

    fn remove(&mut self, bucket: usize, index: usize) -> Option<Memory> {
        debug_assert!(index < self.buckets[bucket].kept.len());
        let Kept { memory, .. } = self.buckets[bucket].kept.remove(index);
        self.kept_bytes -= memory.layout.size();
        Some(memory)
    }

    /// Keeps it, beside what is kept already; gives it back where there is no memory to note it.
    pub(super) fn keep(&mut self, memory: Memory) -> Option<Memory> {
        let size = memory.layout.size();
        let bucket = &mut self.buckets[bucket_of(size)];
        if hushed(|| bucket.kept.try_reserve(1)).is_err() {
            bucket.released += 1;
            return Some(memory);
        }
        bucket.kept.push(Kept { memory, since: self.given });
        self.kept_bytes += size;
        self.peak_kept_bytes = self.peak_kept_bytes.max(self.kept_bytes);
        None
    }
}

impl Kept {
    pub(super) fn size(&self) -> usize {
        self.memory.layout.size()
    }
}
