//! Misuse that must not compile, each case with the compiler's words for it.
//!
//! The words change between compiler versions, so the cases are held against one of them; with another compiler they are
//! skipped, which continuous integration does not allow.
#![allow(missing_docs, clippy::expect_used, clippy::panic)]

use std::process::Command;

/// The compiler whose messages stand in `misuse/*.stderr`; `TRYBUILD=overwrite` writes those of another.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn misuse_does_not_compile() {
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("rustc runs").stdout;
    let version = String::from_utf8_lossy(&version);
    if !version.starts_with(COMPILER) && std::env::var_os("CI").is_none() {
        println!("skipped: the expected messages are those of {COMPILER}*, this is {version}");
        return;
    }
    let cases = trybuild::TestCases::new();
    cases.pass("tests/misuse/right.rs");
    for case in std::fs::read_dir("tests/misuse").expect("the cases").map(|entry| entry.expect("a case").path()) {
        if case.extension().is_some_and(|extension| extension == "rs") && !case.ends_with("right.rs") {
            cases.compile_fail(case);
        }
    }
}
