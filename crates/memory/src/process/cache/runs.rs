//! The run of each kind that a thread freed last: it is the thread's to use again without a lock, for as many pages.
//!
//! To the heap it is in use, but for its tag. Whatever else the thread asks the heap for, it [gives](Cache::give_runs) these back before: so a
//! request finds what it would find without them. Where that happens again and again, and none was of use, none is kept: so who asks for other sizes each
//! time is as fast as without. All threads together keep little.

use std::ptr::NonNull;

use super::super::tuning::FREES_BETWEEN_KEEPING;
use super::{Cache, add};
use crate::heap::classes::{CLASSES, KEPT_CLASSES, PAGE, Run};
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU32, AtomicUsize};

const KINDS: usize = KEPT_CLASSES - CLASSES;

/// What is known of them.
#[derive(Debug)]
pub(super) struct Runs {
    /// The pages of each that was kept last.
    pages: [AtomicU32; KINDS],
    /// Bytes in the pages of runs that came in use, less those that went out of it.
    rounded: AtomicUsize,
    /// How many requests they had served when time had passed.
    seen: AtomicUsize,
    /// Of each, how many it had served when it was given back last; how many frees are to go by until another is kept, and how many are to the next time: twice as
    /// many whenever one was given back and had served none.
    served: [AtomicUsize; KINDS],
    wait: [AtomicU32; KINDS],
    waits: [AtomicU32; KINDS],
}

impl Runs {
    pub(super) const fn none() -> Self {
        Self {
            pages: [const { AtomicU32::new(0) }; KINDS],
            rounded: AtomicUsize::new(0),
            seen: AtomicUsize::new(0),
            served: [const { AtomicUsize::new(0) }; KINDS],
            wait: [const { AtomicU32::new(0) }; KINDS],
            waits: [const { AtomicU32::new(0) }; KINDS],
        }
    }

    pub(super) fn begin(&self) {
        let counts = [&self.rounded, &self.seen];
        counts.into_iter().chain(&self.served).for_each(|count| count.store(0, Relaxed));
        self.wait.iter().chain(&self.waits).for_each(|count| count.store(0, Relaxed));
    }

    /// A run of a kind is given back for others' sake. Returns whether it was of use.
    fn was_of_use(&self, kind: usize, popped: usize) -> bool {
        let kind = kind - CLASSES;
        let is_of_use = self.served[kind].swap(popped, Relaxed) != popped;
        let waits = if is_of_use { 0 } else { (2 * self.waits[kind].load(Relaxed) + 1).min(FREES_BETWEEN_KEEPING) };
        self.waits[kind].store(waits, Relaxed);
        self.wait[kind].store(waits, Relaxed);
        is_of_use
    }

    /// Whether more frees of a kind are to go by; this is one.
    fn waits(&self, kind: usize) -> bool {
        let wait = &self.wait[kind - CLASSES];
        let left = wait.load(Relaxed);
        wait.store(left.saturating_sub(1), Relaxed);
        left > 0
    }

    pub(super) fn rounded(&self) -> usize {
        self.rounded.load(Relaxed)
    }
}

impl Cache {
    /// The run of a kind, if it has the pages that are asked for.
    #[inline]
    pub(crate) fn pop_run(&self, kind: usize, run: Run) -> Option<NonNull<u8>> {
        if self.runs.pages[kind - CLASSES].load(Relaxed) != run.pages {
            return None;
        }
        let start = self.pop(kind, run.size)?;
        add(&self.runs.rounded, run.capacity());
        Some(start)
    }

    /// Keeps a run, if there is room.
    #[inline]
    pub(crate) fn push_run(&self, kind: usize, run: Run, start: NonNull<u8>) -> bool {
        self.push_noting(kind, run.size, start, || self.note_kept(kind, run))
    }

    #[inline]
    fn note_kept(&self, kind: usize, run: Run) {
        self.runs.pages[kind - CLASSES].store(run.pages, Relaxed);
        add(&self.runs.rounded, 0_usize.wrapping_sub(run.capacity()));
    }

    /// Whether there is room for a run of a kind.
    #[inline]
    pub(crate) fn has_room(&self, kind: usize) -> bool {
        let stack = &self.stacks[kind];
        stack.top() < stack.limit.load(Relaxed) as usize
    }

    /// Makes room for a run of a kind, if there may be one, and it was of use so far. Returns whether there is.
    pub(crate) fn make_room(&self, kind: usize) -> bool {
        if !self.taken.load(Relaxed) || self.stacks[kind].lease() > 0 || self.runs.waits(kind) {
            return false;
        }
        let _at_leases = self.enter();
        self.widen(kind, &mut |_, _| ());
        self.has_room(kind)
    }

    /// Whether some are kept.
    #[inline]
    pub(crate) fn keeps_runs(&self) -> bool {
        self.leasing.load(Relaxed) >> CLASSES != 0 && (CLASSES..KEPT_CLASSES).any(|kind| self.held(kind) > 0)
    }

    /// Gives them back. Where one was of use, there is room for another; where it was not, there is none for a while.
    pub(crate) fn give_runs(&self, mut give: impl FnMut(usize, NonNull<u8>)) {
        for kind in (CLASSES..KEPT_CLASSES).filter(|&kind| self.held(kind) > 0) {
            if self.runs.was_of_use(kind, self.stacks[kind].popped.load(Relaxed)) {
                self.give_back(kind, 1, &mut give);
            } else {
                self.give_up(kind, &mut give);
            }
        }
    }

    /// As [`give_runs`](Self::give_runs); there is no room for others.
    pub(crate) fn end_runs(&self, mut give: impl FnMut(usize, NonNull<u8>)) {
        (CLASSES..KEPT_CLASSES).for_each(|kind| self.give_up(kind, &mut give));
    }

    /// Time has passed. Returns whether some are kept, and none was used meanwhile.
    pub(crate) fn runs_rest(&self) -> bool {
        let served =
            self.stacks[CLASSES..].iter().fold(0, |sum: usize, stack| sum.wrapping_add(stack.popped.load(Relaxed)));
        self.runs.seen.swap(served, Relaxed) == served && self.keeps_runs()
    }

    /// The bytes of blocks that lie in the stack of a class, or of the run that does.
    pub(crate) fn held_bytes(&self, class: usize) -> usize {
        let each = match class.checked_sub(CLASSES) {
            Some(kind) => self.runs.pages[kind].load(Relaxed) as usize * PAGE,
            None => crate::heap::classes::class_capacity(class),
        };
        self.held(class) * each
    }
}
