//! The run of each kind that a thread freed last: it is the thread's to use again without a lock, for as many pages.
//!
//! To the heap it is in use, but for its tag. Whatever else the thread asks the heap for, it [gives](Cache::give_runs) these back before: so a
//! request finds what it would find without them.

use std::ptr::NonNull;

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
    /// How many pages that are leased were told of.
    told: AtomicUsize,
}

impl Runs {
    pub(super) const fn none() -> Self {
        Self {
            pages: [const { AtomicU32::new(0) }; KINDS],
            rounded: AtomicUsize::new(0),
            seen: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
        }
    }

    pub(super) fn begin(&self) {
        self.rounded.store(0, Relaxed);
        self.seen.store(0, Relaxed);
    }

    /// So many pages are told of; returns how many were before.
    pub(super) fn tell(&self, pages: usize) -> usize {
        let before = self.told.load(Relaxed);
        self.told.store(pages, Relaxed);
        before
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

    /// Keeps a run where there was no room, in place of the one before; or gives it back as well.
    pub(crate) fn keep_run(&self, kind: usize, run: Run, start: NonNull<u8>, give: impl FnMut(usize, NonNull<u8>)) {
        self.note_kept(kind, run);
        self.overflow(kind, start, give);
        self.freed(Some(kind), run.size);
    }

    /// Whether some are kept.
    #[inline]
    pub(crate) fn keeps_runs(&self) -> bool {
        self.leasing.load(Relaxed) >> CLASSES != 0 && (CLASSES..KEPT_CLASSES).any(|kind| self.held(kind) > 0)
    }

    /// Gives them back; for others there is room as before.
    pub(crate) fn give_runs(&self, mut give: impl FnMut(usize, NonNull<u8>)) {
        (CLASSES..KEPT_CLASSES).for_each(|kind| self.give_back(kind, self.held(kind), &mut give));
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
