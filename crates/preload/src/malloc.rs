//! C's functions, as glibc's manual has them.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use libc::{EINVAL, ENOMEM, c_int, c_void, size_t};
use tenzor_memory::malloc;

use crate::process::unless_passive;
use crate::stray;

/// What suits every type.
pub(crate) const ALIGN: usize = 16;

/// The system's pages, as far as blocks are aligned to them.
const PAGE: usize = 4096;

pub(crate) fn set_errno(error: c_int) {
    // SAFETY: the calling thread's own.
    unsafe { *libc::__errno_location() = error };
}

fn errno() -> c_int {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() }
}

#[cold]
fn refused(error: c_int) -> *mut c_void {
    set_errno(error);
    ptr::null_mut()
}

/// More than `PTRDIFF_MAX` has no layout.
#[inline]
pub(crate) fn request(size: size_t, align: usize) -> Option<Layout> {
    Layout::from_size_align(size, align).ok()
}

#[inline]
fn answer(block: Option<NonNull<u8>>) -> *mut c_void {
    match block {
        Some(block) => block.as_ptr().cast(),
        None => refused(ENOMEM),
    }
}

#[unsafe(no_mangle)]
extern "C" fn malloc(size: size_t) -> *mut c_void {
    answer(request(size, ALIGN).and_then(malloc::alloc))
}

#[unsafe(no_mangle)]
extern "C" fn calloc(count: size_t, size: size_t) -> *mut c_void {
    let bytes = count.checked_mul(size);
    answer(bytes.and_then(|bytes| request(bytes, ALIGN)).and_then(malloc::alloc_zeroed))
}

/// # Safety
/// As C has it, of this function and of all below.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn free(block: *mut c_void) {
    let Some(block) = NonNull::new(block.cast()) else { return };
    // SAFETY: the caller's word.
    if let Err(what) = unsafe { malloc::free(block) } {
        let before = errno();
        // SAFETY: the caller's word.
        unsafe { stray::free(block, what) };
        set_errno(before);
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cfree(block: *mut c_void) {
    // SAFETY: the caller's word.
    unsafe { free(block) };
}

/// A block was to shrink, and there was no memory to move it: it has more room than its size asks for.
static IS_ROOMY: AtomicBool = AtomicBool::new(false);

/// Frees a block that is said to have been requested so.
///
/// # Safety
/// As for [`free`].
unsafe fn free_as(block: *mut c_void, size: size_t, align: usize) {
    if let Some(at) = NonNull::new(block.cast())
        && let Ok(bytes) = malloc::size(at)
        && request(size, align).and_then(malloc::would_be) != Some(bytes)
        && !(IS_ROOMY.load(Relaxed) && size <= bytes)
    {
        stray::die(format_args!("{block:p}, a block of {bytes} bytes, was freed as one of {size}"));
    }
    // SAFETY: the caller's word.
    unsafe { free(block) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn free_sized(block: *mut c_void, size: size_t) {
    // SAFETY: the caller's word.
    unsafe { free_as(block, size, ALIGN) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn free_aligned_sized(block: *mut c_void, align: size_t, size: size_t) {
    // SAFETY: the caller's word.
    unsafe { free_as(block, size, align.max(ALIGN)) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(block: *mut c_void, size: size_t) -> *mut c_void {
    let Some(at) = NonNull::new(block.cast()) else { return malloc(size) };
    if size == 0 {
        // SAFETY: the caller's word.
        unsafe { free(block) };
        return ptr::null_mut();
    }
    let Some(new) = request(size, ALIGN) else { return refused(ENOMEM) };
    // SAFETY: the caller's word.
    match unsafe { malloc::realloc(at, new) } {
        Ok(moved) => {
            if moved == Some(at) && malloc::size(at).ok() != malloc::would_be(new) {
                IS_ROOMY.store(true, Relaxed);
            }
            answer(moved)
        }
        // SAFETY: the caller's word.
        Err(what) => unsafe { stray::realloc(at, size, what) },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn reallocarray(block: *mut c_void, count: size_t, size: size_t) -> *mut c_void {
    unless_passive!(
        c"reallocarray",
        unsafe extern "C" fn(*mut c_void, size_t, size_t) -> *mut c_void,
        block,
        count,
        size
    );
    match count.checked_mul(size) {
        // SAFETY: the caller's word.
        Some(bytes) => unsafe { realloc(block, bytes) },
        None => refused(ENOMEM),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(to: *mut *mut c_void, align: size_t, size: size_t) -> c_int {
    unless_passive!(
        c"posix_memalign",
        unsafe extern "C" fn(*mut *mut c_void, size_t, size_t) -> c_int,
        to,
        align,
        size
    );
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<*mut c_void>()) {
        return EINVAL;
    }
    let before = errno();
    let block = request(size, align.max(ALIGN)).and_then(malloc::alloc);
    set_errno(before);
    let Some(block) = block else { return ENOMEM };
    // SAFETY: the caller's word.
    unsafe { to.write(block.as_ptr().cast()) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn aligned_alloc(align: size_t, size: size_t) -> *mut c_void {
    unless_passive!(c"aligned_alloc", extern "C" fn(size_t, size_t) -> *mut c_void, align, size);
    if !align.is_power_of_two() {
        return refused(EINVAL);
    }
    answer(request(size, align.max(ALIGN)).and_then(malloc::alloc))
}

/// An alignment that is no power of two is rounded up to the next one.
#[unsafe(no_mangle)]
extern "C" fn memalign(align: size_t, size: size_t) -> *mut c_void {
    unless_passive!(c"memalign", extern "C" fn(size_t, size_t) -> *mut c_void, align, size);
    match align.checked_next_power_of_two() {
        Some(align) => aligned_alloc(align, size),
        None => refused(EINVAL),
    }
}

#[unsafe(no_mangle)]
extern "C" fn valloc(size: size_t) -> *mut c_void {
    unless_passive!(c"valloc", extern "C" fn(size_t) -> *mut c_void, size);
    aligned_alloc(PAGE, size)
}

#[unsafe(no_mangle)]
extern "C" fn pvalloc(size: size_t) -> *mut c_void {
    unless_passive!(c"pvalloc", extern "C" fn(size_t) -> *mut c_void, size);
    match size.checked_next_multiple_of(PAGE) {
        Some(bytes) => aligned_alloc(PAGE, bytes.max(PAGE)),
        None => refused(ENOMEM),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> size_t {
    unless_passive!(c"malloc_usable_size", unsafe extern "C" fn(*mut c_void) -> size_t, block);
    let Some(block) = NonNull::new(block.cast()) else { return 0 };
    match malloc::size(block) {
        Ok(bytes) => bytes,
        // SAFETY: the caller's word.
        Err(what) => unsafe { stray::size(block, what) },
    }
}
