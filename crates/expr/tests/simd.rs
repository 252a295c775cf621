//! What the environment says of vectors. Each process asks once, so each case is a process of its own: this test again.
#![allow(missing_docs)]

use std::error::Error;
use std::process::Command;

use tenzor_expr::{Expr, View, eval_into};

const TEST: &str = "what_the_environment_says_is_heeded_or_complained_about_once";

#[test]
fn what_the_environment_says_is_heeded_or_complained_about_once() -> Result<(), Box<dyn Error>> {
    if std::env::var_os("TENZOR_TEST_CHILD").is_some() {
        let x = View::new(&[1.0_f32, 4.0], [2])?;
        let mut roots = [0.0; 2];
        for _ in 0..2 {
            eval_into(&x.sqrt(), &mut roots)?;
        }
        assert_eq!(roots, [1.0, 2.0]);
        return Ok(());
    }
    for (simd, quiet, lines) in
        [("v3", "", 0), ("base", "0", 0), ("wide", "", 1), ("V4", "0", 1), ("wide", "1", 0), ("", "", 1)]
    {
        let mut child = Command::new(std::env::current_exe()?);
        child.args(["--exact", TEST, "--nocapture"]);
        let output =
            child.env("TENZOR_TEST_CHILD", "1").env("TENZOR_SIMD", simd).env("TENZOR_QUIET", quiet).output()?;
        let said = String::from_utf8(output.stderr)?;
        assert!(output.status.success(), "{simd}: {said}");
        let complaint = format!("tenzor: TENZOR_SIMD={simd} is none of base, v3 and v4, and was ignored");
        assert_eq!(said.matches(&complaint).count(), lines, "{simd}, {quiet}: {said}");
        assert_eq!(said.matches("TENZOR_SIMD").count(), lines, "{simd}, {quiet}: {said}");
    }
    Ok(())
}
