//! Memory for a library's own books, which is not refused as long as the system has any: Rust ends the process where a box cannot be had.
//!
//! It comes from the process's malloc. Where that refuses, which may be at the limit of our own heap, it comes from the system, a mapping each, of which there are few.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

/// The global allocator of a library for C.
#[derive(Debug)]
pub struct Internal;

/// Where blocks of the second kind are.
static ASIDE: [AtomicUsize; 256] = [const { AtomicUsize::new(0) }; 256];
/// How many there are.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Being filled.
const TAKEN: usize = 1;

fn obtain_aside(layout: Layout) -> *mut u8 {
    if layout.align() > 4096 {
        return ptr::null_mut();
    }
    let Some(place) = ASIDE.iter().find(|place| place.compare_exchange(0, TAKEN, AcqRel, Relaxed).is_ok()) else {
        return ptr::null_mut();
    };
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping touches nothing that exists.
    let block = unsafe { libc::mmap(ptr::null_mut(), layout.size(), access, kind, -1, 0) };
    let is_there = block != libc::MAP_FAILED;
    place.store(if is_there { block.addr() } else { 0 }, Relaxed);
    if !is_there {
        return ptr::null_mut();
    }
    COUNT.fetch_add(1, AcqRel);
    block.cast()
}

/// Where a block is noted that is of the second kind.
fn place(block: *mut u8) -> Option<&'static AtomicUsize> {
    if COUNT.load(Acquire) == 0 {
        return None;
    }
    ASIDE.iter().find(|place| place.load(Relaxed) == block.addr())
}

// SAFETY: `System` promises it for the one kind; the others are mappings of their own, which are as large and aligned as asked, and zero.
unsafe impl GlobalAlloc for Internal {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's word, passed on.
        let block = unsafe { System.alloc(layout) };
        if block.is_null() { obtain_aside(layout) } else { block }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's word, passed on.
        let block = unsafe { System.alloc_zeroed(layout) };
        if block.is_null() { obtain_aside(layout) } else { block }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match place(block) {
            Some(place) => {
                place.store(0, Relaxed);
                COUNT.fetch_sub(1, AcqRel);
                // SAFETY: it was mapped for this block alone.
                unsafe { libc::munmap(block.cast(), layout.size()) };
            }
            // SAFETY: the caller's word, passed on.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if place(block).is_none() {
            // SAFETY: the caller's word, passed on.
            let moved = unsafe { System.realloc(block, layout, size) };
            if !moved.is_null() {
                return moved;
            }
        }
        let Ok(new) = Layout::from_size_align(size, layout.align()) else { return ptr::null_mut() };
        // SAFETY: both blocks are the caller's, disjoint, and have so many bytes.
        unsafe {
            let moved = self.alloc(new);
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

/// More than any allocator or table of statistics takes for its books.
const ROOM: usize = 64 << 10;

/// Whether there is memory for books: to be asked before something is made.
pub fn is_there_room() -> bool {
    let Ok(room) = Layout::from_size_align(ROOM, 16) else { return false };
    // SAFETY: it has a size, and goes at once.
    unsafe {
        let block = std::alloc::alloc(room);
        let is_there = !block.is_null();
        if is_there {
            std::alloc::dealloc(block, room);
        }
        is_there
    }
}
