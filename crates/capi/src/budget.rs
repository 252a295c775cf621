//! Budgets: limits for what stands above them, one within another.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{self, NonNull};

use tenzor_memory::{Backing, Budget, Grounds, Refused};
use tenzor_table::is_there_room;

use crate::error::{Failure, answer, tenzor_error};
use crate::heap::{self, Shared};

/// A limit for all that takes its memory from it. It lives as long as any handle, and as what stands above it.
pub struct tenzor_budget(Budget<Shared>);

/// What a budget has granted, in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct tenzor_budget_usage {
    /// The limit; `SIZE_MAX` if there is none.
    pub limit: usize,
    /// What is granted and not returned.
    pub granted: usize,
    /// The part of it that pools, arenas and planned allocators keep for reuse, and give up when others need it.
    pub kept: usize,
    /// The most that was granted at once since the peak was taken.
    pub peak_granted: usize,
}

/// Asked before a budget refuses a request, with the bytes that are missing: may free memory of its own, and says whether it did.
pub type tenzor_pressure_handler = Option<unsafe extern "C" fn(context: *mut c_void, missing: usize) -> bool>;

/// Where an allocator's memory comes from.
pub(crate) enum Ground {
    Heap,
    Budget(Budget<Shared>),
}

impl Ground {
    /// # Safety
    /// `budget` is null or alive.
    pub(crate) unsafe fn of(budget: *const tenzor_budget) -> Self {
        heap::be_asked();
        // SAFETY: the caller's word.
        unsafe { budget.as_ref() }.map_or(Self::Heap, |budget| Self::Budget(budget.0.clone()))
    }

    fn backing(&self) -> &dyn Backing {
        match self {
            Self::Heap => &Shared,
            Self::Budget(budget) => budget,
        }
    }
}

// SAFETY: all is passed on to what stays the same.
unsafe impl Backing for Ground {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.backing().obtain(layout)
    }

    fn obtain_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        self.backing().obtain_zeroed(layout)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's word, passed on.
        unsafe { self.backing().give_back(block, layout) };
    }

    unsafe fn refit(&self, block: NonNull<u8>, old: Layout, new: Layout, zeroed: bool) -> Option<NonNull<u8>> {
        // SAFETY: the caller's word, passed on.
        unsafe { self.backing().refit(block, old, new, zeroed) }
    }

    fn is_pool(&self) -> bool {
        self.backing().is_pool()
    }

    fn grounds(&self, grounds: &mut Grounds) {
        self.backing().grounds(grounds);
    }
}

/// A budget of `limit` bytes (`SIZE_MAX` for none), of the heap, or within `parent` if that is not null. The first 23 bytes of `name` are in errors. Null if it cannot
/// be made: the name is null or no UTF-8, or there is no memory.
///
/// # Safety
/// `name` ends with a zero; `parent` and `error` are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_budget_create(
    name: *const c_char,
    limit: usize,
    parent: *const tenzor_budget,
    error: *mut tenzor_error,
) -> *mut tenzor_budget {
    let make = || {
        if name.is_null() {
            return Err(Failure::Invalid("a budget needs a name"));
        }
        if !is_there_room() {
            return Err(Failure::NoRoom);
        }
        // SAFETY: the caller's word.
        let name = unsafe { CStr::from_ptr(name) };
        let name = name.to_str().map_err(|_| Failure::Invalid("the name is no UTF-8"))?;
        // SAFETY: the caller's word.
        let budget = match unsafe { parent.as_ref() } {
            Some(parent) => parent.0.within(name, limit),
            None => Budget::new_in(name, limit, Shared),
        };
        Ok(Box::into_raw(Box::new(tenzor_budget(budget))))
    };
    // SAFETY: the caller's word.
    unsafe { answer(error, ptr::null_mut(), make()) }
}

/// Lets go of a budget. What stands above it keeps it alive. Null does nothing.
///
/// # Safety
/// It came from `tenzor_budget_create`, and nobody uses the handle any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_budget_destroy(budget: *mut tenzor_budget) {
    if !budget.is_null() {
        // SAFETY: the caller's word.
        drop(unsafe { Box::from_raw(budget) });
    }
}

/// Sets another limit from now on. Of what is granted beyond it, what is kept for reuse is given up at once. Returns whether there is such a budget.
///
/// # Safety
/// `budget` is null or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_budget_set_limit(budget: *const tenzor_budget, limit: usize) -> bool {
    // SAFETY: the caller's word.
    unsafe { budget.as_ref() }.map(|budget| budget.0.set_limit(limit)).is_some()
}

/// Has what is kept for reuse above this budget given up. Returns how many bytes.
///
/// # Safety
/// `budget` is null or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_budget_trim(budget: *const tenzor_budget) -> usize {
    // SAFETY: the caller's word.
    unsafe { budget.as_ref() }.map_or(0, |budget| budget.0.trim())
}

/// Writes what is granted. With `take_peak`, the peak is taken anew then. Returns whether there is such a budget.
///
/// # Safety
/// `budget` is null or alive; `usage` is null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_budget_usage_of(
    budget: *const tenzor_budget,
    take_peak: bool,
    usage: *mut tenzor_budget_usage,
) -> bool {
    // SAFETY: the caller's word.
    let (Some(budget), Some(to)) = (unsafe { (budget.as_ref(), usage.as_mut()) }) else { return false };
    let usage = budget.0.usage();
    let peak_granted = if take_peak { budget.0.take_peak() } else { usage.peak_granted };
    *to = tenzor_budget_usage { limit: usage.limit, granted: usage.granted, kept: usage.kept, peak_granted };
    true
}

struct Spill(unsafe extern "C" fn(*mut c_void, usize) -> bool, *mut c_void);

// SAFETY: the program's word, that any thread may call it so.
unsafe impl Send for Spill {}
// SAFETY: as above.
unsafe impl Sync for Spill {}

impl Spill {
    fn spill(&self, missing: usize) -> bool {
        // SAFETY: the program's word.
        unsafe { (self.0)(self.1, missing) }
    }
}

/// Asks `handler` before a request is refused by this budget, once everything kept for reuse was given up. It runs in the thread that requests, without a lock of
/// Tenzor's, and may free memory of any thread's, but not through the arena or planned allocator that requests. Null for none. Returns whether there is such a budget, and memory to note it.
///
/// # Safety
/// `budget` is null or alive. Any thread may call the handler with this context, as long as the budget is there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_budget_on_pressure(
    budget: *const tenzor_budget,
    handler: tenzor_pressure_handler,
    context: *mut c_void,
) -> bool {
    // SAFETY: the caller's word.
    let Some(budget) = (unsafe { budget.as_ref() }).filter(|_| is_there_room()) else { return false };
    match handler {
        None => budget.0.on_pressure(|_| false),
        Some(handler) => {
            let spill = Spill(handler, context);
            budget.0.on_pressure(move |missing| spill.spill(missing));
        }
    }
    true
}
