//! `mremap` as kernels up to about 6.16 do it: what lies at the target is unmapped first, and a source that is not one mapping is refused
//! with EFAULT after that.

use std::ffi::c_void;

use libc::{c_int, size_t};

/// In place of the C library's.
///
/// # Safety
///
/// As for the C library's.
// SAFETY: it does what the name promises.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mremap(
    old: *mut c_void,
    old_size: size_t,
    size: size_t,
    flags: c_int,
    target: *mut c_void,
) -> *mut c_void {
    if flags & libc::MREMAP_FIXED != 0 && !is_one_mapping(old as usize, old_size) {
        // SAFETY: errno is this thread's own; the caller gave the target away.
        unsafe {
            libc::munmap(target, size);
            *libc::__errno_location() = libc::EFAULT;
        }
        return libc::MAP_FAILED;
    }
    // SAFETY: by the caller's promise.
    unsafe { libc::syscall(libc::SYS_mremap, old, old_size, size, flags, target) as *mut c_void }
}

fn is_one_mapping(start: usize, bytes: usize) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().any(|line| {
        let ends = line.split(' ').next().and_then(|range| range.split_once('-'));
        let parsed = ends.map(|(low, high)| (usize::from_str_radix(low, 16), usize::from_str_radix(high, 16)));
        matches!(parsed, Some((Ok(low), Ok(high))) if low <= start && start + bytes <= high)
    })
}
