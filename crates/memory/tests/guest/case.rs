//! A case: what a process does, and how it is to end.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{env, panic, thread};

use crate::process::told;

/// What a process does, in which environment, and how it ends.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) environment: &'static [(&'static str, &'static str)],
    pub(crate) body: fn(),
    pub(crate) end: fn(&Output),
}

pub(crate) const fn case(name: &'static str, body: fn()) -> Case {
    Case { name, environment: &[], body, end: succeeds }
}

pub(crate) fn succeeds(end: &Output) {
    assert!(end.status.success() && String::from_utf8_lossy(&end.stdout).contains("to the end"), "{}", told(end));
}

const PATIENCE: Duration = Duration::from_secs(180);

/// Runs a case in a process of its own; what is to be said of it, or nothing if it failed.
pub(crate) fn judge(case: &Case) -> Option<String> {
    let mut command = Command::new(env::current_exe().expect("this program"));
    let start = Instant::now();
    let end = run(command.args(["--case", case.name]).envs(case.environment.iter().copied()));
    panic::catch_unwind(|| (case.end)(&end)).ok()?;
    let said = String::from_utf8_lossy(&end.stdout);
    let untried: String =
        said.lines().filter(|line| line.ends_with("not tried")).map(|line| format!("{line} ... ")).collect();
    Some(format!("{untried}ok, {:.1} s", start.elapsed().as_secs_f64()))
}

pub(crate) fn run(command: &mut Command) -> Output {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let start = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().expect("it runs still");
            panic!("it hangs: {}", told(&child.wait_with_output().expect("its output")));
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("its output")
}
