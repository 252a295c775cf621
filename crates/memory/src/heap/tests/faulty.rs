//! A system that fails as a rule says.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;

use crate::os::{HUGE, Linux, Map, Move, Os, Purge};

/// What a call to the system does when it fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Manner {
    /// Nothing.
    #[default]
    Refuse,
    /// Any of the things that the contract allows, at random; where something is lost, somebody else comes to have it.
    Any,
    /// The worst of them.
    Lose,
    /// As bad, and nobody comes to have what is lost.
    Vanish,
    /// As `Any`, but it says that nothing happened: what must not be, and is to be noticed.
    Lie,
}

/// A system that fails as a rule says.
#[derive(Clone, Debug, Default)]
pub(super) struct Faulty(pub(super) Rc<State>);

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) manner: Cell<Manner>,
    pub(super) calls: Cell<u64>,
    /// Every call with a number that this divides fails; 0: none does.
    pub(super) every: Cell<u64>,
    pub(super) random: RefCell<fastrand::Rng>,
    /// Nothing can be had at a given place.
    pub(super) closed: Cell<bool>,
    /// The bytes that may be mapped, if it is not 0, and those that are.
    pub(super) most: Cell<usize>,
    pub(super) mapped: Cell<usize>,
    /// The process locks its memory.
    pub(super) locked: Cell<bool>,
    /// Something else was where it was to map.
    pub(super) met: Cell<bool>,
    /// Mappings of others, each filled with its own address, and never to be touched.
    pub(super) others: RefCell<Vec<(usize, usize)>>,
    /// What will be nobody's in the end: tables, and what stayed mapped where it was to be unmapped.
    pub(super) left: RefCell<Vec<(usize, usize)>>,
    /// Calls of `collapse`.
    pub(super) collapsed: Cell<usize>,
    /// Units moved.
    pub(super) moved: Cell<usize>,
    /// The heap's lock is not held.
    pub(super) outside: Cell<bool>,
    /// Calls of `unmap` while it was.
    pub(super) unmapped_inside: Cell<usize>,
    /// Units moved since the heap was called last.
    pub(super) moves: Cell<usize>,
    pub(super) mappings: Cell<usize>,
}

const FOREIGN: usize = 64 << 10;

impl Faulty {
    pub(super) fn new(every: u64, manner: Manner, seed: u64) -> Self {
        let faulty = Self::default();
        faulty.0.every.set(every);
        faulty.0.manner.set(manner);
        *faulty.0.random.borrow_mut() = fastrand::Rng::with_seed(seed);
        faulty
    }

    fn fails(&self) -> bool {
        self.0.calls.set(self.0.calls.get() + 1);
        self.0.every.get() != 0 && self.0.calls.get().is_multiple_of(self.0.every.get())
    }

    fn pick(&self, of: u32) -> u32 {
        match self.0.manner.get() {
            Manner::Refuse => 0,
            Manner::Lose | Manner::Vanish => of - 1,
            Manner::Any | Manner::Lie => self.0.random.borrow_mut().u32(0..of),
        }
    }

    /// The work that may be done under one hold of the lock begins anew.
    pub(super) fn hold(&self) {
        assert!(self.0.moves.get() <= 1, "{} units moved at once", self.0.moves.get());
        self.0.moves.set(0);
    }

    /// Others have what is mapped there.
    unsafe fn give(&self, start: NonNull<u8>, bytes: usize) {
        // SAFETY: mapped, by the caller's word, and from now on the test's.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr().cast::<usize>(), bytes / 8).fill(start.addr().get()) };
        self.0.others.borrow_mut().push((start.addr().get(), bytes));
    }

    /// Takes memory away, and lets others have some of the place: at once, so that the process's other threads, which map memory
    /// too, don't come between.
    unsafe fn lose(&self, start: NonNull<u8>, bytes: usize) {
        let given = match self.0.manner.get() {
            // A lie shall be found out by what others have there, not by a hole.
            Manner::Lie => bytes,
            Manner::Vanish => 0,
            _ if self.pick(4) > 0 => bytes.min(FOREIGN),
            _ => 0,
        };
        if given > 0 {
            // SAFETY: the caller's word.
            unsafe { self.give(start, given) };
        }
        if given < bytes {
            // SAFETY: the caller's word.
            assert!(unsafe { Linux.unmap(start.add(given), bytes - given) });
        }
    }

    pub(super) fn check_others(&self) {
        for &(start, bytes) in self.0.others.borrow().iter() {
            let at = NonNull::new(std::ptr::with_exposed_provenance_mut(start)).unwrap();
            assert!(Linux.resident(at, bytes).is_some(), "what others have at {start:#x} is gone");
            // SAFETY: mapped, see `give`.
            let words =
                unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<usize>(start), bytes / 8) };
            assert!(words.iter().all(|&word| word == start), "what others have at {start:#x} was written");
        }
    }

    pub(super) fn release_others(&self) {
        for (start, bytes) in self.0.others.take().into_iter().chain(self.0.left.take()) {
            // SAFETY: mapped, and used by nobody.
            unsafe { Linux.unmap(NonNull::new(std::ptr::with_exposed_provenance_mut(start)).unwrap(), bytes) };
        }
    }

    fn may_map(&self, bytes: usize) -> bool {
        let all = self.0.mapped.get() + bytes;
        let may = self.0.most.get() == 0 || all <= self.0.most.get();
        if may {
            self.0.mapped.set(all);
        }
        may
    }
}

// SAFETY: what does not fail, Linux does; what fails does what the contract says, but for a liar's.
unsafe impl Os for Faulty {
    fn map(&self, start: NonNull<u8>, bytes: usize) -> Map {
        if self.0.closed.get() {
            return Map::Taken;
        }
        if self.fails() {
            if self.pick(2) == 0 {
                return Map::Refused;
            }
            // Another thread of this process may be there already.
            let bytes = bytes.min(FOREIGN);
            if Linux.map(start, bytes) == Map::Done {
                // SAFETY: just mapped.
                unsafe { self.give(start, bytes) };
            }
            return Map::Taken;
        }
        if !self.may_map(bytes) {
            return Map::Refused;
        }
        let done = Linux.map(start, bytes);
        if done != Map::Done {
            // A heap of another test is there.
            self.0.mapped.set(self.0.mapped.get() - bytes);
            self.0.met.set(true);
        }
        done
    }
    fn map_anywhere(&self, bytes: usize, align: usize) -> Option<NonNull<u8>> {
        if self.fails() || !self.may_map(bytes) {
            return None;
        }
        let start = Linux.map_anywhere(bytes, align)?;
        if align < HUGE {
            // Tables stay as long as their heap.
            self.0.left.borrow_mut().push((start.addr().get(), bytes));
        }
        Some(start)
    }
    unsafe fn unmap(&self, start: NonNull<u8>, bytes: usize) -> bool {
        self.0.unmapped_inside.set(self.0.unmapped_inside.get() + usize::from(!self.0.outside.get()));
        if self.fails() {
            let lost = match self.pick(3) {
                0 => 0,
                1 => bytes / 2 / HUGE * HUGE,
                _ => bytes,
            };
            // SAFETY: passed on.
            unsafe { self.lose(start, lost) };
            if lost < bytes {
                self.0.left.borrow_mut().push((start.addr().get() + lost, bytes - lost));
            }
            return false;
        }
        self.0.mapped.set(self.0.mapped.get() - bytes);
        // SAFETY: passed on.
        unsafe { Linux.unmap(start, bytes) }
    }
    unsafe fn purge(&self, start: NonNull<u8>, bytes: usize) -> Purge {
        assert!(self.0.outside.get() && bytes <= 16 << 20, "{bytes} bytes purged at once, or while the lock is held");
        if self.fails() {
            match self.pick(3) {
                0 => return Purge::Kept,
                1 => {
                    // SAFETY: passed on.
                    unsafe { Linux.purge(start, (bytes / 2).next_multiple_of(Linux.page_size())) };
                    return Purge::Kept;
                }
                // SAFETY: passed on.
                _ => unsafe { self.lose(start, bytes) },
            }
            return if self.0.manner.get() == Manner::Lie { Purge::Zero } else { Purge::Lost };
        }
        // SAFETY: passed on.
        unsafe { Linux.purge(start, bytes) }
    }
    unsafe fn remap(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> Move {
        self.0.moves.set(self.0.moves.get() + 1);
        if self.fails() {
            let emptied = match self.pick(3) {
                0 => return Move::Kept,
                // SAFETY: passed on.
                1 => unsafe { Linux.purge(to, bytes) == Purge::Zero },
                _ => {
                    // SAFETY: passed on.
                    unsafe { self.lose(to, bytes) };
                    false
                }
            };
            return match (self.0.manner.get(), emptied) {
                (Manner::Lie, _) => Move::Kept,
                (_, true) => Move::Emptied,
                (_, false) => Move::Lost,
            };
        }
        self.0.moved.set(self.0.moved.get() + 1);
        // SAFETY: passed on.
        unsafe { Linux.remap(from, to, bytes) }
    }
    unsafe fn advise(&self, start: NonNull<u8>, bytes: usize, huge: bool) {
        if !self.fails() {
            // SAFETY: passed on.
            unsafe { Linux.advise(start, bytes, huge) };
        }
    }
    fn collapse(&self, start: NonNull<u8>) -> bool {
        self.0.collapsed.set(self.0.collapsed.get() + 1);
        !self.fails() && Linux.collapse(start)
    }
    fn resident(&self, start: NonNull<u8>, bytes: usize) -> Option<usize> {
        if self.fails() { None } else { Linux.resident(start, bytes) }
    }
    fn address_limit(&self) -> Option<usize> {
        Linux.address_limit()
    }
    fn is_beyond(&self, bytes: usize) -> bool {
        Linux.is_beyond(bytes)
    }
    fn is_locked(&self) -> bool {
        self.0.locked.get() || Linux.is_locked()
    }
    fn max_mappings(&self) -> usize {
        if self.0.mappings.get() == 0 { Linux.max_mappings() } else { self.0.mappings.get() }
    }
    fn page_size(&self) -> usize {
        Linux.page_size()
    }
}
