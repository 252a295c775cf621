//! The libraries for C hold what their own tests say: they are workspaces of their own, built in another way.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use std::path::Path;
use std::process::Command;

#[test]
fn the_heap_in_place_of_malloc_holds() {
    holds("../preload");
}

#[test]
fn the_allocators_for_c_hold() {
    holds("../capi");
}

fn holds(library: &str) {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join(library);
    if !library.exists() {
        // From a registry, the program comes by itself.
        return;
    }
    let mut tests = Command::new(env!("CARGO"));
    // What is asked of this build is not asked of that one.
    for (name, _) in std::env::vars_os() {
        let kinds = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_", "CARGO_TARGET_", "CARGO_PROFILE_"];
        if kinds.iter().any(|kind| name.to_string_lossy().starts_with(kind)) {
            tests.env_remove(&name);
        }
    }
    let output = tests.args(["test", "--quiet"]).current_dir(library).output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{text}");
}
