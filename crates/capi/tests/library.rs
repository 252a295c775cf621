//! The library as programs of C and C++ have it. Needs a C compiler. Archives, and other machines: `ci/c`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Builds what is in a directory, optimised; returns where it is then.
fn built(directory: &Path) -> PathBuf {
    let target = directory.join("target/library");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--lib", "--target-dir"])
        .arg(&target)
        .current_dir(directory)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status();
    assert!(built.unwrap().success(), "the library does not build");
    target.join("release")
}

/// Where the library is.
fn libraries() -> &'static Path {
    static LIBRARIES: OnceLock<PathBuf> = OnceLock::new();
    LIBRARIES.get_or_init(|| built(&here("")))
}

/// The one that replaces malloc.
fn replacement() -> &'static Path {
    static REPLACEMENT: OnceLock<PathBuf> = OnceLock::new();
    REPLACEMENT.get_or_init(|| built(&here("../preload")).join("libtenzor_malloc.so"))
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "there is no {program}");
    if !found {
        println!("skipped: there is no {program}");
    }
    found
}

/// Compiles a program with every warning an error.
fn program(source: &str, name: &str, with: &[&str]) -> PathBuf {
    let to = libraries().join(name);
    let (compiler, standard) = if source.ends_with("cc") { ("c++", "-std=c++17") } else { ("cc", "-std=c11") };
    let made = Command::new(compiler)
        .args([standard, "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pedantic", "-D_GNU_SOURCE", "-I"])
        .arg(here("include"))
        .arg("-o")
        .args([&to, &here(source)])
        .args(with)
        .args(["-lm", "-lpthread"])
        .status();
    assert!(made.unwrap().success(), "{source} does not compile");
    to
}

/// Compiles a program for the shared library.
fn shared(source: &str, name: &str, with: &[&str]) -> PathBuf {
    let library = libraries().join("libtenzor.so");
    // By the name that the library gives itself.
    let link = libraries().join("libtenzor.so.0");
    _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink("libtenzor.so", &link).unwrap();
    let path = format!("-Wl,-rpath,{}", libraries().display());
    program(source, name, &[&[library.to_str().unwrap(), &path], with].concat())
}

fn run(program: &Path, args: &[&str], preload: Option<&Path>) -> Output {
    let mut command = Command::new(program);
    command.args(args);
    if let Some(library) = preload {
        command.env("LD_PRELOAD", library);
    }
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn the_header_holds_by_itself_and_beside_the_malloc() {
    let laws = shared("tests/c/laws.c", "laws", &[]);
    for (args, preload) in [(["alone"], None), (["malloc"], Some(replacement()))] {
        let output = run(&laws, &args, preload);
        assert!(output.status.success(), "{args:?}: {:?} {}", output.status, text(&output));
    }
}

#[test]
fn the_header_is_for_c_plus_plus_as_well() {
    if has("c++") {
        let output = run(&shared("tests/c/header.cc", "header", &[]), &[], None);
        assert!(output.status.success(), "{:?} {}", output.status, text(&output));
    }
}

#[test]
fn the_examples_do_what_they_say() {
    let told = [
        ("pool", "50 requests, 2 of them reached the heap\n1 block of the allocator is in use\n"),
        (
            "arena",
            "990 letters in 1048576 bytes\ncannot allocate 100 bytes aligned to 48: the alignment is no power of two\n",
        ),
        ("plan", "of 20 steps were followed"),
    ];
    for (name, says) in told {
        let source = format!("examples/{name}.c");
        for (suffix, with) in [("", &[][..]), ("-asan", &["-fsanitize=address,undefined"][..])] {
            let output = run(&shared(&source, &format!("{name}{suffix}"), with), &[], None);
            assert!(output.status.success() && text(&output).contains(says), "{name}{suffix}: {}", text(&output));
        }
    }
}

#[test]
fn it_shows_its_functions_and_nothing_else() {
    let library = libraries().join("libtenzor.so");
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output().unwrap();
    let names = |text: &str| -> Vec<String> {
        let mut names: Vec<_> =
            text.lines().filter_map(|line| Some(line.split_whitespace().last()?.to_owned())).collect();
        names.sort();
        names
    };
    let shown = names(&text(&output));
    let header = std::fs::read_to_string(here("include/tenzor.h")).unwrap();
    let mut promised: Vec<_> = header
        .lines()
        .filter(|line| !line.starts_with("//") && !line.starts_with("typedef"))
        .filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next().map(str::to_owned))
        .filter(|name| name.starts_with("tenzor_"))
        .collect();
    promised.sort();
    assert_eq!(shown, promised);
    let needed = Command::new("readelf").arg("-dW").arg(&library).output().unwrap();
    for line in text(&needed).lines().filter(|line| line.contains("(NEEDED)")) {
        let known = ["libc.so.6", "ld-linux", "libgcc_s.so.1", "libm.so.6"];
        assert!(known.iter().any(|name| line.contains(name)), "{line}");
    }
}
