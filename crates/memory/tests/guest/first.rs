//! Before all constructors, the heap's own included, what some cases need.

use std::ffi::CStr;
use std::sync::atomic::Ordering::Relaxed;

use crate::around_forks::{handler, leave_outer, take_outer};
use crate::threads::LAST_KEY;

/// The environment is not in place yet, but passed.
#[used]
#[unsafe(link_section = ".preinit_array")]
static FIRST: extern "C" fn(i32, *const *const libc::c_char, *const *const libc::c_char) = {
    extern "C" fn first(_: i32, _: *const *const libc::c_char, mut variables: *const *const libc::c_char) {
        // SAFETY: the array ends with a null, each text with a zero. The functions are there for ever.
        unsafe {
            while !(*variables).is_null() {
                match CStr::from_ptr(*variables).to_bytes() {
                    // So these run while the thread that forks holds the heap's lock, before it in the parent and in the child.
                    b"TENZOR_TEST=handlers" => {
                        libc::pthread_atfork(Some(handler), Some(handler), Some(handler));
                    }
                    // Here it waits for who waits for the heap.
                    b"TENZOR_TEST=a lock" => {
                        libc::pthread_atfork(Some(take_outer), Some(leave_outer), Some(leave_outer));
                    }
                    b"TENZOR_TEST=no keys" => {
                        let mut key = 0;
                        while libc::pthread_key_create(&raw mut key, None) == 0 {
                            LAST_KEY.store(key, Relaxed);
                        }
                    }
                    _ => {}
                }
                variables = variables.add(1);
            }
        }
    }
    first
};
