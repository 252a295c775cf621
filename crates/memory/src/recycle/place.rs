//! Where a shelf stays: there others find it, who ask for what lies there, and so do forks.
#![allow(unsafe_code)]

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::{Once, OnceLock};

use super::shelf::{Memory, Shelf};
use crate::backing::Count;
use crate::listed::{List, Listed};
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
use crate::pressure::HEAP;
use crate::pressure::{Grounds, Keep, Keeper, Kept, MALLOC};
use crate::process;
use crate::sync::{Hold, Lock};

/// Where a shelf stays, so that others can ask for what lies there.
pub(super) struct Place {
    /// It refers to the other. Once something is kept it is there, or is not needed.
    keeper: OnceLock<Option<Keeper>>,
    pub(super) stored: Box<Stored>,
}

// A panic elsewhere leaves nothing half done there.
impl UnwindSafe for Place {}
impl RefUnwindSafe for Place {}

impl Place {
    pub(super) fn new(budget: Option<Box<dyn Count>>) -> Self {
        static HANDLERS: Once = Once::new();
        HANDLERS.call_once(|| process::at_fork(Some(before_fork), Some(after_fork), Some(after_fork)));
        let shelf = Listed::new(&SHELVES, Lock::new(Shelf::new()), |_, _| ());
        Self { keeper: OnceLock::new(), stored: Box::new(Stored { shelf, budget }) }
    }

    pub(super) fn keeper(&self) -> Option<&Keeper> {
        self.keeper.get()?.as_ref()
    }

    /// From now on, others can ask for what is kept, where the global allocator has its memory from as here.
    #[cfg_attr(not(all(target_os = "linux", target_pointer_width = "64")), allow(unused_variables))]
    pub(super) fn answer_to_pressure(&self, memory: &Memory) {
        let list = || {
            let mut grounds = Grounds::default();
            #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
            grounds.add(if process::has(memory.ptr) { &HEAP } else { &MALLOC });
            #[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
            grounds.add(&MALLOC);
            if let Some(budget) = &self.stored.budget {
                budget.limits(&mut grounds);
            }
            let keeps: NonNull<dyn Keep + '_> = NonNull::from(&*self.stored);
            // SAFETY: it stays in its box, which is dropped after the keeper; what guards it is a lock, and budgets and the global allocator bear any
            // thread.
            unsafe { Keeper::new(keeps, grounds) }
        };
        if let Some(keeper) = self.keeper.get_or_init(list) {
            keeper.is_used();
        }
    }
}

/// A shelf, and where what lies there counts.
///
/// *Counted*: what lies on the shelf counts in the budget, from before it lies there until it was taken out and given back, or handed out.
pub(super) struct Stored {
    pub(super) shelf: Listed<Lock<Shelf>>,
    budget: Option<Box<dyn Count>>,
}

impl Stored {
    /// Counts so many bytes, if there is room for them.
    pub(super) fn count(&self, bytes: usize) -> bool {
        self.budget.as_ref().is_none_or(|budget| budget.count(bytes))
    }

    pub(super) fn uncount(&self, bytes: usize) {
        if let Some(budget) = &self.budget {
            budget.uncount(bytes);
        }
    }

    /// Gives back what was on the shelf; returns how many bytes.
    pub(super) fn give_back(&self, memory: Memory) -> usize {
        let bytes = memory.layout.size();
        drop(memory);
        self.uncount(bytes);
        bytes
    }

    /// Gives back what has been idle longest, as long as it is `wanted` beside so many bytes that are kept; returns how many bytes.
    pub(super) fn give_back_while(&self, wanted: impl Fn(usize, usize) -> bool) -> usize {
        let mut given = 0;
        loop {
            let mut shelf = self.shelf.lock();
            let oldest = if wanted(shelf.kept_bytes, given) { shelf.oldest(None) } else { None };
            drop(shelf);
            let Some(oldest) = oldest else { return given };
            given += self.give_back(oldest);
        }
    }
}

impl Keep for Stored {
    fn kept(&self) -> Kept {
        Kept { pools: self.shelf.lock().kept_bytes, ..Kept::default() }
    }

    fn give_up(&self, least: usize) -> usize {
        self.give_back_while(|_, given| given < least)
    }

    fn decays(&self) -> bool {
        false
    }

    fn rest(&self, _: usize) {}
}

impl Drop for Place {
    fn drop(&mut self) {
        let _giving = self.keeper().map(Keeper::leave);
        self.stored.give_up(usize::MAX);
    }
}

/// Every shelf, so that forks find them.
static SHELVES: Lock<List<Lock<Shelf>>> = Lock::new(List::new());

extern "C" fn before_fork() {
    if SHELVES.hold_for_fork() == Hold::First {
        SHELVES.lock().iter().for_each(|shelf| _ = shelf.hold_for_fork());
    }
}

extern "C" fn after_fork() {
    if SHELVES.forks() == 1 {
        // Of what a handler made meanwhile, which is not held, nothing is released.
        SHELVES.lock().iter().for_each(|shelf| shelf.release_after_fork());
    }
    SHELVES.release_after_fork();
}
