//! A forked child, and how it ends.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body` in a forked child, which has to end well, and soon.
pub(crate) fn in_fork(body: impl FnOnce()) {
    let end = wait(fork(body));
    assert_eq!(end, 0, "the child's end");
}

pub(crate) fn fork(body: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child does what `body` does, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: plain calls; what belongs to the parent is left alone.
        unsafe {
            libc::alarm(20);
            let fine = catch_unwind(AssertUnwindSafe(body)).is_ok();
            libc::_exit(i32::from(!fine));
        }
    }
    assert!(child > 0, "no fork");
    child
}

pub(crate) fn wait(child: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: it is our child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}
