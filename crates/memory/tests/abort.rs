//! What ends the process: run in a child process each, which must die by the signal of `abort`.
#![cfg(unix)]
#![allow(unsafe_code, missing_docs, clippy::expect_used, clippy::panic)]

use std::alloc::Layout;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::ptr::NonNull;

use tenzor_memory::allocator_api2::alloc::{AllocError, Allocator, Global};
use tenzor_memory::{FromAllocator, TensorAllocator};

/// Panics in its `n`-th call.
struct Panicking(std::cell::Cell<u32>);

impl Panicking {
    fn count(&self) {
        self.0.set(self.0.get() - 1);
        assert!(self.0.get() > 0, "this allocator panics");
    }
}

// SAFETY: what is granted is granted by `Global`.
unsafe impl Allocator for Panicking {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.count();
        Global.allocate(layout)
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, layout: Layout) {
        self.count();
        // SAFETY: the caller's word, passed on.
        unsafe { Global.deallocate(ptr, layout) };
    }
}

#[test]
fn a_panic_in_a_wrapped_allocator_aborts() {
    for call in ["1", "2", "9"] {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program);
        child.args(["--exact", "panicking_child"]).env("PANIC_IN_CALL", call);
        let output = child.output().expect("the child runs");
        let survives = call == "9";
        assert_eq!(output.status.signal().is_some(), !survives, "call {call}: {output:?}");
        assert_eq!(output.status.success(), survives, "call {call}: {output:?}");
    }
}

/// The child of the test above; by itself it does nothing.
#[test]
fn panicking_child() {
    let Ok(call) = std::env::var("PANIC_IN_CALL") else { return };
    let calls = std::cell::Cell::new(call.parse().expect("a number"));
    let alloc = TensorAllocator::new_in(FromAllocator(Panicking(calls)));
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(alloc.alloc::<u8>(100))));
    alloc.clear_pool();
}
