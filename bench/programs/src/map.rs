//! Buffers as good as buffers can be: mapped once, on huge pages, touched beforehand.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use anyhow::{Result, ensure};

const HUGE: usize = 2 << 20;
/// A page and a cache line: buffers that begin at the same place of a page get into each other's way in the cache.
const STAGGER: usize = 4160;

/// `COUNT` buffers of `bytes` each, never unmapped.
pub(crate) fn buffers<const COUNT: usize>(bytes: usize) -> Result<[&'static mut [MaybeUninit<f32>]; COUNT]> {
    let pitch = bytes.next_multiple_of(4096) + STAGGER;
    let length = (COUNT * pitch).next_multiple_of(HUGE);
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, where the system likes.
    let mapping = unsafe { libc::mmap(ptr::null_mut(), length + HUGE, access, kind, -1, 0) };
    ensure!(mapping != libc::MAP_FAILED, "cannot map {length} bytes: {}", io::Error::last_os_error());
    let start = mapping.cast::<u8>().map_addr(|address| address.next_multiple_of(HUGE));
    // SAFETY: within the mapping, which has a huge page to spare for the alignment.
    let advised = unsafe { libc::madvise(start.cast(), length, libc::MADV_HUGEPAGE) };
    ensure!(advised == 0, "no huge pages: {}", io::Error::last_os_error());
    // SAFETY: within the mapping.
    unsafe { start.write_bytes(1, length) };
    Ok(std::array::from_fn(|index| {
        // SAFETY: `index * pitch + bytes` is within `length`, aligned for `f32`, no two buffers overlap, nothing unmaps them.
        unsafe { std::slice::from_raw_parts_mut(start.add(index * pitch).cast(), bytes / size_of::<f32>()) }
    }))
}
