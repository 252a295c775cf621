//! Whose heap it is: that of the library that replaces malloc, where it is loaded, else the one in this library.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ffi::{c_char, c_void};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Release};

use tenzor_memory::{Backing, Grounds, Pages, Refused};
use tenzor_table::{Counts, Heap, OWN, Row, Settings, is_there_room};

use crate::error::{Failure, answer, tenzor_error};

/// The other library's table, if it is there.
mod other {
    use std::arch::global_asm;

    use super::Heap;

    // A reference that may stay empty, which Rust has no way to write: a word that the linker or the loader fills.
    global_asm!(
        ".pushsection .data.rel.ro,\"aw\",@progbits",
        ".p2align 3",
        ".weak tenzor_heap_1",
        ".hidden tenzor_other_heap",
        ".globl tenzor_other_heap",
        "tenzor_other_heap: .8byte tenzor_heap_1",
        ".popsection",
    );

    unsafe extern "C" {
        #[link_name = "tenzor_other_heap"]
        static OTHER: Option<&'static Heap>;
    }

    pub(super) fn heap() -> Option<&'static Heap> {
        // SAFETY: a word that the loader has filled, with the address of a table or null.
        unsafe { OTHER }.filter(|heap| heap.bytes >= size_of::<Heap>())
    }
}

pub(crate) fn heap() -> &'static Heap {
    other::heap().unwrap_or(&OWN)
}

/// The process's heap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared;

impl Shared {
    fn request(layout: Layout, zeroed: bool) -> Result<NonNull<u8>, Refused> {
        if layout.size() == 0 {
            return Ok(NonNull::without_provenance(layout.align().try_into().map_err(|_| Refused)?));
        }
        NonNull::new((heap().obtain)(layout.size(), layout.align(), zeroed)).ok_or_else(|| refused(layout))
    }
}

/// The other library's reason is looked for there; our own heap has noted it.
#[cold]
fn refused(layout: Layout) -> Refused {
    let mut in_use = 0;
    match other::heap() {
        Some(heap) if (heap.is_over_limit)(layout.size(), layout.align(), &mut in_use) => {
            Refused::over_limit("the process's heap", layout, (heap.limit)(), in_use)
        }
        _ => Refused,
    }
}

fn counts(heap: &Heap) -> Counts {
    let mut counts = Counts::default();
    // SAFETY: there is room for one, and for no rows.
    unsafe { (heap.stats)(&raw mut counts, ptr::null_mut(), 0, false) };
    counts
}

// SAFETY: `Pages` promises it: a table is of its functions, whoever's.
unsafe impl Backing for Shared {
    fn obtain(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        Self::request(layout, false)
    }

    fn obtain_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, Refused> {
        Self::request(layout, true)
    }

    unsafe fn give_back(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: the caller's word, passed on.
            unsafe { (heap().give_back)(block.as_ptr(), layout.size(), layout.align()) };
        }
    }

    unsafe fn refit(&self, block: NonNull<u8>, old: Layout, new: Layout, zeroed: bool) -> Option<NonNull<u8>> {
        // SAFETY: the caller's word, passed on.
        NonNull::new(unsafe { (heap().refit)(block.as_ptr(), old.align(), old.size(), new.size(), zeroed) })
    }

    fn is_pool(&self) -> bool {
        true
    }

    fn grounds(&self, grounds: &mut Grounds) {
        // The keepers that this library knows; `give_way` asks them for the other one.
        Pages.grounds(grounds);
    }
}

/// Asked before the heap refuses a request of `size` bytes: may free memory, and says whether the request is to be tried again.
pub type tenzor_refusal_handler =
    Option<unsafe extern "C" fn(context: *mut c_void, size: usize, alignment: usize) -> bool>;

/// The version of the library, as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn tenzor_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Whether the heap is that of the process's malloc: that libtenzor-malloc is loaded.
#[unsafe(no_mangle)]
pub extern "C" fn tenzor_is_malloc() -> bool {
    other::heap().is_some()
}

/// Settings that change nothing: those to begin with.
#[unsafe(no_mangle)]
pub extern "C" fn tenzor_heap_config_unchanged() -> Settings {
    Settings::default()
}

/// Applies settings to the heap. What the environment has set stands, as it is the word of whoever runs the program. Returns whether they mean something; if not, nothing happened.
///
/// # Safety
/// `config` and `error` are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_heap_configure(config: *const Settings, error: *mut tenzor_error) -> bool {
    // SAFETY: the caller's word.
    let applied = match unsafe { config.as_ref() } {
        None => Err(Failure::Invalid("there are no settings")),
        Some(settings) if (heap().configure)(settings) => Ok(true),
        Some(_) => Err(Failure::Invalid("a setting has no such value")),
    };
    // SAFETY: the caller's word.
    unsafe { answer(error, false, applied) }
}

/// The limit of the heap in bytes; `SIZE_MAX` if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn tenzor_heap_limit() -> usize {
    (heap().limit)()
}

/// Gives all free memory back to the system: of the heap, of threads' stocks, and what pools, arenas and planned allocators keep of it. Returns how many bytes.
#[unsafe(no_mangle)]
pub extern "C" fn tenzor_heap_trim() -> usize {
    let own = Pages.trim();
    match other::heap() {
        None => own,
        // What those above it gave up is part of that.
        Some(heap) => (heap.trim)(),
    }
}

/// Writes the tables of the heap's statistics and of where the process's memory is, as text that ends with a zero, as much as there is room for. Returns
/// the bytes of all of it, without the zero.
///
/// # Safety
/// So many bytes may be written at `text`, which may be null if `room` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenzor_heap_report(text: *mut c_char, room: usize) -> usize {
    if text.is_null() || room == 0 {
        // SAFETY: there is no room.
        return unsafe { (heap().report)(ptr::null_mut(), 0) };
    }
    // SAFETY: the caller's word; the last byte is for the zero.
    unsafe {
        let bytes = (heap().report)(text.cast(), room - 1);
        text.add(bytes.min(room - 1)).write(0);
        bytes
    }
}

/// The program's own handler, in memory that stays, or null.
static HANDLER: AtomicPtr<(tenzor_refusal_handler, *mut c_void)> = AtomicPtr::new(ptr::null_mut());

/// What this library keeps is given up before the program is asked.
extern "C" fn give_way(size: usize, alignment: usize) -> bool {
    if let Some(heap) = other::heap() {
        let before = counts(heap).bytes_in_use_rounded;
        Pages.trim();
        if counts(heap).bytes_in_use_rounded < before {
            return true;
        }
    }
    // SAFETY: null, or what `tenzor_heap_on_refusal` has put there for ever.
    let handler = unsafe { HANDLER.load(Acquire).as_ref() };
    handler.is_some_and(|&(handler, context)| {
        // SAFETY: the program's word, that it may be called so.
        handler.is_some_and(|handler| unsafe { handler(context, size, alignment) })
    })
}

/// Has the other library's heap ask this one for what its allocators keep. Before any keeps something.
pub(crate) fn be_asked() {
    if let Some(heap) = other::heap() {
        (heap.on_refusal)(Some(give_way));
    }
}

/// Asks `handler` before the heap refuses a request, once what is kept for reuse was given up. It runs in the thread that requests, in the midst of the
/// request, and may free memory; null for none. It may be asked several times for a request, and at any time from then on, also after another took its place.
/// Returns whether there was memory to note it.
#[unsafe(no_mangle)]
pub extern "C" fn tenzor_heap_on_refusal(handler: tenzor_refusal_handler, context: *mut c_void) -> bool {
    if !is_there_room() {
        return false;
    }
    // It is a few bytes each time, which stay: another thread may be about to call it.
    let kept = Box::into_raw(Box::new((handler, context)));
    HANDLER.store(kept, Release);
    (heap().on_refusal)(Some(give_way));
    true
}

/// Statistics of the heap, whoever's it is.
pub(crate) fn stats(takes_peaks: bool) -> tenzor_memory::Stats {
    let mut counts = Counts::default();
    let mut rows = [Row::default(); 64];
    // SAFETY: there is room for one, and for so many rows.
    let count = unsafe { (heap().stats)(&raw mut counts, rows.as_mut_ptr(), rows.len(), takes_peaks) };
    counts.with_rows(&rows[..count.min(rows.len())])
}
