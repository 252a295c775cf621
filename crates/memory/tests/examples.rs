//! The examples do what they say.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../examples/runtime.rs"]
mod runtime;
#[cfg(feature = "plan")]
#[path = "../examples/session.rs"]
mod session;

#[test]
fn a_runtime_has_its_allocators_behind_a_pointer() {
    runtime::main().unwrap();
}

#[cfg(feature = "plan")]
#[test]
fn a_session_owns_its_plan_and_its_tensors() {
    session::main().unwrap();
}
