//! The library as programs of C and C++ have it: what it shows, what it promises, and what it does with misuse. Needs a C compiler.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The library, optimised.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = here.join("target/library");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--release", "--quiet", "--lib", "--target-dir"])
            .arg(&target)
            .current_dir(here)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .status();
        assert!(built.unwrap().success(), "the library does not build");
        target.join("release/libtenzor_malloc.so")
    })
}

/// A program of `tests/c`.
fn program(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source =
        ["c", "cc"].map(|kind| here.join(format!("tests/c/{name}.{kind}"))).into_iter().find(|path| path.exists());
    let source = source.unwrap();
    let compiler = if source.extension().unwrap() == "c" { "cc" } else { "c++" };
    let to = library().with_file_name(name);
    // Linked with it, as the C library may lack some functions; it is preloaded all the same.
    let made = Command::new(compiler)
        .args(["-O1", "-g", "-w", "-pthread", "-rdynamic", "-o"])
        .args([&to, &source])
        .arg(library())
        .args(["-ldl", "-lm"])
        .status();
    assert!(made.unwrap().success(), "{} does not compile", source.display());
    to
}

fn run(program: &Path, args: &[&str]) -> Output {
    run_checked(program, args, false)
}

fn run_checked(program: &Path, args: &[&str], checks: bool) -> Output {
    let check = if checks { "1" } else { "0" };
    Command::new(program).args(args).env("LD_PRELOAD", library()).env("TENZOR_CHECK", check).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn tool(name: &str, args: &[&str]) -> String {
    let output = Command::new(name).args(args).arg(library()).output().unwrap();
    assert!(output.status.success(), "{name} failed");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn it_shows_what_was_promised_and_nothing_else() {
    let promised = include_str!("exports").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut promised: Vec<_> = promised.map(str::to_owned).collect();
    promised.sort();
    let table = tool("nm", &["-D", "--defined-only"]);
    let mut shown: Vec<_> = table.lines().filter_map(|line| Some(line.split_whitespace().last()?.to_owned())).collect();
    shown.sort();
    assert_eq!(shown, promised);
}

#[test]
fn it_is_small_and_needs_the_c_library_alone() {
    let bytes = std::fs::metadata(library()).unwrap().len();
    assert!(bytes <= 1 << 20, "{bytes} bytes");
    let dynamic = tool("readelf", &["-dW"]);
    for line in dynamic.lines().filter(|line| line.contains("(NEEDED)")) {
        assert!(line.contains("[libc.so.6]") || line.contains("[ld-linux"), "{line}");
    }
    assert!(dynamic.contains("NODELETE"));
    let headers = tool("readelf", &["-lW"]);
    let storage = headers.lines().find(|line| line.trim_start().starts_with("TLS")).unwrap();
    let size = storage.split_whitespace().nth(5).unwrap();
    let size = usize::from_str_radix(size.trim_start_matches("0x"), 16).unwrap();
    assert!(size <= 64, "{size} bytes of each thread's");
}

#[test]
fn c_functions_do_what_the_manual_says() {
    let program = program("semantics");
    for checks in [false, true] {
        let output = run_checked(&program, &[], checks);
        assert!(output.status.success(), "{}", text(&output));
    }
}

#[test]
fn operators_of_c_plus_plus_do_what_the_standard_says() {
    if Command::new("c++").arg("--version").output().is_err() && std::env::var_os("CI").is_none() {
        println!("skipped: there is no C++ compiler");
        return;
    }
    let output = run(&program("operators"), &[]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn every_misuse_ends_the_process_with_a_line() {
    let program = program("misuse");
    for checks in [false, true] {
        let count: usize = text(&run_checked(&program, &[], checks)).trim().parse().unwrap();
        assert!(count >= if checks { 32 } else { 26 });
        for number in 1..=count {
            let output = run_checked(&program, &[&number.to_string()], checks);
            let text = text(&output);
            assert!(!output.status.success() && !text.contains("not noticed"), "misuse {number}: {text}");
            assert!(text.starts_with("tenzor: 0x") && text.lines().count() == 1, "misuse {number}: {text}");
        }
    }
}

#[test]
fn a_program_with_a_malloc_of_its_own_keeps_it() {
    let output = run(&program("own"), &[]);
    let line = "tenzor: the program has a malloc of its own, and keeps it: the heap serves nothing\n";
    assert_eq!(text(&output), format!("own\n{line}"));
    assert!(output.status.success());
}

/// What a program knows as the address of `malloc` is in the program then, though it has none.
#[test]
fn a_program_that_has_a_fixed_place_is_served() {
    let to = library().with_file_name("placed");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/placed.c");
    let made = Command::new("cc").args(["-O1", "-w", "-fno-pic", "-no-pie", "-o"]).args([&to, &source]).status();
    assert!(made.unwrap().success(), "it does not compile");
    let output = run(&to, &[]);
    assert_eq!((output.status.code(), text(&output)), (Some(0), "100000\n".into()));
}

#[test]
fn what_is_asked_of_it_by_the_environment() {
    let shell = |variable: &str, script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).env(variable, "1").env("LD_PRELOAD", library());
        shell.output().unwrap()
    };
    // Programs close their standard error before they end.
    let output = text(&shell("TENZOR_STATS", "exec ls / >/dev/null"));
    assert!(output.starts_with("tenzor: process ") && output.contains("in use"), "{output}");
    // Of one process: what it becomes is told of, what it starts or forks is not.
    let script = "TENZOR_STATS=$$ exec sh -c '(echo forked); ls / >/dev/null; exec ls / >/dev/null'";
    let output = text(&shell("TENZOR_STATS", script));
    assert!(
        output.starts_with("forked\ntenzor: process ") && output.matches("tenzor: process").count() == 1,
        "{output}"
    );
    assert_eq!(text(&shell("TENZOR_ONLY_THIS_PROCESS", "echo [$LD_PRELOAD]")), "[]\n");
    assert!(text(&shell("TENZOR_QUIET", "echo [$LD_PRELOAD]")).contains("libtenzor"));
}

#[test]
fn it_makes_no_thread_unless_that_is_wanted() {
    let program = program("idle");
    for (background, threads) in [(None, "3 threads\n"), (Some("1"), "4 threads\n")] {
        let mut command = Command::new(&program);
        command.env("LD_PRELOAD", library());
        if let Some(background) = background {
            command.env("TENZOR_BACKGROUND", background);
        }
        assert_eq!(text(&command.output().unwrap()), threads);
    }
}

#[test]
fn it_serves_before_main_and_after_it() {
    let output = run(&program("early"), &[]);
    assert!(output.status.success() && text(&output) == "after main\n", "{:?} {}", output.status, text(&output));
}

/// Threads that hold the C library's locks and wait for memory, while the process forks; threads that come and go; blocks that are handed over; signals.
#[test]
fn storms_are_survived() {
    // `ci/long/preload` makes them longer.
    let times = if std::env::var_os("TENZOR_LONG").is_some() { 10 } else { 1 };
    let program = program("storms");
    for storm in ["bereft", "narrow"] {
        for background in ["0", "1"] {
            let mut command = Command::new(&program);
            command.args([storm, "40"]).env("LD_PRELOAD", library()).env("TENZOR_BACKGROUND", background);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{storm}, {background}: {:?} {}", output.status, text(&output));
        }
    }
    for (storm, many) in [("forks", 20), ("threads", 100), ("handed", 200), ("signals", 500)] {
        for checks in [false, true] {
            let output = run_checked(&program, &[storm, &(many * times).to_string()], checks);
            assert!(output.status.success(), "{storm}: {:?} {}", output.status, text(&output));
        }
    }
}

#[test]
fn no_request_is_where_a_thread_is_cancelled() {
    let program = program("cancelled");
    for limit in ["8G", "5M"] {
        let run = Command::new(&program).env("LD_PRELOAD", library()).env("TENZOR_LIMIT", limit).output().unwrap();
        assert!(run.status.success(), "{limit}: {}", text(&run));
    }
}

#[test]
fn libraries_may_ask_for_memory_in_the_midst_of_a_call() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/plugin-wraps.c");
    let wraps = library().with_file_name("plugin-wraps.so");
    let made = Command::new("cc").args(["-O1", "-w", "-shared", "-fPIC", "-o"]).args([&wraps, &here]).status();
    assert!(made.unwrap().success());
    let threads = program("idle");
    for both in [[library(), &wraps], [&wraps, library()]] {
        let both = both.map(|library| library.to_str().unwrap()).join(":");
        let run = Command::new(&threads).env("LD_PRELOAD", both).env("TENZOR_BACKGROUND", "1").output().unwrap();
        assert_eq!(text(&run), "4 threads\n");
    }
}

#[test]
fn programs_run_as_they_do_without_it() {
    for command in
        ["ls -la /etc", "env", "sort /etc/passwd", "sh -c 'for i in 1 2 3; do (echo $i | cat); done'", "cc --version"]
    {
        let run = |preload: bool| {
            let mut shell = Command::new("sh");
            shell.args(["-c", command]);
            if preload {
                shell.env("LD_PRELOAD", library());
            }
            shell.output().unwrap()
        };
        let (with, without) = (run(true), run(false));
        assert!(with.status.success() && with.stderr == without.stderr, "{command}: {}", text(&with));
        assert!(command == "env" || with.stdout == without.stdout, "{command}");
    }
}
