//! Sizes: checked arithmetic, buckets and size classes. The only place that computes the size of a request, but for the heap's `heap/classes.rs`.
//!
//! Bucket *i* is the power-of-two range [2^(6+i), 2^(7+i)) bytes. Each bucket is cut into the same number of equal
//! steps; every step is a size class, and its upper edge is its **capacity**: the size of each of its buffers. A request
//! gets the least capacity that holds it, so any buffer of a class serves any request of that class.
//!
//! Below a limit, where what is rounded away is missing, no request is rounded to more than a multiple of 64: small classes are no further apart, and
//! a large one has buffers of several capacities, each for requests of its own.

use std::alloc::Layout;
use std::ptr::{self, NonNull};

/// The capacity of the smallest class, and the least alignment of every buffer, in bytes.
pub const MIN_ALIGNMENT: usize = 64;

/// The largest small request in bytes: beside the computing on more, what a lock costs does not count.
pub(crate) const SMALL: usize = 64 << 10;

const MIN_SHIFT: u32 = MIN_ALIGNMENT.trailing_zeros();

/// The number of buckets with classes of small requests: the last one has the largest alone.
pub(crate) const SMALL_BUCKETS: usize = (SMALL.ilog2() - MIN_SHIFT) as usize + 1;

/// The number of buckets: the last one holds the largest power of two that an allocation may have.
pub const BUCKETS: usize = (usize::BITS - 1 - MIN_SHIFT) as usize;

/// More classes than this would step by less than a byte in bucket 0.
const MAX_CLASSES_PER_BUCKET: usize = MIN_ALIGNMENT;

/// No page or cache structure asks for more; it keeps the rounded sizes of ordinary requests far from overflow.
const MAX_ALIGNMENT: usize = 1 << 30;

/// The power of two nearest above `classes_per_bucket`, within 1..=64.
pub(crate) const fn normalise_classes(classes_per_bucket: usize) -> usize {
    if classes_per_bucket == 0 {
        1
    } else if classes_per_bucket >= MAX_CLASSES_PER_BUCKET {
        MAX_CLASSES_PER_BUCKET
    } else {
        classes_per_bucket.next_power_of_two()
    }
}

/// The power of two nearest above `alignment`, within 64 bytes to 1 GiB.
pub(crate) const fn normalise_alignment(alignment: usize) -> usize {
    if alignment <= MIN_ALIGNMENT {
        MIN_ALIGNMENT
    } else if alignment >= MAX_ALIGNMENT {
        MAX_ALIGNMENT
    } else {
        alignment.next_power_of_two()
    }
}

/// The rule that maps requests to size classes.
///
/// ```
/// use tenzor_memory::layout::SizeClasses;
///
/// let plain = SizeClasses::new(1, 64);
/// assert_eq!(plain.capacity_for(64), Some(64));
/// assert_eq!(plain.capacity_for(65), Some(128));
/// let four = SizeClasses::new(4, 64);
/// assert_eq!(four.capacity_for(65), Some(80));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SizeClasses {
    /// log2 of the number of classes in a bucket.
    shift: u32,
    alignment: usize,
    /// What no buffer may exceed; `usize::MAX` without.
    limit: usize,
}

/// Where a request belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fit {
    pub(crate) capacity: usize,
    /// That of all the pool's buffers, or a larger one that was asked for.
    pub(crate) alignment: usize,
    pub(crate) class: usize,
    pub(crate) bucket: usize,
}

/// The class of blocks that are of none.
const APART: usize = usize::MAX;

impl Fit {
    /// That of a block which is just as large as asked.
    pub(crate) fn apart(block: Layout) -> Self {
        Self { capacity: block.size(), alignment: block.align(), class: APART, bucket: bucket_of(block.size()) }
    }

    pub(crate) fn is_apart(&self) -> bool {
        self.class == APART
    }

    /// What the backing is asked for; `None` when no allocation can be that large.
    pub(crate) fn block(&self) -> Option<Layout> {
        Layout::from_size_align(self.capacity, self.alignment).ok()
    }
}

impl SizeClasses {
    /// `classes_per_bucket` is rounded up to a power of two within 1..=64, `alignment` (bytes) to one within 64..=2^30.
    pub const fn new(classes_per_bucket: usize, alignment: usize) -> Self {
        Self {
            shift: normalise_classes(classes_per_bucket).trailing_zeros(),
            alignment: normalise_alignment(alignment),
            limit: usize::MAX,
        }
    }

    /// The same, below a limit.
    pub(crate) fn below(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    fn is_limited(&self) -> bool {
        self.limit != usize::MAX
    }

    /// The least capacity of at least `size` bytes; `None` when it would exceed `isize::MAX`. Constant time.
    pub fn capacity_for(&self, size: usize) -> Option<usize> {
        self.class_for(size).map(|(_, capacity)| capacity)
    }

    /// The fit of a request; `None` when its capacity would exceed `isize::MAX`. Constant time.
    #[inline]
    pub(crate) fn fit(&self, request: Layout) -> Option<Fit> {
        let (class, capacity) = self.class_for(request.size())?;
        let alignment = request.align().max(self.alignment);
        if self.is_limited() {
            return self.limited_fit(request.size(), alignment, class, capacity);
        }
        Some(Fit { capacity, alignment, class, bucket: class >> self.shift })
    }

    /// The fit of a request that is of no class, and not rounded but to 64 bytes; `None` when that would exceed `isize::MAX`.
    pub(crate) fn exact(&self, request: Layout) -> Option<Fit> {
        let size = align_up(request.size(), MIN_ALIGNMENT)?;
        let size = self.cut(request.size(), size);
        Layout::from_size_align(size, request.align().max(self.alignment)).ok().map(Fit::apart)
    }

    /// A capacity; the size itself, where only that is below the limit.
    fn cut(&self, size: usize, capacity: usize) -> usize {
        if size <= self.limit && self.limit < capacity { size } else { capacity }
    }

    fn limited_fit(&self, size: usize, alignment: usize, class: usize, capacity: usize) -> Option<Fit> {
        let capacity = capacity.min(align_up(size, MIN_ALIGNMENT)?);
        let cut = self.cut(size, capacity);
        if cut != capacity {
            // Another request of its class may be above the limit.
            return Layout::from_size_align(cut, alignment).ok().map(Fit::apart);
        }
        // The class with the largest capacity that is no larger: so it lies in the bucket of this one.
        let class = if capacity > SMALL { self.class_of(capacity + 1).0 - 1 } else { class };
        Some(Fit { capacity, alignment, class, bucket: bucket_of(capacity) })
    }

    #[inline]
    fn class_for(&self, size: usize) -> Option<(usize, usize)> {
        if size > isize::MAX as usize {
            return None;
        }
        let (class, capacity) = self.class_of(size);
        if capacity > isize::MAX as usize { None } else { Some((class, capacity)) }
    }

    /// The number of classes of small requests.
    pub(crate) fn small_count(&self) -> usize {
        self.class_of(SMALL).0 + 1
    }

    /// The class and its capacity of a size of at most `isize::MAX` bytes.
    #[inline]
    fn class_of(&self, size: usize) -> (usize, usize) {
        if size <= MIN_ALIGNMENT {
            return (0, MIN_ALIGNMENT);
        }
        // `size` lies in (2^k, 2^(k+1)], which is cut into steps.
        let last = size - 1;
        let k = last.ilog2();
        let step = self.step(k);
        let within = (last >> step) + 1;
        (self.first_of((k - MIN_SHIFT) as usize) + within - (1 << (k - step)), within << step)
    }

    /// log2 of the steps that (2^k, 2^(k+1)] is cut into.
    #[inline]
    fn step(&self, k: u32) -> u32 {
        let step = k - self.shift;
        if self.is_limited() && k < SMALL.ilog2() { step.min(MIN_SHIFT) } else { step }
    }

    /// The first class of a bucket.
    #[inline]
    fn first_of(&self, bucket: usize) -> usize {
        let classes = bucket << self.shift;
        // Beyond this bucket, and up to small ones, each has twice as many as the one before where there is a limit.
        let most = bucket.min(SMALL_BUCKETS - 1);
        let plain = most.min(self.shift as usize);
        if self.is_limited() { classes + (1 << most) - (1 << plain) - ((most - plain) << self.shift) } else { classes }
    }

    /// The capacity of a class of small requests, in its bucket. Constant time.
    pub(crate) fn capacity_of(&self, bucket: usize, class: usize) -> usize {
        let base = MIN_ALIGNMENT << bucket;
        base + ((class - self.first_of(bucket)) << self.step(base.ilog2()))
    }

    /// The classes of one bucket.
    pub(crate) fn of_bucket(&self, bucket: usize) -> std::ops::Range<usize> {
        self.first_of(bucket)..self.first_of(bucket + 1)
    }

    /// The number of classes of all buckets.
    pub(crate) fn count(&self) -> usize {
        self.first_of(BUCKETS)
    }
}

/// Whether a request has a size, of at most [`SMALL`] bytes.
#[inline]
pub(crate) fn is_small(request: Layout) -> bool {
    request.size().wrapping_sub(1) < SMALL
}

/// From small requests that need no more than the pool's own alignment to numbers given to their classes, in a few instructions; 0 where none was given.
#[derive(Clone, Debug)]
pub(crate) struct Small {
    alignment: usize,
    /// Sizes up to here are looked up by grains, of which each is of one class.
    by_grain_to: usize,
    by_grain: [u8; GRAINS],
    by_class: Vec<u8>,
    /// Of the sizes within (2^k, 2^(k+1)]: log2 of the steps they are cut into,
    steps: [u8; u32::BITS as usize],
    /// and which class would be that of a step at 0.
    first: [i16; u32::BITS as usize],
}

const GRAINS: usize = 128;
/// The step of eight classes in the first bucket.
const GRAIN: usize = MIN_ALIGNMENT / 8;

impl Small {
    /// `None` if there is no memory for it.
    pub(crate) fn new(classes: SizeClasses) -> Option<Self> {
        let count = classes.small_count();
        let mut by_class = Vec::new();
        by_class.try_reserve_exact(count).ok()?;
        by_class.resize(count, 0);
        let mut small = Self {
            alignment: classes.alignment,
            by_grain_to: if MIN_ALIGNMENT >> classes.shift < GRAIN { 0 } else { GRAINS * GRAIN },
            by_grain: [0; _],
            by_class,
            // Below the first bucket is the first class alone, which no step ends.
            steps: [MIN_SHIFT as u8; _],
            first: [0; _],
        };
        for k in MIN_SHIFT..SMALL.ilog2() {
            let step = classes.step(k);
            small.steps[k as usize] = step as u8;
            small.first[k as usize] = classes.first_of((k - MIN_SHIFT) as usize) as i16 + 1 - (1 << (k - step));
        }
        Some(small)
    }

    #[inline]
    pub(crate) fn number_of(&self, request: Layout) -> usize {
        let last = request.size().wrapping_sub(1);
        if request.align() > self.alignment {
            0
        } else if last < self.by_grain_to {
            self.by_grain[last / GRAIN % GRAINS].into()
        } else if last < SMALL {
            self.by_class.get(self.class_of(last)).map_or(0, |&number| number.into())
        } else {
            0
        }
    }

    /// As [`number_of`](Self::number_of).
    pub(crate) fn number_of_fit(&self, fit: &Fit) -> usize {
        let number = if fit.alignment == self.alignment { self.by_class.get(fit.class) } else { None };
        number.map_or(0, |&number| number.into())
    }

    /// Gives a class its number. Returns whether it is one of small requests.
    pub(crate) fn give(&mut self, fit: &Fit, number: u8) -> bool {
        if fit.alignment != self.alignment || fit.class >= self.by_class.len() {
            return false;
        }
        self.by_class[fit.class] = number;
        // The grains below the capacity, as far down as they are of the class.
        let end = (fit.capacity.min(self.by_grain_to)) / GRAIN;
        let first = (0..end).rev().take_while(|grain| self.class_of(grain * GRAIN) == fit.class).last();
        self.by_grain[first.unwrap_or(end)..end].fill(number);
        true
    }

    /// The class of a size, less one, of at most [`SMALL`].
    #[inline]
    fn class_of(&self, last: usize) -> usize {
        // As many entries as a `u32` has bits: none is missing.
        let k = (last as u32 | 1).ilog2() as usize;
        (last >> self.steps[k]).wrapping_add_signed(self.first[k].into())
    }
}

/// The size range of bucket `bucket` in bytes, both ends included.
///
/// ```
/// assert_eq!(tenzor_memory::layout::bucket_range(0), 64..=127);
/// ```
pub fn bucket_range(bucket: usize) -> std::ops::RangeInclusive<usize> {
    let least = MIN_ALIGNMENT << bucket.min(BUCKETS - 1);
    least..=least + (least - 1)
}

/// The bucket that contains a capacity; the first one also what is smaller.
pub(crate) fn bucket_of(capacity: usize) -> usize {
    (capacity.max(MIN_ALIGNMENT).ilog2() - MIN_SHIFT) as usize
}

/// The layout of `count` values of `T`, aligned to `alignment` and to `least` bytes, a power of two; `None` when the size
/// overflows or `alignment` is not a power of two.
pub(crate) fn array<T>(count: usize, alignment: usize, least: usize) -> Option<Layout> {
    let size = count.checked_mul(size_of::<T>())?;
    if !alignment.is_power_of_two() {
        return None;
    }
    Layout::from_size_align(size, alignment.max(least).max(align_of::<T>())).ok()
}

/// Where what has no size lies: nowhere, aligned as asked.
#[inline]
pub(crate) const fn dangling(layout: Layout) -> NonNull<u8> {
    match NonNull::new(ptr::without_provenance_mut(layout.align())) {
        Some(address) => address,
        None => NonNull::dangling(),
    }
}

/// The least multiple of `alignment` (a power of two) that is at least `value`.
#[inline]
pub(crate) const fn align_up(value: usize, alignment: usize) -> Option<usize> {
    match value.checked_add(alignment - 1) {
        Some(sum) => Some(sum & !(alignment - 1)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_the_least_of_their_classes() {
        for classes in [1, 2, 4, 8, 16, 32, 64] {
            let rule = SizeClasses::new(classes, 64);
            let mut small = Small::new(rule).unwrap();
            // The slow, obvious list of all capacities up to 1 MiB.
            let mut all = vec![];
            let mut base = 64;
            while base <= 1 << 20 {
                all.extend((0..classes).map(|j| base + j * base / classes));
                base *= 2;
            }
            let mut edge = 0;
            for size in 1..=1 << 20 {
                while all[edge] < size {
                    edge += 1;
                }
                let fit = rule.fit(Layout::from_size_align(size, 1).unwrap()).unwrap();
                assert_eq!(fit.capacity, all[edge], "{size} with {classes} classes a bucket");
                assert_eq!(fit.class, edge, "{size} with {classes} classes a bucket");
                assert_eq!(fit.bucket, edge / classes);
                let request = Layout::from_size_align(size, 64).unwrap();
                if size <= SMALL {
                    assert_eq!(small.class_of(size - 1), edge);
                    assert!(small.give(&fit, edge as u8 | 1) && small.number_of_fit(&fit) == (edge as u8 | 1).into());
                }
                assert_eq!(small.number_of(request), if size <= SMALL { (edge as u8 | 1).into() } else { 0 });
                assert!(bucket_range(fit.bucket).contains(&fit.capacity));
                assert!(rule.of_bucket(fit.bucket).contains(&fit.class));
                assert_eq!(rule.capacity_of(fit.bucket, fit.class), fit.capacity);
            }
        }
    }

    #[test]
    fn only_what_is_small_and_has_a_size_has_a_number() {
        let rule = SizeClasses::new(8, 128);
        let mut small = Small::new(rule).unwrap();
        let layout = |size, align| Layout::from_size_align(size, align).unwrap();
        for (size, align, has) in [(1, 1, true), (SMALL, 128, true), (SMALL + 1, 1, false), (64, 256, false)] {
            assert_eq!(small.number_of(layout(size, align)), 0);
            assert_eq!(small.give(&rule.fit(layout(size, align)).unwrap(), 7), has);
            assert_eq!(small.number_of(layout(size, align)), if has { 7 } else { 0 });
        }
        assert_eq!(small.number_of(layout(0, 1)), 0);
    }

    #[test]
    fn the_largest_sizes_fit_or_are_refused() {
        for classes in [1, 8, 64] {
            let rule = SizeClasses::new(classes, 64);
            let top = 1usize << (usize::BITS - 2);
            let fit = rule.fit(Layout::from_size_align(top, 1).unwrap()).unwrap();
            assert_eq!((fit.bucket, fit.capacity), (BUCKETS - 1, top));
            assert!(fit.class < rule.count());
            assert_eq!(rule.capacity_for(isize::MAX as usize), None);
            assert_eq!(rule.capacity_for(usize::MAX), None);
        }
        let top = 1usize << (usize::BITS - 2);
        assert_eq!(SizeClasses::new(1, 64).capacity_for(top + 1), None);
        assert_eq!(SizeClasses::new(2, 64).capacity_for(top + 1), Some(top + top / 2));
    }

    #[test]
    fn odd_settings_are_normalised() {
        for (given, used) in [(0, 1), (1, 1), (3, 4), (8, 8), (63, 64), (64, 64), (65, 64), (usize::MAX, 64)] {
            assert_eq!(normalise_classes(given), used);
        }
        for (given, used) in [(0, 64), (1, 64), (64, 64), (65, 128), (3 << 20, 4 << 20), (usize::MAX, 1 << 30)] {
            assert_eq!(normalise_alignment(given), used);
        }
    }

    #[test]
    fn array_sizes_are_checked() {
        let array_of = |count, alignment| array::<u64>(count, alignment, 64).map(|l| (l.size(), l.align()));
        assert_eq!(array_of(3, 64), Some((24, 64)));
        assert_eq!(array_of(3, 1), Some((24, 64)));
        assert_eq!(array_of(3, 256), Some((24, 256)));
        assert_eq!(array_of(usize::MAX / 8 + 1, 64), None);
        assert_eq!(array_of(isize::MAX as usize / 8, 64), None);
        assert_eq!(array_of(1, 3), None);
        assert_eq!(array_of(1, 0), None);
        assert_eq!(array::<()>(usize::MAX, 1, 64).map(|l| l.size()), Some(0));
        assert_eq!(align_up(65, 64), Some(128));
        assert_eq!(align_up(usize::MAX, 64), None);
    }
}
