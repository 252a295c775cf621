//! Linux.

use std::ptr::NonNull;

use super::{HUGE, Os};
use crate::layout::blocks::PAGE;

/// Linux.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Linux;

// SAFETY: private anonymous mappings are zero when they are first touched, and after MADV_DONTNEED.
unsafe impl Os for Linux {
    fn reserve(&self, bytes: usize) -> Option<NonNull<u8>> {
        let whole = bytes.checked_add(HUGE)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), whole, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        let start = start.cast::<u8>();
        let before = start.align_offset(HUGE);
        // SAFETY: what lies before and after the aligned part belongs to the mapping just made, and nobody knows of it.
        unsafe {
            if before > 0 {
                libc::munmap(start.cast(), before);
            }
            if before < HUGE {
                libc::munmap(start.add(before + bytes).cast(), HUGE - before);
            }
            NonNull::new(start.add(before))
        }
    }

    unsafe fn commit(&self, start: NonNull<u8>, bytes: usize) -> bool {
        // SAFETY: the range is ours and holds nothing (the caller's word).
        unsafe { libc::mprotect(start.as_ptr().cast(), bytes, libc::PROT_READ | libc::PROT_WRITE) == 0 }
    }

    unsafe fn prefer_huge(&self, start: NonNull<u8>, bytes: usize) {
        // A kernel without huge pages refuses; then the pages are small.
        // SAFETY: the range is ours (the caller's word), and advice changes no contents.
        unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
    }

    unsafe fn collapse(&self, start: NonNull<u8>) -> bool {
        // SAFETY: the range is ours (the caller's word), and its contents stay.
        allows_huge() && unsafe { libc::madvise(start.as_ptr().cast(), HUGE, libc::MADV_COLLAPSE) == 0 }
    }

    unsafe fn purge(&self, start: NonNull<u8>, bytes: usize) -> bool {
        // SAFETY: the range is ours, and nobody needs its contents (the caller's word).
        unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_DONTNEED) == 0 }
    }

    unsafe fn remap(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> bool {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
        // SAFETY: both ranges are ours, and `to` holds nothing that is needed (the caller's word).
        let moved = unsafe { libc::mremap(from.as_ptr().cast(), bytes, bytes, flags, to.as_ptr()) };
        moved != libc::MAP_FAILED
    }

    unsafe fn release(&self, start: NonNull<u8>, bytes: usize) {
        // SAFETY: the range is ours and unused (the caller's word).
        unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
    }

    fn address_limit(&self) -> Option<usize> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a plain query into a local.
        let known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) } == 0;
        if known && limit.rlim_cur != libc::RLIM_INFINITY { usize::try_from(limit.rlim_cur).ok() } else { None }
    }

    fn page_size(&self) -> usize {
        // SAFETY: a plain query.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(size).unwrap_or(PAGE).max(PAGE)
    }
}

/// Whether the machine's owner allows transparent huge pages at all: the kernel heeds that on a first touch only.
fn allows_huge() -> bool {
    let mut text = [0_u8; 64];
    // SAFETY: the path ends with a zero, and the text is as long as it says.
    unsafe {
        let file =
            libc::open(c"/sys/kernel/mm/transparent_hugepage/enabled".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return false;
        }
        libc::read(file, text.as_mut_ptr().cast(), text.len());
        libc::close(file);
    }
    !text.windows(7).any(|part| part == b"[never]")
}
