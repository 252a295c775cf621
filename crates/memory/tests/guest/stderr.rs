//! What the heap says on standard error, and that it says nothing elsewhere.

use std::alloc::GlobalAlloc;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::{env, fs, io};

use crate::GLOBAL;
use crate::case::{Case, case};
use crate::common::layout;
use crate::process::told;

/// What the heap said on standard error.
pub(crate) fn lines(end: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&end.stderr);
    text.lines().filter(|line| line.starts_with("tenzor: ")).map(str::to_owned).collect()
}

/// Frees a block twice, and ends by that.
fn misuse() {
    let layout = layout(100_000, 8);
    // SAFETY: none for the second free. That is the point.
    unsafe {
        let block = GLOBAL.alloc(layout);
        GLOBAL.dealloc(block, layout);
        GLOBAL.dealloc(block, layout);
    }
}

/// It had so many lines to say, the last of them on its misuse.
fn ends_by_misuse(end: &Output, said: usize) {
    assert_eq!(end.status.signal(), Some(libc::SIGABRT), "{}", told(end));
    assert_eq!(lines(end).len(), said, "{}", told(end));
}

/// Where standard error was, there is another file.
fn misuse_behind_standard_errors_back() {
    let path = c"/proc/self/fd/1";
    let out = fs::metadata("/proc/self/fd/1").expect("Linux tells").ino();
    // SAFETY: the path ends with a zero; the number of standard error becomes another file's.
    unsafe {
        libc::close(2);
        assert_eq!(libc::open(path.as_ptr(), libc::O_WRONLY), 2, "{}", io::Error::last_os_error());
    }
    assert_eq!(fs::metadata("/proc/self/fd/2").expect("Linux tells").ino(), out);
    misuse();
}

/// Standard error is a pipe whose reader is gone: that raises a signal for who writes, and ends the process.
fn misuse_that_nobody_reads_of() {
    if env::var("TENZOR_TEST").is_ok_and(|word| word == "unread") {
        // SAFETY: the default is what a program has that is not written in Rust.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        misuse();
    }
    let (reader, writer) = io::pipe().expect("a pipe");
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--case", "a_line_raises_no_signal"]).env("TENZOR_TEST", "unread").stderr(writer);
    let mut child = command.stdin(Stdio::null()).spawn().expect("it starts");
    drop((reader, command));
    assert_eq!(child.wait().expect("a child").signal(), Some(libc::SIGABRT));
}

pub(crate) const CASES: &[Case] = &[
    Case { end: |end| ends_by_misuse(end, 1), ..case("misuse_has_a_line", misuse) },
    Case {
        environment: &[("TENZOR_LIMIT", "much")],
        end: |end| ends_by_misuse(end, 2),
        ..case("settings_that_make_no_sense_have_one", misuse)
    },
    Case {
        environment: &[("TENZOR_LIMIT", "much"), ("TENZOR_QUIET", "1")],
        end: |end| ends_by_misuse(end, 1),
        ..case("a_quiet_heap_says_what_is_fatal", misuse)
    },
    Case {
        end: |end| {
            ends_by_misuse(end, 0);
            assert_eq!(end.stdout, b"", "that is not standard error");
        },
        ..case("what_is_not_standard_error_any_more_gets_no_line", misuse_behind_standard_errors_back)
    },
    case("a_line_raises_no_signal", misuse_that_nobody_reads_of),
];
