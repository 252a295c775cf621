//! The free buffers of a pool. Safe code that follows no pointer.
//!
//! Each size class has a queue in the order of insertion, for each alignment: a request takes from its newest end, which is
//! constant time and a handful of instructions; an eviction takes the oldest of the oldest ends, which looks at those of the
//! bucket's classes, or of all buckets that have any.

use std::alloc::Layout;
use std::collections::VecDeque;
use std::ptr::NonNull;

use crate::layout::{BUCKETS, Fit, SizeClasses};
use crate::pressure::hushed;
use crate::stats::FreeBuffers;

/// A free buffer, as it goes back to the backing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Free {
    pub(super) ptr: NonNull<u8>,
    pub(super) block: Layout,
    pub(super) bucket: usize,
}

#[derive(Debug)]
pub(super) struct CentralList {
    classes: SizeClasses,
    /// The alignments seen so far, in order of appearance. Buffers of different alignments are never interchanged, as
    /// each has to go back to the backing with the alignment it came with.
    alignments: Vec<usize>,
    /// Where in `queues` those of an alignment, by its log2, begin: one for each class.
    first_queue: [u32; usize::BITS as usize],
    queues: Vec<VecDeque<Kept>>,
    /// The buffer that was freed last of those that have no class, and the number of its free.
    hand: Option<(Free, u64)>,
    kept: [FreeBuffers; BUCKETS],
    bytes: usize,
    /// What is leased to the stocks of threads, whether it lies there or not.
    leased: [usize; BUCKETS],
    leased_bytes: usize,
}

/// A free buffer of some class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    pub(super) ptr: NonNull<u8>,
    /// The number of frees when it was freed, to compare the ends of different queues.
    pub(super) since: u64,
}

/// One in a queue.
#[derive(Clone, Copy, Debug)]
struct Kept {
    idle: Idle,
    /// That of its class; where there is a limit, large ones of several capacities are of one class.
    capacity: usize,
}

/// So many of a queue are looked at for a capacity, the newest first.
const LOOKS: usize = 64;

const NONE: u32 = u32::MAX;

/// There was no memory to account for one more buffer.
#[derive(Debug)]
pub(super) struct Full;

impl CentralList {
    pub(super) fn new(classes: SizeClasses) -> Self {
        Self {
            classes,
            alignments: Vec::new(),
            first_queue: [NONE; usize::BITS as usize],
            queues: Vec::new(),
            hand: None,
            kept: [FreeBuffers::default(); BUCKETS],
            bytes: 0,
            leased: [0; BUCKETS],
            leased_bytes: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn kept(&self) -> &[FreeBuffers; BUCKETS] {
        &self.kept
    }

    /// The buffers of a bucket that are kept here, or may lie in stocks.
    #[inline]
    pub(super) fn buffers_kept_or_leased(&self, bucket: usize) -> usize {
        self.kept[bucket].buffers + self.leased[bucket]
    }

    /// The buffers of each bucket that may lie in stocks.
    pub(super) fn leased(&self) -> &[usize; BUCKETS] {
        &self.leased
    }

    pub(super) fn bytes_leased(&self) -> usize {
        self.leased_bytes
    }

    #[inline]
    pub(super) fn bytes_kept_or_leased(&self) -> usize {
        self.bytes + self.leased_bytes
    }

    /// A buffer may lie in a stock from now on.
    pub(super) fn lease(&mut self, bucket: usize, capacity: usize) {
        self.leased[bucket] += 1;
        self.leased_bytes += capacity;
    }

    /// Nothing lies in stocks.
    pub(super) fn forget_leases(&mut self) {
        (self.leased, self.leased_bytes) = ([0; BUCKETS], 0);
    }

    /// So many buffers less may lie in stocks.
    pub(super) fn end_leases(&mut self, bucket: usize, capacity: usize, buffers: usize) {
        self.leased[bucket] -= buffers;
        self.leased_bytes -= buffers * capacity;
    }

    /// Takes the buffer of this class and alignment that was inserted last.
    #[inline]
    pub(super) fn take_newest(&mut self, fit: &Fit) -> Option<Idle> {
        let queue = self.queue_of(fit)?;
        let queue = &mut self.queues[queue];
        let newer = queue.iter().rev().take(LOOKS).position(|kept| kept.capacity == fit.capacity)?;
        let Kept { idle, .. } = queue.remove(queue.len() - 1 - newer)?;
        self.forget(fit.bucket, fit.capacity);
        Some(idle)
    }

    /// Takes the buffer that has been here longest.
    pub(super) fn take_oldest(&mut self) -> Option<Free> {
        let buckets = (0..BUCKETS).filter(|&bucket| self.kept[bucket].buffers > 0);
        let oldest = buckets.filter_map(|bucket| self.oldest_of(bucket)).min_by_key(|oldest| oldest.since);
        self.take_older(oldest, |_| true)
    }

    /// Takes the buffer of this bucket that has been here longest.
    pub(super) fn take_oldest_of(&mut self, bucket: usize) -> Option<Free> {
        let oldest = self.oldest_of(bucket);
        self.take_older(oldest, |hand| hand.bucket == bucket)
    }

    /// Takes that buffer, or the one in the hand, if it is `meant` and was freed before.
    fn take_older(&mut self, oldest: Option<Oldest>, meant: impl FnOnce(&Free) -> bool) -> Option<Free> {
        let is_older =
            |(hand, since): &(Free, u64)| meant(hand) && oldest.as_ref().is_none_or(|old| *since < old.since);
        if self.hand.as_ref().is_some_and(is_older) { self.empty_hand() } else { self.take(oldest?) }
    }

    /// Takes a buffer into the empty hand.
    pub(super) fn take_in_hand(&mut self, free: Free, since: u64) {
        debug_assert!(self.hand.is_none());
        self.remember(free.bucket, free.block.size());
        self.hand = Some((free, since));
    }

    pub(super) fn empty_hand(&mut self) -> Option<Free> {
        let (free, _) = self.hand.take()?;
        self.forget(free.bucket, free.block.size());
        Some(free)
    }

    /// Takes the buffer in the hand, if it is just as large and aligned.
    pub(super) fn take_from_hand(&mut self, fit: &Fit) -> Option<NonNull<u8>> {
        let (hand, _) = self.hand.as_ref()?;
        let suits = (hand.block.size(), hand.block.align()) == (fit.capacity, fit.alignment);
        if suits { self.empty_hand().map(|free| free.ptr) } else { None }
    }

    /// Adds a buffer as the newest of its class and alignment.
    #[inline]
    pub(super) fn insert(&mut self, fit: &Fit, idle: Idle) -> Result<(), Full> {
        let queue = match self.queue_of(fit) {
            Some(queue) => queue,
            None => self.add_alignment(fit)?,
        };
        let queue = &mut self.queues[queue];
        if queue.len() == queue.capacity() {
            hushed(|| queue.try_reserve(1)).map_err(|_| Full)?;
        }
        queue.push_back(Kept { idle, capacity: fit.capacity });
        self.remember(fit.bucket, fit.capacity);
        Ok(())
    }

    #[inline]
    fn remember(&mut self, bucket: usize, capacity: usize) {
        self.bytes += capacity;
        let kept = &mut self.kept[bucket];
        kept.buffers += 1;
        kept.bytes += capacity;
    }

    #[inline]
    fn queue_of(&self, fit: &Fit) -> Option<usize> {
        let first = self.first_queue[fit.alignment.trailing_zeros() as usize];
        // Lazily: with 32 bits the sum overflows where there is none.
        (first != NONE).then(|| first as usize + fit.class)
    }

    #[cold]
    fn add_alignment(&mut self, fit: &Fit) -> Result<usize, Full> {
        hushed(|| {
            self.alignments.try_reserve(1)?;
            self.queues.try_reserve(self.classes.count())
        })
        .map_err(|_| Full)?;
        // At most 64 alignments of less than 2^12 classes each.
        let first = self.queues.len();
        self.first_queue[fit.alignment.trailing_zeros() as usize] = first as u32;
        self.alignments.push(fit.alignment);
        self.queues.resize_with(first + self.classes.count(), VecDeque::new);
        Ok(first + fit.class)
    }

    fn oldest_of(&self, bucket: usize) -> Option<Oldest> {
        let classes = self.classes.of_bucket(bucket);
        let ends = self.alignments.iter().enumerate().flat_map(|(index, &alignment)| {
            let first = index * self.classes.count();
            classes.clone().filter_map(move |class| {
                let since = self.queues[first + class].front()?.idle.since;
                Some(Oldest { queue: first + class, bucket, alignment, since })
            })
        });
        ends.min_by_key(|oldest| oldest.since)
    }

    fn take(&mut self, Oldest { queue, bucket, alignment, .. }: Oldest) -> Option<Free> {
        let Kept { idle, capacity } = self.queues[queue].pop_front()?;
        self.forget(bucket, capacity);
        // The layout that the fit of each buffer in this queue had, so it is valid.
        Some(Free { ptr: idle.ptr, block: Layout::from_size_align(capacity, alignment).ok()?, bucket })
    }

    #[inline]
    fn forget(&mut self, bucket: usize, capacity: usize) {
        self.bytes -= capacity;
        let kept = &mut self.kept[bucket];
        kept.buffers -= 1;
        kept.bytes -= capacity;
    }
}

/// The oldest end of a queue.
struct Oldest {
    queue: usize,
    bucket: usize,
    alignment: usize,
    since: u64,
}
