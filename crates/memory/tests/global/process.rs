//! Tests that need a process of their own: to measure it, to limit it, to see it die.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{any, env, fs, io, thread};

/// Set in a child process: the test that it is there for, and which of its children it is.
const TEST: &str = "TENZOR_TEST";
const CASE: &str = "TENZOR_TEST_CASE";

const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a closure of the test that calls this in a process of its own, in which no other test runs.
pub(crate) fn alone<F: FnOnce()>(body: F) {
    succeeds(in_child(0, |_| (), body));
}

/// As [`alone`], in a process for each case, all at the same time.
pub(crate) fn alone_each<F: Fn(u64) + Sync>(cases: std::ops::Range<u64>, body: F) {
    thread::scope(|scope| {
        for case in cases {
            let body = &body;
            // The test is found by the type of `body`.
            scope.spawn(move || succeeds(in_child_of::<F>(case, |_| (), || body(case))));
        }
    });
}

/// As [`alone`], with an environment variable.
pub(crate) fn alone_with<F: FnOnce()>(variable: &str, value: &str, body: F) {
    succeeds(in_child(0, |command| _ = command.env(variable, value), body));
}

/// What a C library calls a resource by.
#[cfg(target_env = "gnu")]
pub(crate) type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
pub(crate) type Resource = libc::c_int;

/// As [`alone`], in a process that cannot have more of a resource than so many bytes.
pub(crate) fn alone_within<F: FnOnce()>(resource: Resource, bytes: u64, body: F) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    let prepare = |command: &mut Command| {
        // SAFETY: between fork and exec, it makes a single system call.
        unsafe {
            command.pre_exec(move || match libc::setrlimit(resource, &raw const limit) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
    };
    succeeds(in_child(bytes, prepare, body));
}

fn succeeds(end: Option<Output>) {
    if let Some(output) = end {
        // No test of that name would have been a success as well.
        assert!(output.status.success() && told(&output).contains("1 passed"), "{}", told(&output));
    }
}

/// How a process ends that runs a closure of the calling test; `None` in that process itself, should the closure return. A
/// test that has several such processes calls each a case of its own.
pub(crate) fn in_child<F: FnOnce()>(case: u64, prepare: impl FnOnce(&mut Command), body: F) -> Option<Output> {
    in_child_of::<F>(case, prepare, body)
}

fn in_child_of<F>(case: u64, prepare: impl FnOnce(&mut Command), body: impl FnOnce()) -> Option<Output> {
    // The closure's type is named after the function it stands in.
    let closure = any::type_name::<F>();
    let test = closure.split_once("::").and_then(|(_, path)| path.strip_suffix("::{{closure}}")).expect(closure);
    if env::var(TEST).is_ok_and(|name| name == test) {
        if env::var(CASE).is_ok_and(|number| number == case.to_string()) {
            body();
        }
        return None;
    }
    let mut command = Command::new(env::current_exe().expect("this program"));
    command
        .args(["--exact", test, "--include-ignored", "--test-threads=1", "--nocapture"])
        .env(TEST, test)
        .env(CASE, case.to_string());
    // Where memory has come to its end, there is none for a backtrace.
    command.env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    prepare(&mut command);
    let mut child = command.spawn().expect("the child starts");
    let start = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().expect("it runs still");
            panic!("{test} hangs: {}", told(&child.wait_with_output().expect("its output")));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Some(child.wait_with_output().expect("its output"))
}

pub(crate) fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// The bytes of physical memory that the process has, exactly.
pub(crate) fn resident() -> usize {
    rollup("Rss:")
}

/// What the system says of all mappings together, in bytes.
pub(crate) fn rollup(key: &str) -> usize {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").expect("Linux tells");
    let kib = rollup.lines().find_map(|line| line.strip_prefix(key)).and_then(|rest| rest.strip_suffix("kB"));
    kib.expect("a line").trim().parse::<usize>().expect("a number") << 10
}

/// How often the calling thread had to wait for the system to give it a page.
pub(crate) fn page_faults() -> i64 {
    // SAFETY: a plain query; all zero is a value of this type.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage), 0);
        usage.ru_minflt + usage.ru_majflt
    }
}

/// Waits until something holds; returns whether it does, after so much time at most.
pub(crate) fn within(time: Duration, holds: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if start.elapsed() > time {
            return false;
        }
        thread::sleep(Duration::from_millis(100));
    }
}
