//! The process that the library is in: whether its `malloc` is ours, who else is to have the library, what is said at the end.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI32};

use tenzor_memory::malloc;

/// The program has an allocator of its own inside.
static IS_PASSIVE: AtomicBool = AtomicBool::new(false);

/// Whether the process's `malloc` is another's: then what that does not have, as `aligned_alloc`, is to come from where it would come from without us.
#[inline]
pub(crate) fn is_passive() -> bool {
    IS_PASSIVE.load(Relaxed)
}

/// Looked for behind this library. Null if there is none.
pub(crate) fn next(name: &CStr) -> *mut c_void {
    #[cfg(not(tenzor_static))]
    // SAFETY: the name ends with a zero.
    return unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    #[cfg(tenzor_static)]
    return {
        _ = name;
        std::ptr::null_mut()
    };
}

/// In a function that is exported: does what the next one of the name does, if the process's `malloc` is not ours.
macro_rules! unless_passive {
    ($name:literal, $function:ty, $($argument:expr),*) => {
        if $crate::process::is_passive() {
            let next = $crate::process::next($name);
            if !next.is_null() {
                // SAFETY: the C library's function of this name, which has this type; the arguments are the caller's.
                return unsafe { std::mem::transmute::<*mut std::ffi::c_void, $function>(next)($($argument),*) };
            }
        }
    };
}
pub(crate) use unless_passive;

/// What a variable of the environment says; not to be kept.
fn variable(name: &CStr) -> Option<&CStr> {
    // SAFETY: the name ends with a zero, and what is found does.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        (!value.is_null()).then(|| CStr::from_ptr(value))
    }
}

/// Whether it says `1`.
fn says_yes(name: &CStr) -> bool {
    variable(name) == Some(c"1")
}

/// This process's number.
pub(crate) fn number() -> libc::pid_t {
    // SAFETY: a query.
    unsafe { libc::getpid() }
}

/// Whether tables are wanted at the end: `TENZOR_STATS` is `1` for every process, or the number of one.
pub(crate) fn is_told() -> bool {
    let wanted = variable(c"TENZOR_STATS").and_then(|wanted| wanted.to_str().ok());
    wanted.is_some_and(|wanted| wanted == "1" || wanted.parse() == Ok(number()))
}

/// Where it is.
static STANDARD_ERROR: AtomicI32 = AtomicI32::new(libc::STDERR_FILENO);

/// On standard error.
pub(crate) fn say(text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        // SAFETY: so many bytes are there.
        let written =
            unsafe { libc::syscall(libc::SYS_write, STANDARD_ERROR.load(Relaxed), rest.as_ptr(), rest.len()) };
        match usize::try_from(written) {
            Ok(written @ 1..) => rest = &rest[written..],
            _ => return,
        }
    }
}

/// Whether the process's requests come to this library: whose block the C library gets, which asks as everybody does. (The address of `malloc` does not
/// tell: a program whose code has a fixed place, and that uses the address, has one of its own for it, behind which is whoever serves.)
fn is_served() -> bool {
    if cfg!(tenzor_static) {
        // What is linked is what serves.
        return true;
    }
    type Free = unsafe extern "C" fn(*mut c_void);
    // SAFETY: the text and the name end with zeros; what was asked for goes back to who is found as everybody's `free`, which is of that type.
    unsafe {
        let Some(block) = NonNull::new(libc::strdup(c"".as_ptr()).cast::<u8>()) else { return true };
        let is_ours = malloc::size(block).is_ok();
        let free = libc::dlsym(libc::RTLD_DEFAULT, c"free".as_ptr());
        if !free.is_null() {
            std::mem::transmute::<*mut c_void, Free>(free)(block.as_ptr().cast());
        }
        is_ours
    }
}

/// `tell` is called at the end, if that is wanted.
pub(crate) fn begin(tell: extern "C" fn()) {
    if !is_served() {
        IS_PASSIVE.store(true, Relaxed);
        if !says_yes(c"TENZOR_QUIET") {
            say("tenzor: the program has a malloc of its own, and keeps it: the heap serves nothing\n");
        }
        return;
    }
    if says_yes(c"TENZOR_ONLY_THIS_PROCESS") {
        // SAFETY: no other thread is there yet that could read the environment.
        unsafe {
            libc::unsetenv(c"LD_PRELOAD".as_ptr());
            libc::unsetenv(c"TENZOR_ONLY_THIS_PROCESS".as_ptr());
        }
    }
    if is_told() {
        // Programs may close theirs before.
        // SAFETY: a descriptor of our own; a function that stays, as the library does.
        unsafe {
            let own = libc::fcntl(libc::STDERR_FILENO, libc::F_DUPFD_CLOEXEC, 3);
            if own >= 0 {
                STANDARD_ERROR.store(own, Relaxed);
            }
            libc::atexit(tell);
        }
    }
}
