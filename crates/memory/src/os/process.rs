//! What of the process is used besides its addresses: threads, handlers around forks, fences, the environment, standard error.

use std::ffi::CStr;
use std::fmt::{self, Write};

/// Starts a detached thread that receives no signals. Returns whether there is one.
pub(crate) fn spawn(body: fn()) -> bool {
    extern "C" fn start(body: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: `spawn` passes a `fn()`.
        let body = unsafe { std::mem::transmute::<*mut libc::c_void, fn()>(body) };
        body();
        std::ptr::null_mut()
    }
    // SAFETY: all pointers are to locals that outlive the calls; an attribute that was set up is destroyed.
    unsafe {
        let mut attributes = std::mem::zeroed();
        if libc::pthread_attr_init(&raw mut attributes) != 0 {
            return false;
        }
        libc::pthread_attr_setdetachstate(&raw mut attributes, libc::PTHREAD_CREATE_DETACHED);
        let mut all = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        // A thread inherits the mask of its maker.
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let mut thread = std::mem::zeroed();
        let failed = libc::pthread_create(&raw mut thread, &raw const attributes, start, body as *mut libc::c_void);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        libc::pthread_attr_destroy(&raw mut attributes);
        failed == 0
    }
}

/// Calls the functions around each fork of the process from now on.
pub(crate) fn at_fork(before: Option<Hook>, in_parent: Option<Hook>, in_child: Option<Hook>) {
    // SAFETY: the functions are valid for ever. Without memory for the registration, forks of a busy process may find the
    // heap locked; there is nobody to tell.
    unsafe { libc::pthread_atfork(before, in_parent, in_child) };
}

pub(crate) type Hook = unsafe extern "C" fn();

/// Whether [`fence_threads`] can be used from now on.
pub(crate) fn can_fence_threads() -> bool {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
}

/// What every thread of the process stored so far is visible to all that the caller loads from now on, as if each had passed a full
/// fence. About a microsecond. Returns whether it was done.
pub(crate) fn fence_threads() -> bool {
    membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
}

fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: the call takes plain numbers, and touches no memory.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

/// An environment variable. Nothing is allocated.
pub(crate) fn environment(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: the name ends with a zero. The text stays unless the program changes its environment at this very moment, which
    // is its own word not to do (`std::env::set_var` is unsafe for that).
    unsafe {
        let text = libc::getenv(name.as_ptr());
        (!text.is_null()).then(|| CStr::from_ptr(text))
    }
}

/// Writes to standard error. Nothing is allocated.
pub(crate) fn complain(text: &[u8]) {
    // SAFETY: the text is as long as it says. If it cannot be written, there is nobody else to tell.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}

/// Ends the process with a line on standard error. Nothing is allocated.
#[cold]
pub(crate) fn die(what: fmt::Arguments<'_>) -> ! {
    struct Line([u8; 256], usize);
    impl fmt::Write for Line {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for &byte in text.as_bytes() {
                *self.0.get_mut(self.1).ok_or(fmt::Error)? = byte;
                self.1 += 1;
            }
            Ok(())
        }
    }
    let mut line = Line([0; 256], 0);
    // What does not fit is left out.
    _ = line.write_fmt(format_args!("tenzor: {what}\n"));
    complain(&line.0[..line.1]);
    std::process::abort()
}
