//! Whether a program gets privileges of its file's, so that the loader heeds no `LD_PRELOAD`.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What it would get if this process started it: in words, for after "it".
pub(crate) fn privileges(path: &Path) -> Option<&'static str> {
    // SAFETY: queries that cannot fail.
    let (user, group) = unsafe { (libc::getuid(), libc::getgid()) };
    let file = path.metadata().ok()?;
    // Who is that user already gains nothing by it.
    if file.mode() & libc::S_ISUID != 0 && file.uid() != user {
        return Some("runs as its file's owner (set-uid)");
    }
    let by_group = libc::S_ISGID | libc::S_IXGRP;
    if file.mode() & by_group == by_group && file.gid() != group {
        return Some("runs as its file's group (set-gid)");
    }
    (user != 0 && has_capabilities(path)).then_some("has capabilities of its file's")
}

fn has_capabilities(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: the names end with zeros; no byte is asked for.
    unsafe { libc::getxattr(path.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0) > 0 }
}
